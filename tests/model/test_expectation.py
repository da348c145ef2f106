"""What a checkpoint says of so many references, and no more than it says."""

import numpy as np
import pytest

from model.expectation import consistency, expectation, wanted
from model.scoring import Scoring

SHARES = {"skilled": {"accepted": 0.02}, "genuine": {"accepted": 0.7}}
TEST = [
    {"protocol": "1:1", "skilled_eer": 0.5, "random_eer": 0.5},
    {"protocol": "1 reference", "skilled_eer": 0.14, "random_eer": 0.02},
    {
        "protocol": "5 references",
        "skilled_eer": 0.09,
        "random_eer": 0.01,
        "operating_points": {"1%": SHARES},
    },
    {"protocol": "10 references", "skilled_eer": 0.088, "random_eer": 0.01},
]


def test_the_rates_are_those_of_the_largest_number_measured_that_is_not_above():
    first, second = expectation({"test": TEST}, 4), expectation({"test": TEST}, 7)
    assert first is not None
    assert second is not None
    assert (first.measured, first.skilled_eer) == (1, 0.14)
    assert (second.measured, second.random_eer) == (5, 0.01)


def test_an_operating_point_is_said_where_it_was_measured():
    known = expectation({"test": TEST}, 5, "1%")
    assert known is not None
    assert (known.point, known.forged, known.genuine) == ("1%", 0.02, 0.7)
    unknown = expectation({"test": TEST}, 10, "1%")
    assert unknown is not None
    assert (unknown.point, unknown.forged) == (None, None)


@pytest.mark.parametrize(
    "provenance", [{}, {"test": []}, {"test": [{"protocol": "1:1"}]}, {"test": "good"}]
)
def test_a_checkpoint_that_says_nothing_gets_no_rates(provenance):
    assert expectation(provenance, 5) is None
    assert wanted(provenance, 4) == 5
    assert wanted(provenance, 5) is None


def test_more_are_wanted_up_to_where_the_errors_hardly_fall():
    assert wanted({"test": TEST}, 1) == 5
    assert wanted({"test": TEST}, 4) == 5
    assert wanted({"test": TEST}, 5) is None


def test_references_that_lie_apart_are_more_varied_than_usual():
    scoring = Scoring(thresholds={1: 0.5}, population_spread=0.5)
    wide = consistency(np.array([[0, 0], [0, 0.7]], np.float32), scoring)
    assert wide is not None
    assert (wide.spread, wide.inconsistent) == (pytest.approx(0.7), True)
    assert wide.word == "more varied than usual"
    narrow = consistency(np.array([[0, 0], [0, 0.3]], np.float32), scoring)
    assert narrow is not None
    assert narrow.word == "steadier than usual"


def test_one_reference_has_no_consistency_and_an_unknown_usual_gets_no_word():
    plain = Scoring(thresholds={1: 0.5})
    assert consistency(np.zeros((1, 2), np.float32), plain) is None
    two = consistency(np.eye(2, dtype=np.float32), plain)
    assert two is not None
    assert (two.word, two.inconsistent) == (None, False)
