"""Distances and scores of held-out writers, by the protocols whose figures we report.

1:1           every genuine pair of a writer, as many of the writer's genuine-forged pairs, drawn,
              and as many pairs of two writers' genuine signatures (random forgeries); writers in
              folds of five, as papers test them, and all folds pooled
N references  N genuine signatures of a writer are drawn as references; the questioned signatures
              are the writer's other genuine ones, all skilled forgeries, and one genuine
              signature of every other writer (of a hundred, where there are more); drawn again
              several times

An equal error rate describes the scores it is taken from: no threshold that a user sets reaches
it. FAR, FRR, accuracy and F1 are those of a threshold that was fitted on other writers.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from . import distance, metrics
from .arrays import Floats, Rows, Vectors
from .cache import CachedImages
from .errors import ModelError
from .sampling import Writer, each_with_each, genuine_pairs, random_pairs, skilled_pairs
from .scoring import Places, Scoring, scores
from .siamese import SiameseNet

REFERENCE_COUNTS = (1, 3, 5, 10)
DRAWS = 5
FOLD = 5
STRANGERS = 100
BATCH = 64
KINDS = ("genuine", "skilled", "random")


@dataclass(frozen=True, kw_only=True)
class Scores:
    """Scores (distances, for 1:1) by the kind of questioned signature; lower is closer.

    `claimed` says, by kind, which writer each score's questioned signature was claimed to be of:
    numbers in the order of the writers, or nothing where nobody needs them.
    """

    genuine: Floats
    skilled: Floats
    random: Floats
    claimed: Mapping[str, Rows] = field(default_factory=dict)

    def of(self, kind: str) -> Floats:
        """The scores of `genuine`, `skilled` or `random`."""
        return {"genuine": self.genuine, "skilled": self.skilled, "random": self.random}[kind]

    def eer(self, kind: str) -> float:
        """Equal error rate in 0 to 1 against `skilled` or `random` forgeries; nan without any."""
        forged = self.of(kind)
        return metrics.eer(self.genuine, forged)[0] if len(forged) else float("nan")

    @property
    def selection_error(self) -> float:
        """What the best epoch is chosen by: the mean of the skilled and the random EER."""
        return float(np.nanmean([self.eer("skilled"), self.eer("random")]))

    def interval(self, kind: str, rng: np.random.Generator) -> tuple[float, float]:
        """95 % interval of `eer(kind)` over writers drawn anew; (nan, nan) without any."""
        genuine, forged = self.by_writer(kind)
        return metrics.bootstrap_eer(genuine, forged, rng=rng)

    def by_writer(self, kind: str, writers: int | None = None) -> tuple[list[Floats], list[Floats]]:
        """The genuine scores of each writer, and those of the forgeries of that kind.

        Of so many writers, or as many as are claimed: who cannot be measured has none.
        """
        writers = writers or 1 + max(
            (int(rows.max()) for rows in self.claimed.values() if len(rows)), default=0
        )
        return self._parted("genuine", writers), self._parted(kind, writers)

    def _parted(self, kind: str, writers: int) -> list[Floats]:
        claimed = self.claimed[kind]
        order = np.argsort(claimed, kind="stable")
        ends = np.searchsorted(claimed[order], np.arange(1, writers))
        return list(np.split(self.of(kind)[order], ends))


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One protocol on some writers. `references` is None for 1:1.

    `threshold` and `bands` (operating point -> where acceptance ends, where rejection begins) are
    the checkpoint's, fitted on other writers. `folds` are the skilled EERs of the folds of 1:1.
    """

    protocol: str
    references: int | None
    scores: Scores
    threshold: float
    bands: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    folds: tuple[float, ...] = ()
    seed: int = 0

    @cached_property
    def row(self) -> dict[str, Any]:
        """The figures by name, rates in 0 to 1 and nan where there was nothing to count."""
        found = self.scores
        at_threshold = self.decisions(self.threshold)
        return {
            "protocol": self.protocol,
            "skilled_eer": found.eer("skilled"),
            **self._interval("skilled"),
            "random_eer": found.eer("random"),
            **self._interval("random"),
            "threshold": self.threshold,
            "frr": metrics.frr(found.genuine, self.threshold),
            "far_skilled": _far(found.skilled, self.threshold),
            "far_random": _far(found.random, self.threshold),
            **{name: at_threshold[name] for name in ("acc", "f1", "roc_auc", "pr_auc")},
            **{kind: len(found.of(kind)) for kind in KINDS},
            "folds": list(self.folds),
            "operating_points": {
                point: {kind: shares(found.of(kind), *band) for kind in KINDS}
                for point, band in self.bands.items()
            },
        }

    def decisions(self, threshold: float) -> dict[str, float]:
        """`metrics.summary` of genuine against skilled forgeries; nan without such forgeries."""
        if not len(self.scores.skilled):
            return dict.fromkeys(metrics.Metrics.__dataclass_fields__, math.nan)
        return metrics.summary(self.scores.genuine, self.scores.skilled, threshold).as_dict()

    def _interval(self, kind: str) -> dict[str, float]:
        rng = np.random.default_rng((self.seed, self.references or 0, KINDS.index(kind)))
        low, high = self.scores.interval(kind, rng)
        return {f"{kind}_low": low, f"{kind}_high": high}


def shares(values: Floats, accept: float, reject: float) -> dict[str, float]:
    """How the scores divide at an operating point: accepted, for review, rejected.

    >>> shares(np.array([0.1, 0.4, 0.5, 0.9]), accept=0.4, reject=0.9)
    {'accepted': 0.25, 'review': 0.5, 'rejected': 0.25}
    """
    if not len(values):
        return dict.fromkeys(("accepted", "review", "rejected"), math.nan)
    accepted, rejected = values < accept, values >= max(accept, reject)
    return {
        "accepted": float(accepted.mean()),
        "review": float((~accepted & ~rejected).mean()),
        "rejected": float(rejected.mean()),
    }


def _far(forged: Floats, threshold: float) -> float:
    return metrics.far(forged, threshold) if len(forged) else math.nan


@torch.no_grad()
def embed_rows(
    model: SiameseNet,
    images: CachedImages,
    device: torch.device,
    progress: Callable[[int, int], None] | None = None,
    *,
    rows: Rows | None = None,
) -> Vectors:
    """Embed every image of a cache, or those of `rows`: float32 (N, D), in their order."""
    model.eval()
    rows = np.arange(len(images.pixels)) if rows is None else rows
    vectors = []
    for start in range(0, len(rows), BATCH):
        some = rows[start : start + BATCH]
        batch = torch.from_numpy(images.images(some)).to(device)
        vectors.append(model.embed(batch).cpu().numpy())
        if progress:
            progress(start + len(some), len(rows))
    return np.concatenate(vectors)


def one_to_one(vectors: Vectors, writers: Sequence[Writer], rng: np.random.Generator) -> Scores:
    """Distances of all 1:1 pairs, without folds; as many random pairs as genuine ones."""
    genuine = np.concatenate([genuine_pairs(writer) for writer in writers])
    skilled = np.concatenate([skilled_pairs(writer) for writer in writers])
    strangers = random_pairs(writers, len(genuine), rng=rng)
    return Scores(
        genuine=_distances(vectors, genuine),
        skilled=_distances(vectors, skilled),
        random=_distances(vectors, strangers),
    )


def _distances(vectors: Vectors, pairs: Rows) -> Floats:
    return distance.of_pairs(vectors, vectors, pairs[:, 0], pairs[:, 1])


def folds_of_five(
    vectors: Vectors, writers: Sequence[Writer], rng: np.random.Generator
) -> tuple[Scores, tuple[float, ...]]:
    """The 1:1 protocol: the pooled distances, and the skilled EER of each fold.

    Of a writer all genuine pairs count (276 of 24 signatures) and as many genuine-forged pairs,
    drawn, so that both classes weigh alike. Folds have five writers, or evenly fewer where their
    number does not divide by five.
    """
    number_of = {row: number for number, writer in enumerate(writers) for row in writer.genuine}
    kinds: dict[str, list[Rows]] = {"genuine": [], "skilled": []}
    for writer in writers:
        genuine, skilled = genuine_pairs(writer), skilled_pairs(writer)
        drawn = rng.choice(len(skilled), min(len(skilled), len(genuine)), replace=False)
        kinds["genuine"].append(genuine)
        kinds["skilled"].append(skilled[np.sort(drawn)])
    claimed = {kind: _numbered(pairs) for kind, pairs in kinds.items()}
    strangers = random_pairs(writers, len(claimed["genuine"]), rng=rng)
    claimed["random"] = np.array([number_of[row] for row in strangers[:, 0]], np.intp)
    pooled = Scores(
        genuine=_distances(vectors, np.concatenate(kinds["genuine"])),
        skilled=_distances(vectors, np.concatenate(kinds["skilled"])),
        random=_distances(vectors, strangers),
        claimed=claimed,
    )
    folds = np.array_split(rng.permutation(len(writers)), math.ceil(len(writers) / FOLD))
    return pooled, tuple(_fold_eer(pooled, fold) for fold in folds)


def _numbered(groups: Sequence[NDArray[Any]]) -> Rows:
    """For each member of the groups, put one after the other, the number of its group."""
    return np.repeat(np.arange(len(groups), dtype=np.intp), [len(group) for group in groups])


def _fold_eer(pooled: Scores, fold: Rows) -> float:
    genuine, skilled = (
        pooled.of(kind)[np.isin(pooled.claimed[kind], fold)] for kind in ("genuine", "skilled")
    )
    return metrics.eer(genuine, skilled)[0] if len(skilled) else math.nan


class PlacesSeen:
    """What cells add to distances, each pair compared once however often it is drawn.

    Of `known` (N, D) among each other and to `asked` (N, D), the same images.
    """

    def __init__(self, known: Vectors, asked: Vectors) -> None:
        self._known, self._asked = known, asked
        self._seen: dict[tuple[bool, int, int], float] = {}

    def of(self, references: Rows, questioned: Rows) -> Places | None:
        """Of these rows, or None where there are no cells."""
        if not distance.has_cells(self._known):
            return None
        one, other = np.triu_indices(len(references), k=1)
        among = np.zeros((len(references),) * 2)
        among[one, other] = self._values(references[one], references[other], self._known)
        rows, others = each_with_each(references, questioned).T
        asked = self._values(rows, others, self._asked).reshape(len(references), -1)
        return Places(asked=asked, among=among + among.T)

    def _values(self, rows: Rows, others: Rows, to: Vectors) -> Floats:
        """From rows of the known to others of those or of the asked."""
        own = to is self._known
        if own:  # either way alike
            rows, others = np.minimum(rows, others), np.maximum(rows, others)
        pairs = [(own, *pair) for pair in zip(rows.tolist(), others.tolist(), strict=True)]
        new = list({pair for pair in pairs if pair not in self._seen})
        places = np.array([pair[1:] for pair in new], np.intp).reshape(-1, 2)
        found = distance.by_place(self._known, to, places[:, 0], places[:, 1])
        self._seen.update(zip(new, found.tolist(), strict=True))
        return np.array([self._seen[pair] for pair in pairs])


def with_references(
    vectors: Vectors,
    writers: Sequence[Writer],
    *,
    references: int,
    scoring: Scoring,
    rng: np.random.Generator,
    draws: int = DRAWS,
    questioned: Vectors | None = None,
    seen: PlacesSeen | None = None,
) -> Scores:
    """Scores of the N-references protocol, pooled over writers and draws.

    Writers without a genuine signature beyond their references are left out. `questioned` embeds
    the same images as they are questioned, where that is not as they are enrolled. `seen` keeps
    what cells came to, for who asks several times.
    """
    asked = vectors if questioned is None else questioned
    seen = seen or PlacesSeen(vectors, asked)
    kinds: dict[str, list[Floats]] = {kind: [] for kind in KINDS}
    numbers: list[int] = []
    able = [number for number, writer in enumerate(writers) if len(writer.genuine) > references]
    for _ in range(draws):
        for number in able:
            order = rng.permutation(writers[number].genuine)
            compared = {
                "genuine": order[references:],
                "skilled": writers[number].forged,
                "random": _strangers(writers, [other for other in able if other != number], rng),
            }
            chosen = order[:references]
            enrolled = vectors[chosen]
            for kind, rows in compared.items():
                by_place = seen.of(chosen, rows)
                kinds[kind].append(scores(asked[rows], enrolled, scoring, by_place))
            numbers.append(number)
    claimed = {
        kind: np.repeat(np.array(numbers, np.intp), [len(found) for found in groups])
        for kind, groups in kinds.items()
    }
    pooled = {kind: np.concatenate([*groups, []]) for kind, groups in kinds.items()}
    return Scores(**pooled, claimed=claimed)


def _strangers(writers: Sequence[Writer], others: Sequence[int], rng: np.random.Generator) -> Rows:
    if len(others) > STRANGERS:  # every pair of 1660 writers would be 2.7 million scores a draw
        others = rng.choice(others, STRANGERS, replace=False).tolist()
    return np.array([rng.choice(writers[other].genuine) for other in others], dtype=np.intp)


def measure(
    vectors: Vectors,
    writers: Sequence[Writer],
    *,
    threshold: float,
    scoring: Scoring,
    seed: int,
) -> list[Measured]:
    """1:1, and each number of references that the writers can give."""
    if not np.isfinite(vectors).all():
        raise ModelError("The model gives embeddings that are not numbers.")
    pairs, folds = folds_of_five(vectors, writers, np.random.default_rng(seed))
    found = [
        Measured(
            protocol="1:1",
            references=None,
            scores=pairs,
            threshold=threshold,
            folds=folds,
            seed=seed,
        )
    ]
    for count in REFERENCE_COUNTS:
        if any(len(writer.genuine) > count for writer in writers):
            rng = np.random.default_rng((seed, count))
            found.append(
                Measured(
                    protocol=f"{count} reference{'s' if count > 1 else ''}",
                    references=count,
                    scores=with_references(
                        vectors, writers, references=count, scoring=scoring, rng=rng
                    ),
                    threshold=scoring.threshold_for(count),
                    bands={point: scoring.band(count, point) for point in scoring.accept},
                    seed=seed,
                )
            )
    return found


def summary(
    vectors: Vectors,
    writers: Sequence[Writer],
    *,
    threshold: float,
    scoring: Scoring,
    seed: int,
) -> list[dict[str, Any]]:
    """One row for each protocol of `measure`, rates in 0 to 1.

    FAR, FRR, accuracy and F1 are those at the checkpoint's own thresholds, fitted on other
    writers; accuracy, F1 and the areas are of skilled forgeries; `_low` and `_high` bound the EER
    over writers drawn anew.
    """
    measured = measure(vectors, writers, threshold=threshold, scoring=scoring, seed=seed)
    return [one.row for one in measured]
