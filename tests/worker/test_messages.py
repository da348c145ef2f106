from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from worker.errors import InvalidMessage
from worker.messages import MAX_MESSAGE_BYTES, VerifyRequest, parse, strict_json, usable_id

GOOD: dict[str, Any] = {
    "job_id": "cheque-17",
    "signer_id": "ACC-0042",
    "document": "s3://scans/2026/17.png",
}


def nested(depth: int) -> list[Any]:
    """Lists within lists."""
    value: list[Any] = []
    for _ in range(depth - 1):
        value = [value]
    return value


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
        ({"document": "s3://id:hush@b/k"}, "document holds a user or password: 's3://***@b/k'."),
        ({"document": "file://u:hush@localhost/k"}, "document holds a user or password"),
        ({"document": "https://u:hush@h/k"}, "document must be s3://bucket/key or file:///path"),
        ({"document": "https://h/k?X-Amz-Signature=hush"}, "document must be s3://bucket/key"),
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
        ({"metadata": {"a": float("inf")}}, "metadata holds something that JSON cannot carry."),
        ({"metadata": {"a": nested(32)}}, "metadata is nested more than 32 deep."),
        ({"metadata": {"a": nested(50_000)}}, "metadata is nested more than 32 deep."),
        ({"metadata": {"a": 10**5000}}, "metadata holds something that JSON cannot carry."),
        ({"page": 10**5000}, "page counts from 1"),
        ({"region": [0, 0, 10**5000, 1]}, "region reaches beyond any page"),
        ({"region": nested(50_000)}, "region must be four whole numbers"),
        ({"region": [0, 0, nested(50_000), 1]}, "region must be four whole numbers"),
        ({"endpoint": "http://evil"}, "The message has unknown fields: 'endpoint'."),
        ({"s3_endpoint": "http://evil"}, "The message has unknown fields: 's3_endpoint'."),
        ({"settings": {}}, "The message has unknown fields: 'settings'."),
        ({"metadata": {"a": "ü" * 9000}}, "metadata takes 18009 bytes; at most 16384 are kept."),
    ],
)
def test_each_fault_is_one_sentence_that_names_the_field(
    change: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(InvalidMessage) as caught:
        parse({**GOOD, **change})
    assert str(caught.value).startswith(sentence)
    assert "hush" not in str(caught.value)
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


def test_metadata_nested_as_deep_as_allowed_is_kept() -> None:
    metadata = {"a": nested(31)}
    assert parse({**GOOD, "metadata": metadata}).metadata == metadata


# JSON as it comes


@pytest.mark.parametrize("text", ['{"a": [1, 2.5, null, "ü"]}', b"[]", '"x"'])
def test_plain_json_is_read_as_ever(text: str | bytes) -> None:
    assert strict_json(text) == json.loads(text)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"job_id": "1", "job_id": "2"}', "a name stands twice"),
        ('[{"metadata": {"a": 1, "a": 1}}]', "a name stands twice"),
        ('{"page": NaN}', "NaN is no number"),
        ('{"page": -Infinity}', "-Infinity is no number"),
        ("[" * 65 + "]" * 65, "nested too deeply"),
        ("[" * 100_000, "nested too deeply"),
        ('{"a":' * 50_000, "nested too deeply"),
        ("1" * 5000, "4300"),
        ("{", "Expecting"),
        (b"\xff\xfe\xfd", "codec can't decode"),
        ("[" + "1," * MAX_MESSAGE_BYTES + "1]", "are more than the 262144 of a message"),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_json_that_readers_could_take_differently_is_refused(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        strict_json(text)


def test_the_largest_request_fits_into_a_message() -> None:
    request = {
        "job_id": "\U0001f58b" * 128,
        "signer_id": "\U0001f58b" * 128,
        "document": "s3://scans/" + "\U0001f58b" * 2037,
        "region": [2**31 - 1] * 4,
        "metadata": {"a": "ü" * 8187},
    }
    parse(request)
    assert 4 / 3 * len(json.dumps(request)) < MAX_MESSAGE_BYTES
