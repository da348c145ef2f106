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
    return cells_of(votes_of(images))


def votes_of(images: Tensor) -> Tensor:
    """Images (B, 1, H, W) -> what each pixel votes for each orientation (B, 9, H, W)."""
    dx, dy = gradients_of(images)
    steep = (dx != 0) | (dy != 0)  # elsewhere the root has no gradient, and would pass NaN
    magnitude = torch.hypot(torch.where(steep, dx, 1.0), dy) * steep
    position = torch.remainder(torch.atan2(dy, dx) / torch.pi, 1.0) * BINS
    below = position.floor()
    share = position - below  # of the vote that goes to the orientation above
    below = below.long() % BINS
    votes = magnitude.new_zeros(len(images), BINS, *images.shape[2:])
    votes.scatter_(1, below, magnitude * (1 - share))
    return votes.scatter_(1, (below + 1) % BINS, magnitude * share)


def gradients_of(images: Tensor) -> tuple[Tensor, Tensor]:
    """Images (B, 1, H, W) -> how much lighter they get to the right and downwards, smoothed."""
    smooth = _smooth(images)
    dx = functional.pad(smooth[..., 2:] - smooth[..., :-2], (1, 1))
    return dx, functional.pad(smooth[..., 2:, :] - smooth[..., :-2, :], (0, 0, 1, 1))


def cells_of(votes: Tensor, cell: int = CELL) -> Tensor:
    """Votes (B, 9, H, W) -> unit descriptors (B, H / cell * W / cell * 9)."""
    rows, columns = (_pooling(side, cell, votes) for side in votes.shape[2:])
    cells = rows @ votes @ columns.T
    energy = functional.avg_pool2d(cells.square().sum(1, keepdim=True), 3, 1, 1)
    cells = cells / (energy + 1e-4).sqrt()
    return functional.normalize(cells.flatten(1), dim=1)


def _pooling(side: int, cell: int, like: Tensor) -> Tensor:
    """Weights (side / cell, side) that average smoothly around the middle of each cell."""
    pixels = torch.arange(side, device=like.device, dtype=like.dtype)
    middles = torch.arange(cell // 2, side, cell, device=like.device, dtype=like.dtype)
    weights = torch.exp(-0.5 * ((pixels[None] - middles[:, None]) / (cell / 2)) ** 2)
    return weights / weights.sum(1, keepdim=True)


def _smooth(images: Tensor) -> Tensor:
    """Binomial 5 x 5, a Gaussian of sigma 1; the border is repeated."""
    weights = torch.tensor([1.0, 4.0, 6.0, 4.0, 1.0], device=images.device) / 16
    padded = functional.pad(images, (2, 2, 2, 2), mode="replicate")
    across = functional.conv2d(padded, weights.view(1, 1, 1, 5))
    return functional.conv2d(across, weights.view(1, 1, 5, 1))
