"""What was asked: one row per job id, however often the question is sent or delivered."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Text, and_, case, cast, or_, select, update
from sqlalchemy.orm import Session

from storage import signers
from storage.database import insert_new, upsert
from storage.errors import InvalidJob, JobConflict, UnknownJob
from storage.tables import (
    DONE,
    FAILED,
    ID_LENGTH,
    QUEUED,
    RUNNING,
    STATUSES,
    Decision,
    Job,
    storable,
    utc_now,
)

IDS_AT_ONCE = 1000  # what a query holds on both databases
CLOCK_TOLERANCE = timedelta(minutes=1)


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
    values = _row(
        id=id, signer_id=signer_id, document=document, page=page, region=region, upstream=upstream
    )
    created = insert_new(session, Job, values, "id")
    job = get(session, id)
    conflict = _conflict(job, values)
    if conflict is not None:
        raise conflict
    return job, created


def start(
    session: Session,
    questions: Sequence[Mapping[str, Any]],
    *,
    redelivered: Collection[str] = (),
) -> list[Job | JobConflict]:
    """Marks jobs running; makes the rows upstream did not make.

    A job has one delivery, and one more with each time that its message is `redelivered` because a
    worker was lost: the same question sent thrice at once is no sign of a deadly document.

    A question has the fields that `submit` takes, and no two have one id. A job that is done stays
    done. A conflict stands in the place of its job. Raises InvalidJob and InvalidSignerId.
    """
    rows = {row["id"]: row for row in (_row(**question) for question in questions)}
    now = utc_now()
    # In the order of their ids: two workers that took the same jobs must not wait for each other
    # crosswise.
    deliveries = [
        rows[id] | {"status": RUNNING, "deliveries": 1, "updated_at": now} for id in sorted(rows)
    ]
    # Not as an IN, whose length must be known to a statement that runs for many rows.
    lost = case((or_(False, *(Job.id == id for id in redelivered)), 1), else_=0)
    statement = upsert(session, Job)
    asked = statement.excluded
    counted = statement.on_conflict_do_update(
        index_elements=["id"],
        # Counted by the database, for several workers may hold messages of the same job.
        set_={
            "deliveries": case((Job.deliveries == 0, 1), else_=Job.deliveries + lost),
            "status": case((Job.status == DONE, DONE), else_=RUNNING),
            "updated_at": now,
        },
        where=and_(
            Job.signer_id == asked.signer_id,
            Job.document == asked.document,
            Job.page.is_not_distinct_from(asked.page),
            cast(Job.region, Text).is_not_distinct_from(cast(asked.region, Text)),
        ),
    ).returning(Job)
    found = session.scalars(counted, deliveries, execution_options={"populate_existing": True})
    started: dict[str, Job | JobConflict] = {job.id: job for job in found}
    for id in rows.keys() - started.keys():
        conflict = _conflict(get(session, id), rows[id])
        # Without a difference the rows differ in how a region is written, and nothing else.
        started[id] = conflict or JobConflict(f"job {id!r} already stands with another region")
    return [started[question["id"]] for question in questions]


def finish(session: Session, job_ids: Collection[str], status: str) -> None:
    """Marks jobs `done` or `failed`. Raises InvalidJob."""
    if status not in (DONE, FAILED):
        raise InvalidJob(f"a job ends as {DONE} or {FAILED}, not as {status!r}")
    session.execute(
        update(Job)
        .where(Job.id.in_(job_ids))
        .values(status=status, updated_at=utc_now())
        .execution_options(synchronize_session=False)
    )


def requeue(session: Session, job_id: str) -> Job:
    """Marks the job queued as of now, for a message that is about to be sent again.

    Raises UnknownJob.
    """
    job = get(session, job_id)
    job.status = QUEUED
    job.updated_at = utc_now()
    session.flush()
    return job


def get(session: Session, job_id: str) -> Job:
    """The job of that id. Raises UnknownJob."""
    job = session.get(Job, job_id, populate_existing=True)
    if job is None:
        raise UnknownJob(f"there is no job {job_id!r}")
    return job


def search(
    session: Session,
    *,
    statuses: Sequence[str] = STATUSES,
    error_code: str | None = None,
    before: datetime | None = None,
    limit: int | None = None,
) -> list[tuple[Job, str | None]]:
    """Jobs and the codes that they failed with, those that moved last first.

    `before` leaves only jobs of which nothing was heard since then.
    """
    query = (
        select(Job, Decision.error_code)
        .join(Decision, Decision.job_id == Job.id, isouter=error_code is None)
        .where(Job.status.in_(statuses))
        .order_by(Job.updated_at.desc(), Job.id)
        .limit(limit)
    )
    if error_code is not None:
        query = query.where(Decision.error_code == error_code)
    if before is not None:
        query = query.where(Job.updated_at < before)
    return [(job, code) for job, code in session.execute(query)]


def known(session: Session, job_ids: Iterable[str]) -> set[str]:
    """Those of the ids that stand for jobs."""
    wanted = list(job_ids)
    found: set[str] = set()
    for start in range(0, len(wanted), IDS_AT_ONCE):
        query = select(Job.id).where(Job.id.in_(wanted[start : start + IDS_AT_ONCE]))
        found.update(session.scalars(query))
    return found


def stale(
    session: Session,
    older_than: timedelta | datetime,
    *,
    statuses: Sequence[str] = (QUEUED,),
) -> list[Job]:
    """Jobs that have sat in a status for longer than that, or since before then; oldest first.

    A job from the future was touched by a worker whose clock is wrong, and counts as old.
    """
    now = utc_now()
    before = now - older_than if isinstance(older_than, timedelta) else older_than
    old = or_(Job.updated_at < before, Job.updated_at > now + CLOCK_TOLERANCE)
    query = select(Job).where(Job.status.in_(statuses), old).order_by(Job.updated_at, Job.id)
    return list(session.scalars(query.execution_options(populate_existing=True)))


def _row(
    *,
    id: str,
    signer_id: str,
    document: str,
    page: int | None = None,
    region: Sequence[int] | None = None,
    upstream: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    return {
        "id": check_id(id),
        "signer_id": signers.check_id(signer_id),
        "document": storable(document),
        "page": page,
        "region": None if region is None else list(region),
        "upstream": dict(upstream or {}),
    }


def _conflict(job: Job, asked: Mapping[str, Any]) -> JobConflict | None:
    """What keeps the job from being the answer to what is asked, if anything does."""
    for name in ("signer_id", "document", "page", "region"):
        if getattr(job, name) != asked[name]:
            what = name.replace("_id", "")
            return JobConflict(f"job {job.id!r} already stands with another {what}")
    return None
