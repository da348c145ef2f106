"""The scoring rule's coefficients and thresholds, fitted on development writers."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import product

import numpy as np

from . import metrics
from .arrays import Floats, Vectors
from .evaluate import REFERENCE_COUNTS, PlacesSeen, Scores, with_references
from .sampling import Writer, by_corpus
from .scoring import OPERATING_POINTS, Cohort, Scoring, spread

WEIGHTS = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Tried for the centre, the signer's own spread and the cohort, each with each."""
PRIOR = 2.0
MIDDLE = 5
"""The number of references at which the population's spread is taken."""
DRAWS = 20
"""Of the references: by five of them, which weights are best was still a matter of luck."""
ENOUGH = 5
"""Writers by whom a corpus has a say of its own in the coefficients."""
GENUINE_TAIL = 0.01
"""The share of genuine scores that may lie above the threshold of rejection."""


def fit_scoring(
    vectors: Vectors,
    writers: Sequence[Writer],
    *,
    cohort: Cohort | None,
    policy: metrics.Policy,
    rng: np.random.Generator,
) -> Scoring:
    """Fit the rule for several references; `vectors` (M, D) are the rows that writers name.

    `cohort` (K, D) embeds genuine signatures of training writers; it is left out where it does
    not help. The weights are those of a small grid with the lowest selection error, in the mean
    over all numbers of references but one and over corpora, each measured by itself: a signer is
    compared within one script. `policy` sets the balanced thresholds, skilled and random forgeries
    weighing alike. Without skilled forgeries there are no operating points. Raises EmptyClass when
    there is nothing at all to oppose to the genuine signatures.
    """
    most = max(len(writer.genuine) for writer in writers) - 1
    counts = [count for count in REFERENCE_COUNTS if count <= most]
    middle = min(MIDDLE, max(counts))
    rule = Scoring(
        thresholds={1: 1.0},
        population_spread=_population_spread(vectors, writers, middle, rng),
        prior=PRIOR,
        # Rounded now, as the checkpoint keeps it: the thresholds belong to what is shipped.
        cohort=None if cohort is None else np.asarray(cohort, np.float16),
    )
    seed = int(rng.integers(2**31))
    seen = PlacesSeen(vectors, vectors)

    def scores(candidate: Scoring, count: int, some: Sequence[Writer] = writers) -> Scores:
        same_draws = np.random.default_rng(seed)
        return with_references(
            vectors,
            some,
            references=count,
            scoring=candidate,
            rng=same_draws,
            draws=DRAWS,
            seen=seen,
        )

    def trial(count: int, some: Sequence[Writer]) -> Callable[[Scoring], Scores]:
        return lambda candidate: scores(candidate, count, some)

    several = [count for count in counts if count > 1] or counts
    trials = [trial(count, some) for count in several for some in _corpora(writers, count)]
    best = _with_best_weights(rule, trials)
    return with_thresholds(best, {count: scores(best, count) for count in counts}, policy)


def _corpora(writers: Sequence[Writer], count: int) -> list[Sequence[Writer]]:
    """The writers who have more than so many references, by corpus where there are enough."""
    corpora = by_corpus(writer for writer in writers if len(writer.genuine) > count)
    large: list[Sequence[Writer]] = [some for some in corpora.values() if len(some) >= ENOUGH]
    return large or [writers]


def _with_best_weights(rule: Scoring, trials: Sequence[Callable[[Scoring], Scores]]) -> Scoring:
    """The rule with the weights of the lowest mean selection error; of equals, the smallest.

    A score is linear in its weights, so four sets of scores give those of the whole grid.
    """
    found = [_on_axes(rule, score) for score in trials]
    if not any(len(plain.skilled) + len(plain.random) for plain, *_ in found):
        raise metrics.EmptyClass("there are no forged scores of development writers")

    def error(weights: Sequence[float]) -> float:
        return float(
            np.mean([_combined(*scores, weights=weights).selection_error for scores in found])
        )

    tried = product(WEIGHTS, WEIGHTS, WEIGHTS if rule.cohort is not None else (0.0,))
    centre_weight, spread_weight, cohort_weight = min(tried, key=error)
    return replace(
        rule,
        centre_weight=centre_weight,
        spread_weight=spread_weight,
        cohort_weight=cohort_weight,
        cohort=rule.cohort if cohort_weight else None,
    )


def _on_axes(rule: Scoring, score: Callable[[Scoring], Scores]) -> tuple[Scores, ...]:
    """The scores without any weight, and with a weight of 1 each."""
    plain = score(rule)
    return (
        plain,
        score(replace(rule, centre_weight=1.0)),
        score(replace(rule, spread_weight=1.0)),
        plain if rule.cohort is None else score(replace(rule, cohort_weight=1.0)),
    )


def _combined(plain: Scores, *alone: Scores, weights: Sequence[float]) -> Scores:
    """Scores with all weights, from those without any and those with one weight of 1 each."""

    def kind(name: str) -> Floats:
        base = total = plain.of(name)
        for weight, scores in zip(weights, alone, strict=True):
            total = total + weight * (scores.of(name) - base)
        return total

    return Scores(genuine=kind("genuine"), skilled=kind("skilled"), random=kind("random"))


def with_thresholds(rule: Scoring, found: Mapping[int, Scores], policy: metrics.Policy) -> Scoring:
    """The rule with every threshold fitted to scores by number of references.

    An operating point takes the largest threshold that accepts no more than its share of skilled
    forgeries; where they are too few to measure the share, it lies below all of them.
    """
    measured = {count: scores for count, scores in found.items() if len(scores.skilled)}
    return replace(
        rule,
        thresholds={count: fit_threshold(scores, policy) for count, scores in found.items()},
        reject={count: _tail(scores) for count, scores in found.items()},
        accept={
            point: {count: _accept(scores, point) for count, scores in measured.items()}
            for point in OPERATING_POINTS
            if measured
        },
    )


def fit_threshold(scores: Scores, policy: metrics.Policy) -> float:
    """The threshold by `policy`, with skilled and random forgeries in equal parts."""
    skilled, random = scores.skilled, scores.random
    size = max(len(skilled), len(random))
    forged = [np.resize(kind, size) for kind in (skilled, random) if len(kind)]
    return metrics.threshold(scores.genuine, np.concatenate([*forged, []]), policy)


def _accept(scores: Scores, point: str) -> float:
    share = float(point.removesuffix("%")) / 100
    return metrics.threshold(scores.genuine, scores.skilled, "far", far=share)


def _tail(scores: Scores) -> float:
    return float(np.quantile(scores.genuine, 1 - GENUINE_TAIL))


def _population_spread(
    vectors: Vectors, writers: Sequence[Writer], count: int, rng: np.random.Generator
) -> float:
    """The mean spread of `count` references, over the writers that have more than those."""
    able = [writer for writer in writers if len(writer.genuine) > count]
    return float(np.mean([spread(vectors[rng.permutation(w.genuine)[:count]])[0] for w in able]))
