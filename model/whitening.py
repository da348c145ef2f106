"""Descriptors brought to a few numbers by what varies between signatures of one writer."""

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from .sampling import Writer, by_corpus

SHRINKAGE = 1.0  # 0.3 to 3 differ by a third of a point
CHUNK = 2048

ENOUGH = 20
"""Writers of whom a corpus weighs as much as any other; a smaller one by how many it has."""

SESSION = 0.25
"""How much it counts as varying within a writer that all forgeries of a corpus lie off the genuine
signatures in the same direction: other pens and scans, not other hands (docs/leakage.md)."""


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
    def fit(self, found: Tensor, writers: Sequence[Writer], copies: Sequence[Tensor] = ()) -> None:
        """Fit means and map to descriptors (N, D), whose rows the writers name.

        `copies` (N, D) describe the same signatures with something changed that does not make them
        another's: they count among those of their writer, and for nothing else. Every corpus with
        enough writers weighs alike.
        """
        self.means.copy_(found.mean(0))
        tables = [self.centred(table) for table in (found, *copies)]
        corpora = by_corpus(writers).values()
        weights = [min(1.0, len(corpus) / ENOUGH) for corpus in corpora]
        moments = zip(*(_moments(tables, corpus) for corpus in corpora), strict=True)
        within, mean, square = (_weighed(each, weights) for each in moments)
        within.diagonal().add_(SHRINKAGE * within.trace() / len(within))
        found_map = _largest(square - torch.outer(mean, mean), within, self.kept)
        self.map.copy_(found_map)
        self.offset.copy_(mean @ found_map)


def _moments(tables: Sequence[Tensor], corpus: Sequence[Writer]) -> tuple[Tensor, Tensor, Tensor]:
    """What varies within a writer of one corpus (D, D), the mean (D,) and the mean product (D, D).

    Of the tables (N, D) the first describes the signatures, the others their changed copies.
    """
    centred = tables[0]
    own = (torch.cat([table[writer.genuine] for table in tables]) for writer in corpus)
    within = _products(vectors - vectors.mean(0) for vectors in own)
    within /= len(tables) * sum(len(writer.genuine) for writer in corpus)
    apart = [
        centred[writer.forged].mean(0) - centred[writer.genuine].mean(0)
        for writer in corpus
        if len(writer.forged)
    ]
    if apart:
        session = torch.stack(apart).double().mean(0)
        within += SESSION * torch.outer(session, session)
    rows = np.concatenate([rows for writer in corpus for rows in (writer.genuine, writer.forged)])
    every = centred[rows]
    mean = every.mean(0, dtype=torch.float64)
    return within, mean, _products(torch.split(every, CHUNK)) / len(rows)


def _weighed(parts: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """The mean of tensors of one shape, by their weights."""
    weighed = (weight * part for weight, part in zip(weights, parts, strict=True))
    return sum(weighed, start=torch.zeros(())) / sum(weights)


def _products(parts: Iterable[Tensor]) -> Tensor:
    """The sum of X^T X over parts X (n, D) of a table that would be large in float64: (D, D)."""
    return sum((part.double().T @ part.double() for part in parts), start=torch.zeros(()))


def _largest(total: Tensor, within: Tensor, count: int) -> Tensor:
    """The directions V (D, count) of the largest V^T T V, of which V^T W V is the identity."""
    from scipy.linalg import eigh  # takes a quarter of a second, which need not be paid to embed

    # These alone: torch would find all D, in two and a half times as long.
    subset = (len(total) - count, len(total) - 1)
    _, found = eigh(total.cpu().numpy(), within.cpu().numpy(), subset_by_index=subset)
    return torch.from_numpy(found).to(total.device)
