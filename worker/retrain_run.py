"""The folder of one retraining: what was asked for, and what each stage came to, to go on from.

asked.json        the options, which stand from the first moment
snapshot.json     the files, labels and decisions that this run uses, and no others
signatures/       canvases of enrolled signers and of labelled documents, while the run lasts
train/            log.csv; the state of the training, while it lasts
candidate.pt      the new model
comparison.json   both models on the writers who are held out
replay.json       the service's last decisions, decided again; flips.png shows those that flip
result.json       what became of it; index.html is the report
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from model.errors import TrainingError
from model.files import write_atomically
from storage.errors import RunHeld

SEED = 123
REPLAY = 200
MAX_FLIPS = 0.02


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What somebody wants of a retraining.

    `replay` decisions are decided again, of which at most the share `max_flips` may flip without
    being known to be corrected. `epochs` stands in for the recipe's, stage by stage; with 0 the
    network stays as it is, and what is fitted is fitted anew. Raises TrainingError for none of a
    network with random weights.
    """

    corpora: tuple[str, ...]
    from_scratch: bool = False
    promote: bool = False
    replay: int = REPLAY
    max_flips: float = MAX_FLIPS
    epochs: int | None = None
    seed: int = SEED
    by: str | None = None

    def __post_init__(self) -> None:
        if self.from_scratch and self.epochs == 0:
            raise TrainingError("A network that begins with random weights needs epochs to learn.")

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def asked_from(values: dict[str, Any]) -> Asked:
    """What `as_dict` was made of. Raises TrainingError for anything else."""
    try:
        return Asked(**{**values, "corpora": tuple(values["corpora"])})
    except (TypeError, KeyError) as error:
        raise TrainingError(f"These are no options of a retraining: {error}.") from error


class Cancelled(TrainingError):
    """The retraining was cancelled."""

    code = "run_cancelled"


@dataclass(frozen=True, kw_only=True)
class Watch:
    """Who looks on: `say` takes sentences, `progress` what is being done, how far, and of how many.

    `go_on` is asked between steps, and raises whatever is to end the work there.
    """

    say: Callable[[str], None]
    progress: Callable[[str, int, int], None]
    go_on: Callable[[], None] = lambda: None

    def step(self, doing: str, done: int, total: int) -> None:
        """Tells how far it is and asks whether to go on."""
        self.progress(doing, done, total)
        self.go_on()


class RunFolder:
    """One run's folder. Every file in it appears whole or not at all."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keeps other processes out. Raises RunHeld while one of them is at this run."""
        self.path.mkdir(parents=True, exist_ok=True)
        with (self.path / "lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise RunHeld(f"Another process is at the run in {self.path}.") from error
            yield

    def pin(self, asked: Asked) -> None:
        """Note what was asked for; from now on it stands. Raises TrainingError for another wish."""
        standing = self.asked()
        if standing is None:
            self.write("asked", asked.as_dict())
        elif standing != asked:
            raise TrainingError(
                f"{self.path} holds a retraining with other options; choose another folder, or"
                " leave the options out and it goes on with its own."
            )

    def asked(self) -> Asked | None:
        """What was asked for in this folder, if it holds a run."""
        values = self.read("asked")
        return None if values is None else asked_from(values)

    def read(self, name: str) -> Any:
        """What a stage came to; None while it has not. Raises TrainingError for a damaged file."""
        path = self.path / f"{name}.json"
        try:
            return json.loads(path.read_text())
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise TrainingError(
                f"{path} cannot be read; remove it to do its stage anew."
            ) from error

    def write(self, name: str, value: Any) -> None:
        """Keep what a stage came to. Raises FileNotWritten."""
        text = json.dumps(value, indent=1, ensure_ascii=False)
        write_atomically(self.path / f"{name}.json", text.encode())

    def clear(self) -> None:
        """Remove the copies of signatures and what training needs to be resumed."""
        shutil.rmtree(self.path / "signatures", ignore_errors=True)
        for stage in ("train", "first"):
            (self.path / stage / "last.pt").unlink(missing_ok=True)
        for part in self.path.rglob("*.part"):  # what a kill has left half written
            part.unlink(missing_ok=True)

    @property
    def name(self) -> str:
        """The folder as a person would name it."""
        return (
            os.path.relpath(self.path) if self.path.is_relative_to(Path.cwd()) else str(self.path)
        )
