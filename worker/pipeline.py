"""What happens to one job: fetch, embed, then one short transaction that judges and records.

No transaction is open while the document travels or the network computes. The job's id is the
key: whoever records first, that decision stands. Whatever fails is recorded as an error with its
code, or raised to be tried again; it is never an acceptance.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, fields
from datetime import datetime
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy.orm import Session

from model.errors import ModelError
from model.preprocess import MAX_PIXELS
from model.scoring import Judgement, judge
from storage import decisions, jobs, references
from storage.database import Sessions
from storage.errors import StorageError, Transient
from storage.images import Images
from storage.references import ReferenceSet
from storage.tables import DONE, ERROR, FAILED, Decision, Job
from worker.enrolment import EnrolReport, ImageReport, enroll
from worker.logs import get_logger
from worker.messages import VerifyRequest
from worker.stopwatch import Stopwatch
from worker.transactions import register_model, transaction

if TYPE_CHECKING:
    from model.inference import Embedder

__all__ = ["EnrolReport", "ImageReport", "Outcome", "enroll", "fail", "verify"]

MAX_DELIVERIES = 3
POISON = "poison"

log = get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """A decision as it stands in the record; distances lie in [0, 2], lower is closer.

    `distances` holds {"reference": id, "distance": number} for each reference; times are ms.
    `threshold` is where acceptance ends and `reject_threshold` where rejection begins; the latter
    is None where one threshold decides alone. `terms` are the weighted parts of the score. An
    error has a code and a sentence and none of the numbers.
    """

    job_id: str
    signer_id: str
    document: str
    document_sha256: str | None
    verdict: str
    score: float | None
    distance: float | None
    threshold: float | None
    reject_threshold: float | None
    operating_point: str | None
    terms: Mapping[str, float] | None
    distances: tuple[Mapping[str, Any], ...]
    nearest_reference: int | None
    model_id: str | None
    preprocessing: str | None
    rule: str | None
    error_code: str | None
    error_message: str | None
    fetch_ms: float | None
    preprocess_ms: float | None
    embed_ms: float | None
    total_ms: float | None
    upstream: Mapping[str, Any]
    decided_at: datetime

    @classmethod
    def of(cls, decision: Decision) -> Outcome:
        """The outcome that a row tells of."""
        columns = {item.name: getattr(decision, item.name) for item in fields(cls)}
        return cls(**columns | {"distances": tuple(decision.distances)})


@dataclass(kw_only=True)
class Progress:
    """What is known of a document so far; a failure is recorded with it."""

    watch: Stopwatch = field(default_factory=Stopwatch)
    sha256: str | None = None


def verify(
    request: VerifyRequest,
    *,
    sessions: Sessions,
    images: Images,
    embedder: Embedder,
    far: str | None = None,
    max_pixels: int = MAX_PIXELS,
    max_deliveries: int = MAX_DELIVERIES,
) -> Outcome:
    """Decide one job and record the decision, or return the one that stands.

    `far` is the operating point of the decision, None the balanced threshold without a review.
    What fails for good (no such document, blank, unknown signer ...) is recorded as an error.
    Raises Transient when the store or the database is away, and whatever was not foreseen: both
    leave the job queued, to be tried again. Raises JobConflict when the job id stands for
    another question.
    """
    standing, deliveries = _begin(request, sessions)
    if standing is not None:
        log.info("already_decided", verdict=standing.verdict)
        return standing
    if deliveries > max_deliveries:
        return fail(request, POISON, _poison(deliveries), sessions=sessions)
    progress = Progress()
    try:
        vector = _embed(request, images, embedder, max_pixels, progress)
        return _decide(request, vector, embedder, far, sessions, progress)
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
    progress = progress or Progress()
    decision = _decision(request, progress, verdict=ERROR, error_code=code, error_message=message)
    with transaction(sessions) as session:
        jobs.submit(session, **request.as_row())  # an exhausted job may have no row yet
        outcome = _record(session, decision)
    return _logged(outcome)


def _begin(request: VerifyRequest, sessions: Sessions) -> tuple[Outcome | None, int]:
    """The decision that stands, if any, and how often the job was delivered without an end."""
    with transaction(sessions) as session:
        job, _ = jobs.submit(session, **request.as_row())
        standing = decisions.get(session, request.job_id)
        if standing is not None:
            return Outcome.of(standing), job.deliveries
        return None, jobs.start(session, **request.as_row()).deliveries


def _embed(
    request: VerifyRequest,
    images: Images,
    embedder: Embedder,
    max_pixels: int,
    progress: Progress,
) -> NDArray[np.float32]:
    """The document's embedding (D,). `progress` learns the hash and the times on the way."""
    with progress.watch.stage("fetch"):
        data = images.fetch(request.document)
        progress.sha256 = hashlib.sha256(data).hexdigest()
    with progress.watch.stage("preprocess"):
        canvas = embedder.prepare(
            data, page=request.page, region=request.region, max_pixels=max_pixels
        )
    with progress.watch.stage("embed"):
        vector: NDArray[np.float32] = embedder.embed([canvas])[0]
    return vector


def _decide(
    request: VerifyRequest,
    vector: NDArray[np.float32],
    embedder: Embedder,
    far: str | None,
    sessions: Sessions,
    progress: Progress,
) -> Outcome:
    """Compare with the signer's references of the same model and record what comes of it."""
    with transaction(sessions) as session:
        register_model(session, embedder)
        known = references.embeddings(session, request.signer_id, embedder.model_id)
        judgement = judge(vector, known.vectors, embedder.scoring, far=far)
        grounds = _grounds(judgement, known, embedder)
        outcome = _record(session, _decision(request, progress, **grounds))
    return _logged(outcome)


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


def _decision(request: VerifyRequest, progress: Progress, **columns: Any) -> Decision:
    return Decision(
        job_id=request.job_id,
        signer_id=request.signer_id,
        document=request.document,
        document_sha256=progress.sha256,
        upstream=dict(request.metadata),
        **progress.watch.columns(),
        **columns,
    )


def _record(session: Session, decision: Decision) -> Outcome:
    """Write the decision and finish the job; the first decision stands."""
    standing = decisions.record(session, decision)
    jobs.finish(session, decision.job_id, FAILED if standing.verdict == ERROR else DONE)
    return Outcome.of(standing)


def _logged(outcome: Outcome) -> Outcome:
    log.info(
        "decided",
        verdict=outcome.verdict,
        score=outcome.score,
        threshold=outcome.threshold,
        code=outcome.error_code,
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
