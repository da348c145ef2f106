"""Every corpus is measured as it is and by other pens, on writers that taught nothing."""

import pytest

from bench import pen
from model.synthetic import write_dataset
from tests.bench.asking import asked_of


@pytest.mark.slow
def test_other_pens_stand_beside_the_one_of_the_references(tmp_path, capsys):
    write_dataset(tmp_path / "made", signers=4, genuine=5, forgeries=2, seed=1)
    names = {"development_writers": ["made/1"], "test_writers": ["made/2", "made/3"]}
    assert pen.main(asked_of(tmp_path, **names)) == 0
    told = capsys.readouterr().out
    assert "the pen of the references" in told
    assert told.count("made") == 2  # with 1 and with 3 references; 5 are all that there are
    assert "5 references" not in told


def test_without_its_writers_it_says_so(tmp_path, capsys):
    assert pen.main(["--data", str(tmp_path), "--device", "cpu"]) == pen.CANNOT
    assert "none of the checkpoint's own writers" in capsys.readouterr().err
