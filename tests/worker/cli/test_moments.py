"""Times and durations are read as people mean them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from worker.cli import moments
from worker.cli.exits import CommandError

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("90s", timedelta(seconds=90)),
        ("10m", timedelta(minutes=10)),
        ("1.5h", timedelta(minutes=90)),
        (" 7 D ", timedelta(days=7)),
        ("2w", timedelta(days=14)),
    ],
)
def test_a_duration_is_a_number_and_a_unit(text: str, expected: timedelta) -> None:
    assert moments.duration(text) == expected


@pytest.mark.parametrize("text", ["", "10", "m", "-5m", "10 minutes", "1e3s"])
def test_another_duration_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(CommandError, match=r"is not a length of time.*such as 10m"):
        moments.duration(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-11-23", datetime(2026, 11, 23, tzinfo=UTC)),
        ("2026-11-23T09:30", datetime(2026, 11, 23, 9, 30, tzinfo=UTC)),
        ("2026-11-23 09:30:05", datetime(2026, 11, 23, 9, 30, 5, tzinfo=UTC)),
        ("2026-11-23T09:30:00+02:00", datetime(2026, 11, 23, 7, 30, tzinfo=UTC)),
        ("2026-11-23T09:30:00Z", datetime(2026, 11, 23, 9, 30, tzinfo=UTC)),
        ("24h", datetime(2026, 11, 22, 12, tzinfo=UTC)),
    ],
)
def test_a_moment_is_utc_unless_it_names_a_zone(text: str, expected: datetime) -> None:
    assert moments.moment(text, now=NOW) == expected


def test_a_bare_date_as_an_end_includes_the_day() -> None:
    assert moments.moment("2026-11-23", end_of_day=True) == datetime(2026, 11, 24, tzinfo=UTC)
    at_nine = moments.moment("2026-11-23T09:00", end_of_day=True)
    assert at_nine == datetime(2026, 11, 23, 9, tzinfo=UTC)


@pytest.mark.parametrize("text", ["", "yesterday", "2026-13-01", "23.11.2026", "9999999w"])
def test_another_moment_is_refused_with_examples(text: str) -> None:
    with pytest.raises(CommandError, match=r"is not a time.*2026-11-23"):
        moments.moment(text, now=NOW)


def test_the_last_day_of_the_calendar_has_no_day_after() -> None:
    with pytest.raises(CommandError, match="is not a time"):
        moments.moment("9999-12-31", end_of_day=True)
