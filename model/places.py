"""A head that keeps places apart, as the comparison of strokes with strokes needs."""

import torch
from torch import Tensor, nn
from torch.nn import functional


class Places(nn.Module):
    """The map of one stage as a unit vector: every cell says the same few things of its place.

    All cells share one linear map, so that there is little to learn a writer by heart with; the
    Euclidean distance of two vectors is a sum over cells. `cells` is H' * W'.
    """

    def __init__(self, cells: int, channels: int, kept: int) -> None:
        super().__init__()
        self.size = cells * kept
        self.norm = nn.LayerNorm(channels)
        self.kept = nn.Linear(channels, kept)
        self.centre = nn.BatchNorm1d(self.size)

    def forward(self, features: Tensor) -> Tensor:
        """Features (B, H', W', C) -> unit vectors (B, H' * W' * kept), float32."""
        with torch.autocast(features.device.type, enabled=False):
            cells = self.kept(self.norm(features.float()))
            return functional.normalize(self.centre(cells.flatten(1)), dim=1)
