"""The models of one process: which one it uses, and what it refuses to use."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from model.errors import CheckpointNotFound, CheckpointNotPinned
from storage import models
from storage.database import make_sessions
from storage.errors import ModelNotSealed
from storage.models import Lineup
from worker import activation, registry
from worker.runtime import Runtime
from worker.settings import Settings
from worker.succession import Succession
from worker.transactions import register_model, transaction

CHAIN_KEY = "k" * 32


@pytest.fixture
def settings(sqlite_url: str, tiny_checkpoint: Path, tmp_path: Path) -> Settings:
    return Settings(
        database_url=sqlite_url,
        checkpoint=tiny_checkpoint,
        store=str(tmp_path / "store"),
        device="cpu",
        precision="float32",
        decoders=0,
        chain_key=CHAIN_KEY,
    )


@pytest.fixture
def runtime(settings: Settings) -> Iterator[Runtime]:
    """A process whose own model is the active one."""
    made = Runtime(settings)
    with transaction(made.sessions) as session:
        register_model(session, made.embedder)
    yield made
    made.close()


@pytest.fixture
def new(runtime: Runtime, newer_checkpoint: Path) -> str:
    return registry.register(runtime, newer_checkpoint.read_bytes(), "newer.pt").id


def switch(runtime: Runtime, model_id: str) -> None:
    with transaction(runtime.sessions) as session:
        models.activate(session, model_id)


def used(runtime: Runtime) -> str:
    return runtime.models.use(runtime.models.lineup()).model_id


def test_the_active_model_is_fetched_from_the_store_whatever_the_settings_name(
    runtime: Runtime, settings: Settings, new: str
) -> None:
    old = runtime.embedder.model_id
    switch(runtime, new)
    assert runtime.embedder.model_id == old  # as of the last look
    assert used(runtime) == new
    elsewhere = Runtime(settings.model_copy(update={"checkpoint": Path("nowhere.pt")}))
    assert elsewhere.embedder.model_id == new
    elsewhere.close()


def test_the_last_model_stays_loaded_and_older_ones_go(runtime: Runtime, new: str) -> None:
    old = runtime.embedder
    switch(runtime, new)
    used(runtime)
    assert runtime.models.ready() == sorted([old.model_id, new])
    assert runtime.models.get(old.model_id) is old
    with transaction(runtime.sessions) as session:
        models.announce(session, old.model_id)
    switch(runtime, old.model_id)
    assert used(runtime) == old.model_id


def test_a_file_that_is_gone_or_another_s_changes_nothing(runtime: Runtime, new: str) -> None:
    old = runtime.embedder.model_id
    with transaction(runtime.sessions) as session:
        path = Path(models.get(session, new).uri.removeprefix("file://"))
    switch(runtime, new)
    path.write_bytes(b"another model")
    with pytest.raises(CheckpointNotPinned, match="altered or replaced"):
        used(runtime)
    path.unlink()
    with pytest.raises(CheckpointNotFound, match="cannot be had"):
        used(runtime)
    assert runtime.embedder.model_id == old


def test_a_pinned_process_follows_no_change(settings: Settings, runtime: Runtime, new: str) -> None:
    own = runtime.embedder.model_id
    pinned = Runtime(settings.model_copy(update={"checkpoint_sha256": own}))
    assert pinned.embedder.model_id == own
    switch(runtime, new)
    with pytest.raises(CheckpointNotPinned, match="SIGCTL_CHECKPOINT_SHA256"):
        used(pinned)
    assert pinned.embedder.model_id == own
    pinned.close()


def test_a_model_that_was_made_active_without_the_key_is_not_used_until_it_is_confirmed(
    runtime: Runtime, new: str
) -> None:
    old = runtime.embedder.model_id
    without_key = make_sessions(runtime.settings.database_url)
    with without_key.begin() as session:
        models.activate(session, new)
    with pytest.raises(ModelNotSealed, match="confirm it with `sigctl models activate"):
        used(runtime)
    assert runtime.embedder.model_id == old
    assert activation.activate(runtime, new, by="mia").before == new
    assert used(runtime) == new


def test_a_worker_follows_and_says_once_why_it_cannot(
    runtime: Runtime,
    new: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr("worker.succession.EVERY", 0.02)
    old = runtime.embedder.model_id
    with make_sessions(runtime.settings.database_url).begin() as session:
        models.activate(session, new)

    def told() -> int:
        return sum("model_unavailable" in str(record.msg) for record in caplog.records)

    with caplog.at_level(logging.ERROR):
        succession = Succession(runtime)
        deadline = time.monotonic() + 20  # a busy machine may take a second to look
        while not told() and time.monotonic() < deadline:
            time.sleep(0.02)
        time.sleep(0.5)
        assert runtime.embedder.model_id == old
        assert told() == 1
        succession.stop()
    activation.activate(runtime, new)
    switch(runtime, old)
    succession = Succession(runtime)
    deadline = time.monotonic() + 20
    while runtime.embedder.model_id != old and time.monotonic() < deadline:
        time.sleep(0.02)
    succession.stop()
    assert runtime.models.latest == Lineup(active=old)
    assert runtime.embedder.model_id == old
