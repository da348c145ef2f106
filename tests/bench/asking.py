"""The shipped network as if writers of a test had tuned it, for the benches of its rule."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from model.checkpoint import load_checkpoint, save_checkpoint
from model.scoring import Scoring

SHIPPED = Path("checkpoints/siamese_vision_mamba_tiny.pt")
PLAIN = Scoring(thresholds={1: 0.5})


def asked_of(folder: Path, scoring: Scoring = PLAIN, **writers: Sequence[str]) -> list[str]:
    """Arguments for the corpora in the folder; `writers` are named by part, as in provenance."""
    checkpoint = replace(load_checkpoint(SHIPPED), scoring=scoring, provenance=writers)
    save_checkpoint(path := folder / "model.pt", checkpoint)
    given = {"data": folder, "checkpoint": path, "cache": folder / "cache", "device": "cpu"}
    return [part for name, value in given.items() for part in (f"--{name}", str(value))]
