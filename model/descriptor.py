"""Histograms of oriented gradients: what a network learns to see before it learns who wrote.

Untrained, this classical descriptor (Dalal and Triggs, CVPR 2005) already tells signers apart.
Regressing it first (as MaskFeat does, Wei et al., CVPR 2022) gives a network from random weights
a dense lesson in every image, where a loss over writers gives it almost none.
"""

import torch
from torch import Tensor
from torch.nn import functional

CELL = 16  # pixels a side
BINS = 9  # over half a turn: a stroke has no direction


def orientation_histograms(images: Tensor) -> Tensor:
    """Images (B, 1, H, W) -> unit descriptors (B, H / 16 * W / 16 * 9).

    Each pixel's gradient votes, by its magnitude, for the two nearest of nine orientations; votes
    are pooled smoothly over cells, and cells normalised by their 3 x 3 neighbours. H and W are
    multiples of 16.
    """
    smooth = _gaussian(images, sigma=1.0)
    dx = functional.pad(smooth[..., 2:] - smooth[..., :-2], (1, 1))
    dy = functional.pad(smooth[..., 2:, :] - smooth[..., :-2, :], (0, 0, 1, 1))
    magnitude = torch.hypot(dx, dy)
    position = torch.remainder(torch.atan2(dy, dx) / torch.pi, 1.0) * BINS
    centres = torch.arange(BINS, device=images.device).view(1, BINS, 1, 1)
    away = torch.remainder(position - centres + BINS / 2, BINS) - BINS / 2
    votes = magnitude * (1 - away.abs()).clamp(min=0)
    cells = _gaussian(votes, sigma=CELL / 2)[..., CELL // 2 :: CELL, CELL // 2 :: CELL]
    energy = functional.avg_pool2d(cells.square().sum(1, keepdim=True), 3, 1, 1)
    cells = cells / (energy + 1e-4).sqrt()
    return functional.normalize(cells.flatten(1), dim=1)


def _gaussian(images: Tensor, sigma: float) -> Tensor:
    radius = round(3 * sigma)
    offsets = torch.arange(-radius, radius + 1, device=images.device, dtype=images.dtype)
    weights = torch.exp(-0.5 * (offsets / sigma) ** 2)
    weights = weights / weights.sum()
    batch, channels, height, width = images.shape
    flat = functional.pad(images.reshape(-1, 1, height, width), (radius,) * 4, mode="replicate")
    flat = functional.conv2d(flat, weights.view(1, 1, 1, -1))
    flat = functional.conv2d(flat, weights.view(1, 1, -1, 1))
    return flat.reshape(batch, channels, height, width)
