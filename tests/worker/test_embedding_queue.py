"""Messages that ask for embeddings: which are heeded, and which are dropped."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import SecretStr

from storage import models, references
from storage.database import Sessions
from tests.fakes import FakeEmbedder, ink
from tests.worker.conftest import Desk, enrol_ada
from worker import embedding_queue
from worker.runtime import Runtime
from worker.settings import Settings
from worker.signing import signed
from worker.transactions import register_model, transaction

KEY = SecretStr("m" * 32)


@pytest.fixture
def newer() -> FakeEmbedder:
    return FakeEmbedder(name="newer")


@pytest.fixture
def runtime(sqlite_url: str, desk: Desk, newer: FakeEmbedder) -> Iterator[Runtime]:
    """A worker that has another model, registered and on its way in, and one reference of ada."""
    settings = Settings(
        database_url=sqlite_url, roots=str(desk.inbox), store=desk.store.as_uri(), decoders=0
    )
    made = Runtime(settings)
    enrol_ada(made, FakeEmbedder())
    made.models._embedders[newer.model_id] = newer  # type: ignore[assignment]
    with transaction(made.sessions) as session:
        register_model(session, newer)  # type: ignore[arg-type]
        models.announce(session, newer.model_id)
    yield made
    made.close()


def missing(sessions: Sessions, embedder: FakeEmbedder) -> list[int]:
    with transaction(sessions) as session:
        return models.lacking(session, embedder.model_id)


def test_a_chunk_is_embedded_once_however_often_it_comes(
    runtime: Runtime, newer: FakeEmbedder
) -> None:
    chunk = missing(runtime.sessions, newer)
    assert len(chunk) == 1
    for _ in range(2):
        embedding_queue.receive({"model": newer.model_id, "references": [*chunk, 999]}, runtime)
    assert missing(runtime.sessions, newer) == []
    assert newer.embedded == 1
    with transaction(runtime.sessions) as session:
        assert len(references.embeddings(session, "ada", newer.model_id).ids) == 1


@pytest.mark.parametrize(
    "change",
    [
        {"references": "1"},
        {"references": [True]},
        {"references": [2**70]},
        {"references": list(range(2000))},
        {"model": 7},
        {"model": "0" * 64},
        {"folder": "/etc"},
    ],
    ids=repr,
)
def test_what_nobody_has_asked_for_is_dropped(
    runtime: Runtime, newer: FakeEmbedder, change: dict[str, Any]
) -> None:
    message = {"model": newer.model_id, "references": missing(runtime.sessions, newer)}
    embedding_queue.receive(message | change, runtime)
    assert len(missing(runtime.sessions, newer)) == 1


def test_with_a_key_only_signed_messages_are_heeded(runtime: Runtime, newer: FakeEmbedder) -> None:
    keyed = Runtime(runtime.settings.model_copy(update={"message_key": KEY}))
    keyed._models = runtime.models
    message = {"model": newer.model_id, "references": missing(runtime.sessions, newer)}
    embedding_queue.receive(message, keyed)
    embedding_queue.receive(signed(message, SecretStr("o" * 32)), keyed)
    assert len(missing(runtime.sessions, newer)) == 1
    embedding_queue.receive(signed(message, KEY), keyed)
    assert missing(runtime.sessions, newer) == []
    keyed.close()


def test_a_store_that_is_away_leaves_the_chunk_to_whoever_sent_it(
    runtime: Runtime, newer: FakeEmbedder, desk: Desk
) -> None:
    (reference,) = missing(runtime.sessions, newer)
    for path in desk.store.rglob("*"):
        if path.is_file():
            path.write_bytes(ink(2))
    embedding_queue.receive({"model": newer.model_id, "references": [reference]}, runtime)
    assert missing(runtime.sessions, newer) == [reference]
