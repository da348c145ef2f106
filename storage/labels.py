"""What people found out about decided documents: entries of the chain that are never changed.

A later label of the same job stands beside the earlier ones, and the latest counts.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Select, select
from sqlalchemy.orm import Session

from storage import chain, decisions
from storage.chain import Event
from storage.errors import CannotLabel, InvalidFilter, UnknownJob
from storage.tables import ERROR, IS_LABEL, LABEL, ChainEntry, Decision, Job

GENUINE, FORGED = FINDINGS = ("genuine", "forged")
BATCH = 500


@dataclass(frozen=True, kw_only=True)
class Label:
    """One person's finding about one job; `finding` is `genuine` or `forged`."""

    job_id: str
    finding: str
    by: str | None
    note: str | None
    labelled_at: datetime
    chain: int
    position: int


def put(
    session: Session, job_id: str, finding: str, *, by: str | None = None, note: str | None = None
) -> Label:
    """Records what was found out about the job, and returns the label that now counts.

    Raises InvalidFilter for another word than `genuine` and `forged`, UnknownJob, and CannotLabel
    where nothing was decided or the job failed.
    """
    if finding not in FINDINGS:
        raise InvalidFilter(f"a label is one of {', '.join(FINDINGS)}, not {finding!r}")
    if session.get(Job, job_id) is None:
        raise UnknownJob(f"there is no job {job_id!r}")
    decision = decisions.get(session, job_id)
    if decision is None:
        raise CannotLabel(f"job {job_id} has no decision yet, so there is nothing to label")
    if decision.verdict == ERROR:
        raise CannotLabel(f"job {job_id} failed ({decision.error_code}), so it has no verdict")
    detail = {"label": finding, "by": by, "note": note}
    chain.of(session).append(session, [Event(kind=LABEL, subject=job_id, detail=detail)])
    return of_job(session, job_id)[-1]


def of_job(session: Session, job_id: str) -> list[Label]:
    """All labels of the job, the one that counts last."""
    own = ChainEntry.subject == job_id
    return [_label(entry) for entry in session.scalars(_labels().where(own))]


def listed(
    session: Session, *, since: datetime | None = None, until: datetime | None = None
) -> Iterator[Label]:
    """The label that counts of each job that has one, by job.

    `since` and `until` bound the time of that label, not of the decision.
    """
    for label in _latest(session):
        late = until is not None and label.labelled_at >= until
        if not late and (since is None or label.labelled_at >= since):
            yield label


def labelled(session: Session) -> Iterator[tuple[Decision, Label]]:
    """Each decision that somebody has labelled, with the label that counts: what to learn from."""
    waiting: dict[str, Label] = {}
    for label in _latest(session):
        waiting[label.job_id] = label
        if len(waiting) == BATCH:
            yield from _paired(session, waiting)
            waiting = {}
    yield from _paired(session, waiting)


def _paired(session: Session, waiting: dict[str, Label]) -> Iterator[tuple[Decision, Label]]:
    found = decisions.of_jobs(session, waiting)
    for job_id, label in waiting.items():
        if job_id in found:
            yield found[job_id], label


def _latest(session: Session) -> Iterator[Label]:
    last: Label | None = None
    for entry in session.scalars(_labels().execution_options(yield_per=BATCH)):
        if last is not None and last.job_id != entry.subject:
            yield last
        last = _label(entry)
    if last is not None:
        yield last


def _labels() -> Select[ChainEntry]:
    """All labels by job, those of a job by their time."""
    entry = ChainEntry
    order = (entry.subject, entry.recorded_at, entry.chain, entry.position)
    return select(entry).where(IS_LABEL, entry.subject.is_not(None)).order_by(*order)


def _label(entry: ChainEntry) -> Label:
    detail = json.loads(entry.detail or "{}")
    return Label(
        job_id=entry.subject or "",
        finding=detail["label"],
        by=detail["by"],
        note=detail["note"],
        labelled_at=entry.recorded_at,
        chain=entry.chain,
        position=entry.position,
    )
