"""What decisions of one model tell about the documents, streamed as plain rows."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import func, null, or_, select
from sqlalchemy.orm import Session

from storage.decisions import models_beginning
from storage.errors import InvalidFilter, UnknownModel
from storage.tables import Decision

BATCH = 2000


class Observation(NamedTuple):
    """One decision; `upstream` is None unless it was asked for."""

    job_id: str
    signer_id: str
    document: str
    verdict: str
    error_code: str | None
    distance: float | None
    operating_point: str | None
    preprocess_ms: float | None
    decided_at: datetime
    ink: dict[str, Any] | None
    upstream: dict[str, Any] | None


def model_named(session: Session, beginning: str | None) -> str:
    """The one model on record whose digest begins so; without a beginning, the newest decision's.

    Raises UnknownModel where nothing was decided so, and InvalidFilter where several begin so.
    """
    if beginning is None:
        newest = select(Decision.model_id).where(Decision.model_id.is_not(None))
        found = list(session.scalars(newest.order_by(Decision.decided_at.desc()).limit(1)))
    else:
        found = models_beginning(session, beginning)
    if not found:
        nothing = "no model has decided anything yet"
        raise UnknownModel(nothing if beginning is None else f"no model {beginning!r} has decided")
    if len(found) > 1:
        raise InvalidFilter(f"several models begin with {beginning!r}; only one can be looked at")
    return str(found[0])


def observed(
    session: Session,
    model_id: str,
    *,
    since: datetime | None = None,
    until: datetime | None = None,
    signer_id: str | None = None,
    with_upstream: bool = False,
) -> Iterator[Observation]:
    """Decisions of the model in the order of time, and failures that came before any model.

    Those name no model; they count from the model's first decision on, and until its last where
    another model has followed.
    """
    start, end = _reign(session, model_id)
    if start is None:
        return
    conditions = [
        or_(Decision.model_id == model_id, Decision.model_id.is_(None)),
        Decision.decided_at >= (start if since is None else max(start, since)),
    ]
    if end is not None:
        conditions.append(Decision.decided_at <= end)
    if until is not None:
        conditions.append(Decision.decided_at < until)
    if signer_id is not None:
        conditions.append(Decision.signer_id == signer_id)
    names = Observation._fields[:-1]
    last = Decision.upstream if with_upstream else null()
    query = select(*(getattr(Decision, name) for name in names), last).where(*conditions)
    query = query.order_by(Decision.decided_at).execution_options(yield_per=BATCH)
    with session.connection().execute(query) as rows:
        yield from map(Observation._make, rows)


def _reign(session: Session, model_id: str) -> tuple[datetime | None, datetime | None]:
    """When the model first decided, and when last, if another has decided since."""
    own = Decision.model_id == model_id
    start = session.scalar(select(func.min(Decision.decided_at)).where(own))
    end = session.scalar(select(func.max(Decision.decided_at)).where(own))
    if end is None:
        return None, None
    later = select(Decision.job_id).where(Decision.decided_at > end, Decision.model_id.is_not(None))
    followed = session.scalar(later.limit(1)) is not None
    return start, end if followed else None
