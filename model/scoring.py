"""From the distances to a signer's references to one score, and from the score to a verdict."""

import math
import weakref
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import distance
from .arrays import Floats, Vectors
from .errors import CheckpointError

Cohort = NDArray[np.float16] | NDArray[np.float32]
PerCount = Mapping[int, float]
"""A threshold for each number of references that it was fitted at."""

OPERATING_POINTS = ("0.1%", "1%", "5%")
"""Shares of skilled forgeries that may be accepted, the strictest first."""


class Verdict(StrEnum):
    """What a comparison comes to. A job that fails has none of these."""

    ACCEPT = "accept"
    REJECT = "reject"
    REVIEW = "review"


@dataclass(frozen=True, kw_only=True)
class Scoring:
    """The rule that turns distances into a verdict; it travels in the checkpoint.

    score = nearest + centre_weight * (centre - nearest)
        - spread_weight * spread - cohort_weight * cohort

    `nearest` is the distance to the nearest reference and `centre` that to the mean of all of
    them: what imitates one specimen well is still not where the signer usually is. Cells have no
    mean: theirs is the mean distance, less half of the mean between the references. `spread` is
    how far the signer's references lie from their nearest fellows on average, drawn towards
    `population_spread` as if `prior` more references had shown that value: a signer who varies
    much is allowed more. `cohort` is the mean distance of the questioned signature to the
    `cohort_nearest` nearest of the embeddings `cohort` (K, D), genuine signatures of writers who
    are no signers here: a signature that is near to nobody is allowed more than one that is near
    to everybody. With all weights 0 the score is the distance to the nearest reference: the
    seed's plain rule.

    `thresholds` are balanced: without an operating point a score below is accepted, any other
    rejected. With one, a score below `accept` of that point is accepted, a score at or above
    `reject` (or `accept`, where that is higher) is rejected, and what lies between is for a person
    to review. Equality leaves the cohort out, since arrays do not compare to one truth.
    """

    thresholds: PerCount
    accept: Mapping[str, PerCount] = field(default_factory=dict)
    reject: PerCount = field(default_factory=dict)
    centre_weight: float = 0.0
    spread_weight: float = 0.0
    population_spread: float = 0.0
    prior: float = 1.0
    cohort_weight: float = 0.0
    cohort_nearest: int = 20
    cohort: Cohort | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        tables = (self.thresholds, self.reject, *self.accept.values())
        numbers = [*self._weights().values(), self.population_spread, self.prior]
        numbers += [threshold for table in tables for threshold in table.values()]
        if not self.thresholds or not all(map(math.isfinite, numbers)):
            raise CheckpointError("The scoring rule needs finite coefficients and a threshold.")
        self._check_operating_points()
        self._check_cohort()

    def _check_operating_points(self) -> None:
        """That a stricter point never accepts more than a laxer one."""
        if unknown := sorted(set(self.accept) - set(OPERATING_POINTS)):
            raise CheckpointError(f"The scoring rule has an unknown operating point {unknown[0]}.")
        tables = [self.accept[point] for point in OPERATING_POINTS if point in self.accept]
        if tables and not (self.reject and all(tables)):
            raise CheckpointError("The scoring rule has an operating point without thresholds.")
        for count in {count for table in tables for count in table}:
            values = [_fitted(table, count) for table in tables]
            if values != sorted(values):
                raise CheckpointError("A stricter operating point would accept more than a laxer.")

    def _check_cohort(self) -> None:
        if self.cohort_nearest < 1:
            raise CheckpointError("The cohort's mean needs one neighbour at least.")
        if self.cohort is None:
            if self.cohort_weight:
                raise CheckpointError("The scoring rule weighs a cohort that is not there.")
        elif self.cohort.ndim != 2 or not self.cohort.size or not np.isfinite(self.cohort).all():
            raise CheckpointError("The cohort is not a table of finite numbers.")

    @cached_property
    def cohort_in_float64(self) -> tuple[Floats, Floats]:
        """The cohort (K, D) and the squared lengths (K,), converted once and not for each score."""
        cohort = np.asarray(self.cohort, dtype=np.float64)
        return cohort, (cohort**2).sum(axis=1)

    @property
    def rule(self) -> str:
        """The rule's name, as the record keeps it."""
        return "-".join(["nearest", *(name for name, weight in self._weights().items() if weight)])

    def _weights(self) -> dict[str, float]:
        """By what the rule's name calls them."""
        return {
            "centre": self.centre_weight,
            "offset": self.spread_weight,
            "cohort": self.cohort_weight,
        }

    def threshold_for(self, references: int) -> float:
        """The balanced threshold, fitted at the largest number of references the signer has."""
        return _fitted(self.thresholds, references)

    def band(self, references: int, far: str | None) -> tuple[float, float]:
        """Where acceptance ends and where rejection begins, at an operating point.

        Both are the balanced threshold without an operating point and in checkpoints that have
        none at all. Raises CheckpointError for a point that is missing among others.
        """
        if far is None or not self.accept:
            balanced = self.threshold_for(references)
            return balanced, balanced
        if far not in self.accept:
            raise CheckpointError(
                f"The checkpoint has no operating point {far}; it has {', '.join(self.accept)}."
            )
        accept = _fitted(self.accept[far], references)
        return accept, max(accept, _fitted(self.reject, references))

    def as_dict(self) -> dict[str, Any]:
        """Plain values, all but the cohort, as checkpoints and the record of models keep them."""
        return {
            "thresholds": dict(self.thresholds),
            "accept": {point: dict(table) for point, table in self.accept.items()},
            "reject": dict(self.reject),
            "centre_weight": self.centre_weight,
            "spread_weight": self.spread_weight,
            "population_spread": self.population_spread,
            "prior": self.prior,
            "cohort_weight": self.cohort_weight,
            "cohort_nearest": self.cohort_nearest,
        }


def _fitted(table: PerCount, references: int) -> float:
    """The value of the largest number of references that is not above `references`."""
    fitted = [number for number in table if number <= references]
    return table[max(fitted, default=min(table))]


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """A verdict with all that led to it. Distances lie in [0, 2]; lower is closer.

    `terms` are the weighted parts of the score, by name, and sum to it. `threshold` is the one
    that acceptance took. `operating_point` and `reject_threshold` are None where the balanced
    threshold decided alone.
    """

    verdict: Verdict
    score: float
    terms: Mapping[str, float]
    threshold: float
    reject_threshold: float | None
    operating_point: str | None
    distance: float
    distances: tuple[float, ...]
    nearest: int


def judge(
    questioned: Vectors, references: Vectors, scoring: Scoring, *, far: str | None = None
) -> Judgement:
    """Compare a questioned embedding (D,) with the references (N, D), N at least 1.

    `far` names an operating point; None stands for the balanced threshold. Raises ValueError for
    what is not a finite number and CheckpointError for a point that the rule lacks: neither is
    ever an acceptance.
    """
    by_place = places(questioned[None], references)
    distances = _distances(questioned[None], references, by_place.asked)[:, 0]
    parts = terms(questioned[None], references, scoring, by_place)
    score = float(_total(parts)[0])
    accept, reject = scoring.band(len(references), far)
    point = far if scoring.accept else None
    return Judgement(
        verdict=_verdict(score, accept, reject),
        score=score,
        terms={name: float(values[0]) for name, values in parts.items()},
        threshold=accept,
        reject_threshold=None if point is None else reject,
        operating_point=point,
        distance=float(distances.min()),
        distances=tuple(map(float, distances)),
        nearest=int(np.argmin(distances)),
    )


def _verdict(score: float, accept: float, reject: float) -> Verdict:
    if score < accept:
        return Verdict.ACCEPT
    return Verdict.REJECT if score >= reject else Verdict.REVIEW


@dataclass(frozen=True, kw_only=True)
class Places:
    """What cells add to distances: of N references to M questioned, and to each other.

    (N, M) and (N, N), all 0 without cells.
    """

    asked: Floats
    among: Floats


def places(questioned: Vectors, references: Vectors) -> Places:
    """Compare the cells of (M, D) with those of (N, D), and the latter with each other."""
    return Places(asked=_asked(questioned, references), among=_among(references))


def places_of_one(references: Vectors, number: int) -> Places:
    """The same of one of (N, D) and all others.

    Whoever asks about one after the other with the same array has all compared but once.
    """
    others = np.arange(len(references)) != number
    among = _among(references)[others]
    return Places(asked=among[:, [number]], among=among[:, others])


def _asked(questioned: Vectors, references: Vectors) -> Floats:
    """What cells add to the distances (N, M) of references to questioned signatures."""
    shape = len(references), len(questioned)
    rows, others = np.indices(shape).reshape(2, -1)
    return distance.by_place(references, questioned, rows, others).reshape(shape)


def _among(references: Vectors) -> Floats:
    """What cells add to the distances of references to each other (N, N), compared once.

    Whoever asks about one signer again and again asks with the same array.
    """
    among = np.zeros((len(references),) * 2)
    if not distance.has_cells(references):
        return among
    key = id(references)
    known = _KNOWN.get(key)
    if known is not None and known[0]() is references:
        return known[1]
    one, other = np.triu_indices(len(references), k=1)
    among[one, other] = distance.by_place(references, references, one, other)
    among += among.T
    _KNOWN[key] = weakref.ref(references, lambda _: _KNOWN.pop(key, None)), among
    return among


_KNOWN: dict[int, tuple[weakref.ref[Vectors], Floats]] = {}


def scores(
    questioned: Vectors, references: Vectors, scoring: Scoring, by_place: Places | None = None
) -> Floats:
    """Scores (M,) of questioned embeddings (M, D) against one signer's references (N, D).

    `by_place` is what `places` finds for them, where that is known. Raises ValueError for what is
    not a finite number.
    """
    return _total(terms(questioned, references, scoring, by_place))


def scores_at_least(questioned: Vectors, references: Vectors, scoring: Scoring) -> Floats:
    """Numbers (M,) that `scores` are not below, without comparing references with each other.

    The farther these lie apart the lower the scores, and there is a most that cells can add.
    """
    if min(scoring.centre_weight, scoring.spread_weight) < 0:
        return scores(questioned, references, scoring)
    count = len(references)
    most = distance.MOST * (1 - np.eye(count)) * distance.has_cells(references)
    by_place = Places(asked=_asked(questioned, references), among=most)
    return scores(questioned, references, scoring, by_place)


def terms(
    questioned: Vectors, references: Vectors, scoring: Scoring, by_place: Places | None = None
) -> dict[str, Floats]:
    """The weighted parts of the scores by name, each (M,), for (M, D) against (N, D)."""
    if not (np.isfinite(questioned).all() and np.isfinite(references).all()):
        raise ValueError("an embedding holds a value that is not a finite number")
    found = by_place or places(questioned, references)
    allowed = np.full(len(questioned), offset(references, scoring, found.among))
    nearest = np.min(_distances(questioned, references, found.asked), axis=0)
    middle = distance.vectors_of(references).mean(axis=0, dtype=np.float64)
    centre = distance.euclidean(middle, distance.vectors_of(questioned))
    # Less half: so it is for points whose squared distances those of cells are.
    centre = distance.share(references) * centre + found.asked.mean(axis=0) - found.among.mean() / 2
    return {
        "nearest": nearest,
        "centre": 0.0 + scoring.centre_weight * (centre - nearest),
        "spread": 0.0 - allowed,  # without a weight 0.0, and not -0.0
        "cohort": 0.0 - scoring.cohort_weight * cohort_distances(questioned, scoring),
    }


def _distances(questioned: Vectors, references: Vectors, by_place: Floats) -> Floats:
    """Distances (N, M) of N references to M questioned signatures, cells and all."""
    asked, known = distance.vectors_of(questioned), distance.vectors_of(references)
    vectors = np.array([distance.euclidean(vector, asked) for vector in known])
    return distance.share(references) * vectors.reshape(by_place.shape) + by_place


def _total(parts: Mapping[str, Floats]) -> Floats:
    total = sum(parts.values(), start=np.zeros(1))
    if not np.isfinite(total).all():
        raise ValueError("a score is not a finite number")
    return total


def distances_to(questioned: Vectors, references: Vectors) -> Floats:
    """Distances (N,) from one embedding (D,) to N references (N, D).

    Euclidean between their vectors; with cells, what they differ by place is added.
    """
    rows = np.arange(len(references))
    return distance.of_pairs(references, questioned[None], rows, np.zeros_like(rows))


def distances_at_least(questioned: Vectors, references: Vectors) -> Floats:
    """Numbers (N,) that these distances are not below, by the vectors alone."""
    vectors = distance.vectors_of(references), distance.vectors_of(questioned)
    return distance.share(references) * distance.euclidean(*vectors)


def cohort_distances(questioned: Vectors, scoring: Scoring) -> Floats:
    """Mean distances (M,) of (M, D) to their nearest fellows in the cohort; 0 without one.

    Of the vectors alone: a cohort has no cells.
    """
    if scoring.cohort is None:
        return np.zeros(len(questioned))
    # By inner products: the differences (M, K, D) would fill the memory.
    vectors = distance.vectors_of(questioned).astype(np.float64)
    cohort, cohort_squares = scoring.cohort_in_float64
    squares = (vectors**2).sum(axis=1)[:, None] + cohort_squares
    distances = np.sqrt(np.maximum(squares - 2 * vectors @ cohort.T, 0.0))  # (M, K)
    nearest = min(scoring.cohort_nearest, len(cohort))
    return np.asarray(np.partition(distances, nearest - 1, axis=1)[:, :nearest].mean(axis=1))


def spread(references: Vectors, by_place: Floats | None = None) -> tuple[float, int]:
    """Mean distance of each reference to its nearest fellow, and over how many it was taken.

    `by_place` (N, N) is what their cells add, where that is known.
    """
    count = len(references)
    if count < 2:
        return 0.0, 0
    if by_place is None:
        by_place = _among(references)
    between = _distances(references, references, by_place)
    np.fill_diagonal(between, np.inf)
    return float(between.min(axis=1).mean()), count


def offset(references: Vectors, scoring: Scoring, by_place: Floats | None = None) -> float:
    """What the signer's own spread takes off the nearest distance, for references (N, D)."""
    observed, count = spread(references, by_place)
    total = count + scoring.prior
    if total <= 0:
        return scoring.spread_weight * scoring.population_spread
    expected = (count * observed + scoring.prior * scoring.population_spread) / total
    return scoring.spread_weight * expected
