from __future__ import annotations

import pytest
import redis

from tests.services import Server
from worker import client, queues
from worker.app import make_app
from worker.broker import LATER
from worker.errors import BrokerUnavailable
from worker.queues import Queues
from worker.settings import Settings


def test_messages_are_counted_by_queue_and_priority(redis_url: str, sqlite_url: str) -> None:
    settings = Settings(broker_url=redis_url, database_url=sqlite_url, queue="counted")
    client.submit("ada", "s3://b/1", settings=settings)
    for number in range(2, 4):
        client.submit("ada", f"s3://b/{number}", priority="bulk", settings=settings)
    make_app(settings).send_task("sigctl.train.anything")
    with redis.Redis.from_url(redis_url) as broker:
        broker.hset("unacked", "tag", "taken by a worker")
        broker.zadd(LATER, {"a retry": 1e12, "another": 1e12})
    found = queues.look(settings)
    assert {key: count for key, count in found.waiting.items() if count} == {
        ("counted", "interactive"): 1,
        ("counted", "bulk"): 2,
        ("sigctl.train", "interactive"): 1,
    }
    assert (found.held, found.later) == (1, 2)


def test_a_broker_that_was_away_is_asked_again(own_redis: Server) -> None:
    settings = Settings(broker_url=f"redis://:secret@127.0.0.1:{own_redis.port}/0", queue="q")
    with redis.Redis(port=own_redis.port) as broker:
        broker.config_set("requirepass", "secret")
    asked = Queues(settings)
    assert asked.look().held == 0
    own_redis.stop()
    for _ in range(2):
        with pytest.raises(BrokerUnavailable, match="The broker does not answer") as caught:
            asked.look()
        assert "secret" not in str(caught.value)
    own_redis.start()
    with redis.Redis(port=own_redis.port) as broker:
        broker.config_set("requirepass", "secret")
    assert asked.look().held == 0
    asked.close()
