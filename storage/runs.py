"""Training runs: who asked for what, how far it is, and the one worker that is at it.

A worker holds a run by the time of its own last word about it: each word is written only where the
row still carries the one before. Whoever has been silent for longer than the lease may lose the
run to another, and learns of it at the next word.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, cast

from sqlalchemy import CursorResult, and_, or_, select, update
from sqlalchemy.orm import Session

from storage.errors import RunEnded, RunHeld, UnknownRun
from storage.tables import CANCELLED, DONE, FAILED, QUEUED, RUNNING, TrainingRun, utc_now

LEASE = timedelta(seconds=60)
"""Silence after which a run may be taken from its worker."""

UNDER_WAY = (QUEUED, RUNNING)


@dataclass(frozen=True, kw_only=True)
class Hold:
    """One worker's hold of a run; `since` is when it last said something."""

    run_id: str
    since: datetime


def make(
    session: Session, id: str, *, options: Mapping[str, Any], by: str | None = None
) -> TrainingRun:
    """A run that waits for a worker."""
    now = utc_now()
    run = TrainingRun(
        id=id,
        state=QUEUED,
        options=dict(options),
        progress={},
        requested_by=by,
        created_at=now,
        updated_at=now,
    )
    session.add(run)
    session.flush()
    return run


def get(session: Session, id: str) -> TrainingRun:
    """The run of that id. Raises UnknownRun."""
    run = session.get(TrainingRun, id, populate_existing=True)
    if run is None:
        raise UnknownRun(f"there is no training run {id!r}")
    return run


def find(session: Session, beginning: str | None = None) -> TrainingRun:
    """The one run whose id begins so, or the newest of all. Raises UnknownRun."""
    query = select(TrainingRun).order_by(TrainingRun.created_at.desc(), TrainingRun.id).limit(2)
    if beginning:
        query = query.where(TrainingRun.id.startswith(beginning, autoescape=True))
    found = list(session.scalars(query))
    if not found:
        raise UnknownRun(
            f"there is no training run {beginning!r}" if beginning else "there is no training run"
        )
    if beginning and len(found) > 1:
        raise UnknownRun(f"more than one training run begins with {beginning!r}; give more of it")
    return found[0]


def listed(session: Session, *, limit: int | None = None) -> list[TrainingRun]:
    """All runs, the newest first."""
    query = select(TrainingRun).order_by(TrainingRun.created_at.desc(), TrainingRun.id)
    return list(session.scalars(query.limit(limit)))


def unheard(session: Session, age: timedelta) -> list[str]:
    """The runs that have not ended and of which nothing was heard for so long, oldest first."""
    query = select(TrainingRun.id).where(
        TrainingRun.state.in_(UNDER_WAY), TrainingRun.updated_at < utc_now() - age
    )
    return list(session.scalars(query.order_by(TrainingRun.updated_at, TrainingRun.id)))


def take(session: Session, id: str, *, lease: timedelta = LEASE) -> Hold:
    """Begins or resumes a run. Raises UnknownRun, RunEnded, and RunHeld while another is at it."""
    now = utc_now()
    free = or_(
        TrainingRun.state == QUEUED,
        and_(TrainingRun.state == RUNNING, TrainingRun.updated_at < now - lease),
    )
    if not _changed(session, id, free, state=RUNNING, updated_at=now):
        run = get(session, id)
        if run.state == RUNNING:
            raise RunHeld(f"another worker is at training run {id}")
        raise RunEnded(f"training run {id} is {run.state}")
    return Hold(run_id=id, since=now)


def report(session: Session, hold: Hold, progress: Mapping[str, Any] | None = None) -> Hold:
    """Says that the worker is still at it, and how far it is. Raises RunHeld if it lost the run."""
    changes = {} if progress is None else {"progress": dict(progress)}
    return _say(session, hold, **changes)


def hand_back(session: Session, hold: Hold) -> None:
    """Lets the run wait for another worker, or for this one. Raises RunHeld."""
    _say(session, hold, state=QUEUED)


def finish(session: Session, hold: Hold, *, candidate_id: str) -> None:
    """Ends the run with the candidate that came of it. Raises RunHeld."""
    _say(session, hold, state=DONE, candidate_id=candidate_id)


def fail(session: Session, hold: Hold, *, code: str, message: str) -> None:
    """Ends the run with the reason why nothing came of it. Raises RunHeld."""
    _say(session, hold, state=FAILED, error_code=code, error_message=message)


def end_cancelled(session: Session, hold: Hold) -> None:
    """Ends the run because somebody asked for that. Raises RunHeld."""
    _say(session, hold, state=CANCELLED)


def cancel(session: Session, id: str) -> TrainingRun:
    """Asks for the end of a run; one that no worker has begun ends here and now.

    Asking again is harmless. Raises UnknownRun, and RunEnded for one that is done or failed.
    """
    now = utc_now()
    waiting = TrainingRun.state == QUEUED
    if not _changed(session, id, waiting, state=CANCELLED, cancelled_at=now, updated_at=now):
        asked = and_(TrainingRun.state == RUNNING, TrainingRun.cancelled_at.is_(None))
        _changed(session, id, asked, cancelled_at=now)
    run = get(session, id)
    if run.state in (DONE, FAILED):
        raise RunEnded(f"training run {run.id} is {run.state}: there is nothing to cancel")
    return run


def is_cancelled(session: Session, id: str) -> bool:
    """Whether somebody asked for the end."""
    return get(session, id).cancelled_at is not None


def _say(session: Session, hold: Hold, **changes: Any) -> Hold:
    now = max(utc_now(), hold.since + timedelta(microseconds=1))
    held = and_(TrainingRun.state == RUNNING, TrainingRun.updated_at == hold.since)
    if not _changed(session, hold.run_id, held, updated_at=now, **changes):
        raise RunHeld(f"another worker has taken training run {hold.run_id}")
    return Hold(run_id=hold.run_id, since=now)


def _changed(session: Session, id: str, condition: Any, **values: Any) -> bool:
    done = session.execute(
        update(TrainingRun)
        .where(TrainingRun.id == id, condition)
        .values(**values)
        .execution_options(synchronize_session=False)
    )
    return cast(CursorResult[Any], done).rowcount == 1
