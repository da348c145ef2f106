"""What happens to one job: fetch, embed, then one short transaction that judges and records.

No transaction is open while the document travels or the network computes. The job's id is the
key: whoever records first, that decision stands. Whatever fails is recorded as an error with its
code, or raised to be tried again; it is never an acceptance.
"""

from __future__ import annotations

import hashlib
from contextlib import suppress
from typing import TYPE_CHECKING

from model.arrays import Canvas, Vector
from model.errors import ModelError
from model.preprocess import MAX_PIXELS
from storage import decisions, jobs
from storage.database import Sessions
from storage.errors import StorageError, Transient
from storage.images import Images
from storage.reference_cache import ReferenceCache
from storage.tables import ERROR, Job
from worker import metrics
from worker.enrolment import EnrolReport, ImageReport, enroll
from worker.ledger import Case, Ledger, Progress, TooClose, decision_of, recorded
from worker.logs import get_logger
from worker.messages import VerifyRequest
from worker.outcome import Outcome
from worker.stages import Stages, alone
from worker.transactions import transaction

if TYPE_CHECKING:
    from model.inference import Embedder

__all__ = ["EnrolReport", "ImageReport", "Outcome", "enroll", "fail", "verify"]

MAX_DELIVERIES = 3
POISON = "poison"

log = get_logger(__name__)


def verify(
    request: VerifyRequest,
    *,
    sessions: Sessions,
    images: Images,
    embedder: Embedder,
    far: str | None = None,
    max_pixels: int = MAX_PIXELS,
    max_deliveries: int = MAX_DELIVERIES,
    stages: Stages | None = None,
) -> Outcome:
    """Decide one job and record the decision, or return the one that stands.

    `far` is the operating point of the decision, None the balanced threshold without a review.
    `stages` say how it is begun, embedded and decided; alone and exactly unless given. What fails
    for good (no such document, blank, unknown signer ...) is recorded as an error. Raises Transient
    when the store or the database is away, and whatever was not foreseen: both leave the job
    queued, to be tried again. Raises JobConflict when the job id stands for another question.
    """
    stages = stages or alone(Ledger(sessions, ReferenceCache(1)), embedder, far)
    with stages.at_work:
        begun = stages.begin(request)
        if begun.standing is not None:
            log.info("already_decided", verdict=begun.standing.verdict)
            return begun.standing
        if begun.deliveries > max_deliveries:
            return fail(request, POISON, _poison(begun.deliveries), sessions=sessions)
        progress = Progress()
        try:
            canvas = _canvas(request, images, embedder, max_pixels, progress)
            return _logged(_decide(request, canvas, embedder, stages, progress))
        except Transient:
            _hand_back(request, sessions)
            raise
        except (ModelError, StorageError) as error:
            return fail(request, error.code, str(error), sessions=sessions, progress=progress)
        except Exception:
            _hand_back(request, sessions)
            raise


def fail(
    request: VerifyRequest,
    code: str,
    message: str,
    *,
    sessions: Sessions,
    progress: Progress | None = None,
) -> Outcome:
    """Record that the job came to nothing, and why; a decision that stands is left alone."""
    decision = decision_of(
        request, progress or Progress(), verdict=ERROR, error_code=code, error_message=message
    )
    with transaction(sessions) as session:
        jobs.submit(session, **request.as_row())  # an exhausted job may have no row yet
        return _logged(recorded(session, decision))


def _canvas(
    request: VerifyRequest,
    images: Images,
    embedder: Embedder,
    max_pixels: int,
    progress: Progress,
) -> Canvas:
    """The document as the network sees it (1, H, W).

    `progress` learns its hash, what its ink measures, and the times.
    """
    with progress.watch.stage("fetch"):
        data = images.fetch(request.document)
        progress.sha256 = hashlib.sha256(data).hexdigest()
    with progress.watch.stage("preprocess"):
        seen = embedder.look(data, page=request.page, region=request.region, max_pixels=max_pixels)
    progress.ink = seen.ink
    return seen.canvas


def _decide(
    request: VerifyRequest,
    canvas: Canvas,
    embedder: Embedder,
    stages: Stages,
    progress: Progress,
) -> Outcome:
    """Embed and decide; a close call once more in the reference arithmetic."""

    def decide(vector: Vector, *, exact: bool) -> Outcome:
        case = Case(request=request, vector=vector, exact=exact, progress=progress)
        return stages.decide(case)

    with progress.watch.stage("embed"):
        vector = stages.embed(canvas)
    try:
        return decide(vector, exact=stages.exact)
    except TooClose:
        log.info("close_call")
        with progress.watch.stage("embed"):
            vector = embedder.embed([canvas], exact=True)[0]
        return decide(vector, exact=True)


def _logged(outcome: Outcome) -> Outcome:
    metrics.ended(outcome)
    log.info(
        "decided",
        verdict=outcome.verdict,
        score=outcome.score,
        threshold=outcome.threshold,
        code=outcome.error_code,
        reason=outcome.error_message,
        total_ms=outcome.total_ms,
    )
    return outcome


def _hand_back(request: VerifyRequest, sessions: Sessions) -> None:
    """Queue the job again and do not count a delivery whose end we saw.

    Only deliveries that vanish with their worker point to a document that kills workers.
    """
    with suppress(StorageError), transaction(sessions) as session:
        if decisions.get(session, request.job_id) is None:
            job: Job = jobs.requeue(session, request.job_id)
            job.deliveries = max(0, job.deliveries - 1)


def _poison(deliveries: int) -> str:
    return (
        f"{deliveries - 1} workers took this job and none lived to report on it;"
        " it is set aside because the document may be what stops them."
    )
