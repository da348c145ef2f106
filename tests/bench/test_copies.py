"""A scan made again is a copy, and another signature of the same hand is none."""

import pytest

from bench import copies
from model.synthetic import write_dataset


@pytest.mark.slow
def test_scans_made_again_are_told_from_other_signatures(tmp_path, capsys):
    write_dataset(tmp_path / "made", signers=3, genuine=4, forgeries=1, seed=2)
    copies.main([str(tmp_path / "made")])
    told = capsys.readouterr().out
    assert "two of one hand 0.0% refused and 0.0% warned of, of 18" in told
    again = told.split(";")[0]
    assert float(again.split("again ")[1].split("%")[0]) > 50
    assert "of 12" in again
