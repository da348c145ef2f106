from __future__ import annotations

import json
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import redis
from celery.app.task import Context
from celery.exceptions import Reject

from storage.errors import StoreUnavailable
from worker import metrics, tasks
from worker.app import make_app
from worker.broker import LATER
from worker.delivery import Again
from worker.settings import Settings

Delivered = list[tuple[dict[str, Any], int]]


@pytest.fixture
def delivered(monkeypatch: pytest.MonkeyPatch) -> Delivered:
    """What the task hands on, instead of a job being done."""
    found: Delivered = []

    def deliver(
        message: dict[str, Any], _runtime: object, *, retries: int, redelivered: bool
    ) -> None:
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


def test_another_try_waits_in_redis_and_is_counted(
    app: Any, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    again = Again(delay=30, counted=True, error=RuntimeError())
    monkeypatch.setattr(tasks, "deliver", lambda *_, **__: again)
    monkeypatch.setattr(tasks, "get_runtime", lambda: None)
    app.tasks["sigctl.verify"].apply(kwargs={"job_id": "j"})
    with redis.Redis.from_url(redis_url, decode_responses=True) as broker:
        ((member, due),) = broker.zrange(LATER, 0, -1, withscores=True)
        assert due == pytest.approx(broker.time()[0] + 30, abs=5)
        assert broker.llen("tasks-under-test") == 0
    name, text = member.split("\n", 1)
    assert name == "tasks-under-test"
    headers = json.loads(text)["headers"]
    assert (headers["retries"], headers["eta"]) == (1, None)
    assert "sigctl_delay" not in headers


class SentNowhere:
    """A task whose copies cannot be sent."""

    request = SimpleNamespace(retries=0, delivery_info=None)

    def signature_from_request(self, *_: Any, **__: Any) -> Any:
        def fail() -> None:
            raise ConnectionError("away")

        return SimpleNamespace(apply_async=fail)


@pytest.mark.parametrize("counted", [True, False])
def test_what_cannot_be_sent_or_recorded_stays_with_the_broker(counted: bool) -> None:
    again = Again(delay=0.01, counted=counted, error=RuntimeError())
    with pytest.raises(Reject) as caught:
        tasks._again(SentNowhere(), again)  # type: ignore[arg-type]
    assert caught.value.requeue


def test_the_log_of_a_retry_that_cannot_be_sent_names_its_job(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    again = Again(delay=1, counted=True, error=RuntimeError())
    monkeypatch.setattr(tasks, "deliver", lambda *_, **__: again)
    monkeypatch.setattr(tasks, "get_runtime", lambda: None)
    with make_app(Settings(broker_url="redis://127.0.0.1:1/0")) as away:
        away.loader.import_default_modules()
        away.tasks["sigctl.verify"].apply(kwargs={"job_id": "j", "signer_id": "ada"})
    make_app.cache_clear()
    (event,) = [r.msg for r in caplog.records if "retry_not_sent" in str(r.msg)]
    assert (event["job_id"], event["signer_id"]) == ("j", "ada")  # type: ignore[index]


def test_a_retry_is_counted_by_its_reason(app: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    error = StoreUnavailable("away")
    monkeypatch.setattr(
        tasks, "deliver", lambda *_, **__: Again(delay=9, counted=True, error=error)
    )
    monkeypatch.setattr(tasks, "get_runtime", lambda: None)

    def count() -> float:
        labels = {"code": "store_unavailable"}
        return metrics.REGISTRY.get_sample_value("sigctl_retries_total", labels) or 0

    before = count()
    app.tasks["sigctl.verify"].apply(kwargs={"job_id": "j"})
    assert count() == before + 1


def test_messages_whose_holder_died_are_handled_one_at_a_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    alone: list[tuple[bool, bool]] = []

    def deliver(*_: Any, retries: int, redelivered: bool) -> None:
        alone.append((redelivered, tasks._suspects.locked()))

    monkeypatch.setattr(tasks, "deliver", deliver)
    monkeypatch.setattr(tasks, "get_runtime", lambda: None)
    for redelivered in (True, False):
        tasks.verify.request_stack.push(Context(delivery_info={"redelivered": redelivered}))
        tasks.verify.run(job_id="j")
        tasks.verify.request_stack.pop()
    assert alone == [(True, True), (False, False)]
