"""Comparing by place: a small shift is no difference, what varies within a writer little."""

import numpy as np
import pytest
import torch

from bench import elastic
from bench.elastic import Cells
from model.scoring import Scoring
from model.synthetic import write_dataset
from tests.bench.asking import asked_of

RULE = Scoring(thresholds={1: 0.5})


def cells(*, channels=3, seed=0):
    """One signature of a little ink in the middle of a frame of 24 x 32 cells."""
    generator = torch.Generator().manual_seed(seed)
    shown, ink = torch.zeros(1, channels, 24, 32), torch.zeros(1, 24, 32)
    shown[..., 8:16, 10:22] = torch.randn(1, channels, 8, 12, generator=generator)
    ink[..., 8:16, 10:22] = 1 / 96
    return Cells(shown=shown, ink=ink)


def moved(signature, down, across):
    return Cells(
        shown=signature.shown.roll((down, across), (2, 3)),
        ink=signature.ink.roll((down, across), (1, 2)),
    )


@pytest.mark.parametrize(("down", "across"), [(0, 0), (3, -3), (-1, 2)])
def test_what_lies_elsewhere_within_reach_is_no_difference(down, across):
    one = cells()
    assert float(elastic.apart(one, moved(one, down, across))[0]) == pytest.approx(0, abs=1e-6)


def test_what_lies_beyond_reach_or_is_another_differs_either_way():
    one, other = cells(), cells(seed=1)
    for stranger in (moved(one, 0, 8), other):
        there, back = elastic.apart(one, stranger), elastic.apart(stranger, one)
        assert float(there[0]) > 0.5
        torch.testing.assert_close(there, back)


def test_numbers_that_vary_within_a_writer_weigh_little(monkeypatch):
    monkeypatch.setattr(elastic, "KEPT", 3)
    generator = torch.Generator().manual_seed(2)

    def again(signature):
        noise = torch.zeros_like(signature.shown)
        noise[:, 0] = 3 * torch.randn(noise[:, 0].shape, generator=generator)
        return Cells(shown=signature.shown + noise, ink=signature.ink)

    pairs = [(again(one), again(one)) for one in (cells(seed=seed) for seed in range(20))]
    weights = elastic.fitted(pairs).square().sum(1)
    assert weights[0] < 0.8 * weights[1:].min()


def test_a_score_is_of_the_references_and_less_what_they_lie_apart():
    distances = np.array([[0.0, 2.0, 4.0, 9.0], [2.0, 0.0, 1.0, 5.0], [4.0, 1.0, 0.0, 7.0]])
    np.testing.assert_allclose(
        elastic.score_of(distances, np.array([0, 1]), np.array([2, 3])),
        [(1 + 2.5) / 2 - 0.5 * 2, (5 + 7) / 2 - 0.5 * 2],
    )
    np.testing.assert_allclose(elastic.score_of(distances, np.array([2]), np.array([3])), [7])


@pytest.mark.slow
def test_every_rule_has_a_row_for_each_corpus(tmp_path, capsys):
    write_dataset(tmp_path / "made", signers=6, genuine=4, forgeries=2, seed=1)
    names = [f"made/{number}" for number in range(1, 7)]
    asked = asked_of(tmp_path, RULE, train_writers=names[:3], development_writers=names[3:])
    assert elastic.main(asked) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    for rule in ("vectors, as shipped", "by place", "both"):
        found = [row for row in rows if row[: len(rule.split())] == rule.split()]
        assert len(found) == 2  # 1 and 3 references
        assert all(len(row) == len(rule.split()) + 6 for row in found)  # one corpus and the mean


def test_without_its_writers_it_says_so(tmp_path, capsys):
    assert elastic.main(["--data", str(tmp_path), "--device", "cpu"]) == elastic.CANNOT
    assert "nobody who taught the checkpoint" in capsys.readouterr().err
