from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import redis
from celery.exceptions import Reject

from worker import client, tasks
from worker.app import make_app
from worker.delivery import Again
from worker.errors import BrokerUnavailable, UnsafePool
from worker.settings import Settings

Delivered = list[tuple[dict[str, Any], int]]


@pytest.fixture
def delivered(monkeypatch: pytest.MonkeyPatch) -> Delivered:
    """What the task hands on, instead of a job being done."""
    found: Delivered = []

    def deliver(message: dict[str, Any], _runtime: object, *, retries: int) -> None:
        found.append((message, retries))

    monkeypatch.setattr(tasks, "deliver", deliver)
    monkeypatch.setattr(tasks, "get_runtime", lambda: None)
    return found


@pytest.fixture
def app(redis_url: str) -> Iterator[Any]:
    made = make_app(Settings(broker_url=redis_url, queue="tasks-under-test"))
    made.loader.import_default_modules()
    yield made
    made.close()
    make_app.cache_clear()


def test_a_message_reaches_the_policy_as_it_came(delivered: Delivered) -> None:
    tasks.verify.apply(kwargs={"job_id": "j", "colour": 1})
    assert delivered == [({"job_id": "j", "colour": 1}, 0)]


def test_positional_arguments_are_the_fields_in_their_order(delivered: Delivered) -> None:
    tasks.verify.apply(args=("j", "ada", "s3://b/k", 2), kwargs={"metadata": {}})
    assert delivered == [
        (
            {
                "job_id": "j",
                "signer_id": "ada",
                "document": "s3://b/k",
                "page": 2,
                "metadata": {},
            },
            0,
        )
    ]


def test_too_many_arguments_reach_the_policy_as_an_unknown_field(delivered: Delivered) -> None:
    tasks.verify.apply(args=tuple("abcdefgh"))
    assert delivered[0][0]["arguments"] == 8


@pytest.mark.parametrize(("counted", "retries"), [(True, 1), (False, 0)])
def test_another_try_is_a_later_message_and_counts_only_where_it_should(
    app: Any,
    redis_url: str,
    monkeypatch: pytest.MonkeyPatch,
    counted: bool,
    retries: int,
) -> None:
    again = Again(delay=30, counted=counted, error=RuntimeError())
    monkeypatch.setattr(tasks, "deliver", lambda *_, **__: again)
    monkeypatch.setattr(tasks, "get_runtime", lambda: None)
    app.tasks["sigctl.verify"].apply(kwargs={"job_id": "j"})
    with redis.Redis.from_url(redis_url, decode_responses=True) as broker:
        (text,) = broker.lrange("tasks-under-test", 0, -1)
    import json

    headers = json.loads(text)["headers"]
    assert headers["retries"] == retries
    assert headers["eta"] is not None


def test_a_retry_that_cannot_be_sent_leaves_the_message_with_the_broker() -> None:
    class Task:
        request = SimpleNamespace(retries=0, delivery_info=None)

        def signature_from_request(self, *_: Any, **__: Any) -> Any:
            def fail() -> None:
                raise ConnectionError("away")

            return SimpleNamespace(apply_async=fail)

    again = Again(delay=1, counted=True, error=RuntimeError())
    with pytest.raises(Reject) as caught:
        tasks._send_again(Task(), again)  # type: ignore[arg-type]
    assert caught.value.requeue


def test_a_requeue_without_a_broker_is_logged_and_tried_at_the_next_beat(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> list[str]:
        raise BrokerUnavailable("The broker does not answer.")

    monkeypatch.setattr(client, "requeue", fail)
    tasks.requeue.apply().get()
    assert "requeue_failed" in caplog.text


def test_prefork_children_may_not_use_cuda() -> None:
    with pytest.raises(UnsafePool, match="a CUDA context does not survive a fork"):
        tasks.refuse_cuda_in_children("cuda:0")
    tasks.refuse_cuda_in_children("cpu")


@pytest.mark.parametrize("there", [True, False])
def test_an_automatic_device_is_refused_only_where_it_would_be_cuda(
    there: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: there)
    if there:
        with pytest.raises(UnsafePool):
            tasks.refuse_cuda_in_children("auto")
    else:
        tasks.refuse_cuda_in_children("auto")


def test_a_worker_says_at_its_start_what_others_can_read(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    settings = Settings(broker_url="redis://:hush@redis.example/0")
    monkeypatch.setattr(tasks, "get_runtime", lambda: SimpleNamespace(settings=settings))
    monkeypatch.setattr(tasks, "_load", lambda: None)
    monkeypatch.setattr(tasks.logs, "configure", lambda _settings: None)
    tasks._check_before_start(sender=SimpleNamespace(pool_cls="threads"))
    assert "not_encrypted" in caplog.text
    assert "The password of Redis crosses the network to redis.example unencrypted" in caplog.text
    assert "hush" not in caplog.text
