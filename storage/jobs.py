"""What was asked: one row per job id, however often the question is sent or delivered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import case, select, update
from sqlalchemy.orm import Session

from storage import signers
from storage.database import insert_new
from storage.errors import InvalidJob, JobConflict, UnknownJob
from storage.tables import DONE, FAILED, ID_LENGTH, QUEUED, RUNNING, Job, storable, utc_now


def check_id(job_id: str) -> str:
    """The id itself, when it can name a job: 1 to 128 printable characters. Raises InvalidJob."""
    if not isinstance(job_id, str) or not 0 < len(job_id) <= ID_LENGTH:
        raise InvalidJob(f"a job id has between 1 and {ID_LENGTH} characters")
    if not job_id.isprintable():
        raise InvalidJob(f"the job id {job_id!a} holds characters that cannot be shown")
    return job_id


def submit(
    session: Session,
    *,
    id: str,
    signer_id: str,
    document: str,
    page: int | None = None,
    region: Sequence[int] | None = None,
    upstream: Mapping[str, Any] | None = None,
) -> tuple[Job, bool]:
    """The job's row, made now as queued if new; the second value says whether it was.

    Asking the same again is harmless. Raises JobConflict when the id stands for another question,
    InvalidJob and InvalidSignerId when the fields cannot be stored.
    """
    values = {
        "id": check_id(id),
        "signer_id": signers.check_id(signer_id),
        "document": storable(document),
        "page": page,
        "region": None if region is None else list(region),
        "upstream": dict(upstream or {}),
    }
    created = insert_new(session, Job, values, "id")
    job = get(session, id)
    for name in ("signer_id", "document", "page", "region"):
        if getattr(job, name) != values[name]:
            raise JobConflict(f"job {id!r} already stands with another {name.replace('_id', '')}")
    return job, created


def start(
    session: Session,
    *,
    id: str,
    signer_id: str,
    document: str,
    page: int | None = None,
    region: Sequence[int] | None = None,
    upstream: Mapping[str, Any] | None = None,
) -> Job:
    """Counts one delivery and marks the job running; makes the row when upstream made none.

    A job that is done stays done. Raises what `submit` raises.
    """
    submit(
        session,
        id=id,
        signer_id=signer_id,
        document=document,
        page=page,
        region=region,
        upstream=upstream,
    )
    # Counted by the database, so that two workers holding the same message count two.
    session.execute(
        update(Job)
        .where(Job.id == id)
        .values(
            deliveries=Job.deliveries + 1,
            status=case((Job.status == DONE, DONE), else_=RUNNING),
            updated_at=utc_now(),
        )
        .execution_options(synchronize_session=False)
    )
    return get(session, id)


def finish(session: Session, job_id: str, status: str) -> Job:
    """Marks the job `done` or `failed`. Raises UnknownJob, InvalidJob."""
    if status not in (DONE, FAILED):
        raise InvalidJob(f"a job ends as {DONE} or {FAILED}, not as {status!r}")
    return _mark(session, job_id, status)


def requeue(session: Session, job_id: str) -> Job:
    """Marks the job queued as of now, for a message that is about to be sent again."""
    return _mark(session, job_id, QUEUED)


def get(session: Session, job_id: str) -> Job:
    """The job of that id. Raises UnknownJob."""
    job = session.get(Job, job_id, populate_existing=True)
    if job is None:
        raise UnknownJob(f"there is no job {job_id!r}")
    return job


def stale(
    session: Session,
    older_than: timedelta | datetime,
    *,
    statuses: Sequence[str] = (QUEUED,),
) -> list[Job]:
    """Jobs that have sat in a status for longer than that, or since before then; oldest first."""
    before = utc_now() - older_than if isinstance(older_than, timedelta) else older_than
    query = (
        select(Job)
        .where(Job.status.in_(statuses), Job.updated_at < before)
        .order_by(Job.updated_at, Job.id)
    )
    return list(session.scalars(query.execution_options(populate_existing=True)))


def _mark(session: Session, job_id: str, status: str) -> Job:
    job = get(session, job_id)
    job.status = status
    job.updated_at = utc_now()
    session.flush()
    return job
