"""How much work waits, asked so that it costs the same however long the record is."""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import func, select, union_all
from sqlalchemy.orm import Session

from storage.tables import FAILED, QUEUED, RUNNING, Job, utc_now

LOOKED_AT = 1000


def oldest_undecided(session: Session) -> datetime | None:
    """When the oldest job without a decision was submitted; None when all are decided.

    A try that fails, or a requeue, makes `updated_at` new and leaves `created_at`, which is what
    somebody waits from. So it looks at the thousand queued and the thousand running jobs that
    were touched longest ago, which the index leads to, and takes the earliest submitted of them.
    """
    some = [
        select(Job.created_at)
        .where(Job.status == status)
        .order_by(Job.updated_at)
        .limit(LOOKED_AT)
        .subquery()
        for status in (QUEUED, RUNNING)
    ]
    each = union_all(*(select(func.min(part.c.created_at).label("created_at")) for part in some))
    found: datetime | None = session.scalar(select(func.min(each.subquery().c.created_at)))
    return found


def failed_since(session: Session, span: timedelta) -> int:
    """How many jobs have failed within that time."""
    return _count(session, Job.status == FAILED, Job.updated_at >= utc_now() - span)


def stale(session: Session, span: timedelta) -> int:
    """How many undecided jobs nothing was heard of for that time."""
    return _count(session, Job.status.in_((QUEUED, RUNNING)), Job.updated_at < utc_now() - span)


def _count(session: Session, *conditions: object) -> int:
    return session.scalar(select(func.count()).select_from(Job).where(*conditions)) or 0  # type: ignore[arg-type]
