from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from worker.app import make_app
from worker.envelope import envelope_fault
from worker.messages import MAX_MESSAGE_BYTES
from worker.settings import Settings


def envelope(body: Any = None, **other: Any) -> dict[str, Any]:
    """A good envelope, with parts replaced."""
    text = json.dumps([[], {"job_id": "j"}, {}] if body is None else body)
    return {
        "body": base64.b64encode(text.encode()).decode(),
        "content-type": "application/json",
        "content-encoding": "utf-8",
        "headers": {"task": "sigctl.verify", "id": "1"},
        "properties": {
            "body_encoding": "base64",
            "delivery_tag": "1",
            "delivery_info": {"exchange": "", "routing_key": "sigctl.verify"},
        },
        **other,
    }


def with_header(**headers: Any) -> dict[str, Any]:
    return envelope(headers=envelope()["headers"] | headers)


def test_a_good_envelope_passes() -> None:
    assert envelope_fault(envelope()) is None


def test_what_celery_itself_sends_passes(redis_url: str) -> None:
    import redis

    app = make_app(Settings(broker_url=redis_url, queue="q"))
    app.send_task("sigctl.verify", kwargs={"job_id": "j"}, countdown=3)
    with redis.Redis.from_url(redis_url) as broker:
        (text,) = broker.lrange("q", 0, -1)
    app.close()
    assert envelope_fault(json.loads(text)) is None


@pytest.mark.parametrize(
    ("message", "fault"),
    [
        (None, "no JSON object"),
        ([1], "no JSON object"),
        ({}, "headers lack task or id"),
        (envelope(headers=None), "headers lack task or id"),
        (envelope(headers={"task": "x"}), "headers lack task or id"),
        (envelope(headers={"task": 3, "id": "1"}), "headers lack task or id"),
        (envelope(properties=None), "properties lack delivery_tag"),
        (envelope(properties={"delivery_tag": "1"}), "properties lack delivery_info"),
        (
            envelope(properties={"delivery_tag": "1", "delivery_info": {"exchange": ""}}),
            "properties lack delivery_info",
        ),
        (
            envelope(**{"content-type": "application/x-python-serialize"}),
            "content-type is not application/json",
        ),
        (envelope(**{"content-encoding": "utf-7"}), "content-encoding is not utf-8"),
        (envelope(**{"content-encoding": 7}), "content-encoding is not utf-8"),
        (with_header(compression="application/x-gzip"), "headers have a wrong compression"),
        (with_header(retries="many"), "headers have a wrong retries"),
        (with_header(retries=-5), "headers have a wrong retries"),
        (with_header(retries=True), "headers have a wrong retries"),
        (with_header(eta="never"), "headers have a wrong eta"),
        (with_header(eta=5), "headers have a wrong eta"),
        (with_header(expires=[1]), "headers have a wrong expires"),
        (with_header(timelimit="long"), "headers have a wrong timelimit"),
        (with_header(timelimit=[1, "x"]), "headers have a wrong timelimit"),
        (with_header(shadow=[1]), "headers have a wrong shadow"),
        (with_header(group={}), "headers have a wrong group"),
        (with_header(stamped_headers=["x"]), "headers have a wrong stamped_headers"),
        (with_header(stamps=7), "headers have a wrong stamps"),
        (envelope() | {"body": "%%%"}, "body cannot be decoded"),
        (envelope() | {"body": "Zm9v"}, "body cannot be decoded"),
        (envelope() | {"body": 7}, "body cannot be decoded"),
        (envelope() | {"body": None}, "body cannot be decoded"),
        (
            envelope()
            | {"body": '[[], {"job_id": "1", "job_id": "2"}, {}]'}
            | {"properties": envelope()["properties"] | {"body_encoding": "utf-8"}},
            "body cannot be decoded",
        ),
        (envelope(body=[[], {"page": float("nan")}, {}]), "body cannot be decoded"),
        (envelope(body=[[], {"job_id": "x" * MAX_MESSAGE_BYTES}, {}]), "body cannot be decoded"),
        (envelope(body=[]), "body is not [arguments, keyword arguments, options]"),
        (envelope(body={}), "body is not [arguments, keyword arguments, options]"),
        (envelope(body=[[], "x", {}]), "arguments are no list or keyword arguments no object"),
        (envelope(body=[{}, {}, {}]), "arguments are no list or keyword arguments no object"),
        (envelope(body=[[], {}, 3]), "options are no object"),
    ],
)
def test_a_bad_envelope_is_told_by_its_fault(message: Any, fault: str) -> None:
    assert envelope_fault(message) == fault


anything = st.recursive(
    st.none() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(st.sampled_from(list(envelope())), anything))
def test_no_envelope_breaks_the_check(change: dict[str, Any]) -> None:
    fault = envelope_fault({**envelope(), **change})
    assert fault is None or isinstance(fault, str)
