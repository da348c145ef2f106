"""Whole batches augmented and disguised at once, by a GPU that would wait for images otherwise.

What `Augmentation` and `Disguise` ask for, image by image and writer by writer, in one pass: every
pixel of the result knows which place of which signature it shows, so each is sampled once, however
often it is cut, bent, mirrored and turned.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from .augment import OVERSAMPLING, PAPER, Augmentation
from .disguise import INK, LARGEST, MARGIN, WAVE, Disguise, bend, cut
from .sampling import Writer, WriterBatch

TAPS = 2  # pixels around one by which it is blurred


@dataclass(frozen=True, kw_only=True, eq=False)
class Drawn:
    """What was drawn for a batch of B images; places are in heights of the canvas, from its middle.

    An image shows, side by side, of the signatures in `rows` (B, 2) what lies between the shares
    `parts` (B, 2, 2) of the width of their ink; the second part may be empty. `bend` and `pose`
    (B, 2, 3) map a place of the result to the place it shows, for the writer and for the image;
    `wave` (B, 2, 3, 5) and `elastic` (B, 2, 3, 6) displace it, on coarse grids. `mirror` (B, 2)
    is 1 or -1 for x and y, `pen` (B,) the change of width in oversampled pixels, `blur` (B,) a
    sigma in pixels, `lost` (B, 4) a box, left, top, right and bottom as shares.
    """

    rows: Tensor
    parts: Tensor
    bend: Tensor
    wave: Tensor
    mirror: Tensor
    pose: Tensor
    elastic: Tensor
    pen: Tensor
    blur: Tensor
    lost: Tensor

    def to(self, device: torch.device) -> "Drawn":
        """The same on a device."""
        return Drawn(**{part.name: getattr(self, part.name).to(device) for part in fields(self)})


def draw(
    batch: WriterBatch,
    writers: Sequence[Writer],
    by_corpus: Mapping[str, Sequence[Writer]],
    *,
    augmentation: Augmentation,
    disguise: Disguise,
    shape: tuple[int, int],
) -> Drawn:
    """Draw every change of a batch for canvases (H, W) of that shape.

    A writer is either spliced with another or cut to a part of the name, not both.
    """
    rng = np.random.default_rng(batch.seed)
    own = _of_writers(batch, writers, by_corpus, disguise, rng)
    found = own | _of_images(len(batch.rows), augmentation, shape, rng)
    whole = ("rows", "pen")
    return Drawn(
        **{
            name: torch.from_numpy(values.astype(np.int64 if name in whole else np.float32))
            for name, values in found.items()
        }
    )


def _of_writers(
    batch: WriterBatch,
    writers: Sequence[Writer],
    by_corpus: Mapping[str, Sequence[Writer]],
    disguise: Disguise,
    rng: np.random.Generator,
) -> dict[str, NDArray[np.generic]]:
    """What all images of a writer have in common."""
    count = len(batch.rows)
    rows = np.stack([batch.rows, batch.rows], axis=1)
    parts = np.tile([[0.0, 1.0], [1.0, 1.0]], (count, 1, 1))
    maps = np.tile(np.eye(2, 3), (count, 1, 1))
    wave = np.zeros((count, 2, *WAVE))
    mirror = np.ones((count, 2))
    for number in np.unique(batch.writers):
        members = np.flatnonzero(batch.writers == number)
        writer = writers[number]
        partner = disguise.partner(writer, by_corpus[writer.corpus], rng)
        if partner is not None:
            other, share = partner
            parts[members] = [[0, share], [share, 1]]
            rows[members, 1] = batch.alike(members, other, rng)
        elif rng.random() < disguise.window:
            parts[members, 0] = cut(rng)
        if rng.random() < disguise.bend:
            maps[members, :, :2], wave[members] = bend(rng)
        if rng.random() < disguise.mirror:
            mirror[members] = ((1, -1), (-1, 1), (-1, -1))[rng.integers(3)]
    return {"rows": rows, "parts": parts, "bend": maps, "wave": wave, "mirror": mirror}


def _of_images(
    count: int, how: Augmentation, shape: tuple[int, int], rng: np.random.Generator
) -> dict[str, NDArray[np.generic]]:
    """What every image has of its own."""
    height, width = shape
    maps = np.stack([how.pose(rng) for _ in range(count)])
    move = rng.uniform(-how.shift, how.shift, (count, 2, 1)) * [[width / height], [1]]
    blur = np.where(rng.random(count) < 0.5, rng.uniform(0.1, max(how.blur, 0.1), count), 0.0)
    sides = rng.uniform(0.05, 0.2, (count, 2))
    corner = rng.random((count, 2)) * (1 - sides)
    lost = np.concatenate([corner, corner + sides], axis=1)
    lost[rng.random(count) >= how.erase] = 0
    pen = rng.integers(*how.pens, count, endpoint=True)
    return {
        "pose": np.concatenate([maps, -maps @ move], axis=2),
        "elastic": rng.normal(0, how.elastic / height, (count, 2, 3, 6)),
        "pen": pen,
        "blur": blur if how.blur else np.zeros(count),
        "lost": lost,
    }


@torch.no_grad()
def changed(canvases: Tensor, drawn: Drawn) -> Tensor:
    """Canvases (N, H, W), uint8 and dark on light -> the batch (B, 1, H, W), paper 1 and ink -1."""
    drawn = drawn.to(canvases.device)
    height, width = canvases.shape[1:]
    places = _places(drawn, height * OVERSAMPLING, width * OVERSAMPLING)
    ink = _penned(_shown(canvases, drawn, places), drawn.pen)
    ink = _blurred(functional.avg_pool2d(ink, OVERSAMPLING), drawn.blur)
    return 1 - 2 * ink * ~_lost(drawn.lost, height, width)


def _places(drawn: Drawn, height: int, width: int) -> Tensor:
    """Which place every pixel of a canvas (height, width) shows: (B, 2, height, width)."""
    device = drawn.pose.device
    x = (torch.arange(width, device=device) + 0.5 - width / 2) / height
    y = (torch.arange(height, device=device) + 0.5) / height - 0.5
    grid = torch.stack(torch.meshgrid(x, y, indexing="xy"))[None]
    elastic = functional.interpolate(drawn.elastic, (height, width), mode="bicubic")
    places = (_mapped(grid, drawn.pose) + elastic) * drawn.mirror[:, :, None, None]
    at = torch.stack([places[:, 0] * 2 * height / width, places[:, 1] * 2], dim=-1)
    wave = functional.grid_sample(
        drawn.wave, at, mode="bicubic", padding_mode="border", align_corners=False
    )
    return _mapped(places, drawn.bend) + wave


def _mapped(places: Tensor, maps: Tensor) -> Tensor:
    """Places (B or 1, 2, H, W) by affine maps (B, 2, 3)."""
    turned = (maps[:, :, :2, None, None] * places[:, None]).sum(2)
    return turned + maps[:, :, 2, None, None]


def _shown(canvases: Tensor, drawn: Drawn, places: Tensor) -> Tensor:
    """The ink (B, 1, h, w) at places (B, 2, h, w) of both parts, set side by side and fitted in."""
    height, width = canvases.shape[1:]
    ink = PAPER - canvases[drawn.rows.flatten()]
    left, right, top, bottom = _boxes(ink > PAPER - INK, drawn.parts.flatten(0, 1))
    wide, tall = (right - left).view(-1, 2), (bottom - top).view(-1, 2)
    tall = torch.where(wide > 0, tall, 0.0)
    room = 1 - 2 * MARGIN
    fitting = torch.minimum(room * width / wide.sum(1), room * height / tall.amax(1))
    scale = fitting.clamp(max=LARGEST)[:, None, None]
    x = places[:, 0] * height / scale + wide.sum(1)[:, None, None] / 2
    y = places[:, 1] * height / scale
    left, middle = left.view(-1, 2), ((top + bottom) / 2).view(-1, 2)
    begins = torch.stack([torch.zeros_like(wide[:, 0]), wide[:, 0]], dim=1)
    shown = torch.zeros_like(x)
    for part in range(2):
        along = x - begins[:, part, None, None]
        within = (along >= 0) & (along < wide[:, part, None, None])
        within &= y.abs() <= tall[:, part, None, None] / 2
        across, down = along + left[:, part, None, None], y + middle[:, part, None, None]
        at = torch.stack([across / width * 2 - 1, down / height * 2 - 1], dim=-1)
        source = ink.view(-1, 2, height, width)[:, part, None].float() / PAPER
        found = functional.grid_sample(source, at, align_corners=False)[:, 0]
        shown = torch.where(within, found, shown)
    return shown[:, None]


def _boxes(dark: Tensor, shares: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Left, right, top and bottom (B,) of what is dark (B, H, W) between shares of its width."""
    first, last = _extent(dark.any(1))
    cuts = first[:, None] + shares * (last - first)[:, None]
    columns = torch.arange(dark.shape[2], device=dark.device) + 0.5
    within = (columns > cuts[:, :1]) & (columns < cuts[:, 1:])
    left, right = cuts.unbind(1)
    top, bottom = _extent((dark & within[:, None]).any(2))
    return left, right, top, bottom


def _extent(marked: Tensor) -> tuple[Tensor, Tensor]:
    """Marks (B, N) -> where the first begins and the last ends (B,); without any all of it."""
    numbers = marked.to(torch.uint8)
    return numbers.argmax(1).float(), (marked.shape[1] - numbers.flip(1).argmax(1)).float()


def _penned(ink: Tensor, pen: Tensor) -> Tensor:
    """Strokes (B, 1, H, W) so many pixels wider, or thinner, as a square pen's are."""
    result = ink.clone()
    for change in torch.unique(pen).tolist():
        if change:
            chosen = pen == change
            before = (abs(change) + 1) // 2
            after, sign = abs(change) - before, 1 if change > 0 else -1
            some = functional.pad(sign * ink[chosen], (before, after, before, after))
            result[chosen] = sign * functional.max_pool2d(some, abs(change) + 1, stride=1)
    return result


def _blurred(ink: Tensor, sigma: Tensor) -> Tensor:
    """Images (B, 1, H, W) by a Gaussian each, of sigma (B,); 0 leaves an image as it is."""
    off = torch.arange(-TAPS, TAPS + 1, device=ink.device)
    weights = torch.exp(-0.5 * (off / sigma[:, None].clamp(min=0.05)).square())
    weights = weights / weights.sum(1, keepdim=True)
    for axis, around in ((2, (0, 0, TAPS, TAPS)), (3, (TAPS, TAPS, 0, 0))):
        padded, length = functional.pad(ink, around), ink.shape[axis]
        shares = weights.T[:, :, None, None, None]
        moved = [share * padded.narrow(axis, at, length) for at, share in enumerate(shares)]
        ink = torch.stack(moved).sum(0)
    return ink


def _lost(boxes: Tensor, height: int, width: int) -> Tensor:
    """Which pixels (B, 1, H, W) lie in the boxes (B, 4)."""
    x = (torch.arange(width, device=boxes.device)[None, :] + 0.5) / width
    y = (torch.arange(height, device=boxes.device)[:, None] + 0.5) / height
    left, top, right, bottom = boxes[:, :, None, None, None].unbind(1)
    return (x > left) & (x < right) & (y > top) & (y < bottom)
