"""Decisions made again by another model: the same documents, references and operating point.

Nothing is recorded. Each document is compared with the very references that its decision rests on,
so that what differs is the model alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from model.arrays import Canvas, Vector, Vectors
from model.errors import CheckpointError, ModelError
from model.flips import Change, Flips
from model.scoring import Judgement, judge
from storage import decisions, jobs, references
from storage.database import Sessions
from storage.errors import StorageError, Transient
from storage.images import Images
from storage.tables import ERROR, Decision, Job, Reference
from worker.transactions import transaction

if TYPE_CHECKING:
    from model.inference import Embedder
    from model.plots import SheetRow

SHOWN = 20
"""Flips of which pictures are kept."""

REFERENCE_GONE = "reference_gone"


@dataclass(frozen=True, kw_only=True, eq=False)
class Card:
    """One flip as a person looks at it: both pictures, and what either model said."""

    change: Change
    signer_id: str
    questioned: Canvas | None
    nearest: Canvas | None
    before: tuple[float | None, float | None]
    after: tuple[float | None, float | None]

    def row(self) -> SheetRow:
        """As a row of a comparison sheet."""
        from model.plots import SheetRow

        truth = f"\nknown to be {self.change.truth}" if self.change.truth else ""
        return SheetRow(
            title=f"{self.signer_id}, job {self.change.job_id}",
            questioned=self.questioned,
            nearest=self.nearest,
            caption=f"was {self.change.before}: {_scored(*self.before)}\n"
            f"would be {self.change.after}: {_scored(*self.after)}{truth}",
            verdict=self.change.after,
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class Replay:
    """What came of deciding again, with cards of the first flips."""

    flips: Flips
    cards: tuple[Card, ...]


class _Gone(Exception):
    """The decision cannot be made again; the argument says by a code why."""


class _References:
    """References as a model sees them, each fetched and embedded once."""

    def __init__(self, images: Images, embedder: Embedder, max_pixels: int) -> None:
        self._images, self._embedder, self._max_pixels = images, embedder, max_pixels
        self._seen: dict[int, tuple[Canvas, Vector] | str] = {}

    def of(self, rows: Sequence[Reference]) -> tuple[list[Canvas], Vectors]:
        """Canvases, and vectors (N, D). Raises _Gone."""
        found = [self._one(row) for row in rows]
        return [canvas for canvas, _ in found], np.stack([vector for _, vector in found])

    def _one(self, row: Reference) -> tuple[Canvas, Vector]:
        if row.id not in self._seen:
            self._seen[row.id] = self._look(row)
        found = self._seen[row.id]
        if isinstance(found, str):
            raise _Gone(found)
        return found

    def _look(self, row: Reference) -> tuple[Canvas, Vector] | str:
        try:
            data = self._images.fetch(row.uri, sha256=row.sha256)
            canvas = self._embedder.prepare(data, max_pixels=self._max_pixels)
        except (Transient, CheckpointError):
            raise
        except (StorageError, ModelError):
            return REFERENCE_GONE
        return canvas, self._embedder.embed([canvas], exact=True)[0]


def replay(
    wanted: Sequence[tuple[str, str | None]],
    *,
    sessions: Sessions,
    images: Images,
    embedder: Embedder,
    max_pixels: int,
    step: Callable[[int, int], None] = lambda *_: None,
) -> Replay:
    """Decide these jobs again; each comes with what is known of the truth, if anything.

    Those whose document or references can no longer be had are counted by the reason. Raises
    Transient when the store or the database is away.
    """
    seen = _References(images, embedder, max_pixels)
    changes: list[Change] = []
    cards: list[Card] = []
    gone: Counter[str] = Counter()
    for done, (job_id, truth) in enumerate(wanted, start=1):
        with transaction(sessions) as session:
            job, decision = jobs.get(session, job_id), decisions.get(session, job_id)
            numbers = [] if decision is None else [one["reference"] for one in decision.distances]
            rows = references.numbered(session, numbers)
        try:
            if decision is None or not rows or len(rows) < len(numbers):
                raise _Gone(REFERENCE_GONE)
            ordered = [rows[number] for number in numbers]
            card = _again(job, decision, truth, ordered, seen, images, embedder, max_pixels)
        except _Gone as reason:
            gone[str(reason)] += 1
        else:
            changes.append(card.change)
            if card.change.flipped and len(cards) < SHOWN:
                cards.append(card)
        step(done, len(wanted))
    flips = Flips(changes=tuple(changes), gone=dict(sorted(gone.items())))
    return Replay(flips=flips, cards=tuple(cards))


def _again(
    job: Job,
    decision: Decision,
    truth: str | None,
    rows: Sequence[Reference],
    seen: _References,
    images: Images,
    embedder: Embedder,
    max_pixels: int,
) -> Card:
    canvases, vectors = seen.of(rows)
    data = _document(job, decision, images)
    judgement: Judgement | None = None
    questioned: Canvas | None = None
    try:
        questioned = embedder.prepare(
            data,
            page=job.page,
            region=None if job.region is None else tuple(job.region),
            max_pixels=max_pixels,
        )
        vector = embedder.embed([questioned], exact=True)[0]
        judgement = judge(vector, vectors, embedder.scoring, far=decision.operating_point)
    except CheckpointError:
        raise
    except ModelError:
        pass  # the document is no input for this model: a verdict that turns into an error
    after = ERROR if judgement is None else str(judgement.verdict)
    return Card(
        change=Change(
            job_id=job.id,
            before=decision.verdict,
            after=after,
            truth=truth,
            score=None if judgement is None else judgement.score,
        ),
        signer_id=decision.signer_id,
        questioned=questioned,
        nearest=None if judgement is None else canvases[judgement.nearest],
        before=(decision.score, decision.threshold),
        after=(None, None) if judgement is None else (judgement.score, judgement.threshold),
    )


def _document(job: Job, decision: Decision, images: Images) -> bytes:
    try:
        return images.fetch(job.document, sha256=decision.document_sha256)
    except Transient:
        raise
    except StorageError as error:
        raise _Gone(error.code) from error


def _scored(score: float | None, threshold: float | None) -> str:
    return "no score" if score is None or threshold is None else f"{score:.3f} ({threshold:.3f})"
