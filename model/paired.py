"""Two models on the same comparisons: whether one errs less, whoever the writers are.

Writers differ more than models do. Drawn anew for both models at once, what is hard about a writer
falls out of the difference, and its interval is far narrower than either model's own.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from . import metrics
from .rates import percent

ByWriter = tuple[Sequence[ArrayLike], Sequence[ArrayLike]]
"""Genuine and forged distances, a list for each writer."""


@dataclass(frozen=True, kw_only=True)
class Difference:
    """An equal error rate of the active model and of the candidate, by one protocol.

    Rates in 0 to 1. `low` and `high` each bound, to 95 %, the candidate's less the active model's
    over writers drawn anew; all are nan where there was nothing to compare.
    """

    protocol: str
    references: int | None
    kind: str
    active: float
    candidate: float
    low: float
    high: float

    @property
    def better(self) -> bool:
        """The candidate errs less, and not by the luck of the writers."""
        return self.high < 0

    @property
    def worse(self) -> bool:
        """The candidate errs more, and not by the luck of the writers."""
        return self.low > 0

    @property
    def measured(self) -> bool:
        """Whether there was enough to compare."""
        return all(map(np.isfinite, (self.active, self.candidate, self.low, self.high)))

    def __str__(self) -> str:
        """The figures in per cent, with the interval of the difference in points.

        >>> print(Difference(protocol="1:1", references=None, kind="skilled", active=0.15,
        ...                  candidate=0.12, low=-0.05, high=-0.01))
        1:1, skilled: 15.0 % -> 12.0 % (-5.0 to -1.0 points)
        """
        return (
            f"{self.protocol}, {self.kind}: {percent(self.active)} -> {percent(self.candidate)}"
            f" ({100 * self.low:+.1f} to {100 * self.high:+.1f} points)"
        )

    def as_dict(self) -> dict[str, Any]:
        """The fields, for JSON."""
        return asdict(self) | {"better": self.better, "worse": self.worse}


def difference_from(values: Mapping[str, Any]) -> Difference:
    """What `as_dict` was made of; what it only derives is left."""
    return Difference(**{field.name: values[field.name] for field in fields(Difference)})


Paired = tuple[ByWriter, ByWriter]
"""Of the active model and of the candidate, for the same writers in the same order."""


def difference_interval(
    protocols: Sequence[Paired], *, rng: np.random.Generator, resamples: int = 1000
) -> tuple[float, float]:
    """Bounds of the candidate's equal error rate less the active model's, to 95 % on either side.

    Better and worse are two questions, each of one side: beyond a bound lies one chance in twenty.

    Of several protocols it is the mean of their differences. Writers, as many by each protocol, are
    drawn anew for both models and all protocols at once. (nan, nan) where `bootstrap_eer` has that.

    >>> same = ([[0.1, 0.2], [0.3, 0.7]], [[0.4, 0.9], [0.8, 1.0]])
    >>> difference_interval([(same, same)], rng=np.random.default_rng(0))
    (0.0, 0.0)
    """
    if not protocols or not all(metrics.resamplable(*one) for pair in protocols for one in pair):
        return float("nan"), float("nan")
    weights = metrics.resample(len(protocols[0][0][0]), rng, resamples)
    differences = []
    for pair in protocols:
        before, after = (metrics.resampled_eers(*one, weights) for one in pair)
        differences.append(after - before)
    low, high = np.nanpercentile(np.mean(differences, axis=0), [5.0, 95.0])
    return float(low), float(high)
