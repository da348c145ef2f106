"""Distances become one score, one threshold and one verdict."""

import json
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.errors import CheckpointError
from model.scoring import OPERATING_POINTS, Scoring, Verdict, judge, offset, scores, spread

PLAIN = Scoring(thresholds={1: 0.5})
BANDED = Scoring(
    thresholds={1: 0.6, 3: 0.5},
    accept={"0.1%": {1: 0.1, 3: 0.2}, "1%": {1: 0.3, 3: 0.4}, "5%": {1: 0.5, 3: 0.9}},
    reject={1: 0.8, 3: 0.7},
)


def unit(*angles):
    return np.array([[np.cos(a), np.sin(a)] for a in angles], np.float32)


def chord(angle):
    return 2 * np.sin(angle / 2)


def test_the_plain_rule_is_the_distance_to_the_nearest_reference():
    judgement = judge(unit(0.0)[0], unit(1.0, 0.2, 2.0), PLAIN)
    assert judgement.nearest == 1
    assert judgement.distances == pytest.approx([chord(1.0), chord(0.2), chord(2.0)], abs=1e-6)
    assert judgement.score == judgement.distance == pytest.approx(chord(0.2), abs=1e-6)
    assert judgement.verdict is Verdict.ACCEPT
    assert PLAIN.rule == "nearest"


def test_a_score_on_the_threshold_is_not_an_acceptance():
    references = unit(0.7)
    at = judge(unit(0.0)[0], references, PLAIN).score
    exact = Scoring(thresholds={1: at})
    assert judge(unit(0.0)[0], references, exact).verdict is Verdict.REJECT


def test_a_signer_who_varies_is_allowed_more():
    rule = Scoring(thresholds={1: 0.0}, spread_weight=0.5, population_spread=0.3, prior=2.0)
    steady, varied = unit(0.0, 0.01, 0.02), unit(0.0, 0.4, 0.8)
    assert offset(varied, rule) > offset(steady, rule)
    observed, count = spread(varied)
    assert (observed, count) == (pytest.approx(chord(0.4), abs=1e-6), 3)
    expected = 0.5 * (3 * chord(0.4) + 2 * 0.3) / 5
    assert offset(varied, rule) == pytest.approx(expected, abs=1e-6)
    assert rule.rule == "nearest-offset"


def test_one_reference_is_given_the_populations_spread():
    rule = Scoring(thresholds={1: 0.0}, spread_weight=0.5, population_spread=0.3, prior=2.0)
    assert offset(unit(0.4), rule) == pytest.approx(0.15)


def test_the_threshold_is_that_of_the_nearest_fitted_number_below():
    rule = Scoring(thresholds={1: 0.5, 3: 0.4, 10: 0.2})
    assert [rule.threshold_for(n) for n in (1, 2, 3, 9, 10, 50)] == [0.5, 0.5, 0.4, 0.4, 0.2, 0.2]
    assert Scoring(thresholds={3: 0.4}).threshold_for(1) == 0.4


@pytest.mark.parametrize("far", [None, *OPERATING_POINTS])
@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("where", ["questioned", "references"])
def test_what_is_not_a_number_is_an_error_and_never_an_acceptance(where, wrong, far):
    questioned, references = unit(0.0), unit(0.1, 0.2)
    (questioned if where == "questioned" else references)[0, 1] = wrong
    for rule in (PLAIN, BANDED):
        with pytest.raises(ValueError, match="not a finite number"):
            judge(questioned[0], references, rule, far=far)
        with pytest.raises(ValueError, match="not a finite number"):
            scores(questioned, references, rule)


def test_without_a_reference_there_is_no_score():
    for rule in (PLAIN, full_rule(np.random.default_rng(1))):
        with pytest.raises(ValueError, match=r"empty|zero-size"):
            judge(np.ones(8, np.float32), np.zeros((0, 8), np.float32), rule)


@pytest.mark.parametrize(
    "bad",
    [
        {"thresholds": {}},
        {"thresholds": {1: float("nan")}},
        {"reject": {1: float("inf")}},
        {"accept": {"1%": {1: float("nan")}}},
        {"accept": {"2%": {1: 0.1}}},
        {"accept": {"1%": {}}},
        {"reject": {}},
        {"accept": {"0.1%": {1: 0.3}, "5%": {1: 0.2}}},
        {"accept": {"0.1%": {1: 0.1}, "5%": {1: 0.2, 5: 0.0}}},
        {"cohort_weight": float("inf")},
        {"cohort_weight": 0.5},
        {"cohort_weight": 0.5, "cohort": np.zeros((0, 2), np.float16)},
        {"cohort": np.zeros(2, np.float16)},
        {"cohort": np.full((3, 2), np.nan, np.float16)},
        {"cohort_nearest": 0},
    ],
    ids=repr,
)
def test_a_rule_that_could_not_judge_soundly_is_refused(bad):
    with pytest.raises(CheckpointError):
        replace(BANDED, **bad)


def full_rule(rng, **changes):
    usual = {
        "thresholds": {1: 0.5},
        "centre_weight": 0.5,
        "spread_weight": 0.75,
        "population_spread": 0.4,
        "prior": 2.0,
        "cohort_weight": 0.5,
        "cohort_nearest": 3,
        "cohort": rng.normal(size=(7, 8)).astype(np.float16),
    }
    return Scoring(**usual | changes)


def score_by_loops(questioned, references, rule):
    def distance(a, b):
        return sum((float(x) - float(y)) ** 2 for x, y in zip(a, b, strict=True)) ** 0.5

    nearest = min(distance(questioned, reference) for reference in references)
    own = []
    for i, one in enumerate(references):
        others = [distance(one, two) for j, two in enumerate(references) if j != i]
        own += [min(others)] if others else []
    varies = (sum(own) + rule.prior * rule.population_spread) / (len(own) + rule.prior)
    to_cohort = sorted(distance(questioned, other) for other in rule.cohort)
    closest = to_cohort[: rule.cohort_nearest]
    away = sum(closest) / len(closest)
    middle = [sum(map(float, column)) / len(references) for column in zip(*references, strict=True)]
    inwards = rule.centre_weight * (distance(questioned, middle) - nearest)
    return nearest + inwards - rule.spread_weight * varies - rule.cohort_weight * away


@pytest.mark.parametrize("count", [1, 2, 5])
@pytest.mark.parametrize(
    "changes",
    [{}, {"cohort_nearest": 20}, {"spread_weight": 0.0}, {"centre_weight": 0.0}],
    ids=repr,
)
def test_scores_are_those_of_plain_loops(count, changes):
    rng = np.random.default_rng(count)
    rule = full_rule(rng, **changes)
    questioned, references = (rng.normal(size=(n, 8)).astype(np.float32) for n in (6, count))
    found = scores(questioned, references, rule)
    expected = [score_by_loops(one, references, rule) for one in questioned]
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    assert found.dtype == np.float64


def test_a_judgements_score_is_that_of_scores_and_the_sum_of_its_terms():
    rng = np.random.default_rng(3)
    rule = full_rule(rng)
    questioned, references = (rng.normal(size=(n, 8)).astype(np.float32) for n in (4, 5))
    together = scores(questioned, references, rule)
    for one, score in zip(questioned, together, strict=True):
        judgement = judge(one, references, rule)
        assert judgement.score == pytest.approx(score, rel=1e-12)
        assert list(judgement.terms) == ["nearest", "centre", "spread", "cohort"]
        assert sum(judgement.terms.values()) == judgement.score
        assert judgement.terms["nearest"] == judgement.distance
    assert rule.rule == "nearest-centre-offset-cohort"


def test_nobody_asked_has_no_scores():
    rule = full_rule(np.random.default_rng(1))
    assert scores(np.zeros((0, 8), np.float32), np.ones((2, 8), np.float32), rule).shape == (0,)


def test_what_is_near_to_one_specimen_alone_is_allowed_less():
    rule = Scoring(thresholds={1: 0.0}, centre_weight=1.0)
    specimens = np.concatenate([unit(0.0), unit(0.2), unit(0.9)])
    inside, outside = (judge(unit(angle)[0], specimens, rule) for angle in (0.3, 1.0))
    assert inside.distance == pytest.approx(outside.distance, abs=1e-6)
    assert inside.score < outside.score
    alone = judge(unit(1.0)[0], specimens[:1], rule)
    assert alone.score == pytest.approx(alone.distance)  # one specimen is its own mean
    assert rule.rule == "nearest-centre"


def test_a_signature_near_to_everybody_is_allowed_less():
    near_all = np.repeat(unit(0.2), 20, axis=0).astype(np.float16)
    rule = Scoring(thresholds={1: 0.0}, cohort_weight=0.5, cohort=near_all)
    crowded, alone = (judge(unit(angle)[0], unit(angle - 0.1), rule) for angle in (0.2, 2.0))
    assert crowded.distance == pytest.approx(alone.distance, abs=1e-6)
    assert crowded.score > alone.score
    assert rule.rule == "nearest-cohort"


def test_between_the_thresholds_a_person_decides():
    def verdict(score, far, references=1):
        angle = 2 * np.arcsin(score / 2)
        return judge(unit(0.0)[0], unit(*[angle] * references), BANDED, far=far).verdict

    assert verdict(0.2, "1%") is Verdict.ACCEPT
    assert verdict(0.2, "0.1%") is Verdict.REVIEW
    assert verdict(0.79, "1%") is Verdict.REVIEW
    assert verdict(0.81, "1%") is Verdict.REJECT
    assert verdict(0.75, "1%", references=3) is Verdict.REJECT
    assert verdict(0.59, None) is Verdict.ACCEPT
    assert verdict(0.61, None) is Verdict.REJECT


def test_on_the_first_threshold_review_begins_and_on_the_second_it_ends():
    questioned, references = unit(0.0)[0], unit(0.7)
    at = judge(questioned, references, PLAIN).score
    for accept, reject, verdict in ((at, at + 0.1, "review"), (at - 0.1, at, "reject")):
        rule = Scoring(thresholds={1: 0.5}, accept={"1%": {1: accept}}, reject={1: reject})
        judgement = judge(questioned, references, rule, far="1%")
        assert judgement.verdict == verdict
        assert (judgement.threshold, judgement.reject_threshold) == (accept, reject)
        assert judgement.operating_point == "1%"


def test_a_genuine_tail_below_acceptance_leaves_no_band():
    assert BANDED.band(3, "5%") == (0.9, 0.9)
    assert BANDED.band(2, "5%") == (0.5, 0.8)


def test_a_rule_without_operating_points_judges_plainly_whatever_is_asked():
    questioned, references = unit(0.0)[0], unit(0.1, 0.2)
    plain = judge(questioned, references, PLAIN)
    assert judge(questioned, references, PLAIN, far="0.1%") == plain
    assert (plain.operating_point, plain.reject_threshold, plain.threshold) == (None, None, 0.5)


def test_an_operating_point_that_is_missing_among_others_is_an_error():
    some = replace(BANDED, accept={"1%": {1: 0.3}})
    with pytest.raises(CheckpointError, match=r"no operating point 0\.1%; it has 1%\."):
        judge(unit(0.0)[0], unit(0.1), some, far="0.1%")


FINITE = st.floats(-2.0, 2.0)


@st.composite
def rules(draw):
    counts = draw(st.sets(st.sampled_from([1, 3, 5, 10]), min_size=1))
    rising = {count: sorted(draw(st.tuples(FINITE, FINITE, FINITE))) for count in counts}
    return Scoring(
        thresholds={count: draw(FINITE) for count in counts},
        accept={
            point: {count: rising[count][place] for count in counts}
            for place, point in enumerate(OPERATING_POINTS)
        },
        reject={count: draw(FINITE) for count in counts},
        centre_weight=draw(st.floats(0.0, 1.0)),
        spread_weight=draw(st.floats(0.0, 1.0)),
        population_spread=0.3,
        prior=2.0,
    )


@given(rules(), st.lists(st.floats(0.0, 3.0), min_size=1, max_size=6))
def test_a_stricter_point_never_accepts_what_a_laxer_one_did_not(rule, angles):
    order = [Verdict.ACCEPT, Verdict.REVIEW, Verdict.REJECT]
    found = [judge(unit(0.0)[0], unit(*angles), rule, far=point) for point in OPERATING_POINTS]
    for strict, lax in pairwise(found):
        assert strict.threshold <= lax.threshold
        if lax.verdict is not Verdict.ACCEPT:
            assert strict.verdict is lax.verdict
        assert order.index(strict.verdict) >= order.index(lax.verdict)


def test_the_rule_as_plain_values_is_json_and_makes_the_rule_again():
    rule = full_rule(np.random.default_rng(1), accept=BANDED.accept, reject=BANDED.reject)
    values = rule.as_dict()
    json.dumps(values)
    assert Scoring(**values, cohort=rule.cohort) == rule


@given(st.lists(st.floats(0.0, 3.0), min_size=1, max_size=8), st.floats(0.0, 3.0))
def test_more_references_never_move_the_nearest_one_away(angles, further):
    before = judge(unit(0.0)[0], unit(*angles), PLAIN)
    after = judge(unit(0.0)[0], unit(*angles, further), PLAIN)
    assert after.distance <= before.distance
