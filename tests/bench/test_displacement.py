"""The direction that a corpus' forgeries share: found, measured in others, and taken out."""

import numpy as np
import pytest

from bench import displacement
from model.scoring import Scoring
from model.synthetic import write_dataset
from tests.bench.asking import asked_of
from tests.model.writers import people

RULE = Scoring(thresholds={1: 0.5})


@pytest.fixture
def apart():
    """Embeddings (N, 8) of six writers whose forgeries all lie off along the third axis."""
    writers, rng = people(6), np.random.default_rng(1)
    vectors = np.repeat(4 * rng.normal(size=(6, 8)), 16, axis=0) + rng.normal(size=(96, 8))
    for writer in writers:
        vectors[writer.forged, 2] += 9
    return vectors.astype(np.float32), writers


def test_the_direction_is_the_shared_one_and_tells_forged_from_genuine(apart):
    found = displacement.direction_of(*apart)
    assert np.argmax(np.abs(found)) == 2
    assert displacement.told(*apart, found) > 0.99
    assert displacement.told(*apart, -found) < 0.01


def test_taken_out_nothing_of_it_is_left(apart):
    vectors, writers = apart
    found = displacement.direction_of(vectors, writers)
    left = displacement.without(vectors, found)
    np.testing.assert_allclose(left @ found, 0, atol=1e-4)
    np.testing.assert_allclose(np.linalg.norm(left, axis=1), 1, rtol=1e-5)


@pytest.mark.slow
def test_every_corpus_has_a_row_and_a_column(tmp_path, capsys):
    write_dataset(tmp_path / "made", signers=5, genuine=5, forgeries=2, seed=1)
    names = [f"made/{number}" for number in range(1, 5)]
    assert displacement.main(asked_of(tmp_path, RULE, development_writers=names)) == 0
    told = capsys.readouterr().out
    row = next(line for line in told.splitlines() if line.split()[:2] == ["made", "4"])
    assert len(row.split()) == 9  # corpus, writers, one AUC, and twice two rates


def test_without_its_writers_it_says_so(tmp_path, capsys):
    assert displacement.main(["--data", str(tmp_path), "--device", "cpu"]) == displacement.CANNOT
    assert "no forgeries of the checkpoint's own writers" in capsys.readouterr().err
