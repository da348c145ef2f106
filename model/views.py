"""A signature as classical comparison sees it: gradient histograms in three frames."""

import torch
from torch import Tensor

from .alignment import VIEW, aligned, at_view
from .descriptor import BINS, CELL, cells_of, votes_of
from .whitening import Whitened

FINE = CELL // 2
KEPT = 256
_CELLS = VIEW[0] * VIEW[1] // CELL**2
LENGTHS = (_CELLS * BINS, _CELLS * BINS, _CELLS * BINS, 4 * _CELLS * BINS)
"""Of the canvas, the frame that keeps the aspect, the frame filled, and that in finer cells."""


class Views(Whitened):
    """Histograms of the views, centred and mapped as fitted: unit vectors of 256 numbers."""

    def __init__(self) -> None:
        super().__init__(LENGTHS, KEPT)

    def forward(self, images: Tensor, frame: Tensor) -> Tensor:
        """Images (B, 1, H, W) and their frames (B, 1, 64, 128) -> unit vectors (B, 256)."""
        with torch.autocast(images.device.type, enabled=False):
            return self.mapped(histograms(images, frame))


def histograms(images: Tensor, frame: Tensor) -> Tensor:
    """Images (B, 1, H, W) and their frames (B, 1, 64, 128) -> histograms (B, 2016)."""
    canvas = at_view(images)
    with_aspect, _ = aligned(canvas, keep_aspect=True)
    filled = votes_of(frame)
    views = [cells_of(votes_of(canvas)), cells_of(votes_of(with_aspect)), cells_of(filled)]
    return torch.cat([*views, cells_of(filled, FINE)], dim=1)
