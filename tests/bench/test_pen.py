"""Every corpus is measured as it is and by other pens, on writers that taught nothing."""

from dataclasses import replace
from pathlib import Path

import pytest

from bench import pen
from model.checkpoint import load_checkpoint, save_checkpoint
from model.scoring import Scoring
from model.synthetic import write_dataset

SHIPPED = Path("checkpoints/siamese_vision_mamba_tiny.pt")


@pytest.mark.slow
def test_other_pens_stand_beside_the_one_of_the_references(tmp_path, capsys):
    write_dataset(tmp_path / "made", signers=4, genuine=5, forgeries=2, seed=1)
    names = {"development_writers": ["made/1"], "test_writers": ["made/2", "made/3"]}
    shipped = replace(load_checkpoint(SHIPPED), scoring=Scoring(thresholds={1: 0.5}))
    save_checkpoint(tmp_path / "model.pt", replace(shipped, provenance=names))
    asked = ["--data", str(tmp_path), "--checkpoint", str(tmp_path / "model.pt")]
    asked += ["--cache", str(tmp_path / "cache"), "--device", "cpu"]
    assert pen.main(asked) == 0
    told = capsys.readouterr().out
    assert "the pen of the references" in told
    assert told.count("made") == 2  # with 1 and with 3 references; 5 are all that there are
    assert "5 references" not in told


def test_without_its_writers_it_says_so(tmp_path, capsys):
    assert pen.main(["--data", str(tmp_path), "--device", "cpu"]) == pen.CANNOT
    assert "none of the checkpoint's own writers" in capsys.readouterr().err
