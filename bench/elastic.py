"""What it would win to compare signatures place by place, and to let the places give.

    python -m bench.elastic --data DIR [--checkpoint FILE]

DIR holds the corpora of the checkpoint's development writers and of those who taught it. A vector
compares what lies at a place with what lies at the very same place of the other signature. Here
each cell is compared with the likest of those around its place in the other, both ways: a stroke
may shift by three cells. What a cell shows are gradient histograms of itself and its surroundings,
brought to a few numbers by what varies between cells that match in two signatures of one writer.
The rules are the checkpoint's, this alone, and both. The service compares vectors alone.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import track
from torch import Tensor
from torch.nn import functional

from bench.rule import corpora_of, embedded, options_of, percent, title_of
from model import evaluate
from model.alignment import TWICE, aligned
from model.arrays import Floats, Images, Rows, Vectors
from model.cache import CachedImages
from model.checkpoint import Checkpoint, load_checkpoint
from model.dataset import Signer
from model.descriptor import votes_of
from model.lineage import lineage_of
from model.metrics import eer
from model.sampling import Writer, writers_of
from model.scoring import Scoring, scores
from model.whitening import whitening_map
from worker.cli import show

CELL = 4
"""Pixels a side, of the frame at which a network sees the detail."""

GRID = (TWICE[0] // CELL, TWICE[1] // CELL)
GIVE = 3
"""Cells by which a stroke may lie elsewhere, up, down and to either side."""

KEPT = 16
"""Numbers of a cell."""

TEACHERS, PAIRS, SHRINKAGE = 50, 4, 0.1
"""Writers of a corpus who teach the map, pairs of signatures of each, and what steadies it."""

WEIGHT, OWN = 0.5, 0.5
"""Of this distance where both vary alike, and how much of the signer's own it is less."""

FAR = 100.0  # what lies beyond the frame: like nothing
DRAWS = 5
BATCH = 32
CANNOT = 2

Matrix = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Cells:
    """Signatures by place: what each cell shows (N, C, H, W), its share of the ink (N, H, W)."""

    shown: Tensor
    ink: Tensor

    def of(self, rows: Rows) -> Cells:
        """Some of the signatures."""
        return Cells(shown=self.shown[rows], ink=self.ink[rows])


@dataclass(frozen=True, kw_only=True)
class Part:
    """One corpus: embeddings (N, D), whose they are, and distances by place.

    Of each writer a matrix, from the genuine signatures to those of `others_of`.
    """

    vectors: Vectors
    writers: Sequence[Writer]
    by_place: Sequence[Matrix]


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a table for each number of references."""
    options = options_of("What comparing by place, with some give, would win.", arguments)
    checkpoint = load_checkpoint(options.checkpoint)
    lineage = lineage_of(checkpoint.provenance)
    corpora = list(corpora_of(options.data, lineage.tuning))
    teaching = list(corpora_of(options.data, lineage.taught - lineage.tuning))
    if not corpora or not teaching:
        show.say("--data holds nobody who taught the checkpoint, or who tuned it.", stderr=True)
        return CANNOT
    to = fitted(_pairs(teaching, checkpoint, options.cache))
    parts = []
    for (vectors, writers), signers in zip(
        embedded(corpora, checkpoint, options), corpora, strict=True
    ):
        images = CachedImages(signers, checkpoint.preprocessing, options.cache)
        cells = cells_of(images.images(np.arange(len(vectors))), to)
        parts.append(Part(vectors=vectors, writers=writers, by_place=_distances(cells, writers)))
    for count in evaluate.REFERENCE_COUNTS:
        _table(count, parts, checkpoint.scoring)
    return 0


@torch.no_grad()
def cells_of(images: Images, to: Tensor | None = None) -> Cells:
    """Canvases (N, 1, H, W) -> 162 numbers of each cell, or as many as a map (162, K) leaves.

    Nine orientations of the three by three cells around it, and the same of coarser ones.
    """
    shown, ink = [], []
    for start in range(0, len(images), BATCH):
        frame, _ = aligned(torch.from_numpy(images[start : start + BATCH]), TWICE)
        votes = functional.avg_pool2d(votes_of(frame), CELL)
        near = functional.unfold(votes.sqrt(), 3, padding=1)
        around = functional.avg_pool2d(votes, 3, 1, 1).sqrt()
        far = functional.unfold(around, 3, padding=3, dilation=3)
        both = [functional.normalize(each, dim=1, eps=1e-2) for each in (near, far)]
        found = torch.cat(both, 1).unflatten(2, GRID)
        shown.append(found if to is None else torch.einsum("nchw,ck->nkhw", found, to))
        energy = votes.sum(1)
        ink.append(energy / energy.sum((1, 2), keepdim=True).clamp_min(1e-9))
    return Cells(shown=torch.cat(shown), ink=torch.cat(ink))


def apart(one: Cells, other: Cells) -> Tensor:
    """Distances (N,): what the likest of the cells around differ, mean over the ink of either."""
    found = []
    for here, there in ((one, other), (other, one)):
        least = _smooth(costs(here.shown, there.shown)).amin(1)
        found.append((least * here.ink).sum((1, 2)))
    return torch.stack(found).mean(0)


def costs(one: Tensor, other: Tensor) -> Tensor:
    """Squared distances (N, shifts, H, W) of cells (N, C, H, W) to those around their places."""
    return torch.stack([(one - moved).square().sum(1) for moved in _shifted(other)], 1)


def fitted(pairs: Iterable[tuple[Cells, Cells]]) -> Tensor:
    """The map (C, K) by pairs of signatures of one writer, each with N = 1.

    It weighs down what varies between cells that match (within-class covariance normalisation, as
    `model.whitening` does for whole signatures), and keeps the directions that vary most.
    """
    varied, shown = [], []
    for one, other in pairs:
        match = costs(one.shown, other.shown).argmin(1)[:, None, None]
        others = torch.stack(list(_shifted(other.shown)), 1)
        matching = others.gather(1, match.expand(-1, 1, others.shape[2], -1, -1))[:, 0]
        inked = one.ink[0] > one.ink.mean() / 2
        varied.append((one.shown - matching)[0][:, inked].double())
        shown.append(one.shown[0][:, inked].double())
    differences = torch.cat(varied, 1)
    within = differences @ differences.T / differences.shape[1]
    total = torch.cov(torch.cat(shown, 1))
    return whitening_map(within, total, KEPT, SHRINKAGE).float()


def _shifted(cells: Tensor) -> Iterator[Tensor]:
    """The cells (N, C, H, W) as they lie around each place, one shift after another."""
    height, width = cells.shape[2:]
    padded = functional.pad(cells, [GIVE] * 4, value=FAR)
    for down in range(2 * GIVE + 1):
        for across in range(2 * GIVE + 1):
            yield padded[..., down : down + height, across : across + width]


def _smooth(found: Tensor) -> Tensor:
    """Means over three by three cells: neighbours shift alike."""
    return functional.avg_pool2d(found, 3, 1, 1, count_include_pad=False)


def _pairs(
    corpora: Sequence[Sequence[Signer]], checkpoint: Checkpoint, cache: Path
) -> Iterator[tuple[Cells, Cells]]:
    """Signatures of one writer, some pairs of each of some writers."""
    rng = np.random.default_rng(0)
    for found in corpora:
        signers = [found[number] for number in rng.permutation(len(found))[:TEACHERS]]
        images = CachedImages(signers, checkpoint.preprocessing, cache)
        for writer in track(writers_of(signers, images), "Teaching", transient=True):
            for _ in range(PAIRS if len(writer.genuine) > 1 else 0):
                cells = cells_of(images.images(rng.choice(writer.genuine, 2, replace=False)))
                yield cells.of(np.array([0])), cells.of(np.array([1]))


def _distances(cells: Cells, writers: Sequence[Writer]) -> list[Matrix]:
    found = []
    for writer in track(writers, "Comparing", transient=True):
        others = others_of(writer, writers)
        one, other = (each.ravel() for each in np.meshgrid(writer.genuine, others, indexing="ij"))
        parts = [
            apart(cells.of(one[start : start + BATCH]), cells.of(other[start : start + BATCH]))
            for start in range(0, len(one), BATCH)
        ]
        found.append(torch.cat(parts).double().numpy().reshape(len(writer.genuine), -1))
    return found


def others_of(writer: Writer, writers: Sequence[Writer]) -> Rows:
    """Whom references meet: the writer's genuine ones, forgeries, and one of each stranger."""
    strangers = np.array([other.genuine[0] for other in writers if other is not writer], np.intp)
    return np.concatenate([writer.genuine, writer.forged, strangers])


def score_of(distances: Matrix, chosen: Rows, asked: Rows) -> Floats:
    """Scores (M,) of the columns asked, where the rows and columns chosen are references.

    Half way between the nearest and the mean, less half of how far references lie from each other.
    """
    found, own = distances[np.ix_(chosen, asked)], distances[np.ix_(chosen, chosen)]
    np.fill_diagonal(own, np.inf)
    spread = OWN * own.min(axis=1).mean() if len(chosen) > 1 else 0.0
    return (found.min(axis=0) + found.mean(axis=0)) / 2 - spread


def _scored(count: int, part: Part, rule: Scoring) -> dict[str, Matrix]:
    """By the kind of signature both scores (2, M), the checkpoint's and by place; all draws."""
    rng = np.random.default_rng(count)
    pooled: dict[str, list[Matrix]] = {kind: [] for kind in evaluate.KINDS}
    for _ in range(DRAWS):
        for writer, distances in zip(part.writers, part.by_place, strict=True):
            genuine = len(writer.genuine)
            if genuine <= count:
                continue
            order = rng.permutation(genuine)
            forged, random = np.split(np.arange(genuine, distances.shape[1]), [len(writer.forged)])
            others = others_of(writer, part.writers)
            enrolled = part.vectors[others[order[:count]]]
            asked = {"genuine": order[count:], "skilled": forged, "random": random}
            for kind, columns in asked.items():
                own = scores(part.vectors[others[columns]], enrolled, rule)
                place = score_of(distances, order[:count], columns)
                pooled[kind].append(np.stack([own, place]))
    return {kind: np.concatenate(found, axis=1) for kind, found in pooled.items()}


def _table(count: int, parts: Sequence[Part], rule: Scoring) -> None:
    found = {
        part.writers[0].corpus: _scored(count, part, rule)
        for part in parts
        if any(len(writer.genuine) > count for writer in part.writers)
    }
    if not found:
        return
    every = np.concatenate([kind for scored in found.values() for kind in scored.values()], 1)
    scale = WEIGHT * every[0].std() / every[1].std()
    rows = []
    for name, weights in {
        "vectors, as shipped": (1.0, 0.0),
        "by place": (0.0, 1.0),
        "both": (1.0, scale),
    }.items():
        errors = [_errors(scored, np.array(weights)) for scored in found.values()]
        rows.append([name, *(percent(*pair) for pair in [*errors, np.mean(errors, axis=0)])])
    titles = ("rule", *found, "mean")
    columns = [show.Column(title=title, right=title != "rule") for title in titles]
    show.table(columns, rows, title=title_of(count))


def _errors(scored: Mapping[str, Matrix], weights: Floats) -> tuple[float, float]:
    """EER in 0 to 1, skilled and random."""
    total = {kind: weights @ both for kind, both in scored.items()}
    return eer(total["genuine"], total["skilled"])[0], eer(total["genuine"], total["random"])[0]


if __name__ == "__main__":
    sys.exit(main())
