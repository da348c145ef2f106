"""From the distances to a signer's references to one score, and from the score to a verdict."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import CheckpointError

Vectors = NDArray[np.float32]


class Verdict(StrEnum):
    """What a comparison comes to. A job that fails has none of these."""

    ACCEPT = "accept"
    REJECT = "reject"
    REVIEW = "review"


@dataclass(frozen=True, kw_only=True)
class Scoring:
    """The rule that turns distances into a verdict; it travels in the checkpoint.

    score = nearest - spread_weight * spread, where `spread` is how far the signer's references
    lie from their nearest fellows on average, drawn towards `population_spread` as if `prior`
    more references had shown that value. A signer who varies much is so allowed more. With
    spread_weight 0 the score is the distance to the nearest reference: the seed's plain rule.

    `thresholds` holds one threshold for each number of references it was fitted at; accept if
    score < threshold.
    """

    thresholds: Mapping[int, float]
    spread_weight: float = 0.0
    population_spread: float = 0.0
    prior: float = 1.0

    def __post_init__(self) -> None:
        numbers = (*self.thresholds.values(), self.spread_weight, self.population_spread)
        if not self.thresholds or not all(map(math.isfinite, (*numbers, self.prior))):
            raise CheckpointError("The scoring rule needs finite coefficients and a threshold.")

    @property
    def rule(self) -> str:
        """The rule's name, as the record keeps it."""
        return "nearest-offset" if self.spread_weight else "nearest"

    def threshold_for(self, references: int) -> float:
        """The threshold fitted at the largest number of references that the signer has."""
        fitted = [number for number in self.thresholds if number <= references]
        return self.thresholds[max(fitted, default=min(self.thresholds))]

    def as_dict(self) -> dict[str, Any]:
        """Plain values, as the checkpoint keeps them."""
        return {
            "thresholds": dict(self.thresholds),
            "spread_weight": self.spread_weight,
            "population_spread": self.population_spread,
            "prior": self.prior,
        }


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """A verdict with all that led to it. Distances lie in [0, 2]; lower is closer."""

    verdict: Verdict
    score: float
    threshold: float
    distance: float
    distances: tuple[float, ...]
    nearest: int


def judge(questioned: Vectors, references: Vectors, scoring: Scoring) -> Judgement:
    """Compare a questioned embedding (D,) with the references (N, D), N at least 1.

    Anything that is not a finite number is an error, never an acceptance.
    """
    distances = distances_to(questioned, references)
    nearest = int(np.argmin(distances))
    score = float(distances[nearest]) - offset(references, scoring)
    if not math.isfinite(score):
        raise ValueError("an embedding holds a value that is not a finite number")
    threshold = scoring.threshold_for(len(references))
    return Judgement(
        verdict=Verdict.ACCEPT if score < threshold else Verdict.REJECT,
        score=score,
        threshold=threshold,
        distance=float(distances[nearest]),
        distances=tuple(map(float, distances)),
        nearest=nearest,
    )


def distances_to(questioned: Vectors, references: Vectors) -> NDArray[np.float64]:
    """Euclidean distances (N,) from one embedding (D,) to N references (N, D)."""
    difference = references.astype(np.float64) - questioned.astype(np.float64)
    return np.asarray(np.linalg.norm(difference, axis=1))


def spread(references: Vectors) -> tuple[float, int]:
    """Mean distance of each reference to its nearest fellow, and over how many it was taken."""
    count = len(references)
    if count < 2:
        return 0.0, 0
    vectors = references.astype(np.float64)
    between = np.linalg.norm(vectors[:, None] - vectors[None], axis=2)
    np.fill_diagonal(between, np.inf)
    return float(between.min(axis=1).mean()), count


def offset(references: Vectors, scoring: Scoring) -> float:
    """What the rule takes off the nearest distance for these references (N, D)."""
    observed, count = spread(references)
    total = count + scoring.prior
    if total <= 0:
        return scoring.spread_weight * scoring.population_spread
    expected = (count * observed + scoring.prior * scoring.population_spread) / total
    return scoring.spread_weight * expected
