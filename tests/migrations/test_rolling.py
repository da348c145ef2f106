"""A worker of the release before goes on deciding beside the new schema."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
from io import BytesIO
from pathlib import Path

import pytest
from sqlalchemy import text

from migrations.upgrade import upgrade
from storage import chain, decisions, verification
from storage.database import make_engine, make_sessions
from storage.seal import Keys
from tests.builders import a_decision, a_job, an_error

ROOT = Path(__file__).parents[2]
BEFORE = "85cf9e691b12170485aca24b378773472bed60b3"
"""The last revision whose newest migration was 0004."""
WITH_CHAIN = "a0ca1db820d7150df87801877aacdb9125d1efb2"
"""The last revision whose newest migration was 0007."""

OLD_WORK = """
from storage import decisions, jobs, signers
from storage.database import make_sessions
from storage.tables import Decision
sessions = make_sessions({url!r})
question = {{"id": "old", "signer_id": "ada", "document": "file:///a.png"}}
with sessions.begin() as session:
    signers.ensure(session, "ada")
    jobs.start(session, [question])
with sessions.begin() as session:
    decided = Decision(job_id="old", signer_id="ada", document="file:///a.png", verdict="error",
                       error_code="blank_image", error_message="no ink")
    assert decisions.record(session, [decided])[0].verdict == "error"
    jobs.finish(session, ["old"], "failed")
"""

JOB = (
    "INSERT INTO jobs (id, signer_id, document, page, region, upstream, status, deliveries,"
    " created_at, updated_at) VALUES ('old', 'ada', 'd', NULL, NULL, '{}', 'running', 1, :t, :t)"
    " ON CONFLICT (id) DO UPDATE SET deliveries = jobs.deliveries + 1"
)
DECISION = (
    "INSERT INTO decisions (job_id, signer_id, document, document_sha256, verdict, score,"
    " distance, threshold, distances, nearest_reference, model_id, preprocessing, rule,"
    " error_code, error_message, fetch_ms, preprocess_ms, embed_ms, total_ms, upstream,"
    " decided_at, reject_threshold, operating_point, terms) VALUES ('old', 'ada', 'd', 's',"
    " 'review', 0.5, 0.5, 0.4, '[{\"reference\": 1, \"distance\": 0.5}]', 1, 'm', 'p', 'r', NULL,"
    " NULL, 1, 2, 3, 4, '{}', :t, 0.6, '1%', '{\"nearest\": 0.5}')"
    " ON CONFLICT (job_id) DO NOTHING RETURNING job_id"
)
FINISH = "UPDATE jobs SET status = 'done', updated_at = :t WHERE id IN ('old')"


def taken_up(sessions):
    """The old decision is told apart, and then adopted beside one of this release."""
    with sessions.begin() as session:
        a_job(session, "new")
        decisions.record(session, [an_error("new")])
    with sessions.begin() as session:
        report = verification.verify(session, Keys())
    assert (report.faults, report.unchained, report.decisions) == ([], ["old"], 1)
    with sessions.begin() as session:
        assert chain.adopt(session) == ["old"]
    with sessions.begin() as session:
        report = verification.verify(session, Keys())
    assert (report.faults, report.unchained, report.kinds["adopted"]) == ([], [], 1)


def test_the_statements_of_the_release_before_work_on_the_new_schema(database_url):
    sessions = make_sessions(make_engine(database_url))
    with sessions.begin() as session:
        for statement in (JOB, JOB, DECISION, FINISH):
            session.execute(text(statement), {"t": "2026-11-23 12:00:00.000001"})
    taken_up(sessions)
    sessions.kw["bind"].dispose()


def old_code_decides(release, database_url, tmp_path):
    """The storage of that release records the decision `old`."""
    archive = subprocess.run(
        ["git", "archive", release, "storage"], cwd=ROOT, capture_output=True, check=False
    )
    if archive.returncode != 0:
        pytest.skip("the history of this checkout does not reach back to the release before")
    with tarfile.open(fileobj=BytesIO(archive.stdout)) as files:
        files.extractall(tmp_path, filter="data")
    program = OLD_WORK.format(url=database_url)
    env = {**os.environ, "PYTHONPATH": str(tmp_path)}
    command = [sys.executable, "-P", "-c", program]
    done = subprocess.run(command, env=env, cwd=tmp_path, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()


def test_the_code_of_the_release_before_decides_on_the_new_schema(database_url, tmp_path):
    old_code_decides(BEFORE, database_url, tmp_path)
    sessions = make_sessions(make_engine(database_url))
    taken_up(sessions)
    sessions.kw["bind"].dispose()


def test_what_the_release_before_ink_has_sealed_holds_before_and_after(
    empty_database_url, tmp_path
):
    upgrade(empty_database_url, "0007")
    old_code_decides(WITH_CHAIN, empty_database_url, tmp_path)
    upgrade(empty_database_url)
    sessions = make_sessions(make_engine(empty_database_url))
    with sessions.begin() as session:
        a_job(session, "new")
        decisions.record(session, [a_decision("new")])
    with sessions.begin() as session:
        assert decisions.get(session, "old").ink is None
        report = verification.verify(session, Keys())
    assert (report.faults, report.unchained, report.decisions) == ([], [], 2)
    sessions.kw["bind"].dispose()
