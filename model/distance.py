"""How far two embeddings lie apart: their vectors, and their cells where they have any.

An embedding with cells is the vector, 512 numbers, followed by them; any other is a vector alone.
Whatever compares embeddings compares them so. PyTorch is loaded by whoever has cells to compare.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from .arrays import Floats, Rows, Vectors

if TYPE_CHECKING:
    from torch import Tensor

VECTOR = 512
CELLS = 16_896
"""Numbers of the vector that is followed by cells, and of these, which `matching` lays out."""

WITH_CELLS = VECTOR + CELLS

WEIGHT = 0.65
"""Of the distance between cells; that between vectors has the rest."""

FAR = 0.32
"""Of cells that lie this far apart and farther it is only known that they are not alike."""

MOST = WEIGHT * FAR
"""What cells can add to a distance."""

AT_ONCE = 64
"""Pairs whose cells are copied in one go."""

Embeddings = TypeVar("Embeddings", NDArray[Any], "Tensor")


def has_cells(embeddings: NDArray[Any] | Tensor) -> bool:
    """Whether embeddings (..., D) are more than vectors."""
    return bool(embeddings.shape[-1] == WITH_CELLS)


def vectors_of(embeddings: Embeddings) -> Embeddings:
    """The vectors (..., 512) of embeddings (..., D), which are all of those without cells."""
    return embeddings[..., :VECTOR] if has_cells(embeddings) else embeddings


def share(embeddings: NDArray[Any] | Tensor) -> float:
    """Of the distance between vectors in that between embeddings (..., D)."""
    return 1 - WEIGHT if has_cells(embeddings) else 1.0


def of_pairs(first: Vectors, second: Vectors, rows: Rows, others: Rows) -> Floats:
    """Distances (n,) of some embeddings, `first[rows]`, to `second[others]`."""
    vectors = euclidean(vectors_of(first)[rows], vectors_of(second)[others])
    return share(first) * vectors + by_place(first, second, rows, others)


def euclidean(first: NDArray[Any], second: NDArray[Any]) -> Floats:
    """Euclidean distances (N,) of vectors (N, D) or one (D,) to N (N, D), in float64."""
    difference = first.astype(np.float64) - second  # without a second copy of millions of pairs
    return np.asarray(np.linalg.norm(difference, axis=1))


def by_place(first: Vectors, second: Vectors, rows: Rows, others: Rows) -> Floats:
    """What cells add to the distances (n,) of `first[rows]` to `second[others]`; 0 without any."""
    if not has_cells(first):
        return np.zeros(len(rows))
    import torch

    from . import matching

    found = np.empty(len(rows))
    for start in range(0, len(rows), AT_ONCE):
        some = slice(start, start + AT_ONCE)
        one, other = (
            torch.from_numpy(embeddings[places[some], VECTOR:])
            for embeddings, places in ((first, rows), (second, others))
        )
        with torch.no_grad():
            found[some] = matching.added(one, other).numpy()
    return found
