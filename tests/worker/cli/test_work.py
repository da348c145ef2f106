"""`sigctl worker`, `submit` and `requeue` with a real Redis, and without one."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import redis

from tests.worker.cli.conftest import Sigctl
from worker.cli import main
from worker.cli.exits import Exit

ROOT = Path(main.__file__).parents[2]


@pytest.fixture
def broker(redis_url: str, here: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("SIGCTL_BROKER_URL", redis_url)
    return redis_url


@pytest.fixture
def serving(broker: str, enrolled: str, here: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A worker in a process of its own, as an operator starts it."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "worker.cli.main", "worker", "--concurrency", "1", "--beat"]
    with (here / "worker.log").open("wb") as log:
        process = subprocess.Popen(command, cwd=here, env=environment, stderr=log, stdout=log)
        yield process
        process.send_signal(signal.SIGTERM)
        process.wait(60)


@pytest.mark.slow
def test_a_submitted_document_is_decided_by_a_worker_and_waited_for(
    sigctl: Sigctl, enrolled: str, specimens: Path, serving: subprocess.Popen[bytes], here: Path
) -> None:
    done = sigctl("submit", enrolled, specimens / "1.png", "--wait", "--timeout", "2m", "--json")
    assert done.code == 0, (here / "worker.log").read_text()
    assert done.json["verdict"] == "accept"
    refused = sigctl("submit", enrolled, here / "nowhere.png", "--wait", "--timeout", "2m")
    assert refused.code == Exit.FAILED
    assert "workers answer" in sigctl("doctor", "--no-load").text
    serving.send_signal(signal.SIGTERM)
    assert serving.wait(60) == 0
    assert "Traceback" not in (here / "worker.log").read_text()
    assert not list(here.glob("celerybeat*"))


def test_submitting_to_a_broker_queues(
    sigctl: Sigctl, enrolled: str, stranger: Path, broker: str
) -> None:
    done = sigctl("submit", enrolled, stranger, "--job-id", "j1")
    assert done.code == 0
    assert "Job j1 is queued" in done.out
    again = sigctl("submit", enrolled, stranger, "--job-id", "j1", "--json")
    assert again.json == {"job_id": "j1", "status": "queued"}
    shown = sigctl("audit", "show", "j1")
    assert "Job j1 has no decision yet; it is queued." in shown.out


def test_waiting_in_vain_is_no_acceptance(
    sigctl: Sigctl, enrolled: str, stranger: Path, broker: str
) -> None:
    done = sigctl("submit", enrolled, stranger, "--job-id", "j1", "--wait", "--timeout", "0.1s")
    assert done.code == Exit.UNAVAILABLE
    assert "Job j1 is still queued" in done.err
    assert "sigctl doctor" in done.err


def test_a_broker_that_is_away_leaves_the_job_queued_and_requeue_sends_it(
    sigctl: Sigctl, enrolled: str, stranger: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SIGCTL_BROKER_URL", "redis://127.0.0.1:1/0")
    done = sigctl("submit", enrolled, stranger, "--job-id", "j1")
    assert done.code == Exit.UNAVAILABLE
    assert "Job j1 is recorded as queued; `sigctl requeue` will send it." in done.err
    assert sigctl("requeue", "--older-than", "0s").code == Exit.UNAVAILABLE


def test_requeue_sends_only_what_has_waited_too_long(
    sigctl: Sigctl, enrolled: str, stranger: Path, broker: str
) -> None:
    sigctl("submit", enrolled, stranger, "--job-id", "j1")
    assert "No job is lost" in sigctl("requeue").out
    assert "No job is lost" in sigctl("requeue", "--older-than", "0s").out  # it waits in Redis
    for answer in ("1 job was sent again", '"j1"'):
        with redis.Redis.from_url(broker) as forgetful:
            forgetful.flushdb()
        asked = ["--json"] if answer == '"j1"' else []
        assert answer in sigctl("requeue", "--older-than", "0s", *asked).out


def test_requeue_without_a_broker_decides(
    sigctl: Sigctl,
    enrolled: str,
    stranger: Path,
    redis_url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SIGCTL_BROKER_URL", redis_url)
    sigctl("submit", enrolled, stranger, "--job-id", "j1")
    monkeypatch.delenv("SIGCTL_BROKER_URL")
    assert "1 job was decided" in sigctl("requeue", "--older-than", "0s").out
    assert sigctl("audit", "show", "j1", "--json").json["decision"]["verdict"] == "reject"


def test_a_length_of_time_that_is_none_is_refused(sigctl: Sigctl) -> None:
    done = sigctl("requeue", "--older-than", "soon")
    assert done.code == Exit.USAGE
    assert "is not a length of time" in done.err


def test_a_worker_needs_a_broker(sigctl: Sigctl) -> None:
    done = sigctl("worker")
    assert done.code == Exit.SETUP
    assert "No broker is configured: set SIGCTL_BROKER_URL" in done.err


def test_a_worker_needs_a_broker_that_answers(
    sigctl: Sigctl, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SIGCTL_BROKER_URL", "redis://:secret@127.0.0.1:1/0")
    done = sigctl("worker")
    assert done.code == Exit.UNAVAILABLE
    assert "does not answer" in done.err
    assert "secret" not in done.err


def test_a_worker_needs_a_migrated_database(
    sigctl: Sigctl, broker: str, empty_sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SIGCTL_DATABASE_URL", empty_sqlite_url)
    done = sigctl("worker")
    assert done.code == Exit.SETUP
    assert "`sigctl db upgrade` brings it to revision" in done.err


@pytest.mark.parametrize("pool", ["threads", "prefork"])
def test_a_worker_needs_a_model(
    sigctl: Sigctl, broker: str, pool: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SIGCTL_CHECKPOINT", "nowhere.pt")
    done = sigctl("worker", "--pool", pool)
    assert done.code == Exit.SETUP
    assert "There is no checkpoint nowhere.pt." in done.err


@pytest.mark.parametrize("pool", ["threads", "prefork"])
def test_a_worker_refuses_to_start_with_another_model_than_the_pinned_one(
    sigctl: Sigctl, broker: str, pool: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SIGCTL_CHECKPOINT_SHA256", "0" * 64)
    done = sigctl("worker", "--pool", pool)
    assert done.code == Exit.SETUP
    assert "is not the checkpoint that was asked for: its sha256 is" in done.text
    assert "SIGCTL_CHECKPOINT_SHA256 names" in sigctl("doctor", "--no-load").text


def test_a_worker_refuses_to_start_when_the_record_of_its_model_was_changed(
    sigctl: Sigctl, broker: str, enrolled: str, here: Path
) -> None:
    with closing(sqlite3.connect(here / "sigctl.db")) as database, database:
        database.execute("UPDATE models SET threshold = 1.9")
    done = sigctl("worker")
    assert done.code == Exit.SETUP
    assert "was changed: its threshold is 1.9, but the checkpoint's is 0.05" in done.text


def test_prefork_and_a_gpu_are_refused(
    sigctl: Sigctl, broker: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SIGCTL_DEVICE", "cuda")
    done = sigctl("worker", "--pool", "prefork")
    assert done.code == Exit.SETUP
    assert "does not survive a fork" in done.err


def test_options_win_over_settings_and_are_checked_like_them(
    sigctl: Sigctl, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SIGCTL_CONCURRENCY", "many")
    wrong = sigctl("worker")
    assert (wrong.code, "SIGCTL_CONCURRENCY" in wrong.err) == (Exit.SETUP, True)
    assert "No broker" in sigctl("worker", "--concurrency", 2).err
