"""What was decided: written once per job, never changed, searched and summed up by auditors."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, func, inspect, select
from sqlalchemy.orm import Session

from storage import jobs
from storage.database import insert_new
from storage.errors import InvalidDecision, InvalidFilter
from storage.tables import ACCEPT, DIGEST_LENGTH, ERROR, REVIEW, VERDICTS, Decision

BATCH = 500


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


def record(session: Session, decision: Decision) -> Decision:
    """Writes the decision unless its job has one, and returns the one that stands.

    `decision` itself is never added to the session. Raises UnknownJob, InvalidDecision.
    """
    _check(decision)
    jobs.get(session, decision.job_id)
    insert_new(session, Decision, _set_values(decision), "job_id")
    return session.get_one(Decision, decision.job_id, populate_existing=True)


def get(session: Session, job_id: str) -> Decision | None:
    """The decision of that job, or None while there is none."""
    return session.get(Decision, job_id, populate_existing=True)


def search(session: Session, wanted: DecisionFilter) -> Iterator[Decision]:
    """The decisions that the filter lets through, read from the database as they are consumed."""
    order = (Decision.decided_at, Decision.job_id)
    if wanted.newest_first:
        query = select(Decision).order_by(*(column.desc() for column in order))
    else:
        query = select(Decision).order_by(*order)
    query = query.where(*_conditions(wanted)).limit(wanted.limit)
    yield from session.scalars(query.execution_options(yield_per=BATCH))


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
        .where(*_conditions(wanted))
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


def _set_values(decision: Decision) -> dict[str, object]:
    # Only what was set, so that the columns' own defaults fill the rest.
    return {
        attribute.key: decision.__dict__[attribute.key]
        for attribute in inspect(Decision).column_attrs
        if attribute.key in decision.__dict__
    }


def _conditions(wanted: DecisionFilter) -> list[ColumnElement[bool]]:
    equal = [
        (wanted.signer_id, Decision.signer_id),
        (wanted.verdict, Decision.verdict),
        (wanted.error_code, Decision.error_code),
    ]
    at_least = [(wanted.since, Decision.decided_at), (wanted.min_distance, Decision.distance)]
    conditions = [column == value for value, column in equal if value is not None]
    conditions += [column >= value for value, column in at_least if value is not None]
    if wanted.until is not None:
        conditions.append(Decision.decided_at < wanted.until)
    if wanted.max_distance is not None:
        conditions.append(Decision.distance <= wanted.max_distance)
    if wanted.model_id is not None:
        conditions.append(_is_model(wanted.model_id))
    return conditions


def _is_model(digest: str) -> ColumnElement[bool]:
    if len(digest) == DIGEST_LENGTH:
        return Decision.model_id == digest
    return Decision.model_id.startswith(digest, autoescape=True)
