"""A folder with its own settings, a tiny untrained network, and `sigctl` called in process."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import structlog
from PIL import Image

from model import synthetic
from model.checkpoint import load_checkpoint, save_checkpoint
from model.scoring import Scoring


@dataclass(frozen=True, kw_only=True)
class Done:
    """What a command came to."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def text(self) -> str:
        """Both streams with all blanks alike, so that a match does not depend on line breaks."""
        return " ".join((self.out + " " + self.err).split())


Sigctl = Callable[..., Done]


@pytest.fixture(autouse=True)
def _own_logging() -> Iterator[None]:
    """Commands set up logging for their process; this gives it back."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_checkpoint: Path) -> Path:
    """An empty current folder, and no setting but the checkpoint."""
    for name in list(os.environ):
        if name.startswith("SIGCTL_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("SIGCTL_CHECKPOINT", str(tiny_checkpoint))
    monkeypatch.setenv("SIGCTL_DEVICE", "cpu")
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def sigctl(here: Path, capsys: pytest.CaptureFixture[str]) -> Sigctl:
    """Call `sigctl` with arguments; nothing but an exit code may come out of it."""
    from worker.cli.main import main

    def call(*arguments: object) -> Done:
        capsys.readouterr()
        code = main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        assert "Traceback" not in captured.err + captured.out
        return Done(code=code, out=captured.out, err=captured.err)

    return call


@pytest.fixture
def banded(here: Path, tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same network with operating points: only 5% accepts anything, the copy of a reference.

    What it does not accept is left for review, however far away it is.
    """
    plain = load_checkpoint(tiny_checkpoint)
    scoring = Scoring(
        thresholds={1: 0.05},
        accept={"0.1%": {1: -2.0}, "1%": {1: -1.0}, "5%": {1: 0.0}},
        reject={1: 9.0},
        spread_weight=0.5,
        population_spread=0.1,
    )
    path = here.parent / "banded.pt"
    save_checkpoint(path, replace(plain, scoring=scoring))
    monkeypatch.setenv("SIGCTL_CHECKPOINT", str(path))
    return path


@pytest.fixture
def specimens(here: Path) -> Path:
    """A folder with three genuine signatures of one made-up signer: 1.png, 2.png, 3.png."""
    rng = np.random.default_rng(1)
    signer = synthetic.make_signer(rng)
    folder = here / "specimens"
    folder.mkdir()
    for number in range(1, 4):
        Image.fromarray(synthetic.genuine(signer, rng)).save(folder / f"{number}.png")
    return folder


@pytest.fixture
def stranger(here: Path) -> Path:
    """Somebody else's signature."""
    rng = np.random.default_rng(2)
    path = here / "stranger.png"
    Image.fromarray(synthetic.genuine(synthetic.make_signer(rng), rng)).save(path)
    return path


@pytest.fixture
def blank(here: Path) -> Path:
    """A scan of empty paper."""
    path = here / "blank.png"
    Image.fromarray(synthetic.blank(np.random.default_rng(3))).save(path)
    return path


@pytest.fixture
def enrolled(sigctl: Sigctl, specimens: Path) -> str:
    """A signer who is enrolled with the specimens."""
    assert sigctl("enroll", "ada", specimens).code == 0
    return "ada"
