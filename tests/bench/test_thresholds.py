"""Thresholds of some corpora are applied to another, as they are and by what its own scores say."""

import numpy as np
import pytest

from bench import thresholds
from bench.thresholds import Found
from model.evaluate import Scores
from model.synthetic import write_dataset
from tests.bench.asking import asked_of


def corpus(rng, *, shift=0.0, scale=1.0):
    """A corpus whose scores lie elsewhere on the scale; seen from its own they are the same."""

    def drawn(middle):
        return shift + scale * rng.normal(middle, 0.1, 2000)

    found = Scores(genuine=drawn(0.4), skilled=drawn(0.8), random=drawn(1.2))
    return Found(scores=found, genuine=shift + scale * 0.4, strangers=shift + scale * 1.2)


@pytest.mark.parametrize(
    ("elsewhere", "holding"),
    [
        ({}, {"as fitted", "moved", "and stretched"}),
        ({"shift": -0.2}, {"moved", "and stretched"}),
        ({"shift": -0.2, "scale": 0.7}, {"and stretched"}),
    ],
)
def test_a_threshold_holds_where_only_what_it_allows_for_differs(elsewhere, holding):
    rng = np.random.default_rng(1)
    here, there = corpus(rng, **elsewhere), corpus(rng)
    for way in thresholds.WAYS:
        skilled, _ = thresholds.accepted(here, [there], way, 0.05)
        assert (0.03 < skilled < 0.07) == (way in holding)


@pytest.mark.slow
def test_every_corpus_is_left_out_in_turn(tmp_path, capsys):
    for number, name in enumerate(("first", "second")):
        write_dataset(tmp_path / name, signers=3, genuine=5, forgeries=2, seed=number)
    names = [f"{corpus}/{number}" for corpus in ("first", "second") for number in (1, 2, 3)]
    assert thresholds.main(asked_of(tmp_path, development_writers=names)) == 0
    told = capsys.readouterr().out
    assert told.count("as fitted") == 4  # two corpora, with 1 and with 3 references
    assert "first: skilled" in told
    assert "second: skilled" in told


def test_without_two_corpora_it_says_so(tmp_path, capsys):
    assert thresholds.main(["--data", str(tmp_path), "--device", "cpu"]) == thresholds.CANNOT
    assert "fewer than two" in capsys.readouterr().err
