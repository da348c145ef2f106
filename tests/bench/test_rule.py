"""The parts of the rule are switched off one by one, on the development writers alone."""

from dataclasses import replace

import numpy as np
import pytest

from bench import rule
from model.scoring import Scoring
from model.synthetic import write_dataset
from tests.bench.asking import asked_of

RULE = Scoring(thresholds={1: 0.5}, centre_weight=0.5, spread_weight=0.5, population_spread=0.3)


def test_every_choice_of_the_parts_in_use_has_a_row():
    assert [name for name, _ in rule._rules(RULE)] == [
        "nearest",
        "nearest centre",
        "nearest spread",
        "nearest centre spread",
    ]
    cohort = np.ones((2, 4), np.float16)
    *_, (name, whole) = rule._rules(replace(RULE, cohort_weight=0.25, cohort=cohort))
    assert name == "nearest centre spread cohort"
    assert whole.cohort_weight == 0.25


@pytest.mark.slow
def test_the_table_is_made_of_development_writers(tmp_path, capsys):
    write_dataset(tmp_path / "made", signers=4, genuine=5, forgeries=2, seed=1)
    names = ["made/1", "made/2", "made/3"]
    assert rule.main(asked_of(tmp_path, RULE, development_writers=names)) == 0
    told = capsys.readouterr().out
    assert "3 references" in told
    assert "nearest centre spread" in told
    assert "5 references" not in told


def test_without_its_writers_it_says_so(tmp_path, capsys):
    assert rule.main(["--data", str(tmp_path), "--device", "cpu"]) == rule.CANNOT
    assert "none of the checkpoint's development writers" in capsys.readouterr().err
