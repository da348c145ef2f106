"""Times and durations as people type them: `2026-11-23`, `2026-11-23T09:30`, `24h`, `7d`."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from worker.cli.exits import CommandError

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_DURATION = re.compile(r"(\d{1,7}(?:\.\d{1,6})?)\s*([smhdw])")
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")


def duration(text: str) -> timedelta:
    """A length of time: a number and one of s, m, h, d, w.

    Raises CommandError for anything else.
    """
    found = _DURATION.fullmatch(text.strip().lower())
    if not found:
        raise CommandError(
            f"{text!r} is not a length of time: give a number and one of s, m, h, d or w, "
            "such as 10m or 7d."
        )
    return timedelta(**{_UNITS[found[2]]: float(found[1])})


def moment(text: str, *, now: datetime | None = None, end_of_day: bool = False) -> datetime:
    """A point in time, aware, in UTC.

    A time without a zone is UTC; a length of time counts back from now; a bare date is its first
    instant, or with `end_of_day` the first instant of the next day. Raises CommandError for
    anything else.
    """
    text = text.strip()
    try:
        if _DURATION.fullmatch(text.lower()):
            return (now or datetime.now(UTC)) - duration(text)
        found = datetime.fromisoformat(text)
        found = found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
        return found + timedelta(days=1) if end_of_day and _DATE.fullmatch(text) else found
    except (ValueError, OverflowError) as error:
        raise CommandError(
            f"{text!r} is not a time: give a date (2026-11-23), a date and time "
            "(2026-11-23T09:30, UTC unless it names a zone) or how long ago (24h)."
        ) from error
