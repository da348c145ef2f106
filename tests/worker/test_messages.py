from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from worker.errors import InvalidMessage
from worker.messages import VerifyRequest, parse, usable_id

GOOD: dict[str, Any] = {
    "job_id": "cheque-17",
    "signer_id": "ACC-0042",
    "document": "s3://scans/2026/17.png",
}


def test_the_three_required_fields_are_enough() -> None:
    assert parse(GOOD) == VerifyRequest(**GOOD)


def test_a_request_survives_the_queue() -> None:
    request = parse({**GOOD, "page": 2, "region": [1, 2, 3, 4], "metadata": {"a": [1, "ü"]}})
    assert parse(json.loads(json.dumps(request.as_kwargs()))) == request


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"job_id": None}, "The message lacks job_id."),
        ({"signer_id": None, "document": None}, "The message lacks signer_id and document."),
        ({"colour": 1}, "The message has unknown fields: 'colour'."),
        ({"job_id": 17}, "job_id must be text, not a number."),
        ({"job_id": ""}, "job_id cannot be used: "),
        ({"job_id": "x" * 129}, "job_id cannot be used: "),
        ({"job_id": "a\nb"}, "job_id cannot be used: "),
        ({"signer_id": ["a"]}, "signer_id must be text, not a list."),
        ({"signer_id": "../a"}, "signer_id cannot be used: "),
        ({"document": 5}, "document must be text, not a number."),
        ({"document": ""}, "document must be s3://bucket/key or file:///path, not ''."),
        ({"document": "http://h/x"}, "document must be s3://bucket/key or file:///path"),
        ({"document": "/etc/passwd"}, "document must be s3://bucket/key or file:///path"),
        ({"document": "s3://bucket"}, "document names no bucket and key"),
        ({"document": "s3:///key"}, "document names no bucket and key"),
        ({"document": "file://host/x"}, "document is not an absolute file URI"),
        ({"document": "file:"}, "document is not an absolute file URI"),
        ({"document": "s3://[x/y"}, "document is not a URI"),
        ({"document": "s3://b/a\0b"}, "document contains control characters"),
        ({"document": "s3://b/\ud800"}, "document contains control characters"),
        ({"document": "s3://b/" + "x" * 2048}, "document is longer than 2048 characters."),
        ({"page": 0}, "page counts from 1, so it cannot be 0."),
        ({"page": -3}, "page counts from 1"),
        ({"page": 10**30}, "page counts from 1"),
        ({"page": "1"}, "page must be a whole number, not text."),
        ({"page": 1.0}, "page must be a whole number, not a number."),
        ({"page": True}, "page must be a whole number, not true or false."),
        ({"region": [1, 2, 3]}, "region must be four whole numbers: x, y, width, height; it is"),
        ({"region": "1,2,3,4"}, "region must be four whole numbers"),
        ({"region": [1, 2, 3, 4.5]}, "region must be four whole numbers"),
        ({"region": [True, 2, 3, 4]}, "region must be four whole numbers"),
        ({"region": [-1, 2, 3, 4]}, "region must begin at 0 or more"),
        ({"region": [1, 2, 0, 4]}, "region must begin at 0 or more"),
        ({"region": [1, 2, 3, 2**40]}, "region reaches beyond any page"),
        ({"metadata": [1]}, "metadata must be a JSON object, not a list."),
        ({"metadata": {"a": float("nan")}}, "metadata holds something that JSON cannot carry."),
        ({"metadata": {"a": object()}}, "metadata holds something that JSON cannot carry."),
        ({"metadata": {"a": "\ud800"}}, "metadata holds something that JSON cannot carry."),
        ({"metadata": {"a": "\0"}}, "metadata holds a NUL character, which cannot be stored."),
        ({"metadata": {"a": "ü" * 9000}}, "metadata takes 18009 bytes; at most 16384 are kept."),
    ],
)
def test_each_fault_is_one_sentence_that_names_the_field(
    change: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(InvalidMessage) as caught:
        parse({**GOOD, **change})
    assert str(caught.value).startswith(sentence)
    assert "\n" not in str(caught.value)


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(st.sampled_from([*GOOD, "page", "region", "metadata", "x"]), anything))
def test_whatever_comes_is_a_request_or_an_invalid_message(message: dict[str, Any]) -> None:
    try:
        request = parse({**GOOD, **message})
    except InvalidMessage:
        return
    assert parse(request.as_kwargs()) == request


def test_the_usable_ids_of_an_unusable_message_are_found() -> None:
    assert usable_id({"job_id": "a"}, "job_id") == "a"
    assert usable_id({"job_id": 3}, "job_id") is None
    assert usable_id({}, "signer_id") is None
