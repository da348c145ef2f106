"""`sigctl db` shows and makes the schema, on SQLite and on PostgreSQL."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tests.worker.cli.conftest import Sigctl
from worker.cli.exits import Exit


def test_an_empty_database_is_upgraded_once(
    sigctl: Sigctl, empty_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SIGCTL_DATABASE_URL", empty_database_url)
    before = sigctl("db", "current", "--json")
    assert before.code == Exit.SETUP
    assert (before.json["current"], before.json["up_to_date"]) == (None, False)
    assert "was empty and now has revision" in sigctl("db", "upgrade").out
    assert "is up to date" in sigctl("db", "upgrade").out
    after = sigctl("db", "current", "--json")
    assert after.code == 0
    assert after.json["current"] == after.json["newest"]


def test_a_password_is_not_shown(
    sigctl: Sigctl, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SIGCTL_DATABASE_URL", f"{postgres_url}?password=hunter2")
    assert "hunter2" not in sigctl("db", "current").text


def test_a_database_of_a_newer_release_is_left_alone(sigctl: Sigctl, here: Path) -> None:
    sigctl("db", "upgrade")
    with closing(sqlite3.connect(here / "sigctl.db")) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    for command in (["db", "upgrade"], ["db", "current"], ["audit", "list"]):
        done = sigctl(*command)
        assert done.code == Exit.SETUP
        assert "a newer release has upgraded it" in done.err


def test_a_folder_that_does_not_exist_is_said(
    sigctl: Sigctl, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SIGCTL_DATABASE_URL", "sqlite:////nowhere/sigctl.db")
    done = sigctl("db", "upgrade")
    assert done.code == Exit.SETUP
    assert "/nowhere, does not exist" in done.err


def test_a_server_that_is_away_is_said(sigctl: Sigctl, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIGCTL_DATABASE_URL", "postgresql://a:secret@127.0.0.1:1/x")
    done = sigctl("db", "upgrade")
    assert done.code == Exit.UNAVAILABLE
    assert "secret" not in done.err


COMMANDS = (
    ["enroll", "ada", "specimens"],
    ["verify", "ada", "specimens/1.png"],
    ["submit", "ada", "specimens/1.png"],
    ["requeue"],
    ["audit", "list"],
    ["audit", "show", "job-1"],
    ["audit", "export"],
    ["audit", "stats"],
    ["audit", "verify"],
    ["audit", "adopt"],
    ["audit", "sign-off", "file.json"],
    ["signers", "list"],
    ["signers", "show", "ada"],
    ["signers", "retire", "ada"],
    ["signers", "restore", "ada"],
    ["signers", "erase", "ada", "--yes"],
    ["db", "upgrade"],
    ["doctor", "--no-load"],
)


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
@pytest.mark.parametrize("name", ["sigctl.db", "other.db"])
def test_every_command_refuses_a_schema_of_a_newer_release(
    sigctl: Sigctl,
    specimens: Path,
    sqlite_template: Path,
    monkeypatch: pytest.MonkeyPatch,
    command: list[str],
    name: str,
) -> None:
    if name != "sigctl.db":
        monkeypatch.setenv("SIGCTL_DATABASE_URL", f"sqlite:///{name}")
    shutil.copy(sqlite_template, name)
    with closing(sqlite3.connect(name)) as file, file:
        file.execute("UPDATE alembic_version SET version_num = '9999'")
    done = sigctl(*command)
    assert done.code == Exit.SETUP
    assert "has revision 9999, which this release of sigctl does not know" in done.text
