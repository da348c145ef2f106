"""A signature as classical comparison sees it: gradient histograms in three frames.

Nothing here is learnt by descent, and little can be learnt by heart: the histograms are fixed, and
one linear map, fitted in closed form, weighs down what varies between signatures of one writer
(within-class covariance normalisation, Hatch et al., Interspeech 2006) and keeps the directions in
which signatures differ most.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from .alignment import VIEW, aligned
from .descriptor import BINS, CELL, cells_of, votes_of

FINE = CELL // 2
KEPT = 256
SHRINKAGE = 3.0  # 0.3 to 10 differ by half a point
_CELLS = VIEW[0] * VIEW[1] // CELL**2
LENGTHS = (_CELLS * BINS, _CELLS * BINS, _CELLS * BINS, 4 * _CELLS * BINS)
"""Of the canvas, the frame that keeps the aspect, the frame filled, and that in finer cells."""


class Views(nn.Module):
    """Histograms of the views, centred and mapped as fitted: unit vectors of 256 numbers."""

    means: Tensor
    map: Tensor
    offset: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("means", torch.zeros(sum(LENGTHS)))
        self.register_buffer("map", torch.zeros(sum(LENGTHS), KEPT))
        self.register_buffer("offset", torch.zeros(KEPT))

    def forward(self, images: Tensor, frame: Tensor) -> Tensor:
        """Images (B, 1, H, W) and their frames (B, 1, 64, 128) -> unit vectors (B, 256)."""
        with torch.autocast(images.device.type, enabled=False):
            found = self.centred(histograms(images, frame))
            return functional.normalize(found @ self.map - self.offset, dim=1)

    def centred(self, found: Tensor) -> Tensor:
        """Histograms (B, 2016) less their means, those of every view brought to unit length."""
        views = torch.split(found - self.means, list(LENGTHS), dim=1)
        return torch.cat([functional.normalize(view, dim=1) for view in views], dim=1)

    @torch.no_grad()
    def fit(self, found: Tensor, groups: Sequence[NDArray[np.intp]]) -> None:
        """Fit means and map to histograms (N, 2016); each group holds the rows of one writer."""
        self.means.copy_(found.mean(0))
        centred = self.centred(found).double()
        spread = torch.cat([centred[rows] - centred[rows].mean(0) for rows in groups])
        values, axes = torch.linalg.eigh(spread.T @ spread / len(spread))
        whitened = axes / (values + SHRINKAGE * values.mean()).sqrt()
        # The directions of the largest variance over all signatures, after whitening.
        directions = torch.linalg.eigh(torch.cov((centred @ whitened).T)).eigenvectors[:, -KEPT:]
        self.map.copy_(whitened @ directions)
        self.offset.copy_((centred @ whitened @ directions).mean(0))


def histograms(images: Tensor, frame: Tensor) -> Tensor:
    """Images (B, 1, H, W) and their frames (B, 1, 64, 128) -> histograms (B, 2016)."""
    canvas = functional.interpolate(images.float(), VIEW, mode="area")
    with_aspect, _ = aligned(images, keep_aspect=True)
    filled = votes_of(frame)
    views = [cells_of(votes_of(canvas)), cells_of(votes_of(with_aspect)), cells_of(filled)]
    return torch.cat([*views, cells_of(filled, FINE)], dim=1)
