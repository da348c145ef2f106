"""What a signature covers, and what becomes of a message that nobody with a key wrote."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from storage import decisions, jobs
from tests.fakes import FakeEmbedder, Trouble, ink
from tests.worker.conftest import BULK, Desk, enrol_ada
from worker import client, tasks
from worker.app import make_app
from worker.broker import LATER
from worker.delivery import Again, deliver
from worker.errors import InvalidMessage
from worker.messages import parse
from worker.pipeline import Outcome
from worker.runtime import Runtime, get_runtime
from worker.settings import Settings, SettingsError, load_settings
from worker.signing import is_genuine, signed

KEY, OLD, OTHER = (SecretStr(letter * 32) for letter in "kox")
FIELDS: dict[str, Any] = {
    "job_id": "17",
    "signer_id": "ada",
    "document": "s3://scans/17.png",
    "page": 2,
    "region": [1, 2, 3, 4],
    "metadata": {"branch": 12, "amount": 1.5, "name": "Łódź"},
}


def test_what_a_key_signed_is_genuine_under_that_key_alone() -> None:
    message = signed(FIELDS, KEY)
    assert is_genuine(message, [KEY])
    assert is_genuine(message, [OTHER, KEY])
    assert not is_genuine(message, [OTHER])


def test_without_a_key_nothing_is_signed_and_everything_is_genuine() -> None:
    assert signed(FIELDS, None) == FIELDS
    assert is_genuine(FIELDS, [])


@pytest.mark.parametrize(
    "change",
    [
        {"job_id": "18"},
        {"signer_id": "bob"},
        {"document": "s3://scans/18.png"},
        {"page": 3},
        {"page": None},
        {"region": [1, 2, 3, 5]},
        {"metadata": {}},
        {"metadata": FIELDS["metadata"] | {"branch": 13}},
        {"colour": "red"},
        {"signature": None},
        {"signature": ""},
        {"signature": "v1="},
        {"signature": "v1=" + "0" * 64},
        {"signature": "ünsigned"},
        {"signature": ["v1"]},
        {"metadata": {"a": float("nan")}},
        {"metadata": {"a": 2**60}},
        {"metadata": {"a": "\ud800"}},
    ],
    ids=ascii,
)
def test_a_message_that_differs_in_any_field_is_not_genuine(change: dict[str, Any]) -> None:
    assert not is_genuine(signed(FIELDS, KEY) | change, [KEY])


def test_a_field_left_out_is_not_genuine() -> None:
    for name in FIELDS:
        message = signed(FIELDS, KEY)
        del message[name]
        assert not is_genuine(message, [KEY])


def test_nesting_without_end_is_not_genuine_and_does_no_harm() -> None:
    nested: list[Any] = []
    for _ in range(100_000):
        nested = [nested]
    assert not is_genuine(signed(FIELDS, KEY) | {"metadata": {"a": nested}}, [KEY])


def test_the_signature_is_of_the_content_and_not_of_its_spelling() -> None:
    message = signed(FIELDS, KEY)
    shuffled = json.loads(json.dumps(dict(reversed(message.items())), indent=3))
    assert is_genuine(shuffled, [KEY])


def test_the_signature_is_the_one_that_the_manual_describes() -> None:
    fields = {"signer_id": "ada", "job_id": "17", "document": "s3://b/k"}
    assert signed(fields, KEY)["signature"] == (
        # printf 'v1\n{"document":"s3://b/k","job_id":"17","signer_id":"ada"}' |
        #   openssl dgst -sha256 -hmac kkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkk
        "v1=f0f085ca945b45843907100a21a956007c8ef0fdb109490c3b578291214344c6"
    )


def manual(word: str) -> dict[str, Any]:
    """What the code in `docs/messages.md` defines, in the block that holds the word."""
    text = (Path(__file__).parents[2] / "docs" / "messages.md").read_text()
    (block,) = [part for part in re.findall(r"```python\n(.*?)```", text, re.S) if word in part]
    names: dict[str, Any] = {}
    exec(block, names)
    return names


def test_the_manuals_producer_signs_as_the_worker_checks() -> None:
    fields = FIELDS | {"metadata": {"branch": 12, "z": [True, None, "Łódź"], "a": {"b": "\n"}}}
    assert manual("hmac")["sign"](fields, KEY.get_secret_value()) == signed(fields, KEY)
    simple = {"job_id": "17", "signer_id": "ada", "document": "s3://b/k"}
    text = (Path(__file__).parents[2] / "docs" / "messages.md").read_text()
    assert f"`{signed(simple, KEY)['signature']}`" in text


@given(st.dictionaries(st.text(), st.none() | st.integers() | st.floats() | st.text()))
def test_whatever_can_be_signed_is_genuine_after_a_trip_as_json(fields: dict[str, Any]) -> None:
    fields.pop("signature", None)
    try:
        message = signed(fields, KEY)
    except InvalidMessage:
        return
    assert is_genuine(json.loads(json.dumps(message)), [KEY])


def test_a_number_that_other_languages_cannot_hold_is_refused_when_signing() -> None:
    with pytest.raises(InvalidMessage, match="cannot be signed"):
        signed(FIELDS | {"metadata": {"n": 2**60}}, KEY)


def test_a_worker_without_a_key_takes_signed_messages_too() -> None:
    assert parse(signed(FIELDS, KEY)) == parse(FIELDS)


@pytest.mark.parametrize(
    ("env", "sentence"),
    [
        ({"MESSAGE_KEY": "hush" * 7}, "SIGCTL_MESSAGE_KEY must have at least 32 characters."),
        ({"MESSAGE_OLD_KEYS": "k" * 32}, "SIGCTL_MESSAGE_OLD_KEYS needs a SIGCTL_MESSAGE_KEY"),
        (
            {"MESSAGE_KEY": "k" * 32, "MESSAGE_OLD_KEYS": f"{'o' * 32},hush"},
            "SIGCTL_MESSAGE_OLD_KEYS must have at least 32 characters.",
        ),
    ],
)
def test_a_weak_key_is_refused_without_being_repeated(env: dict[str, str], sentence: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings({f"SIGCTL_{name}": value for name, value in env.items()})
    assert sentence in str(caught.value)
    assert "hush" not in str(caught.value)


# In a worker


@pytest.fixture
def runtime(sqlite_url: str, desk: Desk, embedder: FakeEmbedder) -> Runtime:
    """A worker that asks for signatures, with ada enrolled at angle 0."""
    settings = Settings(
        database_url=sqlite_url,
        store=desk.store.as_uri(),
        roots=(desk.inbox,),
        message_key=KEY,
        message_old_keys=(OLD,),
    )
    made = get_runtime(settings)
    enrol_ada(made, embedder)
    return made


@pytest.fixture
def fields(desk: Desk) -> dict[str, Any]:
    return {"job_id": "j1", "signer_id": "ada", "document": desk.put("a.png", ink(0))}


def rows(runtime: Runtime) -> tuple[int, int]:
    """How many jobs and decisions are on record."""
    from sqlalchemy import func, select

    from storage.tables import Decision, Job

    with runtime.sessions() as session:
        counts = [session.scalar(select(func.count()).select_from(t)) for t in (Job, Decision)]
    return counts[0] or 0, counts[1] or 0


@pytest.mark.parametrize("key", [KEY, OLD])
def test_a_message_signed_with_the_key_or_an_earlier_one_is_decided(
    runtime: Runtime, fields: dict[str, Any], key: SecretStr
) -> None:
    outcome = deliver(signed(fields, key), runtime, retries=0)
    assert isinstance(outcome, Outcome)
    assert outcome.verdict == "accept"


Forge = Callable[[dict[str, Any]], dict[str, Any]]
FORGERIES: dict[str, Forge] = {
    "unsigned": lambda fields: fields,
    "signed with another key": lambda fields: signed(fields, OTHER),
    "for another signer": lambda fields: signed(fields | {"signer_id": "bob"}, KEY) | fields,
    "with a field more": lambda fields: signed(fields, KEY) | {"colour": "red"},
    "no request at all": lambda fields: {"job_id": "j1", "page": "first"},
}


@pytest.mark.parametrize("forge", FORGERIES.values(), ids=FORGERIES)
def test_a_forged_message_leaves_no_row_and_does_not_occupy_the_id_of_the_genuine_one(
    runtime: Runtime, fields: dict[str, Any], forge: Forge, caplog: pytest.LogCaptureFixture
) -> None:
    assert deliver(forge(fields), runtime, retries=0) is None
    assert rows(runtime) == (0, 0)
    assert "message_forged" in caplog.text
    outcome = deliver(signed(fields, KEY), runtime, retries=0)
    assert isinstance(outcome, Outcome)
    assert outcome.verdict == "accept"


def test_a_signed_message_that_is_no_request_is_recorded_as_ever(
    runtime: Runtime, fields: dict[str, Any]
) -> None:
    outcome = deliver(signed(fields | {"page": 0}, KEY), runtime, retries=0)
    assert isinstance(outcome, Outcome)
    assert outcome.error_code == "invalid_message"


def test_a_replay_meets_the_decision_that_stands(runtime: Runtime, fields: dict[str, Any]) -> None:
    first, second = (deliver(signed(fields, KEY), runtime, retries=0) for _ in range(2))
    assert isinstance(first, Outcome)
    assert first == second
    assert rows(runtime) == (1, 1)


def test_a_process_without_a_broker_takes_its_own_messages(
    runtime: Runtime, fields: dict[str, Any]
) -> None:
    client.submit("ada", fields["document"], job_id="j1", settings=runtime.settings)
    assert client.wait("j1", timeout=0, settings=runtime.settings).verdict == "accept"


def queued(redis_url: str, queue: str = "sigctl.verify") -> list[dict[str, Any]]:
    """The fields of every message on the queue."""
    with redis.Redis.from_url(redis_url, decode_responses=True) as broker:
        envelopes = [json.loads(text) for text in broker.lrange(queue, 0, -1)]
    return [json.loads(base64.b64decode(each["body"]))[1] for each in envelopes]


def test_what_submit_and_requeue_send_is_signed_with_the_key_in_use(
    runtime: Runtime, fields: dict[str, Any], redis_url: str
) -> None:
    settings = runtime.settings.model_copy(update={"broker_url": redis_url})
    client.submit("ada", fields["document"], job_id="j1", settings=settings)
    (sent,) = queued(redis_url)
    with redis.Redis.from_url(redis_url) as broker:
        broker.flushdb()
    later = settings.model_copy(update={"message_key": OTHER, "message_old_keys": (KEY,)})
    assert client.requeue(0, settings=later) == ["j1"]
    (resent,) = queued(redis_url, BULK)
    assert is_genuine(sent, [KEY])
    assert is_genuine(resent, [OTHER])
    assert not is_genuine(resent, [KEY])
    make_app.cache_clear()


def test_a_message_signed_and_pushed_as_the_manual_shows_is_decided(
    runtime: Runtime, fields: dict[str, Any], redis_url: str
) -> None:
    message = manual("hmac")["sign"](fields, KEY.get_secret_value())
    manual("lpush")["push"](redis_url, "sigctl.verify", message)
    (arrived,) = queued(redis_url)
    outcome = deliver(arrived, runtime, retries=0)
    assert isinstance(outcome, Outcome)
    assert outcome.verdict == "accept"


def test_the_retry_of_a_signed_message_is_genuine(
    runtime: Runtime, fields: dict[str, Any], redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime._images = Trouble(runtime.images, RuntimeError("once"))  # type: ignore[assignment]
    app = make_app(Settings(broker_url=redis_url, queue="retries"))
    app.loader.import_default_modules()
    monkeypatch.setattr(tasks, "get_runtime", lambda: runtime)
    app.tasks["sigctl.verify"].apply(kwargs=signed(fields, KEY))
    with redis.Redis.from_url(redis_url, decode_responses=True) as broker:
        ((member, _),) = broker.zpopmin(LATER)  # where it waits until it is due
        broker.lpush(*member.split("\n", 1))
    (again,) = queued(redis_url, "retries")
    outcome = deliver(again, runtime, retries=1)
    assert isinstance(outcome, Outcome)
    assert outcome.verdict == "accept"
    app.close()
    make_app.cache_clear()


def test_a_first_failure_of_a_signed_message_is_tried_again(
    runtime: Runtime, fields: dict[str, Any]
) -> None:
    runtime._images = Trouble(runtime.images, RuntimeError("once"))  # type: ignore[assignment]
    assert isinstance(deliver(signed(fields, KEY), runtime, retries=0), Again)


def test_the_keys_stand_in_no_table_of_the_record(
    runtime: Runtime, fields: dict[str, Any], sqlite_url: str
) -> None:
    deliver(signed(fields, KEY), runtime, retries=0)
    with runtime.sessions() as session:
        assert decisions.get(session, "j1") is not None
        assert jobs.get(session, "j1").id == "j1"
    path = Path(sqlite_url.removeprefix("sqlite:///"))
    written = b"".join(each.read_bytes() for each in path.parent.glob(f"{path.name}*"))
    assert KEY.get_secret_value().encode() not in written
