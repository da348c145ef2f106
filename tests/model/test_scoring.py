"""Distances become one score, one threshold and one verdict."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.errors import CheckpointError
from model.scoring import Scoring, Verdict, judge, offset, spread

PLAIN = Scoring(thresholds={1: 0.5})


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


@pytest.mark.parametrize("where", ["questioned", "references"])
def test_what_is_not_a_number_is_an_error_and_never_an_acceptance(where):
    questioned, references = unit(0.0)[0], unit(0.1, 0.2)
    (questioned if where == "questioned" else references)[...] = np.nan
    with pytest.raises(ValueError, match="not a finite number"):
        judge(questioned, references, PLAIN)


def test_a_rule_without_finite_numbers_is_refused():
    for bad in ({"thresholds": {}}, {"thresholds": {1: float("nan")}}):
        with pytest.raises(CheckpointError):
            Scoring(**bad)


@given(st.lists(st.floats(0.0, 3.0), min_size=1, max_size=8), st.floats(0.0, 3.0))
def test_more_references_never_move_the_nearest_one_away(angles, further):
    before = judge(unit(0.0)[0], unit(*angles), PLAIN)
    after = judge(unit(0.0)[0], unit(*angles, further), PLAIN)
    assert after.distance <= before.distance
