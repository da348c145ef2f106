"""What was decided: written once per job, never changed, searched and summed up by auditors."""

from __future__ import annotations

import math
from collections.abc import Collection, Generator, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from heapq import merge
from itertools import islice
from typing import Any

from sqlalchemy import ColumnElement, SQLColumnExpression, func, inspect, select, tuple_
from sqlalchemy.orm import InstrumentedAttribute, Session

from storage import chain
from storage.database import upsert
from storage.errors import InvalidDecision, InvalidFilter
from storage.seal import written
from storage.tables import (
    ACCEPT,
    DIGEST_LENGTH,
    ERROR,
    REVIEW,
    VERDICTS,
    Decision,
    utc_now,
)

BATCH = 500
EARLIEST, LATEST = (moment.replace(tzinfo=UTC) for moment in (datetime.min, datetime.max))

Column = InstrumentedAttribute[Any]


@dataclass(frozen=True, kw_only=True)
class DecisionFilter:
    """Which decisions; every field narrows, and the empty filter means all of them.

    `since` counts, `until` does not; both carry a time zone. Distances are inclusive on both
    sides. A `model_id` may be shortened to its beginning. Raises InvalidFilter.
    """

    signer_id: str | None = None
    verdict: str | None = None
    model_id: str | None = None
    error_code: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    min_distance: float | None = None
    max_distance: float | None = None
    limit: int | None = None
    newest_first: bool = True

    def __post_init__(self) -> None:
        if self.verdict is not None and self.verdict not in VERDICTS:
            raise InvalidFilter(f"a verdict is one of {', '.join(VERDICTS)}, not {self.verdict!r}")
        for name, moment in (("since", self.since), ("until", self.until)):
            if moment is not None and moment.tzinfo is None:
                raise InvalidFilter(f"the time of `{name}`, {moment}, has no time zone")
        if self.since is not None and self.until is not None and self.since >= self.until:
            raise InvalidFilter("the period ends before it begins")
        if self.limit is not None and self.limit < 0:
            raise InvalidFilter("a limit must not be negative")


@dataclass(frozen=True, kw_only=True)
class VerdictStats:
    """One line of the summary: decisions of one verdict and, for errors, one code.

    Distances are to the nearest reference, None where nothing was compared; times in ms.
    """

    verdict: str
    error_code: str | None
    count: int
    mean_distance: float | None
    min_distance: float | None
    max_distance: float | None
    mean_total_ms: float | None
    first: datetime
    last: datetime


def record(session: Session, decided: Sequence[Decision]) -> list[Decision]:
    """Writes each decision unless its job has one, and returns those that stand, in order.

    Each one that is written is sealed onto the chain in the same transaction. Each job has a row,
    and no two decisions are of one job. The decisions given are never added to the session. Raises
    InvalidDecision, and then has written none.
    """
    for decision in decided:
        _check(decision)
    rows = [_row(decision) for decision in decided]
    insert = upsert(session, Decision).on_conflict_do_nothing(index_elements=["job_id"])
    sent = {row["job_id"]: row for row in sorted(rows, key=lambda row: str(row["job_id"]))}
    inserted = session.scalars(insert.returning(Decision), list(sent.values())).all()
    entries = chain.attesting(written(decision, sent[decision.job_id]) for decision in inserted)
    chain.of(session).append(session, entries)
    standing = {decision.job_id: decision for decision in inserted}
    others = [row["job_id"] for row in rows if row["job_id"] not in standing]
    standing |= of_jobs(session, others)
    return [standing[decision.job_id] for decision in decided]


def of_jobs(session: Session, job_ids: Collection[str]) -> dict[str, Decision]:
    """The decisions that stand, by job; a job without one is missing."""
    if not job_ids:
        return {}
    query = select(Decision).where(Decision.job_id.in_(job_ids))
    found = session.scalars(query.execution_options(populate_existing=True))
    return {decision.job_id: decision for decision in found}


def get(session: Session, job_id: str) -> Decision | None:
    """The decision of that job, or None while there is none."""
    return session.get(Decision, job_id, populate_existing=True)


def search(session: Session, wanted: DecisionFilter) -> Iterator[Decision]:
    """The decisions that the filter lets through, read from the database as they are consumed."""
    with ExitStack() as stack:
        streams = [
            stack.enter_context(closing(_in_order(session, replace(wanted, model_id=model))))
            for model in models_beginning(session, wanted.model_id)
        ]
        merged = merge(*streams, key=_moment, reverse=wanted.newest_first)
        yield from islice(merged, wanted.limit)


def stats(session: Session, wanted: DecisionFilter) -> list[VerdictStats]:
    """Counts and distances of the filtered decisions by verdict and error code; no limit applies.

    Verdicts come in the order accept, reject, review, error; codes by their frequency.
    """
    query = (
        select(
            Decision.verdict,
            Decision.error_code,
            func.count().label("count"),
            func.avg(Decision.distance).label("mean_distance"),
            func.min(Decision.distance).label("min_distance"),
            func.max(Decision.distance).label("max_distance"),
            func.avg(Decision.total_ms).label("mean_total_ms"),
            func.min(Decision.decided_at).label("first"),
            func.max(Decision.decided_at).label("last"),
        )
        .where(*_filtered(session, wanted))
        .group_by(Decision.verdict, Decision.error_code)
    )
    lines = [VerdictStats(**row) for row in session.execute(query).mappings()]
    return sorted(lines, key=lambda s: (VERDICTS.index(s.verdict), -s.count, s.error_code or ""))


def _check(decision: Decision) -> None:
    verdict, code = decision.verdict, decision.error_code
    if verdict not in VERDICTS:
        raise InvalidDecision(f"a verdict is one of {', '.join(VERDICTS)}, not {verdict!r}")
    if (verdict == ERROR) != (code is not None):
        raise InvalidDecision("an error has an error code, and nothing else has one")
    if verdict == ERROR:
        return
    score, threshold = decision.score, decision.threshold
    if score is None or threshold is None or decision.model_id is None:
        raise InvalidDecision(f"a verdict of {verdict} needs a score, a threshold and a model")
    # Without a threshold of its own, rejection begins where acceptance ends.
    reject = threshold if decision.reject_threshold is None else decision.reject_threshold
    if not all(map(math.isfinite, (score, threshold, reject))):
        raise InvalidDecision(f"a verdict of {verdict} rests on a number that is not finite")
    if verdict == ACCEPT and not score < threshold:
        raise InvalidDecision("an acceptance needs a score below the threshold")
    if verdict == REVIEW and not threshold <= score < reject:
        raise InvalidDecision("a review needs a score between the thresholds")


def _row(decision: Decision) -> dict[str, Any]:
    """Every column; what was not set gets its default, so that all rows are alike."""
    columns = inspect(Decision).column_attrs.keys()
    fresh = {"distances": [], "upstream": {}, "decided_at": utc_now()}
    return {name: decision.__dict__.get(name, fresh.get(name)) for name in columns}


def _in_order(session: Session, wanted: DecisionFilter) -> Generator[Decision]:
    """What `search` finds for one whole model, or for any.

    One field leads: its index is followed in the order of time, and the others drop rows on the
    way. Left to choose, PostgreSQL takes the index of the time alone for a common value and reads
    back to where that value was last seen: 3.9 s for a model that was retired in the middle of
    10^7 decisions, against 0.5 ms.
    """
    order: list[Column] = [Decision.decided_at, Decision.job_id]
    conditions = _period(wanted)
    for place, (column, value) in enumerate(_equal(wanted)):
        if place:
            conditions.append(_dropping(session, column) == value)
        elif column is Decision.signer_id:  # has few decisions, which the planner knows
            conditions.append(column == value)
        else:
            conditions = _span(column, value, wanted)
            order.insert(0, column)
    query = select(Decision).where(*conditions, *_distances(wanted)).limit(wanted.limit)
    query = query.order_by(*(c.desc() if wanted.newest_first else c for c in order))
    if wanted.limit is None or wanted.limit > BATCH:
        query = query.execution_options(yield_per=BATCH)
    with session.scalars(query) as found:
        yield from found


def _moment(decision: Decision) -> tuple[datetime, str]:
    return decision.decided_at, decision.job_id


def _equal(wanted: DecisionFilter) -> list[tuple[Column, str]]:
    """The fields that must have a value, those of the fewest decisions first."""
    fields: list[tuple[Column, str | None]] = [
        (Decision.signer_id, wanted.signer_id),
        (Decision.error_code, wanted.error_code),
        (Decision.model_id, wanted.model_id),
        (Decision.verdict, wanted.verdict),
    ]
    return [(column, value) for column, value in fields if value is not None]


def _span(column: Column, value: str, wanted: DecisionFilter) -> list[ColumnElement[bool]]:
    """The decisions of one value in the period, as a part of the index (column, decided_at).

    Not as an equality, for which the planner drops the column from the order by.
    """
    pair = tuple_(column, Decision.decided_at)
    return [
        column.is_not(None),  # the index of the error codes holds no other rows
        pair >= (value, wanted.since or EARLIEST),
        pair < (value, wanted.until or LATEST),
    ]


def _period(wanted: DecisionFilter) -> list[ColumnElement[bool]]:
    conditions = []
    if wanted.since is not None:
        conditions.append(Decision.decided_at >= wanted.since)
    if wanted.until is not None:
        conditions.append(Decision.decided_at < wanted.until)
    return conditions


def _distances(wanted: DecisionFilter) -> list[ColumnElement[bool]]:
    conditions = []
    if wanted.min_distance is not None:
        conditions.append(Decision.distance >= wanted.min_distance)
    if wanted.max_distance is not None:
        conditions.append(Decision.distance <= wanted.max_distance)
    return conditions


def _filtered(session: Session, wanted: DecisionFilter) -> list[ColumnElement[bool]]:
    """The whole filter, for a question that needs no order."""
    conditions = _period(wanted) + _distances(wanted)
    for place, (column, value) in enumerate(_equal(wanted)):
        values = models_beginning(session, value) if column is Decision.model_id else [value]
        found = _dropping(session, column) if place else column
        conditions.append(found.in_(values))
    return conditions


def _dropping(session: Session, column: Column) -> SQLColumnExpression[Any]:
    """The column, as SQLite must see it so as not to follow its index instead of the leading one.

    SQLite has no statistics unless somebody runs ANALYZE, and of two indexes takes either: 0.3 s
    for the acceptances of one signer among 10^6 decisions, against 0.1 ms.
    """
    if session.get_bind().dialect.name != "sqlite":
        return column
    expression: SQLColumnExpression[Any] = column.concat("")
    return expression


def models_beginning(session: Session, beginning: str | None) -> list[Any]:
    """The models on record whose digest begins so; one that is whole, or None, as it is."""
    if beginning is None or len(beginning) == DIGEST_LENGTH:
        return [beginning]
    # From one digest to the next along the index, since DISTINCT would read every decision.
    known = select(func.min(Decision.model_id).label("id")).cte("known", recursive=True)
    after = select(func.min(Decision.model_id)).where(Decision.model_id > known.c.id)
    known = known.union_all(select(after.scalar_subquery()).where(known.c.id.is_not(None)))
    query = select(known.c.id).where(known.c.id.startswith(beginning, autoescape=True))
    return list(session.scalars(query))
