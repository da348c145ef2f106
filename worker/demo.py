"""Generated signers are enrolled and documents verified, in one folder and with no service at all.

The documents go through the Celery task that the service runs, called in this process; what comes
of them is read from the record.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import numpy as np
from celery import Celery, Task
from numpy.typing import NDArray
from PIL import Image

from model import synthetic
from model.plots import SheetRow, comparison_sheet
from model.preprocess import decode_grey
from model.synthetic import SyntheticSigner
from model.synthetic_corpus import synthetic_corpus
from storage import decisions, references
from storage.tables import REVIEW
from worker import enrolment
from worker.errors import WorkerError
from worker.messages import TASK
from worker.pipeline import Outcome
from worker.runtime import Runtime, get_runtime
from worker.settings import Settings, load_settings, variable_name
from worker.transactions import transaction

Picture = NDArray[np.uint8]
Step = Callable[[str, int, int], None]
"""Told the stage, how many of its steps are done, and how many there are."""

MARK = ".sigctl-demo"
CORPUS = "corpus"
FOLDERS = ("specimens", "documents", "store", CORPUS)
DATABASE = "sigctl.db"
SHEET = "verdicts.png"
FILES = (DATABASE, f"{DATABASE}-wal", f"{DATABASE}-shm", SHEET)

SIGNERS = ("ada", "boris", "chen", "dora", "emeka", "farida")
REFERENCES = 5
CORPUS_EACH = 6
IMITATED = 4
MISTAKEN = 3


class DemoFolder(WorkerError):
    """The folder cannot be used for the demo."""

    code = "demo_folder"


@dataclass(frozen=True, kw_only=True)
class Document:
    """A document: its file, whose signature it is claimed to be, and what is true of it.

    `expected` is the right verdict or, for what cannot be verified, the right error code.
    """

    path: Path
    claimed: str
    truth: str
    expected: str


@dataclass(frozen=True, kw_only=True)
class Result:
    """What became of a document, and the file that its nearest reference was enrolled from."""

    document: Document
    outcome: Outcome
    nearest: Path | None

    @property
    def undecided(self) -> bool:
        """Whether it was left for a person, which is neither right nor wrong."""
        return self.outcome.verdict == REVIEW

    @property
    def right(self) -> bool:
        """Whether the verdict or the error code is what the truth asks for."""
        return (self.outcome.error_code or self.outcome.verdict) == self.document.expected


def make_folder(folder: Path) -> None:
    """An empty folder; one of an earlier demo is emptied, any other is left alone.

    Raises DemoFolder when the folder holds something that no demo has put there.
    """
    try:
        marked = (folder / MARK).is_file()
        if folder.exists() and not marked and any(folder.iterdir()):
            raise DemoFolder(
                f"The folder {folder} holds files that no demo has made, so it is left alone; "
                "--folder names another."
            )
        for name in FOLDERS:
            shutil.rmtree(folder / name, ignore_errors=True)
            (folder / name).mkdir(parents=True)
        for name in FILES:
            (folder / name).unlink(missing_ok=True)
        (folder / MARK).write_text("`sigctl demo` has made this folder and empties it each time.\n")
    except OSError as error:
        raise DemoFolder(f"{folder} cannot be used for the demo: {error.strerror}.") from error


@contextmanager
def environment(folder: Path, configured: Settings) -> Iterator[Settings]:
    """Settings within the folder for the whole process, since the task reads its own.

    Only the model, its device and its operating point are the configured ones; a `.env` has no
    say.
    """
    given = {variable_name(name): "" for name in Settings.model_fields}
    given |= {
        "SIGCTL_DATABASE_URL": f"sqlite:///{folder / DATABASE}",
        "SIGCTL_STORE": str(folder / "store"),
        "SIGCTL_ROOTS": str(folder),
        "SIGCTL_CHECKPOINT": str(configured.checkpoint),
        "SIGCTL_DEVICE": configured.device,
        "SIGCTL_FAR": configured.far,
        "SIGCTL_MAX_RETRIES": "0",
    }
    before = dict(os.environ)
    os.environ.update(given)
    try:
        yield load_settings()
    finally:
        os.environ.clear()
        os.environ.update(before)


def run(settings: Settings, folder: Path, seed: int, step: Step) -> list[Result]:
    """Make signers and documents, enrol and verify them, all within `environment`.

    Raises CheckpointError when the model cannot be loaded.
    """
    runtime = get_runtime(settings)
    step("Loading the model", 0, 1)
    _ = runtime.embedder
    rng = np.random.default_rng(seed)
    signers = {name: synthetic.make_signer(rng) for name in SIGNERS}
    for done, (name, signer) in enumerate(signers.items()):
        step("Enrolling signers", done, len(signers))
        _enrol(name, signer, folder / "specimens" / name, runtime, rng)
    step("Writing documents", 0, 1)
    documents = list(write_documents(signers, folder / "documents", rng))
    task = _task()
    results = []
    for done, document in enumerate(documents):
        step("Verifying documents", done, len(documents))
        results.append(_verify(document, f"demo-{done + 1:02}", task, runtime))
    return results


def draw(results: Sequence[Result], path: Path) -> None:
    """Write the picture: each questioned signature beside its nearest reference."""
    comparison_sheet([_row(result) for result in results], path)


def write_corpus(folder: Path, writers: int, seed: int, step: Step) -> None:
    """Write a corpus of other made-up writers, six signatures each and as many imitations."""
    synthetic_corpus(
        folder / CORPUS,
        signers=writers,
        seed=seed + 1,
        genuine=CORPUS_EACH,
        forgeries=CORPUS_EACH,
        progress=lambda done, total: step("Writing a corpus", done, total),
    )


def write_documents(
    signers: dict[str, SyntheticSigner], folder: Path, rng: np.random.Generator
) -> Iterator[Document]:
    """Write every kind of document that the service has to deal with, and say what it is."""
    names = list(signers)

    def document(file: str, claimed: str, truth: str, expected: str) -> Document:
        return Document(path=folder / file, claimed=claimed, truth=truth, expected=expected)

    for name, signer in signers.items():
        found = document(f"{name}-1.png", name, "genuine", "accept")
        yield _saved(found, synthetic.genuine(signer, rng))
    for name in names[:IMITATED]:
        found = document(f"{name}-2.png", name, "imitation", "reject")
        yield _saved(found, synthetic.imitation(signers[name], rng))
    for name, other in list(zip(names, names[1:] + names[:1], strict=True))[-MISTAKEN:]:
        found = document(f"{name}-3.png", name, f"by {other}", "reject")
        yield _saved(found, synthetic.genuine(signers[other], rng))
    yield _saved(document("blank.png", names[0], "blank page", "blank_image"), synthetic.blank(rng))
    corrupt = document("corrupt.png", names[1], "corrupt file", "unreadable_image")
    whole = (folder / f"{names[1]}-1.png").read_bytes()
    corrupt.path.write_bytes(whole[: len(whole) // 3])
    yield corrupt
    stranger = document("stranger.png", "zoe", "not enrolled", "unknown_signer")
    yield _saved(stranger, synthetic.genuine(synthetic.make_signer(rng), rng))
    yield document("missing.png", names[2], "no such file", "image_not_found")


def _saved(document: Document, picture: Picture) -> Document:
    Image.fromarray(picture).save(document.path)
    return document


def _enrol(
    name: str, signer: SyntheticSigner, folder: Path, runtime: Runtime, rng: np.random.Generator
) -> None:
    folder.mkdir()
    paths = [folder / f"{number}.png" for number in range(1, REFERENCES + 1)]
    for path in paths:
        Image.fromarray(synthetic.genuine(signer, rng)).save(path)
    enrolment.enroll(
        name,
        [(str(path), path.read_bytes()) for path in paths],
        sessions=runtime.sessions,
        images=runtime.images,
        embedder=runtime.embedder,
    )


def _verify(document: Document, job_id: str, task: Task, runtime: Runtime) -> Result:
    message = {
        "job_id": job_id,
        "signer_id": document.claimed,
        "document": document.path.as_uri(),
        "metadata": {"truth": document.truth},
    }
    task.apply_async(kwargs=message, task_id=job_id)
    with transaction(runtime.sessions) as session:
        decision = decisions.get(session, job_id)
        if decision is None:
            raise WorkerError(f"The task ended without a decision for {document.path.name}.")
        known = references.of_signer(session, document.claimed)
        sources = {reference.id: reference.source for reference in known}
    nearest = sources.get(decision.nearest_reference or 0)
    return Result(
        document=document,
        outcome=Outcome.of(decision),
        nearest=None if nearest is None else Path(nearest),
    )


def _task() -> Task:
    """The worker's own task, in an application that runs it at once instead of sending it."""
    app = Celery("sigctl-demo", set_as_current=False, broker="memory://")
    app.conf.task_always_eager = app.conf.task_eager_propagates = True
    import_module("worker.tasks")
    task: Task = app.tasks[TASK]
    return task


def _row(result: Result) -> SheetRow:
    document, outcome = result.document, result.outcome
    names = {"distance": outcome.distance, "score": outcome.score, "threshold": outcome.threshold}
    names["reject from"] = outcome.reject_threshold
    judged = ", ".join(f"{name} {value:.3f}" for name, value in names.items() if value is not None)
    return SheetRow(
        title=f"{document.path.name}, claimed: {document.claimed}, truth: {document.truth}",
        questioned=_shown(document.path),
        nearest=None if result.nearest is None else _shown(result.nearest),
        caption=outcome.error_message or judged,
        verdict=outcome.verdict,
    )


def _shown(path: Path) -> Picture | None:
    """The picture, None for a file that is missing or is none."""
    from model.errors import ModelError

    try:
        return decode_grey(path.read_bytes())
    except (OSError, ModelError):
        return None
