"""Descriptors brought to a few numbers by what varies between signatures of one writer."""

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

SHRINKAGE = 3.0  # 0.3 to 10 differ by half a point
CHUNK = 2048


class Whitened(nn.Module):
    """Descriptors centred and mapped as fitted: unit vectors of `kept` numbers.

    A descriptor has several parts, of these `lengths`, which weigh alike. One linear map, fitted in
    closed form, weighs down what varies between signatures of one writer (within-class covariance
    normalisation, Hatch et al., Interspeech 2006) and keeps the directions in which signatures
    differ most. Nothing is learnt by descent, and little can be learnt by heart.
    """

    means: Tensor
    map: Tensor
    offset: Tensor

    def __init__(self, lengths: Sequence[int], kept: int) -> None:
        super().__init__()
        self.lengths, self.kept = tuple(lengths), kept
        self.register_buffer("means", torch.zeros(sum(lengths)))
        self.register_buffer("map", torch.zeros(sum(lengths), kept))
        self.register_buffer("offset", torch.zeros(kept))

    def mapped(self, found: Tensor) -> Tensor:
        """Descriptors (B, D) -> unit vectors (B, kept)."""
        return functional.normalize(self.centred(found) @ self.map - self.offset, dim=1)

    def centred(self, found: Tensor) -> Tensor:
        """Descriptors (B, D) less their means, each part brought to unit length."""
        parts = torch.split(found - self.means, list(self.lengths), dim=1)
        return torch.cat([functional.normalize(part, dim=1) for part in parts], dim=1)

    @torch.no_grad()
    def fit(
        self, found: Tensor, groups: Sequence[NDArray[np.intp]], copies: Sequence[Tensor] = ()
    ) -> None:
        """Fit means and map to descriptors (N, D); each group holds the rows of one writer.

        `copies` (N, D) describe the same signatures with something changed that does not make them
        another's: they count among those of their writer, and for nothing else.
        """
        self.means.copy_(found.mean(0))
        centred = self.centred(found)
        every = [centred, *map(self.centred, copies)]
        own = (torch.cat([table[rows] for table in every]) for rows in groups)
        spread = _products(vectors - vectors.mean(0) for vectors in own)
        spread /= len(every) * sum(map(len, groups))
        spread.diagonal().add_(SHRINKAGE * spread.trace() / len(spread))
        root = torch.linalg.cholesky(spread)
        # The directions of the largest variance over all signatures, after whitening.
        mean = centred.double().mean(0)
        total = _products(part - mean for part in torch.split(centred, CHUNK)) / len(found)
        half = torch.linalg.solve_triangular(root, total, upper=False)
        both = torch.linalg.solve_triangular(root, half.T, upper=False)
        directions = torch.linalg.eigh(both).eigenvectors[:, -self.kept :]
        found_map = torch.linalg.solve_triangular(root.T, directions, upper=True)
        self.map.copy_(found_map)
        self.offset.copy_(mean @ found_map)


def _products(parts: Iterable[Tensor]) -> Tensor:
    """The sum of X^T X over parts X (n, D) of a table that would be large in float64: (D, D)."""
    return sum((part.double().T @ part.double() for part in parts), start=torch.zeros(()))
