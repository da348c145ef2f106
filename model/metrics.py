"""Error rates and thresholds of a verifier, from the distances of genuine and forged comparisons.

A distance says how far apart two signatures are, so lower is closer, and a comparison is accepted
if its distance is below the threshold. Everything counts sorted distances and is exact under ties.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .arrays import Floats
from .errors import ModelError

Policy = Literal["youden", "maxacc", "eer", "far"]


class MetricsError(ModelError):
    """The error rates cannot be computed from these distances."""

    code = "metrics_error"


class EmptyClass(MetricsError):
    """One of the two classes has no distances at all."""

    code = "empty_class"


class NonFiniteDistance(MetricsError):
    """A distance or a threshold is not a finite number."""

    code = "non_finite_distance"


@dataclass(frozen=True, kw_only=True)
class Curve:
    """Both error rates at every threshold that decides differently: three (K,) arrays.

    `thresholds` rise, so `far` never falls and `frr` never rises; the curve runs from
    (far 0, frr 1), where nothing is accepted, to (far 1, frr 0), where everything is.
    """

    thresholds: Floats
    far: Floats
    frr: Floats


@dataclass(frozen=True, kw_only=True)
class Metrics:
    """How a verifier does at one threshold, with the rates that need none. Rates are in 0..1.

    Genuine is the positive class of `f1`, `roc_auc` and `pr_auc` (average precision).
    """

    acc: float
    f1: float
    far: float
    frr: float
    eer: float
    roc_auc: float
    pr_auc: float
    threshold: float
    n_genuine: int
    n_forged: int

    def as_dict(self) -> dict[str, float]:
        """The fields by name, for JSON and tables."""
        return asdict(self)


def far(forged: ArrayLike, threshold: float) -> float:
    """False acceptance rate: the share of forged comparisons with a distance below the threshold.

    >>> far([0.2, 0.5, 0.9, 1.1], threshold=0.5)
    0.25
    """
    distances = _sorted(forged, "forged")
    return _below(distances, _finite(threshold)) / distances.size


def frr(genuine: ArrayLike, threshold: float) -> float:
    """False rejection rate: the share of genuine comparisons at or above the threshold.

    >>> frr([0.1, 0.2, 0.5, 0.6], threshold=0.5)
    0.5
    """
    distances = _sorted(genuine, "genuine")
    return (distances.size - _below(distances, _finite(threshold))) / distances.size


def error_curve(genuine: ArrayLike, forged: ArrayLike) -> Curve:
    """FAR and FRR at every threshold that matters: the ROC and the DET curve in one.

    The thresholds lie midway between neighbouring distinct distances, plus one beyond each end, so
    that none equals an observed distance and none depends on how an equality is decided.

    >>> curve = error_curve(genuine=[0.1, 0.4], forged=[0.4, 0.8])
    >>> [round(float(t), 3) for t in curve.thresholds]
    [-0.075, 0.25, 0.6, 0.975]
    >>> curve.far.tolist(), curve.frr.tolist()
    ([0.0, 0.0, 0.5, 1.0], [1.0, 0.5, 0.0, 0.0])
    """
    same, other = _sorted(genuine, "genuine"), _sorted(forged, "forged")
    thresholds = _candidates(same, other)
    accepted, rejected = _errors(same, other, thresholds)
    return Curve(thresholds=thresholds, far=accepted / other.size, frr=rejected / same.size)


def eer(genuine: ArrayLike, forged: ArrayLike) -> tuple[float, float]:
    """Equal error rate, and the threshold that comes nearest to it.

    The rate is where FAR and FRR cross on the piecewise linear ROC, whose points are those of
    `error_curve` joined by straight lines (Fawcett 2006, "An introduction to ROC analysis", whose
    area is the AUC with ties counted half). The convex hull (Brummer and de Villiers 2011,
    "The BOSARIS toolkit") would give a rate as low or lower, by thresholds that one cannot set.
    On a slope between two points no single threshold reaches the rate; the one returned has the
    smallest gap between FAR and FRR, and of two equal gaps the one with the lower FAR.

    >>> rate, at = eer(genuine=[0.1, 0.2, 0.3, 0.7], forged=[0.4, 0.8, 0.9, 1.0])
    >>> rate, round(at, 3)
    (0.25, 0.55)
    >>> eer(genuine=[0.5, 0.5], forged=[0.5])[0]  # all tied: no better than a coin
    0.5
    """
    same, other = _sorted(genuine, "genuine"), _sorted(forged, "forged")
    thresholds = _candidates(same, other)
    accepted, rejected = _errors(same, other, thresholds)
    gap = accepted * same.size - rejected * other.size  # whole numbers: no rounding decides a tie
    right = int(np.searchsorted(gap, 0))  # gap rises from below 0 to above it
    left = right - 1
    share = -gap[left] / (gap[right] - gap[left])
    rate = (accepted[left] + share * (accepted[right] - accepted[left])) / other.size
    nearest = left if -gap[left] <= gap[right] else right
    return float(rate), float(thresholds[nearest])


def bootstrap_eer(
    genuine: Sequence[ArrayLike],
    forged: Sequence[ArrayLike],
    *,
    rng: np.random.Generator,
    resamples: int = 1000,
    confidence: float = 0.95,
) -> tuple[float, float]:
    """Interval of the pooled EER when whole writers are drawn anew (percentile bootstrap).

    `genuine[w]` and `forged[w]` are the distances of writer w, and either may be empty. A writer's
    comparisons stand or fall together, so an interval over single comparisons would be far too
    narrow (Bolle, Ratha and Pankanti 2004, "Error analysis of pattern recognition systems: the
    subsets bootstrap"). (nan, nan) with fewer than two writers or where a class has no distances.

    >>> low, high = bootstrap_eer(
    ...     [[0.1, 0.2], [0.3, 0.7]], [[0.4, 0.9], [0.8, 1.0]], rng=np.random.default_rng(0)
    ... )
    >>> low, high  # the first writer alone, the second alone
    (0.0, 0.25)
    """
    if not resamplable(genuine, forged):
        return float("nan"), float("nan")
    rates = resampled_eers(genuine, forged, resample(len(genuine), rng, resamples))
    tail = 100 * (1 - confidence) / 2
    low, high = np.nanpercentile(rates, [tail, 100 - tail])
    return float(low), float(high)


def resamplable(genuine: Sequence[ArrayLike], forged: Sequence[ArrayLike]) -> bool:
    """Whether two writers or more have genuine distances, and anybody has forged ones."""
    return sum(np.size(v) > 0 for v in genuine) > 1 and any(np.size(v) for v in forged)


def resample(writers: int, rng: np.random.Generator, resamples: int = 1000) -> NDArray[np.int64]:
    """How often each of the writers is drawn, (W, R): as many writers in each of R resamples."""
    return rng.multinomial(writers, np.full(writers, 1 / writers), size=resamples).T


def resampled_eers(
    genuine: Sequence[ArrayLike], forged: Sequence[ArrayLike], weights: NDArray[np.int64]
) -> Floats:
    """EER of each resample, (R,); `weights` (W, R) says how often writer w is in resample r.

    All resamples halve their interval of levels together, which needs no table of writers by
    thresholds. nan for a resample that lacks a class.
    """
    same = [np.sort(np.asarray(values, np.float64)) for values in genuine]
    other = [np.sort(np.asarray(values, np.float64)) for values in forged]
    levels = _finite_all(np.unique(np.concatenate([*same, *other])))

    def accepted(kind: list[Floats], below: NDArray[np.int64]) -> NDArray[np.int64]:
        cut = np.concatenate([[-np.inf], levels])[below]  # the lowest `below` levels are accepted
        counts = np.zeros(len(cut), np.int64)
        for values, weight in zip(kind, weights, strict=True):
            counts += weight * np.searchsorted(values, cut, side="right")
        return counts

    everything = np.full(weights.shape[1], len(levels))
    n_same, n_other = accepted(same, everything), accepted(other, everything)

    def gap(below: NDArray[np.int64]) -> NDArray[np.int64]:  # (FAR - FRR) n_same n_other
        return accepted(other, below) * n_same - (n_same - accepted(same, below)) * n_other

    left, right = np.zeros_like(everything), everything  # gap is below 0 at left, not at right
    while (right - left > 1).any():
        middle = (left + right) // 2
        reached = gap(middle) >= 0
        left, right = np.where(reached, left, middle), np.where(reached, middle, right)
    before, after = gap(left), gap(right)
    whole = (n_same > 0) & (n_other > 0)
    share = -before / np.where(whole, after - before, 1)
    first, second = accepted(other, left), accepted(other, right)
    rates = (first + share * (second - first)) / np.where(whole, n_other, 1)
    return np.where(whole, rates, np.nan)


def roc_auc(genuine: ArrayLike, forged: ArrayLike) -> float:
    """Area under the ROC: how often a genuine comparison is closer than a forged one, ties half.

    >>> roc_auc(genuine=[0.1, 0.4], forged=[0.4, 0.8])
    0.875
    """
    same, other = _sorted(genuine, "genuine"), _sorted(forged, "forged")
    farther = other.size - np.searchsorted(other, same, side="right")
    tied = other.size - np.searchsorted(other, same, side="left") - farther
    return float(2 * farther.sum() + tied.sum()) / (2 * same.size * other.size)


def average_precision(genuine: ArrayLike, forged: ArrayLike) -> float:
    """Mean precision of acceptance over the genuine comparisons, each at its own rank.

    The sum of (R_k - R_{k-1}) P_k over rising thresholds, without interpolation; equal distances
    enter together.

    >>> average_precision(genuine=[0.1, 0.5], forged=[0.4, 0.8])  # (1/1 + 2/3) / 2
    0.8333333333333333
    """
    same, other = _sorted(genuine, "genuine"), _sorted(forged, "forged")
    true = np.searchsorted(same, same, side="right")  # accepted with this one, itself included
    false = np.searchsorted(other, same, side="right")
    return float(np.mean(true / (true + false)))


def threshold(
    genuine: ArrayLike, forged: ArrayLike, policy: Policy, *, far: float | None = None
) -> float:
    """The threshold that a policy chooses among those of `error_curve`.

    `youden` minimises FAR + FRR (Youden 1950), `maxacc` the number of errors, `eer` the gap between
    FAR and FRR; among equals the lowest threshold wins, which accepts the fewest forgeries. `far`
    takes the highest threshold whose FAR is at most `far`. Raises MetricsError for another policy
    and for a `far` that is missing, not wanted or outside 0..1.

    >>> genuine, forged = [0.1, 0.2, 0.3, 0.7], [0.4, 0.8, 0.9, 1.0]
    >>> [round(threshold(genuine, forged, policy), 3) for policy in ("youden", "maxacc", "eer")]
    [0.35, 0.35, 0.55]
    >>> round(threshold(genuine, forged, "far", far=0.25), 3)
    0.75
    """
    if far is not None and policy != "far":
        raise MetricsError(f"a target FAR belongs to policy 'far', not to {policy!r}")
    same, other = _sorted(genuine, "genuine"), _sorted(forged, "forged")
    thresholds = _candidates(same, other)
    accepted, rejected = _errors(same, other, thresholds)
    if policy == "youden":
        place = np.argmin(accepted * same.size + rejected * other.size)  # whole numbers again
    elif policy == "maxacc":
        place = np.argmin(accepted + rejected)
    elif policy == "eer":
        return eer(same, other)[1]
    elif policy == "far":
        if far is None or not 0 <= far <= 1:
            raise MetricsError(f"policy 'far' needs a target rate within 0..1, not {far}")
        place = np.searchsorted(accepted / other.size, far, side="right") - 1
    else:
        raise MetricsError(f"unknown threshold policy {policy!r}: use youden, maxacc, eer or far")
    return float(thresholds[place])


def summary(genuine: ArrayLike, forged: ArrayLike, threshold: float) -> Metrics:
    """Every rate of these comparisons, with the decisions made at `threshold`.

    >>> result = summary([0.1, 0.2, 0.3, 0.7], [0.4, 0.8, 0.9, 1.0], threshold=0.5)
    >>> result.acc, result.f1, result.far, result.frr, result.eer
    (0.75, 0.75, 0.25, 0.25, 0.25)
    """
    same, other = _sorted(genuine, "genuine"), _sorted(forged, "forged")
    true = _below(same, _finite(threshold))
    false = _below(other, threshold)
    return Metrics(
        acc=(true + other.size - false) / (same.size + other.size),
        f1=2 * true / (same.size + true + false),
        far=false / other.size,
        frr=(same.size - true) / same.size,
        eer=eer(same, other)[0],
        roc_auc=roc_auc(same, other),
        pr_auc=average_precision(same, other),
        threshold=float(threshold),
        n_genuine=same.size,
        n_forged=other.size,
    )


def _sorted(distances: ArrayLike, name: str) -> Floats:
    values = np.asarray(distances, dtype=np.float64)
    if values.ndim != 1:
        raise MetricsError(f"the {name} distances must be one row, not of shape {values.shape}")
    if not values.size:
        raise EmptyClass(f"there are no {name} distances")
    if not np.isfinite(values).all():
        raise NonFiniteDistance(f"the {name} distances contain NaN or infinity")
    return np.sort(values)


def _finite_all(levels: Floats) -> Floats:
    if not np.isfinite(levels).all():
        raise NonFiniteDistance("the distances contain NaN or infinity")
    return levels


def _finite(threshold: float) -> float:
    if not np.isfinite(threshold):
        raise NonFiniteDistance(f"the threshold {threshold} is not a finite number")
    return threshold


def _below(ascending: Floats, threshold: float) -> int:
    return int(np.searchsorted(ascending, threshold, side="left"))


def _errors(
    same: Floats, other: Floats, thresholds: Floats
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    accepted = np.searchsorted(other, thresholds, side="left").astype(np.int64)
    rejected = same.size - np.searchsorted(same, thresholds, side="left").astype(np.int64)
    return accepted, rejected


def _candidates(same: Floats, other: Floats) -> Floats:
    levels = np.unique(np.concatenate([same, other]))
    lower, upper = levels[:-1], levels[1:]
    middle = lower / 2 + upper / 2  # halves first: the sum could overflow
    middle = np.where(middle > lower, middle, upper)  # neighbouring floats have no middle
    # The ends keep off by half the mean gap, which follows the scale of the distances.
    margin = (levels[-1] / 2 - levels[0] / 2) / max(levels.size - 1, 1) or 0.5
    first = min(levels[0] - margin, np.nextafter(levels[0], -np.inf))
    last = max(levels[-1] + margin, np.nextafter(levels[-1], np.inf))
    return np.concatenate([[first], middle, [last]])
