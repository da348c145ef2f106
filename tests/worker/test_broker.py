"""The leases on messages, on a real Redis. What a worker process makes of them: test_service."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
from celery.worker import state
from kombu import Connection
from kombu.transport import redis as kombu_redis

from worker.app import make_app, transport_options
from worker.broker import DELAY, DROPPED, KEPT, LATER, Channel, Transport
from worker.messages import MAX_MESSAGE_BYTES as MAX_BYTES
from worker.settings import Settings

LEASE = 60
NOTES, INDEX = "unacked", "unacked_index"


@pytest.fixture
def broker(redis_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(redis_url, decode_responses=True) as client:
        client.flushdb()
        yield client
        client.flushdb()


@pytest.fixture
def settings(redis_url: str) -> Settings:
    return Settings(broker_url=redis_url, queue="q", visibility_timeout=LEASE)


@pytest.fixture
def send(settings: Settings) -> Callable[..., None]:
    app = make_app(settings)

    def send(job: str, *, priority: int = 0) -> None:
        app.send_task("sigctl.verify", kwargs={"job_id": job}, task_id=job, priority=priority)

    return send


@pytest.fixture
def channel(settings: Settings) -> Iterator[Channel]:
    """A worker's channel, which takes only when it is told to."""
    options = transport_options(settings)
    with Connection(settings.broker_url, transport=Transport, transport_options=options) as made:
        opened = made.channel()
        opened.connection._deliver = lambda message, _queue: hold(opened, message)
        yield opened


def hold(channel: Any, message: dict[str, Any]) -> None:
    """What a consumer does that never acknowledges."""
    parsed = channel.Message(message, channel=channel)
    channel.qos.append(parsed, parsed.delivery_tag)


def take(broker: redis.Redis, channel: Any) -> Any:
    """The command alone, as if the worker were killed before it read the answer."""
    return broker.execute_command(*channel._take(["q"]))


def grow_old(broker: redis.Redis, seconds: float) -> None:
    for tag in broker.zrange(INDEX, 0, -1):
        broker.zincrby(INDEX, -seconds, tag)


def jobs_on(broker: redis.Redis, name: str = "q") -> list[str]:
    """From the one that is next."""
    return [json.loads(text)["headers"]["id"] for text in reversed(broker.lrange(name, 0, -1))]


def test_what_is_taken_is_noted_in_the_same_step(broker, channel, send) -> None:
    send("a")
    take(broker, channel)
    assert broker.llen("q") == 0
    (note,) = broker.hgetall(NOTES).values()
    message, exchange, routing_key = json.loads(note)
    assert (message["headers"]["id"], exchange, routing_key) == ("a", "", "q")
    assert broker.zcard(INDEX) == 1


def test_waiting_takes_nothing(broker, channel, send) -> None:
    channel._active_queues.append("q")
    channel._update_queue_cycle()
    channel.client.connection = channel.client.connection_pool.get_connection()
    channel._brpop_start()
    with pytest.raises(kombu_redis.Empty):
        channel._brpop_read()  # nothing there
    channel._brpop_start()
    send("a")
    with pytest.raises(kombu_redis.Empty):
        channel._brpop_read()  # woken by the message, which stays
    assert jobs_on(broker) == ["a"]
    channel._brpop_start()
    assert channel._brpop_read()
    assert (jobs_on(broker), broker.hlen(NOTES)) == ([], 1)


def test_urgent_messages_are_taken_first_and_otherwise_the_oldest(broker, channel, send) -> None:
    for job, priority in (("bulk", 9), ("first", 0), ("second", 0)):
        send(job, priority=priority)
    taken = [json.loads(take(broker, channel)[1])["headers"]["id"] for _ in range(3)]
    assert taken == ["first", "second", "bulk"]


def test_a_lost_worker_s_messages_come_back_first_and_marked(broker, channel, send) -> None:
    for job in "abc":
        send(job)
    take(broker, channel)
    grow_old(broker, LEASE + 1)
    channel.qos.restore_visible()
    assert jobs_on(broker) == ["a", "b", "c"]
    assert broker.hlen(NOTES) == broker.zcard(INDEX) == 0
    returned = json.loads(broker.lindex("q", -1))
    assert returned["properties"]["delivery_info"]["redelivered"]


def test_a_bulk_message_comes_back_to_the_list_of_bulk(broker, channel, send) -> None:
    send("a", priority=9)
    take(broker, channel)
    grow_old(broker, LEASE + 1)
    channel.qos.restore_visible()
    assert jobs_on(broker, "q\x06\x169") == ["a"]


def test_what_a_living_worker_holds_stays_its_own(broker, channel, send) -> None:
    send("slow")
    channel._taken(*take(redis.Redis(connection_pool=channel.pool), channel))
    for _ in range(3):
        grow_old(broker, LEASE - 1)
        channel.qos.renew()
    channel.qos.restore_visible()
    assert jobs_on(broker) == []
    assert broker.hlen(NOTES) == 1


def test_a_lease_that_another_worker_has_now_is_not_made_again(broker, channel, send) -> None:
    send("a")
    channel._taken(*take(redis.Redis(connection_pool=channel.pool), channel))
    broker.delete(NOTES, INDEX)
    channel.qos.renew()
    assert broker.zcard(INDEX) == 0


def test_a_renewal_that_comes_in_between_keeps_the_message(broker, channel, send) -> None:
    send("a")
    channel._taken(*take(redis.Redis(connection_pool=channel.pool), channel))
    (tag,) = broker.zrange(INDEX, 0, -1)
    with channel.conn_or_acquire() as client:
        note = client.hget(NOTES, tag)
        assert not channel.qos._put_back(client, tag, note, score="1.5")
        assert (jobs_on(broker), broker.hlen(NOTES)) == ([], 1)


def test_two_workers_that_return_the_same_message_return_it_once(broker, channel, send) -> None:
    send("a")
    take(broker, channel)
    (tag,) = broker.zrange(INDEX, 0, -1)
    channel.qos.restore_by_tag(tag)
    channel.qos.restore_by_tag(tag)
    assert jobs_on(broker) == ["a"]


def test_leases_go_by_the_clock_of_redis(
    broker, channel, send, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kombu_redis, "time", lambda: 0.0)
    send("a")
    channel._taken(*take(redis.Redis(connection_pool=channel.pool), channel))
    channel.qos.renew()
    ((_, score),) = broker.zrange(INDEX, 0, -1, withscores=True)
    assert score == pytest.approx(broker.time()[0], abs=5)
    monkeypatch.setattr(kombu_redis, "time", lambda: 1e12)
    channel.qos.restore_visible()
    assert broker.hlen(NOTES) == 1


def test_what_is_to_wait_is_put_on_its_list_when_it_is_due(broker, channel, settings) -> None:
    app = make_app(settings)
    for job, priority in (("a", 0), ("b", 9)):
        app.send_task(
            "sigctl.verify", kwargs={}, task_id=job, priority=priority, headers={DELAY: 30}
        )
    channel.qos.restore_visible()
    assert (jobs_on(broker), broker.zcard(LATER)) == ([], 2)
    for member in broker.zrange(LATER, 0, -1):
        broker.zincrby(LATER, -31, member)
    channel.qos.restore_visible()
    assert (jobs_on(broker), jobs_on(broker, "q\x06\x169")) == (["a"], ["b"])
    assert broker.zcard(LATER) == 0
    message = json.loads(take(broker, channel)[1])
    assert not message["properties"]["delivery_info"].get("redelivered")


def test_what_a_worker_returns_when_it_stops_is_not_marked(
    broker, channel, send, monkeypatch: pytest.MonkeyPatch
) -> None:
    send("a")
    channel._taken(*take(redis.Redis(connection_pool=channel.pool), channel))
    monkeypatch.setattr(state, "should_stop", 0)
    channel.qos.restore_unacked()
    assert not json.loads(broker.lindex("q", 0))["properties"]["delivery_info"]["redelivered"]


def test_what_a_killed_child_of_the_pool_held_is_marked(broker, channel, send) -> None:
    """Celery rejects it on the child's behalf."""
    send("a")
    take(broker, channel)
    (tag,) = broker.zrange(INDEX, 0, -1)
    channel.qos.reject(tag, requeue=True)
    assert json.loads(broker.lindex("q", 0))["properties"]["delivery_info"]["redelivered"]


def test_what_is_no_envelope_is_kept_where_nobody_trips_over_it(broker, channel, send) -> None:
    send("good")
    # Kept by the script, which finds no tag; and by the channel, which finds no task.
    odd = json.dumps({"headers": [], "properties": {"delivery_tag": "t", "delivery_info": {
        "exchange": "", "routing_key": "q"}}})  # fmt: skip
    twice = odd.replace('"t"', '"u"').replace('"headers": []', '"headers": 1, "headers": 2')
    for text in (odd, twice, "no JSON", "[1]"):
        broker.rpush("q", text)
    client = redis.Redis(connection_pool=channel.pool)
    for _ in range(4):
        with pytest.raises(kombu_redis.Empty):
            channel._taken(*take(client, channel))
    assert set(broker.lrange(DROPPED, 0, -1)) == {odd, twice, "no JSON", "[1]"}
    assert broker.hlen(NOTES) == broker.zcard(INDEX) == 0
    assert channel._taken(*take(client, channel))


def test_a_message_of_any_size_costs_no_more_than_the_limit(broker, channel) -> None:
    broker.lpush("q", "x" * (MAX_BYTES + 1))
    answer = take(broker, channel)
    assert (len(answer[1]), answer[2]) == (MAX_BYTES, "")
    assert len(broker.lindex(DROPPED, 0)) == MAX_BYTES


def test_only_the_newest_dropped_texts_are_kept(broker, channel) -> None:
    broker.lpush(DROPPED, *(str(uuid.uuid4()) for _ in range(KEPT)))
    broker.lpush("q", "newest")
    take(broker, channel)
    assert broker.llen(DROPPED) == KEPT
    assert broker.lindex(DROPPED, 0) == "newest"


def test_a_note_that_cannot_be_returned_does_not_keep_the_others(broker, channel, send) -> None:
    broker.hset(NOTES, "odd", "no JSON")
    broker.zadd(INDEX, {"odd": 1})
    send("a")
    take(broker, channel)
    grow_old(broker, LEASE + 1)
    channel.qos.restore_visible()
    assert jobs_on(broker) == ["a"]
    assert broker.lrange(DROPPED, 0, -1) == ["no JSON"]


def test_an_acknowledgement_after_the_connection_is_an_error_of_the_connection(
    broker, settings, send
) -> None:
    send("a")
    options = transport_options(settings)
    with Connection(settings.broker_url, transport=Transport, transport_options=options) as made:
        channel = made.channel()
        channel.connection._deliver = lambda message, _queue: hold(channel, message)
        channel._taken(*take(redis.Redis(connection_pool=channel.pool), channel))
        (tag,) = broker.zrange(INDEX, 0, -1)
        made.collect()
        with pytest.raises(channel.connection_errors):
            channel.qos.ack(tag)
    assert broker.hlen(NOTES) == 1  # it comes back, and is found to be decided


def test_answers_of_workers_are_not_taken_for_tasks(broker, channel, send) -> None:
    channel._active_queues.append("x.reply.celery.pidbox")
    channel._update_queue_cycle()
    channel.client.connection = channel.client.connection_pool.get_connection()
    heard: list[Any] = []
    channel.connection._deliver = lambda message, queue: heard.append((message, queue))
    broker.lpush("x.reply.celery.pidbox", json.dumps({"pong": 1}))
    channel._brpop_start()
    assert channel._brpop_read()
    assert heard == [({"pong": 1}, "x.reply.celery.pidbox")]
    assert broker.hlen(NOTES) == broker.llen(DROPPED) == 0
