from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy import insert, update

from bench.plans import plan
from storage import backlog, jobs
from storage.tables import DONE, FAILED, QUEUED, Job, utc_now
from tests.builders import a_job

HOUR = timedelta(hours=1)


def since(session, id, **ago):
    """Move a job's times into the past."""
    values = {name: utc_now() - age for name, age in ago.items()}
    session.execute(update(Job).where(Job.id == id).values(values))


def test_the_oldest_undecided_job_is_the_one_submitted_first(sessions):
    with sessions.begin() as session:
        for id, hours in (("new", 1), ("old", 3), ("decided", 9), ("middle", 2)):
            a_job(session, id)
            since(session, id, created_at=hours * HOUR, updated_at=hours * HOUR)
        jobs.finish(session, ["decided"], DONE)
        found = backlog.oldest_undecided(session)
    assert utc_now() - found == pytest.approx(3 * HOUR, abs=timedelta(minutes=1))


def test_a_job_that_is_tried_again_does_not_become_younger(sessions):
    with sessions.begin() as session:
        for id, hours in (("tried", 5), ("untouched", 1)):
            a_job(session, id)
            since(session, id, created_at=hours * HOUR, updated_at=hours * HOUR)
        jobs.start(session, [{"id": "tried", "signer_id": "ada", "document": a_document(session)}])
        jobs.requeue(session, "tried")
        found = backlog.oldest_undecided(session)
    assert utc_now() - found == pytest.approx(5 * HOUR, abs=timedelta(minutes=1))


def a_document(session):
    return jobs.get(session, "tried").document


def test_a_running_job_is_undecided_as_well(sessions):
    with sessions.begin() as session:
        job = a_job(session)
        jobs.start(session, [{"id": job.id, "signer_id": job.signer_id, "document": job.document}])
        assert backlog.oldest_undecided(session) == job.created_at


def test_when_all_is_decided_nothing_is_old(sessions):
    with sessions.begin() as session:
        assert backlog.oldest_undecided(session) is None
        a_job(session)
        jobs.finish(session, ["job-1"], FAILED)
        assert backlog.oldest_undecided(session) is None


def test_failures_count_for_as_long_as_asked_and_quiet_jobs_from_then_on(sessions):
    with sessions.begin() as session:
        for id in ("failed-now", "failed-long-ago", "quiet", "lively"):
            a_job(session, id)
        jobs.finish(session, ["failed-now", "failed-long-ago"], FAILED)
        since(session, "failed-long-ago", updated_at=2 * HOUR)
        since(session, "quiet", updated_at=2 * HOUR)
        assert backlog.failed_since(session, HOUR) == 1
        assert backlog.stale(session, HOUR) == 1


def test_the_oldest_is_found_along_the_index_of_the_status(sessions):
    row = {"signer_id": "ada", "document": "file:///a.png", "upstream": {}}
    with sessions.begin() as session:
        session.execute(
            insert(Job),
            [row | {"id": str(n), "status": DONE if n % 50 else QUEUED} for n in range(5000)],
        )
        if session.get_bind().dialect.name == "postgresql":
            session.connection().exec_driver_sql("ANALYZE jobs")
        found = plan(session, backlog.oldest_undecided)
    assert "ix_jobs_status_updated_at" in found
    assert "Seq Scan jobs" not in found
    assert "SCAN jobs" not in found
