from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
import redis

from storage import decisions, jobs
from storage.errors import DatabaseUnavailable, JobConflict, StoreUnavailable, UnknownJob
from tests.fakes import FakeEmbedder, Trouble, ink
from tests.worker.conftest import BULK, Desk, enrol_ada
from worker import client
from worker.app import make_app
from worker.broker import LATER
from worker.envelope import envelope_fault
from worker.errors import BrokerUnavailable, InvalidMessage, NotDecided, NothingToReplay
from worker.runtime import Runtime, get_runtime
from worker.settings import Settings

NOBODY_THERE = "redis://127.0.0.1:1/0"


@pytest.fixture
def settings(sqlite_url: str, desk: Desk) -> Settings:
    """No broker: jobs are done in this process."""
    return Settings(
        database_url=sqlite_url,
        store=desk.store.as_uri(),
        roots=(desk.inbox,),
        max_retries=1,
        retry_delay=0.01,
        retry_delay_max=0.02,
    )


@pytest.fixture
def runtime(settings: Settings, embedder: FakeEmbedder) -> Runtime:
    """The process's runtime, with a fake model and ada enrolled at angle 0."""
    made = get_runtime(settings)
    enrol_ada(made, embedder)
    return made


@pytest.fixture
def queued(settings: Settings, redis_url: str) -> Iterator[Settings]:
    """The same with a broker."""
    yield settings.model_copy(update={"broker_url": redis_url})
    make_app.cache_clear()


def messages(redis_url: str, name: str = "sigctl.verify") -> list[dict[str, Any]]:
    with redis.Redis.from_url(redis_url, decode_responses=True) as broker:
        return [json.loads(text) for text in broker.lrange(name, 0, -1)]


def test_without_a_broker_the_job_is_done_when_submit_returns(
    runtime: Runtime, desk: Desk, settings: Settings
) -> None:
    job_id = client.submit("ada", desk.put("a.png", ink(0.1)), settings=settings)
    outcome = client.wait(job_id, timeout=0, settings=settings)
    assert outcome.verdict == "accept"


def test_without_a_broker_a_store_that_is_away_is_retried_and_recorded(
    runtime: Runtime, desk: Desk, settings: Settings
) -> None:
    runtime._images = Trouble(  # type: ignore[assignment]
        desk.images, StoreUnavailable("away")
    )
    first = client.submit("ada", desk.put("a.png", ink(0.1)), settings=settings)
    assert client.wait(first, settings=settings).verdict == "accept"
    runtime._images = Trouble(  # type: ignore[assignment]
        desk.images, *[StoreUnavailable("away")] * 2
    )
    second = client.submit("ada", desk.put("a.png", ink(0.1)), settings=settings)
    assert client.wait(second, settings=settings).error_code == "store_unavailable"


def test_without_a_database_the_caller_is_told(settings: Settings, desk: Desk) -> None:
    away = settings.model_copy(update={"database_url": "postgresql://nobody@127.0.0.1:1/none"})
    with pytest.raises(DatabaseUnavailable):
        client.submit("ada", desk.put("a.png", ink(0)), settings=away)


def test_the_row_is_written_and_then_the_message_sent(queued: Settings, redis_url: str) -> None:
    job_id = client.submit(
        "ada",
        "s3://scans/1.png",
        page=2,
        region=[1, 2, 3, 4],
        metadata={"branch": 12},
        settings=queued,
    )
    with get_runtime(queued).sessions() as session:
        job = jobs.get(session, job_id)
    assert (job.status, job.page, job.region) == ("queued", 2, [1, 2, 3, 4])
    assert job.upstream == {"branch": 12}
    (message,) = messages(redis_url)
    assert envelope_fault(message) is None
    assert message["headers"]["task"] == "sigctl.verify"


def test_a_broker_that_is_down_loses_no_job(queued: Settings, redis_url: str) -> None:
    down = queued.model_copy(update={"broker_url": NOBODY_THERE})
    with pytest.raises(BrokerUnavailable, match="`sigctl requeue` will send it") as caught:
        client.submit("ada", "s3://scans/1.png", job_id="j1", settings=down)
    assert caught.value.job_id == "j1"
    assert messages(redis_url) == []
    assert client.requeue(0, settings=queued) == ["j1"]
    assert len(messages(redis_url, BULK)) == 1


def test_submitting_a_job_twice_is_harmless(
    runtime: Runtime, desk: Desk, settings: Settings, embedder: FakeEmbedder
) -> None:
    uri = desk.put("a.png", ink(0))
    for _ in range(2):
        client.submit("ada", uri, job_id="j1", settings=settings)
    assert embedder.embedded == 2  # the reference and the document
    with runtime.sessions() as session:
        assert decisions.get(session, "j1") is not None


def test_a_job_id_that_stands_for_another_document_is_refused(
    runtime: Runtime, desk: Desk, settings: Settings
) -> None:
    client.submit("ada", desk.put("a.png", ink(0)), job_id="j1", settings=settings)
    with pytest.raises(JobConflict):
        client.submit("ada", desk.put("b.png", ink(0)), job_id="j1", settings=settings)


def test_a_request_that_cannot_be_is_refused_before_it_is_written(settings: Settings) -> None:
    with pytest.raises(InvalidMessage, match="document must be"):
        client.submit("ada", "http://h/x", job_id="j1", settings=settings)
    with get_runtime(settings).sessions() as session, pytest.raises(UnknownJob):
        jobs.get(session, "j1")


def test_waiting_for_a_job_that_is_not_decided_ends_with_its_status(queued: Settings) -> None:
    job_id = client.submit("ada", "s3://scans/1.png", settings=queued)
    with pytest.raises(NotDecided, match="is still queued after"):
        client.wait(job_id, timeout=0.05, poll=0.01, settings=queued)


def test_waiting_for_a_job_that_nobody_submitted_is_an_error(settings: Settings) -> None:
    with pytest.raises(UnknownJob):
        client.wait("nothing", timeout=1, settings=settings)


def test_requeue_sends_what_is_old_and_undecided_once(queued: Settings, redis_url: str) -> None:
    sent = [
        client.submit("ada", f"s3://scans/{number}.png", settings=queued) for number in range(3)
    ]
    with get_runtime(queued).sessions.begin() as session:
        jobs.finish(session, [sent[2]], "failed")
        running = jobs.get(session, sent[1])
        running.status = "running"
        old = timedelta(seconds=100)
        running.updated_at -= old
        jobs.get(session, sent[0]).updated_at -= old
    forget(redis_url)
    assert client.requeue(timedelta(seconds=500), settings=queued) == []
    assert client.requeue(50, settings=queued) == sent[:2]
    assert client.requeue(50, settings=queued) == []
    assert len(messages(redis_url, BULK)) == 2
    assert messages(redis_url) == [], "what somebody waits for now goes first"


def test_requeue_leaves_jobs_alone_that_the_broker_still_has(
    queued: Settings, redis_url: str
) -> None:
    """On either list, in the hands of a worker, waiting for another try; from us or others."""
    sent = [client.submit("ada", f"s3://scans/{n}.png", settings=queued) for n in range(3)]
    sent.append(client.submit("ada", "s3://scans/b.png", priority="bulk", settings=queued))
    with redis.Redis.from_url(redis_url) as broker:
        at_work, later = broker.rpop("sigctl.verify"), broker.rpop("sigctl.verify")
        broker.hset("unacked", "tag", b'[%b, "", "sigctl.verify"]' % at_work)
        broker.zadd(LATER, {b"sigctl.verify\n" + later: 1})
        broker.lpush("sigctl.verify", "no JSON", "{}")
        assert client.requeue(0, settings=queued) == []
        broker.delete("unacked")
        assert client.requeue(0, settings=queued) == sent[:1]
        broker.delete(LATER)
        assert client.requeue(0, settings=queued) == sent[1:2]


def forget(redis_url: str) -> None:
    """What Redis does that is restarted without its file."""
    with redis.Redis.from_url(redis_url) as broker:
        broker.flushdb()


def test_requeue_without_a_broker_does_the_jobs_here(
    runtime: Runtime, desk: Desk, settings: Settings
) -> None:
    with runtime.sessions.begin() as session:
        jobs.submit(session, id="j1", signer_id="ada", document=desk.put("a.png", ink(0)))
    assert client.requeue(0, settings=settings) == ["j1"]
    assert client.wait("j1", timeout=0, settings=settings).verdict == "accept"


def test_requeue_by_default_waits_as_long_as_the_settings_say(
    queued: Settings, redis_url: str
) -> None:
    job_id = client.submit("ada", "s3://scans/1.png", settings=queued)
    assert client.requeue(settings=queued) == []
    with get_runtime(queued).sessions.begin() as session:
        jobs.get(session, job_id).updated_at -= timedelta(seconds=queued.requeue_after + 1)
    forget(redis_url)
    assert client.requeue(settings=queued) == [job_id]


def test_a_job_that_failed_is_asked_again_under_the_id_of_a_successor(
    runtime: Runtime, desk: Desk, settings: Settings
) -> None:
    document = (desk.inbox / "late.png").as_uri()
    client.submit("ada", document, job_id="j", metadata={"branch": 3}, settings=settings)
    failed = client.wait("j", timeout=0, settings=settings)
    assert failed.error_code == "image_not_found"
    desk.put("late.png", ink(0.1))
    assert client.replay("j", settings=settings) == "j~2"
    again = client.wait("j~2", timeout=0, settings=settings)
    assert (again.verdict, again.document, again.upstream) == ("accept", document, {"branch": 3})
    assert client.wait("j", timeout=0, settings=settings) == failed
    assert client.replay("j", settings=settings) == "j~2"
    with pytest.raises(NothingToReplay, match="j~2 has a verdict"):
        client.replay("j~2", settings=settings)


def test_a_job_without_a_decision_is_replayed_as_it_is(queued: Settings, redis_url: str) -> None:
    job = client.submit("ada", "s3://scans/1.png", settings=queued)
    assert client.replay(job, settings=queued) == job
    assert len(messages(redis_url)) == len(messages(redis_url, BULK)) == 1


def test_an_id_without_room_for_a_successor_is_said_to_be_so(
    runtime: Runtime, desk: Desk, settings: Settings
) -> None:
    job = client.submit(
        "ada", (desk.inbox / "none.png").as_uri(), job_id="j" * 128, settings=settings
    )
    with pytest.raises(InvalidMessage, match="job_id cannot be used"):
        client.replay(job, settings=settings)
