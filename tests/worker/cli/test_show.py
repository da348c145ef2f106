"""Output is plain, narrow and safe to print."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest

from worker.cli import show


def test_times_are_iso_8601_in_utc() -> None:
    zone = timezone(timedelta(hours=2))
    assert show.when(datetime(2026, 11, 23, 9, 30, tzinfo=zone)) == "2026-11-23T07:30:00Z"
    assert show.when(datetime(2026, 11, 23, 9, 30)) == "2026-11-23T09:30:00Z"
    assert show.when(None) is None


def test_numbers_have_three_decimals_and_digests_twelve_digits() -> None:
    assert show.number(0.12345) == "0.123"
    assert show.short("0123456789abcdef") == "0123456789ab"


def test_the_end_of_a_long_name_is_kept() -> None:
    assert show.tail("s3://a/very/long/way/to/x.png", 10) == "…/to/x.png"
    assert show.tail("x.png", 10) == "x.png"


def test_control_characters_do_not_reach_the_terminal() -> None:
    assert show.plain("a\x1b[31mb\x07") == "a\ufffd[31mb\ufffd"
    assert show.plain("\udc80") == "\ufffd"
    assert show.plain(None) == "-"


def test_a_table_is_at_most_100_columns_wide_and_takes_markup_literally(
    capsys: pytest.CaptureFixture[str],
) -> None:
    columns = (show.Column(title="name"), show.Column(title="distance", right=True))
    show.table(columns, [("[red]x[/red] " * 30, "0.123")])
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= show.WIDTH
    assert "[red]x[/red]" in out
    assert "0.123" in out


def test_a_long_sentence_is_not_broken_so_that_paths_can_be_copied(
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = "/" + "folder/" * 30
    show.say(path)
    assert capsys.readouterr().out == path + "\n"


def test_json_has_utc_times_no_nan_and_plain_paths(capsys: pytest.CaptureFixture[str]) -> None:
    moment = datetime(2026, 11, 23, tzinfo=UTC)
    show.as_json({"at": moment, "d": float("nan"), "p": Path("a"), "n": [1, None, True, "ö"]})
    assert json.loads(capsys.readouterr().out) == {
        "at": "2026-11-23T00:00:00.000Z",
        "d": None,
        "p": "a",
        "n": [1, None, True, "ö"],
    }
