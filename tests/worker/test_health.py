"""A real worker, watched from outside while its servers go and come back."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
import yaml
from prometheus_client.parser import text_string_to_metric_families

from model.checkpoint import load_checkpoint, save_checkpoint
from storage import jobs
from tests.operations import asked, expressions
from tests.services import free_port
from tests.worker.test_service import PATIENCE, ROOT, Service, Worker, document
from worker.pulse import STILL
from worker.transactions import transaction

__all__ = ["document"]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3 * PATIENCE)]

PROBE_SECONDS = 5.0


class Watched(Service):
    """A service whose worker answers on a port."""

    def __init__(self, folder: Path, checkpoint: Path) -> None:
        super().__init__(folder, checkpoint)
        self.port = free_port()
        self.env |= {"SIGCTL_HEALTH_PORT": str(self.port)}

    def get(self, path: str, timeout: float = PROBE_SECONDS) -> tuple[int, str]:
        """Status and body, as a probe sees them."""
        try:
            with urllib.request.urlopen(self.url(path), timeout=timeout) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    def faults(self, path: str) -> list[str]:
        status, body = self.get(path)
        found: list[str] = json.loads(body)["faults"]
        assert (status == 503) == bool(found), body
        return found

    def await_ready(self, *faults: str) -> None:
        """Return once `/ready` says just this; the worker is live all the while."""
        deadline = time.monotonic() + PATIENCE
        while (found := self.faults("/ready")) != list(faults):
            assert time.monotonic() < deadline, (found, self.worker.text)
            assert self.faults("/live") == []
            time.sleep(0.1)

    def samples(self) -> dict[str, list[tuple[dict[str, str], float]]]:
        """What Prometheus would read, by the name of the series."""
        found: dict[str, list[tuple[dict[str, str], float]]] = {}
        for family in text_string_to_metric_families(self.get("/metrics")[1]):
            for sample in family.samples:
                found.setdefault(sample.name, []).append((sample.labels, sample.value))
        return found

    def value(self, name: str, **labels: str) -> float:
        """The sum of the samples that have these labels."""
        rows = self.samples().get(name, [])
        return sum(value for found, value in rows if labels.items() <= found.items())

    def compose_check(self) -> int:
        """The exit code of the check in docker-compose.yml, sent to this worker's port."""
        compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
        _, _, *arguments = compose["services"]["worker"]["healthcheck"]["test"]
        given = compose["services"]["worker"]["environment"]["SIGCTL_HEALTH_PORT"]
        arguments = [word.replace(given, str(self.port)) for word in arguments]
        done = subprocess.run([sys.executable, *arguments], capture_output=True, check=False)
        return done.returncode

    def doctor(self, **variables: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "worker.cli.main", "doctor", "--live", "--json"]
        return subprocess.run(
            command,
            cwd=ROOT,
            env=self.env | variables | {"PATH": "", "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE,
        )


@pytest.fixture(scope="module")
def service(
    tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory, pictures: dict[str, bytes]
) -> Iterator[Watched]:
    made = Watched(tmp_path_factory.mktemp("watched"), tiny_checkpoint)
    made.enroll("ada", pictures["ada0"], pictures["ada1"])
    yield made
    made.close()


@pytest.fixture
def watched(service: Watched) -> Watched:
    """The service with a worker that is ready."""
    assert service.worker.running()
    service.await_ready()
    return service


def test_jobs_are_counted_by_verdict_and_code(watched: Watched, document: str) -> None:
    before = watched.value("sigctl_jobs_total", verdict="accept")
    sent = [watched.submit("ada", document) for _ in range(3)]
    sent += [watched.submit("ada", watched.bucket.uri("none.png")), watched.submit("bo", document)]
    for job in sent:
        watched.wait(job)
    assert watched.value("sigctl_jobs_total", verdict="accept") == before + 3
    assert watched.value("sigctl_jobs_total", verdict="error", code="image_not_found") == 1
    assert watched.value("sigctl_jobs_total", verdict="error", code="unknown_signer") == 1
    for stage in ("fetch", "preprocess", "embed"):
        assert watched.value("sigctl_stage_seconds_count", stage=stage) >= 3
    for stage in ("begin", "embed", "decide"):
        assert watched.value("sigctl_batch_size_sum", stage=stage) >= 3
    assert watched.value("sigctl_job_seconds_sum") > 0
    model = watched.runtime.embedder.model_id
    assert watched.value("sigctl_model_info", model=model, preprocessing="strokes/2 64x96") == 1


def test_no_label_holds_a_job_a_signer_or_a_document(watched: Watched, document: str) -> None:
    job = watched.submit("ada", document)
    watched.wait(job)
    text = watched.get("/metrics")[1]
    for secret in (job, '"ada"', document, watched.bucket.bucket, "127.0.0.1"):
        assert secret not in text


def test_the_queue_and_its_oldest_job_are_measured(watched: Watched, document: str) -> None:
    with transaction(watched.runtime.sessions) as session:
        jobs.submit(session, id="forgotten", signer_id="ada", document=document)
    watched.env["SIGCTL_WORK"] = "train"
    watched.worker.end()
    waiting = [watched.submit("ada", document, priority="bulk") for _ in range(2)]
    assert watched.worker.running()
    watched.await_ready()
    deadline = time.monotonic() + PATIENCE
    queue = {"queue": watched.settings.queue, "priority": "bulk"}
    while watched.value("sigctl_queue_messages", **queue) != 2:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    age = watched.value("sigctl_queue_age_seconds")
    assert 0 < age < PATIENCE
    time.sleep(0.1)
    assert watched.value("sigctl_queue_age_seconds") > age

    found = json.loads(watched.doctor().stdout)
    assert {**queue, "messages": 2} in found["queues"]
    assert found["jobs"]["oldest_undecided_seconds"] > age

    watched.env["SIGCTL_WORK"] = "verify"
    watched.worker.end()
    with transaction(watched.runtime.sessions) as session:
        jobs.finish(session, ["forgotten"], "failed")
    assert watched.worker.running()
    for job in waiting:
        watched.wait(job)


def test_while_the_database_is_away_the_worker_is_not_ready_but_live(watched: Watched) -> None:
    assert watched.compose_check() == 0
    watched.postgres.stop()
    watched.await_ready("The database cannot be used (database_unavailable).")
    assert watched.value("sigctl_part_ready", part="database") == 0
    assert watched.compose_check() != 0
    watched.postgres.start()
    watched.await_ready()
    assert watched.value("sigctl_part_ready", part="database") == 1


@pytest.mark.long
def test_while_the_store_is_away_the_worker_is_not_ready_and_counts_its_retries(
    watched: Watched, document: str
) -> None:
    watched.bucket.stop()
    watched.await_ready("The store cannot be used (store_unavailable).")
    outcome = watched.wait(watched.submit("ada", document, job_id="retried"))
    assert outcome.error_code == "store_unavailable"
    assert watched.value("sigctl_retries_total", code="store_unavailable") == 3
    watched.bucket.start()
    watched.await_ready()


@pytest.mark.long
def test_while_the_broker_is_away_the_worker_is_not_ready_but_live(watched: Watched) -> None:
    watched.redis.stop()
    watched.await_ready(
        "The worker is not connected to its broker.",
        "The broker cannot be used (broker_unavailable).",
    )
    watched.redis.start()
    watched.await_ready()


@pytest.mark.long
def test_a_broker_that_hangs_does_not_make_the_worker_look_dead(
    watched: Watched, document: str
) -> None:
    frozen = watched.redis.process
    assert frozen is not None
    frozen.send_signal(signal.SIGSTOP)
    try:
        until = time.monotonic() + STILL + 5
        while time.monotonic() < until:
            assert watched.faults("/live") == []
            time.sleep(1)
        assert any("broker" in fault for fault in watched.faults("/ready"))
    finally:
        frozen.send_signal(signal.SIGCONT)
    watched.await_ready()
    assert watched.wait(watched.submit("ada", document)).verdict == "accept"


def test_a_probe_of_a_worker_that_hangs_fails(watched: Watched) -> None:
    process = watched.worker.process
    process.send_signal(signal.SIGSTOP)
    try:
        with pytest.raises(OSError, match="timed out"):
            watched.get("/live", timeout=1)
    finally:
        process.send_signal(signal.SIGCONT)
    assert watched.faults("/live") == []


def test_a_path_that_is_none_of_ours_is_not_found(watched: Watched) -> None:
    assert watched.get("/")[0] == 404
    assert watched.get("/live?verbose")[0] == 200


def test_every_metric_that_alerts_and_dashboard_ask_for_is_there(
    watched: Watched, document: str
) -> None:
    watched.bucket.stop()
    watched.wait(watched.submit("ada", document))  # retried, then failed
    watched.bucket.start()
    watched.wait(watched.submit("ada", document))
    found = watched.samples()
    given = {"up", "instance", "job"}  # what Prometheus adds itself
    for expression in expressions():
        for name, labels in asked(expression):
            assert name in found or name in given, expression
            for label in labels - given:
                assert any(label in has for has, _ in found[name]), expression


def test_the_doctor_asks_the_running_workers(watched: Watched) -> None:
    done = watched.doctor()
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    (worker,) = found["workers"]
    assert worker["model"] == watched.runtime.embedder.model_id
    assert (worker["pool"], worker["at_work"], worker["fault"]) == ("threads", 0, None)
    assert found["warnings"] == []
    with redis.Redis.from_url(watched.redis_url) as broker:
        assert broker.hlen("unacked") == 0  # the answer is not held for anybody


@pytest.mark.long
def test_the_doctor_sees_that_two_workers_use_different_models(
    watched: Watched, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other.pt"
    save_checkpoint(other, load_checkpoint(tiny_checkpoint))
    with other.open("ab") as file:
        file.write(b"\0")  # the same network in another file
    variables = {"SIGCTL_CHECKPOINT": str(other), "SIGCTL_HEALTH_PORT": str(free_port())}
    second = Worker(watched.env | variables, tmp_path, "--name", "second")
    second.await_text(" ready.")
    done = watched.doctor()
    second.end()
    assert done.returncode == 0
    found = json.loads(done.stdout)
    assert len(found["workers"]) == 2
    (warning,) = found["warnings"]
    assert warning.startswith("The workers use 2 models")
    assert "on second@" in warning


@pytest.mark.long
def test_without_a_database_the_doctor_still_tells_of_the_workers(watched: Watched) -> None:
    watched.postgres.stop()
    done = watched.doctor()
    watched.postgres.start()
    assert done.returncode == 6
    found = json.loads(done.stdout)
    assert len(found["workers"]) == 1
    assert found["jobs"] is None
    assert found["warnings"][0].startswith("The record cannot be asked: ")


@pytest.mark.long
def test_a_port_that_is_taken_is_said_at_the_start(watched: Watched, tmp_path: Path) -> None:
    second = Worker(watched.env, tmp_path, "--name", "second")
    assert second.process.wait(PATIENCE) == 5
    assert f"Nothing can listen on 127.0.0.1 port {watched.port}" in second.text
    assert "Traceback" not in second.text


@pytest.mark.long
def test_where_no_worker_runs_the_doctor_says_what_to_do(watched: Watched) -> None:
    assert watched.worker.end() == 0
    with pytest.raises(OSError, match="refused"):
        watched.get("/live")
    done = watched.doctor()
    assert done.returncode == 6
    found = json.loads(done.stdout)
    assert found["workers"] == []
    assert found["warnings"][0].startswith("No worker answers: start one with `sigctl worker`")


def test_every_line_of_the_log_is_json_and_names_the_job_that_it_is_about(
    watched: Watched, document: str
) -> None:
    service, worker = watched, watched.worker
    seen = len(worker.log.read_text())
    told = [service.submit("ada", document, job_id=f"told-{n}") for n in range(20)]
    for job in told:
        service.wait(job)
    service.bucket.stop()
    service.wait(service.submit("ada", document, job_id="told-away"))
    service.bucket.start()
    service.redis.stop()  # Celery's own lines
    service.await_ready(
        "The worker is not connected to its broker.",
        "The broker cannot be used (broker_unavailable).",
    )
    service.redis.start()
    service.await_ready()
    assert worker.end() == 0
    lines = worker.log.read_text().splitlines()
    events: list[dict[str, Any]] = [json.loads(line) for line in lines]
    assert all({"event", "level", "timestamp"} <= event.keys() for event in events)
    about = [
        json.loads(line) for line in worker.log.read_text()[seen:].splitlines() if "told-" in line
    ]
    for event in about:
        assert event["job_id"].startswith("told-")
        assert event["signer_id"] == "ada"
    names = [event["event"] for event in about]
    assert names.count("decided") == 21
    assert names.count("try_failed") == 4


@pytest.mark.long
def test_in_prefork_the_parent_answers_for_its_loop_and_its_servers(
    watched: Watched, document: str
) -> None:
    watched.worker.end()
    watched.workers.append(Worker(watched.env | {"SIGCTL_POOL": "prefork"}, watched.folder))
    watched.workers[-1].await_text(" ready.")
    watched.await_ready()
    assert watched.wait(watched.submit("ada", document)).verdict == "accept"
    (worker,) = json.loads(watched.doctor().stdout)["workers"]
    assert (worker["pool"], worker["model"]) == ("prefork", None)
    assert watched.workers[-1].end() == 0
