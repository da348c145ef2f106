"""The figures of the bench, from decisions that are made up."""

import pytest

from bench.held_out import figures, markdown
from tests.builders import a_decision, a_review, an_error


def rows():
    def decision(truth, score, verdict):
        usual = {"threshold": 0.2, "reject_threshold": 0.6, "operating_point": "1%"}
        return a_decision(verdict=verdict, score=score, upstream={"truth": truth}, **usual)

    return [
        decision("genuine", 0.1, "accept"),
        a_review(upstream={"truth": "genuine"}, score=0.3),
        decision("genuine", 0.7, "reject"),
        an_error(upstream={"truth": "genuine"}),
        decision("skilled", 0.4, "review"),
        decision("skilled", 0.8, "reject"),
        decision("random", 0.9, "reject"),
    ]


def test_error_rates_are_at_the_balanced_threshold_and_shares_at_the_operating_point():
    found = figures(rows(), 0.5)
    assert found["frr"] == 0.5
    assert (found["far_skilled"], found["far_random"]) == (0.5, 0.0)
    assert (found["threshold"], found["accept_below"], found["reject_from"]) == (0.5, 0.2, 0.6)
    quarter = {"accept": 0.25, "reject": 0.25, "review": 0.25, "error": 0.25}
    assert found["shares"]["genuine"] == quarter
    assert found["shares"]["skilled"] == pytest.approx(
        {"accept": 0.0, "reject": 0.5, "review": 0.5, "error": 0.0}
    )
    assert found["failed"] == 1


@pytest.mark.parametrize("banded", [True, False])
def test_the_table_says_where_decisions_were_made(banded):
    found = figures(rows(), 0.5)
    if not banded:
        found |= {"operating_point": None, "reject_from": None}
    text = markdown(found | {"corpus": "c", "writers": 2, "references": 5})
    expected = (
        "operating point 1%, accept below 0.200, reject from 0.600" if banded else "no review"
    )
    assert expected in text
    assert "| skilled | 0.0 % | 50.0 % | 50.0 % | 0.0 % |" in text
