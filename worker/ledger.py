"""The two transactions of a job, for as many jobs as are waiting.

A transaction costs the same for one job as for ten, so those that wait together go together. Each
keeps the safety of a transaction of its own: if one of them spoils it, all are tried one by one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from sqlalchemy.orm import Session

from model.arrays import Vector
from model.ink import Ink
from model.scoring import Judgement, judge
from storage import decisions, jobs
from storage.database import Sessions
from storage.errors import DatabaseNotMigrated, StorageError, Transient
from storage.reference_cache import ReferenceCache
from storage.references import ReferenceSet
from storage.tables import DONE, ERROR, FAILED, Decision
from worker.messages import VerifyRequest
from worker.outcome import Outcome
from worker.stopwatch import Stopwatch
from worker.transactions import transaction

if TYPE_CHECKING:
    from model.inference import Embedder

Item = TypeVar("Item")
Result = TypeVar("Result")
Together = Callable[[Session, Sequence[Item]], list[Result | Exception]]


@dataclass(frozen=True, kw_only=True)
class Begun:
    """The decision that stands, if any, and how many workers have taken the job, lost ones too."""

    standing: Outcome | None = None
    deliveries: int = 0


@dataclass(kw_only=True)
class Progress:
    """What is known of a document so far; a failure is recorded with it."""

    watch: Stopwatch = field(default_factory=Stopwatch)
    sha256: str | None = None
    ink: Ink | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class Case:
    """A questioned signature that is ready to be judged.

    `vector` is its embedding (D,), `exact` whether the reference arithmetic made it.
    """

    request: VerifyRequest
    vector: Vector
    exact: bool
    progress: Progress


class TooClose(Exception):
    """The score lies so near a threshold that only the reference arithmetic may decide."""


class Ledger:
    """Begins jobs and records decisions, several in one transaction.

    Results come in the order of what was given; one that is an exception belongs to its item
    alone. Raises DatabaseUnavailable or DatabaseNotMigrated for all.
    """

    def __init__(self, sessions: Sessions, cache: ReferenceCache) -> None:
        self._sessions, self._cache = sessions, cache

    def begin(self, requests: Sequence[VerifyRequest]) -> list[Begun | Exception]:
        """Count a delivery of each job that is not decided; a JobConflict is one job's own."""
        return self._together(_begin, requests)

    def decide(
        self, cases: Sequence[Case], embedder: Embedder, far: str | None
    ) -> list[Outcome | Exception]:
        """Judge against the signers' references of the same model and record what comes of it.

        A case's own errors: TooClose, what keeps the signer from being compared with, and what
        `judge` raises. Nothing is recorded for those.
        """

        def work(session: Session, some: Sequence[Case]) -> list[Outcome | Exception]:
            signers = {case.request.signer_id for case in some}
            known = self._cache.embeddings(session, signers, embedder.model_id)
            judged = [_judged(case, known[case.request.signer_id], embedder, far) for case in some]
            return _recorded(session, judged)

        return self._together(work, cases)

    def _together(self, work: Together[Item, Result], items: Sequence[Item]) -> list[Any]:
        try:
            with transaction(self._sessions) as session:
                return work(session, items)
        except (Transient, DatabaseNotMigrated):
            raise
        except Exception as error:
            if len(items) == 1:
                return [error]
            return [result for item in items for result in self._together(work, [item])]


def recorded(session: Session, decision: Decision) -> Outcome:
    """Write one decision and finish its job; the first decision stands."""
    return _record(session, [decision])[0]


def _begin(session: Session, requests: Sequence[VerifyRequest]) -> list[Begun | Exception]:
    standing = decisions.of_jobs(session, {request.job_id for request in requests})
    begun: dict[int, Begun | Exception] = {}
    undecided: list[tuple[int, VerifyRequest]] = []
    for place, request in enumerate(requests):
        if request.job_id in standing:
            begun[place] = _answered(session, request, standing[request.job_id])
        else:
            undecided.append((place, request))
    for some in _rounds(undecided, lambda entry: entry[1].job_id):
        started = jobs.start(
            session,
            [request.as_row() for _, request in some],
            redelivered={request.job_id for _, request in some if request.redelivered},
        )
        for (place, _), job in zip(some, started, strict=True):
            begun[place] = job if isinstance(job, Exception) else Begun(deliveries=job.deliveries)
    return [begun[place] for place in range(len(requests))]


def _answered(session: Session, request: VerifyRequest, decision: Decision) -> Begun | Exception:
    """The decision that stands, if it is the answer to this question."""
    try:
        job, _ = jobs.submit(session, **request.as_row())
    except StorageError as error:
        return error
    return Begun(standing=Outcome.of(decision), deliveries=job.deliveries)


def _judged(
    case: Case, known: ReferenceSet | StorageError, embedder: Embedder, far: str | None
) -> Decision | Exception:
    if isinstance(known, StorageError):
        return known
    try:
        judgement = judge(case.vector, known.vectors, embedder.scoring, far=far)
    except Exception as error:
        return error
    if not case.exact and too_close(judgement, embedder.tolerance):
        return TooClose()
    return decision_of(case.request, case.progress, **_grounds(judgement, known, embedder))


def too_close(judgement: Judgement, tolerance: float) -> bool:
    """Whether a score that is off by the tolerance could fall on the other side of a threshold."""
    thresholds = (judgement.threshold, judgement.reject_threshold)
    return any(
        abs(judgement.score - threshold) <= tolerance
        for threshold in thresholds
        if threshold is not None
    )


def _grounds(judgement: Judgement, known: ReferenceSet, embedder: Embedder) -> dict[str, Any]:
    """Everything that the verdict rests on, as columns of the record."""
    pairs = zip(known.ids, judgement.distances, strict=True)
    return {
        "verdict": str(judgement.verdict),
        "score": judgement.score,
        "distance": judgement.distance,
        "threshold": judgement.threshold,
        "reject_threshold": judgement.reject_threshold,
        "operating_point": judgement.operating_point,
        "terms": dict(judgement.terms),
        "distances": [{"reference": id, "distance": distance} for id, distance in pairs],
        "nearest_reference": known.ids[judgement.nearest],
        "model_id": embedder.model_id,
        "preprocessing": embedder.preprocessing.label,
        "rule": embedder.scoring.rule,
    }


def decision_of(request: VerifyRequest, progress: Progress, **columns: Any) -> Decision:
    """A decision about this request, not yet in any session."""
    return Decision(
        job_id=request.job_id,
        signer_id=request.signer_id,
        document=request.document,
        document_sha256=progress.sha256,
        upstream=dict(request.metadata),
        ink=None if progress.ink is None else progress.ink.as_dict(),
        **progress.watch.columns(),
        **columns,
    )


def _recorded(
    session: Session, judged: Sequence[Decision | Exception]
) -> list[Outcome | Exception]:
    """What was judged, recorded; what was not, as it is."""
    found: dict[int, Outcome | Exception] = {}
    made: list[tuple[int, Decision]] = []
    for place, item in enumerate(judged):
        if isinstance(item, Exception):
            found[place] = item
        else:
            made.append((place, item))
    for some in _rounds(made, lambda entry: entry[1].job_id):
        outcomes = _record(session, [decision for _, decision in some])
        found |= zip((place for place, _ in some), outcomes, strict=True)
    return [found[place] for place in range(len(judged))]


def _record(session: Session, made: Sequence[Decision]) -> list[Outcome]:
    standing = decisions.record(session, made)
    for status in (DONE, FAILED):
        ended = [row.job_id for row in standing if (row.verdict == ERROR) == (status == FAILED)]
        if ended:
            jobs.finish(session, ended, status)
    return [Outcome.of(row) for row in standing]


def _rounds(items: Iterable[Item], key: Callable[[Item], str]) -> Iterable[list[Item]]:
    """The items in lists without a repetition: one statement cannot meet the same row twice."""
    rounds: list[dict[str, Item]] = []
    for item in items:
        free = next((some for some in rounds if key(item) not in some), None)
        if free is None:
            rounds.append(free := {})
        free[key(item)] = item
    return [list(some.values()) for some in rounds]
