"""Remote retraining: whom a worker believes, what it says meanwhile, and how a run ends."""

from __future__ import annotations

import shutil
import signal
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import redis
from pydantic import SecretStr

from storage import models, runs
from storage.tables import TrainingRun
from tests.retraining import Laboratory
from tests.worker.test_service import PATIENCE, Worker
from worker import training_runs
from worker.delivery import Again
from worker.errors import BrokerUnavailable
from worker.retrain_run import Asked
from worker.runtime import Runtime
from worker.signing import signed
from worker.training_runs import deliver
from worker.transactions import transaction

RUN = "0f0e0d0c-0b0a-4908-8706-050403020100"
OPTIONS = {"epochs": 1, "replay": 5, "by": "May", "corpora": ["/etc"]}


@pytest.fixture
def runtime(lab: Laboratory, tmp_path: Path) -> Iterator[Runtime]:
    made = lab.copy(tmp_path, runs=tmp_path / "runs")
    shutil.copytree(lab.cache, tmp_path / "runs" / "cache")
    yield made
    made.close()


def asked_for(runtime: Runtime, id: str = RUN, **options: Any) -> str:
    with transaction(runtime.sessions) as session:
        runs.make(session, id, options=OPTIONS | options)
    return id


def given(runtime: Runtime, message: dict[str, Any], stopping: Any = None) -> Again | None:
    return deliver(message, runtime, retries=0, stopping=stopping or threading.Event())


def row(runtime: Runtime, id: str = RUN) -> TrainingRun:
    with transaction(runtime.sessions) as session:
        return runs.get(session, id)


def test_a_run_is_done_with_the_workers_own_corpora_whatever_the_row_says(
    runtime: Runtime, lab: Laboratory
) -> None:
    asked_for(runtime)
    assert given(runtime, {"run_id": RUN}) is None
    found = row(runtime)
    assert (found.state, found.error_message) == ("done", None)
    assert found.progress["done"] >= 0
    with transaction(runtime.sessions) as session:
        assert models.get(session, found.candidate_id or "").registered_by == "May"
    folder = runtime.settings.runs / RUN
    assert str(lab.corpus) in (folder / "asked.json").read_text()
    assert not (folder / "signatures").exists()
    assert given(runtime, {"run_id": RUN}) is None  # delivered twice, it is done once


@pytest.mark.parametrize(
    "message",
    [
        {},
        {"run_id": 7},
        {"run_id": "../../etc"},
        {"run_id": RUN, "corpora": ["/etc"]},
        {"run_id": RUN, "arguments": 1},
        {"run_id": RUN.replace("0", "1")},
    ],
)
def test_a_message_that_names_no_run_or_more_than_one_does_nothing(
    runtime: Runtime, message: dict[str, Any]
) -> None:
    asked_for(runtime)
    assert given(runtime, message) is None
    assert row(runtime).state == "queued"


def test_with_a_key_only_signed_messages_are_heeded(lab: Laboratory, tmp_path: Path) -> None:
    key = SecretStr("k" * 32)
    runtime = lab.copy(tmp_path, runs=tmp_path / "runs", message_key=key)
    asked_for(runtime, epochs=-1)
    for forged in ({"run_id": RUN}, signed({"run_id": RUN}, SecretStr("x" * 32))):
        assert given(runtime, forged) is None
        assert row(runtime).state == "queued"
    given(runtime, signed({"run_id": RUN}, key))
    assert row(runtime).state != "queued"
    runtime.close()


def test_a_run_that_another_worker_is_at_is_looked_at_again_later(runtime: Runtime) -> None:
    asked_for(runtime)
    with transaction(runtime.sessions) as session:
        runs.take(session, RUN)
    again = given(runtime, {"run_id": RUN})
    assert again is not None
    assert again.delay == runs.LEASE.total_seconds()


def test_a_run_that_cannot_be_done_fails_with_the_reason_and_leaves_no_copies(
    lab: Laboratory, tmp_path: Path
) -> None:
    runtime = lab.copy(tmp_path, runs=tmp_path / "runs")
    bare = Runtime(runtime.settings.model_copy(update={"corpora": ()}))
    asked_for(bare)
    given(bare, {"run_id": RUN})
    assert row(bare).error_code == "no_corpora"
    assert "set SIGCTL_CORPORA" in (row(bare).error_message or "")
    bare.close()
    runtime.close()


def test_a_cancelled_run_ends_between_two_steps(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training_runs, "BEAT", 0.05)
    asked_for(runtime, epochs=500)
    worker = threading.Thread(target=given, args=(runtime, {"run_id": RUN}))
    worker.start()
    deadline = time.monotonic() + PATIENCE
    while "epoch" not in row(runtime).progress.get("doing", ""):
        assert time.monotonic() < deadline, row(runtime).progress
        time.sleep(0.1)
    with transaction(runtime.sessions) as session:
        runs.cancel(session, RUN)
    worker.join(PATIENCE)
    assert row(runtime).state == "cancelled"
    assert not (runtime.settings.runs / RUN / "signatures").exists()


def test_a_worker_that_stops_hands_its_run_back(runtime: Runtime) -> None:
    asked_for(runtime)
    stopping = threading.Event()
    stopping.set()
    again = given(runtime, {"run_id": RUN}, stopping)
    assert again is not None
    assert not again.counted
    assert row(runtime).state == "queued"


def test_a_run_that_nobody_can_be_told_of_is_not_left_waiting(
    lab: Laboratory, tmp_path: Path
) -> None:
    runtime = lab.copy(tmp_path, broker_url="redis://127.0.0.1:1/0")
    with pytest.raises(BrokerUnavailable, match="nothing was begun"):
        training_runs.request(Asked(corpora=()), runtime)
    with transaction(runtime.sessions) as session:
        (left,) = runs.listed(session)
    assert left.state == "cancelled"
    runtime.close()


def test_a_run_that_redis_has_forgotten_is_sent_again(
    lab: Laboratory, redis_url: str, tmp_path: Path
) -> None:
    runtime = lab.copy(tmp_path, broker_url=redis_url)
    now = timedelta(0)
    run = training_runs.request(Asked(corpora=()), runtime)
    assert training_runs.requeue(runtime, now) == []  # it only waits its turn
    with redis.Redis.from_url(redis_url) as broker:
        broker.flushdb()
        assert training_runs.requeue(runtime, timedelta(minutes=1)) == []  # asked for just now
        assert training_runs.requeue(runtime, now) == [run]
        assert training_runs.requeue(runtime, now) == []
        broker.flushdb()
    with transaction(runtime.sessions) as session:
        runs.cancel(session, run)
    assert training_runs.requeue(runtime, now) == []
    runtime.close()


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.timeout(3 * PATIENCE)
def test_a_run_whose_worker_is_killed_is_finished_by_another(
    lab: Laboratory, redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime = lab.copy(tmp_path, broker_url=redis_url)
    values = {
        "BROKER_URL": redis_url,
        "DATABASE_URL": runtime.settings.database_url,
        "STORE": runtime.settings.store,
        "ROOTS": lab.folder,
        "CHECKPOINT": lab.folder / "model.pt",
        "CORPORA": lab.corpus,
        "RUNS": tmp_path / "runs",
        "WORK": "train",
        "DEVICE": "cpu",
        "DECODERS": 1,
        "CONCURRENCY": 1,
        "VISIBILITY_TIMEOUT": 5,
        "LOG_FORMAT": "json",
    }
    env = {f"SIGCTL_{name}": str(value) for name, value in values.items()}
    first = Worker(env, tmp_path)
    first.await_text(" ready.")
    run_id = training_runs.request(Asked(corpora=(), epochs=20, replay=5), runtime)
    deadline = time.monotonic() + PATIENCE
    while not (tmp_path / "runs" / run_id / "train" / "last.pt").exists():
        assert time.monotonic() < deadline, first.text
        time.sleep(0.1)
    first.end(signal.SIGKILL)
    # As if a minute had passed since the worker's last word.
    with transaction(runtime.sessions) as session:
        run = runs.get(session, run_id)
        assert run.state == "running"
        run.updated_at -= runs.LEASE
    second = Worker(env, tmp_path)
    *_, run = training_runs.wait(run_id, runtime)
    assert run.state == "done", (run.error_message, second.text)
    assert "Resuming after epoch" in second.text
    second.end()
    runtime.close()
