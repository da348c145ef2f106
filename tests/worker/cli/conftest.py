"""A folder with its own settings, a tiny untrained network, and `sigctl` called in process."""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import structlog
from PIL import Image

from model import synthetic
from model.checkpoint import load_checkpoint, save_checkpoint
from model.scoring import Scoring
from worker.sandbox import Sandbox


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


class KeptSandbox(Sandbox):
    """A sandbox whose children serve all tests of a file: to start one takes 0.2 s."""

    def close(self) -> None:
        """Leave them running, as a worker would between two documents."""


@pytest.fixture(scope="module")
def sandboxes() -> Iterator[Callable[..., Sandbox]]:
    made: list[Sandbox] = []

    @cache
    def kept(**how: Any) -> Sandbox:
        made.append(KeptSandbox(**how))
        return made[-1]

    yield kept
    for sandbox in made:
        Sandbox.close(sandbox)


@pytest.fixture(autouse=True)
def _kept_sandboxes(sandboxes: Callable[..., Sandbox], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("worker.runtime.Sandbox", sandboxes)


@pytest.fixture(scope="session")
def desk_top(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where `here` lies in every test: the paths in a record hold in a copy made later, too."""
    return tmp_path_factory.mktemp("sigctl") / "top"


@pytest.fixture
def here(desk_top: Path, monkeypatch: pytest.MonkeyPatch, tiny_checkpoint: Path) -> Path:
    """An empty current folder, and no setting but the checkpoint."""
    for name in list(os.environ):
        if name.startswith("SIGCTL_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("SIGCTL_CHECKPOINT", str(tiny_checkpoint))
    monkeypatch.setenv("SIGCTL_DEVICE", "cpu")
    shutil.rmtree(desk_top, ignore_errors=True)
    folder = desk_top / "here"
    folder.mkdir(parents=True)
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


@pytest.fixture(scope="session")
def banded_checkpoint(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    scoring = Scoring(
        thresholds={1: 0.05},
        accept={"0.1%": {1: -2.0}, "1%": {1: -1.0}, "5%": {1: 0.0}},
        reject={1: 9.0},
        spread_weight=0.5,
        population_spread=0.1,
    )
    path = tmp_path_factory.mktemp("banded") / "banded.pt"
    save_checkpoint(path, replace(load_checkpoint(tiny_checkpoint), scoring=scoring))
    return path


@pytest.fixture
def banded(here: Path, banded_checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same network with operating points: only 5% accepts anything, the copy of a reference.

    What it does not accept is left for review, however far away it is.
    """
    monkeypatch.setenv("SIGCTL_CHECKPOINT", str(banded_checkpoint))
    return banded_checkpoint


@pytest.fixture(scope="session")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pictures that tests get copies of."""
    folder = tmp_path_factory.mktemp("drawn")
    rng = np.random.default_rng(1)
    signer = synthetic.make_signer(rng)
    (folder / "specimens").mkdir()
    for number in range(1, 4):
        _save(synthetic.genuine(signer, rng), folder / "specimens" / f"{number}.png")
    rng = np.random.default_rng(2)
    _save(synthetic.genuine(synthetic.make_signer(rng), rng), folder / "stranger.png")
    _save(synthetic.blank(np.random.default_rng(3)), folder / "blank.png")
    return folder


def _save(pixels: np.ndarray, path: Path) -> None:
    Image.fromarray(pixels).save(path)


@pytest.fixture
def specimens(here: Path, drawn: Path) -> Path:
    """A folder with three genuine signatures of one made-up signer: 1.png, 2.png, 3.png."""
    return Path(shutil.copytree(drawn / "specimens", here / "specimens"))


@pytest.fixture
def stranger(here: Path, drawn: Path) -> Path:
    """Somebody else's signature."""
    return Path(shutil.copy(drawn / "stranger.png", here))


@pytest.fixture
def blank(here: Path, drawn: Path) -> Path:
    """A scan of empty paper."""
    return Path(shutil.copy(drawn / "blank.png", here))


@dataclass(frozen=True, kw_only=True)
class Copies:
    """Records as a fixture leaves them: made by `sigctl` once, copied into every later test."""

    folder: Path
    made: dict[object, Path] = field(default_factory=dict)

    def once(self, name: str, here: Path, make: Callable[[], object]) -> None:
        """Bring the database and the store of `here` to what `make` makes under these settings.

        A database or a store elsewhere cannot be copied, so there it is made each time.
        """
        settings = {k: v for k, v in os.environ.items() if k.startswith("SIGCTL_")}
        key = (name, *sorted(settings.items()))
        if settings.keys() & {"SIGCTL_DATABASE_URL", "SIGCTL_STORE"}:
            make()
        elif key in self.made:
            shutil.copytree(self.made[key], here, dirs_exist_ok=True)
        else:
            make()
            self.made[key] = folder = self.folder / str(len(self.made))
            shutil.copytree(here / "store", folder / "store")
            shutil.copy(here / "sigctl.db", folder)


@pytest.fixture(scope="session")
def copies(tmp_path_factory: pytest.TempPathFactory) -> Copies:
    return Copies(folder=tmp_path_factory.mktemp("copies"))


@pytest.fixture
def enrolled(sigctl: Sigctl, specimens: Path, here: Path, copies: Copies) -> str:
    """A signer who is enrolled with the specimens."""

    def enrol() -> None:
        assert sigctl("enroll", "ada", specimens).code == 0

    copies.once("enrolled", here, enrol)
    return "ada"
