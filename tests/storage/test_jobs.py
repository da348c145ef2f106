from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import update

from storage import jobs
from storage.errors import InvalidJob, InvalidSignerId, JobConflict, UnknownJob
from storage.tables import Job
from tests.builders import a_job

ASKED = {"id": "job-1", "signer_id": "ada", "document": "file:///inbox/1.png"}


def test_a_job_starts_out_queued_and_undelivered(sessions):
    with sessions.begin() as session:
        job, created = jobs.submit(
            session, **ASKED, page=2, region=(1, 2, 30, 40), upstream={"branch": 7}
        )
    assert created
    assert (job.status, job.deliveries) == ("queued", 0)
    with sessions.begin() as session:
        back = jobs.get(session, "job-1")
    assert (back.signer_id, back.document, back.page) == ("ada", "file:///inbox/1.png", 2)
    assert (back.region, back.upstream) == ([1, 2, 30, 40], {"branch": 7})


def test_page_region_and_upstream_may_be_left_out(sessions):
    with sessions.begin() as session:
        jobs.submit(session, **ASKED)
    with sessions.begin() as session:
        job = jobs.get(session, "job-1")
    assert (job.page, job.region, job.upstream) == (None, None, {})


def test_submitting_the_same_again_is_harmless(sessions):
    with sessions.begin() as session:
        first, _ = jobs.submit(session, **ASKED, region=(1, 2, 3, 4), upstream={"n": 1})
    with sessions.begin() as session:
        again, created = jobs.submit(session, **ASKED, region=[1, 2, 3, 4], upstream={"n": 2})
    assert not created
    assert again.created_at == first.created_at
    assert again.upstream == {"n": 1}


ANOTHER = [
    {"signer_id": "eve"},
    {"document": "file:///inbox/2.png"},
    {"page": 3},
    {"region": (1, 2, 3, 5)},
]


@pytest.mark.parametrize("change", ANOTHER, ids=repr)
def test_an_id_never_stands_for_two_questions(sessions, change):
    with sessions.begin() as session:
        jobs.submit(session, **ASKED)
    with sessions.begin() as session, pytest.raises(JobConflict, match="'job-1'"):
        jobs.submit(session, **(ASKED | change))


@pytest.mark.parametrize("change", ANOTHER, ids=repr)
def test_a_conflict_is_one_jobs_own_and_the_standing_job_counts_no_delivery(sessions, change):
    with sessions.begin() as session:
        jobs.submit(session, **ASKED)
    with sessions.begin() as session:
        conflict, started = jobs.start(session, [ASKED | change, ASKED | {"id": "job-2"}])
    assert isinstance(conflict, JobConflict)
    assert "'job-1'" in str(conflict)
    assert (started.id, started.status, started.deliveries) == ("job-2", "running", 1)
    with sessions.begin() as session:
        assert (jobs.get(session, "job-1").status, jobs.get(session, "job-1").deliveries) == (
            "queued",
            0,
        )


def test_many_jobs_begin_and_end_together_in_the_order_they_were_given(sessions):
    asked = [ASKED | {"id": f"job-{n}", "region": (n, 0, 9, 9)} for n in (3, 1, 2)]
    for deliveries, lost in ([1, 1, 1], ()), ([1, 2, 1], ("job-1",)):
        with sessions.begin() as session:
            started = jobs.start(session, asked, redelivered=lost)
            assert [job.id for job in started] == ["job-3", "job-1", "job-2"]
            assert [job.deliveries for job in started] == deliveries
    with sessions.begin() as session:
        jobs.finish(session, ["job-1", "job-3"], "done")
        assert [jobs.get(session, f"job-{n}").status for n in (1, 2, 3)] == [
            "done",
            "running",
            "done",
        ]


@pytest.mark.parametrize("job_id", ["", "x" * 129, "a\nb", "a\0b", None, 7])
def test_a_job_id_is_short_and_printable(sessions, job_id):
    with sessions.begin() as session, pytest.raises(InvalidJob) as caught:
        jobs.submit(session, **(ASKED | {"id": job_id}))
    assert str(caught.value).isprintable()


def test_a_signer_id_that_cannot_be_stored_is_refused(sessions):
    with sessions.begin() as session, pytest.raises(InvalidSignerId):
        jobs.submit(session, **(ASKED | {"signer_id": "x" * 129}))


def test_a_document_with_odd_characters_is_the_same_question_again(sessions):
    odd = ASKED | {"document": "s3://b/\0\ud800"}
    with sessions.begin() as session:
        jobs.submit(session, **odd)
    with sessions.begin() as session:
        assert not jobs.submit(session, **odd)[1]


def test_a_message_without_a_row_makes_the_row(sessions):
    with sessions.begin() as session:
        job = jobs.start(session, [ASKED | {"upstream": {"n": 1}}])[0]
    assert (job.status, job.deliveries, job.upstream) == ("running", 1, {"n": 1})


def test_every_delivery_counts_whose_worker_was_lost(sessions):
    with sessions.begin() as session:
        a_job(session)
    for lost, expected in ((), 1), (["job-1"], 2), ((), 2), (["job-1"], 3):
        with sessions.begin() as session:
            assert jobs.start(session, [ASKED], redelivered=lost)[0].deliveries == expected


def test_the_first_delivery_is_the_first_though_the_message_was_in_other_hands(sessions):
    with sessions.begin() as session:
        assert jobs.start(session, [ASKED], redelivered=["job-1"])[0].deliveries == 1


def test_a_finished_job_that_is_delivered_again_stays_done(sessions):
    with sessions.begin() as session:
        jobs.start(session, [ASKED])[0]
        jobs.finish(session, ["job-1"], "done")
    with sessions.begin() as session:
        job = jobs.start(session, [ASKED])[0]
    assert (job.status, job.deliveries) == ("done", 1)


def test_a_failed_job_that_is_delivered_again_runs_again(sessions):
    with sessions.begin() as session:
        jobs.start(session, [ASKED])[0]
        jobs.finish(session, ["job-1"], "failed")
    with sessions.begin() as session:
        assert jobs.start(session, [ASKED])[0].status == "running"


@pytest.mark.parametrize(("lost", "expected"), [((), 1), (("job-1",), 5)])
def test_the_same_job_in_many_hands_counts_only_what_was_lost(sessions, lost, expected):
    def start() -> None:
        barrier.wait()
        try:
            with sessions.begin() as session:
                jobs.start(session, [ASKED], redelivered=lost)[0]
        except Exception as error:
            failures.append(error)

    failures: list[Exception] = []
    barrier = threading.Barrier(5)
    threads = [threading.Thread(target=start) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    with sessions.begin() as session:
        assert jobs.get(session, "job-1").deliveries == expected


@pytest.mark.parametrize("status", ["done", "failed"])
def test_a_job_ends_done_or_failed(sessions, status):
    with sessions.begin() as session:
        a_job(session)
        jobs.finish(session, ["job-1"], status)
    with sessions.begin() as session:
        assert jobs.get(session, "job-1").status == status


@pytest.mark.parametrize("status", ["queued", "running", "lost", ""])
def test_a_job_ends_in_no_other_way(sessions, status):
    with sessions.begin() as session:
        a_job(session)
        with pytest.raises(InvalidJob):
            jobs.finish(session, ["job-1"], status)


def test_an_unknown_job_is_named(sessions):
    for act in (jobs.get, jobs.requeue):
        with sessions.begin() as session, pytest.raises(UnknownJob, match="'nowhere'"):
            act(session, "nowhere")


def test_stale_jobs_are_those_that_waited_too_long_oldest_first(sessions):
    now = datetime.now(UTC)
    ages = {"old": 60, "older": 90, "fresh": 1, "running": 120, "done": 120}
    with sessions.begin() as session:
        for name, minutes in ages.items():
            a_job(session, name)
            status = name if name in ("running", "done") else "queued"
            since = now - timedelta(minutes=minutes)
            session.execute(
                update(Job).where(Job.id == name).values(updated_at=since, status=status)
            )

    def stale(*args, **kwargs):
        with sessions.begin() as session:
            return [job.id for job in jobs.stale(session, *args, **kwargs)]

    assert stale(timedelta(minutes=30)) == ["older", "old"]
    assert stale(now - timedelta(minutes=70)) == ["older"]
    assert stale(timedelta(minutes=30), statuses=("running",)) == ["running"]


def test_a_job_that_is_sent_again_is_no_longer_stale(sessions):
    with sessions.begin() as session:
        a_job(session)
        old = datetime.now(UTC) - timedelta(hours=1)
        session.execute(update(Job).values(updated_at=old, status="failed"))
        jobs.requeue(session, "job-1")
    with sessions.begin() as session:
        assert jobs.get(session, "job-1").status == "queued"
        assert jobs.stale(session, timedelta(minutes=30)) == []


def test_a_job_that_a_wrong_clock_put_into_the_future_counts_as_old(sessions):
    with sessions.begin() as session:
        job, _ = jobs.submit(session, **ASKED)
        job.updated_at += timedelta(hours=1)
    with sessions.begin() as session:
        assert [job.id for job in jobs.stale(session, timedelta(minutes=10))] == ["job-1"]
