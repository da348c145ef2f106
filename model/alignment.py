"""Signatures brought into one frame by where their ink lies, so that like strokes meet.

A box around the ink hangs on its outermost strokes: one long flourish shrinks and shifts all the
others. The mean and the spread of the ink hang on every stroke.
"""

import torch
from torch import Tensor
from torch.nn import functional

VIEW = (64, 128)
"""Height and width of the frame in pixels."""

TWICE = (2 * VIEW[0], 2 * VIEW[1])
"""The frame of which a network is shown the detail."""

SPREADS = 5.0
"""The frame is so many standard deviations of the ink wide and high."""


def at_view(images: Tensor, view: tuple[int, int] = VIEW) -> Tensor:
    """Images (B, 1, H, W) -> the same at the frame's size (B, 1, *view), by area."""
    return functional.interpolate(images.float(), view, mode="area")


def aligned(
    images: Tensor, view: tuple[int, int] = VIEW, *, keep_aspect: bool = False
) -> tuple[Tensor, Tensor]:
    """Images (B, 1, H, W) of white paper 1 and ink -1 -> the same in the frame (B, 1, *view).

    The ink's mean comes to the middle and its standard deviations to a fifth of the frame, or
    with `keep_aspect` the larger of both shares alone. Returns also the places (B, 2, *view) that
    the pixels had on the canvas, x and y in [-1, 1] within it.
    """
    with torch.autocast(images.device.type, enabled=False):
        ink = (1 - images.float()) / 2
        across, spread_x = _moments(ink.sum(dim=(1, 2)))
        down, spread_y = _moments(ink.sum(dim=(1, 3)))
        scale_x, scale_y = spread_x * SPREADS / 2, spread_y * SPREADS / 2
        if keep_aspect:  # in pixels, not in shares of the canvas
            height, width = images.shape[2:]
            largest = torch.maximum(scale_x * width / view[1], scale_y * height / view[0])
            scale_x, scale_y = largest * view[1] / width, largest * view[0] / height
        x = scale_x[:, None] * _places(view[1], images.device) + across[:, None]
        y = scale_y[:, None] * _places(view[0], images.device) + down[:, None]
        size = (len(images), *view)
        grid = torch.stack([x[:, None, :].expand(size), y[:, :, None].expand(size)], dim=3)
        frame = 1 - 2 * functional.grid_sample(ink, grid, align_corners=False)
        return frame, grid.permute(0, 3, 1, 2)


def detailed(frame: Tensor) -> Tensor:
    """A frame (B, 1, 2 H, 2 W) -> mean and differences (B, 3, H, W) of every two by two pixels.

    The first channel is the frame at half its size; the others say whether left is lighter than
    right and above than below, the first details of Haar's wavelet. A network sees so what a
    canvas of four times the pixels shows, for the price of the small one.
    """
    upper, lower = frame[:, :, ::2], frame[:, :, 1::2]
    a, b, c, d = (row[..., start::2] for row in (upper, lower) for start in (0, 1))
    across, down = (a - b + c - d) / 2, (a + b - c - d) / 2
    return torch.cat([(a + b + c + d) / 4, across, down], dim=1)


def _moments(profile: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation (B,) of ink along an axis (B, N), which runs from -1 to 1."""
    length = profile.shape[1]
    places = _places(length, profile.device)
    share = profile.clamp(min=0) / profile.clamp(min=0).sum(1, keepdim=True).clamp(min=1e-6)
    mean = share @ places
    variance = (share * (places[None] - mean[:, None]).square()).sum(1)
    return mean, variance.sqrt().clamp(min=2 / length)  # no thinner than two pixels


def _places(length: int, device: torch.device) -> Tensor:
    """The middles of so many pixels along an axis that runs from -1 to 1."""
    return (torch.arange(length, device=device) * 2 + 1) / length - 1
