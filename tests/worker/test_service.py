"""The whole service: a real Celery worker process, Redis, PostgreSQL, images over HTTP from S3.

Starting a worker takes seconds, so the tests share one and its servers; a test that stops
something starts it again.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
import pytest
import redis
from sqlalchemy import func, select

from migrations.upgrade import upgrade
from storage import decisions, jobs, models, references, signers
from storage.errors import UnknownJob
from storage.tables import Decision
from tests.conftest import OwnBucket, config_of, new_bucket
from tests.services import PostgresServer, postgres_server, redis_server, s3_server
from worker import client
from worker.app import make_app
from worker.enrolment import Fate, enroll
from worker.pipeline import Outcome
from worker.runtime import Runtime
from worker.settings import load_settings
from worker.transactions import transaction

ROOT = Path(__file__).parents[2]
# Seconds. On a machine that is busy with a training, a worker may need minutes to start.
PATIENCE = float(os.environ.get("SIGCTL_TEST_PATIENCE", "240"))

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3 * PATIENCE)]


class Worker:
    """A `sigctl worker` process and what it logs."""

    def __init__(
        self,
        env: dict[str, str],
        folder: Path,
        *options: str,
        command: Sequence[str] = ("-m", "worker.cli.main", "worker"),
    ) -> None:
        self.log = folder / f"worker-{uuid.uuid4().hex[:6]}.log"
        self.out = self.log.with_suffix(".out")
        clean = {k: v for k, v in os.environ.items() if not k.startswith("SIGCTL_")}
        with self.log.open("w") as log, self.out.open("w") as out:
            self.process = subprocess.Popen(
                [sys.executable, *command, *options],
                cwd=ROOT,
                env=clean | env | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
                stdout=out,
                stderr=log,
            )

    @property
    def text(self) -> str:
        return self.log.read_text() + self.out.read_text()

    def running(self) -> bool:
        return self.process.poll() is None

    def await_text(self, text: str) -> None:
        deadline = time.monotonic() + PATIENCE
        while text not in self.text:
            assert self.running(), self.text
            assert time.monotonic() < deadline, f"no {text!r} in:\n{self.text}"
            time.sleep(0.05)

    def end(self, with_signal: int = signal.SIGTERM) -> int:
        if self.running():
            self.process.send_signal(with_signal)
        return self.process.wait(PATIENCE)


class Service:
    """Servers, settings and a worker of one service, seen from its operator's desk."""

    def __init__(self, folder: Path, checkpoint: Path) -> None:
        self.folder = folder
        self.redis = redis_server()
        self.postgres: PostgresServer = postgres_server()
        upgrade(self.postgres.url())
        server = s3_server()
        made = new_bucket(config_of(server))
        self.bucket = OwnBucket(config=made.config, bucket=made.bucket, server=server)
        self.redis_url = f"redis://127.0.0.1:{self.redis.port}/0"
        self.env = self._environment(checkpoint)
        self.settings = load_settings(self.env)
        self.runtime = Runtime(self.settings)
        self.workers: list[Worker] = []

    def _environment(self, checkpoint: Path) -> dict[str, str]:
        values = {
            "broker_url": self.redis_url,
            "database_url": self.postgres.url(),
            "store": f"s3://{self.bucket.bucket}/store",
            "buckets": self.bucket.bucket,
            "s3_endpoint": self.bucket.config.endpoint,
            "s3_access_key": self.bucket.config.access_key,
            "s3_secret_key": self.bucket.config.secret_key,
            "s3_connect_timeout": 1,
            "s3_retries": 0,
            "checkpoint": checkpoint,
            "device": "cpu",
            "retry_delay": 0.2,
            "retry_delay_max": 1,
            "max_retries": 3,
            "job_timeout": 18,
            "visibility_timeout": 8,
            "requeue_after": 20,
            "max_deliveries": 10,  # a slow machine must not pass for a deadly document
            "concurrency": 2,
            "log_format": "json",
        }
        return {f"SIGCTL_{name.upper()}": str(value) for name, value in values.items()}

    @property
    def worker(self) -> Worker:
        """The running worker; started when there is none."""
        if not self.workers or not self.workers[-1].running():
            self.workers.append(Worker(self.env, self.folder))
            self.workers[-1].await_text(" ready.")
        return self.workers[-1]

    def enroll(self, signer: str, *pictures: bytes) -> None:
        report = enroll(
            signer,
            [(f"{signer} {number}", picture) for number, picture in enumerate(pictures)],
            sessions=self.runtime.sessions,
            images=self.runtime.images,
            embedder=self.runtime.embedder,
        )
        assert not report.with_fate(Fate.REFUSED)

    def submit(self, signer: str, document: str, **more: Any) -> str:
        return client.submit(signer, document, settings=self.settings, **more)

    def wait(self, job_id: str) -> Outcome:
        """The decision; the row of a bare message appears only when a worker takes it."""
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                return client.wait(job_id, timeout=PATIENCE, poll=0.05, settings=self.settings)
            except UnknownJob:
                assert time.monotonic() < deadline, self.workers[-1].text
                time.sleep(0.1)

    def is_decided(self, job_id: str) -> bool:
        with transaction(self.runtime.sessions) as session:
            return decisions.get(session, job_id) is not None

    def close(self) -> None:
        for worker in self.workers:
            worker.end(signal.SIGKILL)
        self.runtime.close()
        for server in (self.redis, self.postgres.server, self.bucket.server.server):
            server.remove()


@pytest.fixture(scope="module")
def service(
    tiny_checkpoint: Path,
    tmp_path_factory: pytest.TempPathFactory,
    pictures: dict[str, bytes],
) -> Iterator[Service]:
    made = Service(tmp_path_factory.mktemp("service"), tiny_checkpoint)
    made.enroll("ada", pictures["ada0"], pictures["ada1"])
    yield made
    made.close()


@pytest.fixture(scope="module")
def document(service: Service, pictures: dict[str, bytes]) -> str:
    """The URI of a document that is accepted as ada's."""
    return service.bucket.put("same.png", pictures["ada1"])


def push_bare(redis_url: str, queue: str, fields: dict[str, Any]) -> None:
    """Send a message as `docs/messages.md` shows, by running the code in it."""
    text = (ROOT / "docs" / "messages.md").read_text()
    (block,) = [part for part in re.findall(r"```python\n(.*?)```", text, re.S) if "lpush" in part]
    names: dict[str, Any] = {}
    exec(block, names)
    names["push"](redis_url, queue, fields)


def test_documents_sent_either_way_are_decided_and_every_failure_has_a_code(
    service: Service, document: str, pictures: dict[str, bytes]
) -> None:
    service.enroll("gone", pictures["bo0"])
    with transaction(service.runtime.sessions) as session:
        signers.retire(session, "gone")
        signers.ensure(session, "empty")
    put = service.bucket.put
    same, other = document, put("other.png", pictures["bo1"])
    blank, broken = put("blank.png", pictures["blank"]), put("broken.png", b"\x89PNG no")
    assert service.worker.running()

    expected = {
        service.submit("ada", same, metadata={"branch": 12}): "accept",
        service.submit("ada", other): "reject",
        service.submit("ada", same, region=[0, 0, 99999, 5]): "region_outside_page",
        service.submit("ada", same, page=2): "page_not_found",
        service.submit("ada", blank): "blank_image",
        service.submit("ada", broken): "unreadable_image",
        service.submit("ada", service.bucket.uri("none.png")): "image_not_found",
        service.submit("ada", "s3://elsewhere/a.png"): "uri_not_allowed",
        service.submit("ada", "file:///etc/passwd"): "uri_not_allowed",
        service.submit("nobody", same): "unknown_signer",
        service.submit("gone", same): "signer_retired",
        service.submit("empty", same): "no_references",
    }
    bare = {
        "bare-1": ({"signer_id": "ada", "document": same}, "accept"),
        "bare-2": ({"signer_id": "ada", "document": same, "colour": 1}, "invalid_message"),
        "bare-3": ({"signer_id": "ada"}, "invalid_message"),
    }
    for job_id, (fields, verdict) in bare.items():
        push_bare(service.redis_url, service.settings.queue, {"job_id": job_id, **fields})
        expected[job_id] = verdict

    outcomes = {job_id: service.wait(job_id) for job_id in expected}
    assert {
        job_id: outcome.error_code or outcome.verdict for job_id, outcome in outcomes.items()
    } == expected
    accepted = next(o for o in outcomes.values() if o.upstream == {"branch": 12})
    assert accepted.distance == pytest.approx(0, abs=0.02)  # the same picture, in bf16 and float32
    assert len(accepted.distances) == 2
    assert accepted.model_id == service.runtime.embedder.model_id
    assert accepted.preprocessing == "strokes/2 64x96"
    assert accepted.ink["stroke_width"] > 1
    assert next(o for o in outcomes.values() if o.error_code == "signer_retired").ink
    assert accepted.total_ms >= accepted.fetch_ms + accepted.preprocess_ms + accepted.embed_ms
    with transaction(service.runtime.sessions) as session:
        nearest = references.of_signer(session, "ada")[1]
        assert accepted.nearest_reference == nearest.id
        assert nearest.uri.startswith(f"{service.settings.store}/")
        assert [model.id for model in models.all(session)] == [accepted.model_id]
        statuses = {jobs.get(session, job_id).status for job_id in expected}
        assert statuses == {"done", "failed"}
        assert not jobs.stale(session, datetime.now(UTC), statuses=("queued", "running"))


def test_a_job_id_delivered_many_times_is_decided_once(service: Service, document: str) -> None:
    message = {"job_id": "many", "signer_id": "ada", "document": document}
    for _ in range(5):
        push_bare(service.redis_url, service.settings.queue, message)
    service.submit("ada", document, job_id="many")
    last = service.submit("ada", document)
    assert service.worker.running()
    assert service.wait("many").verdict == "accept"
    service.wait(last)
    with transaction(service.runtime.sessions) as session:
        query = select(func.count()).where(Decision.job_id == "many")
        assert session.scalar(query) == 1


def test_documents_that_somebody_waits_for_go_before_bulk(service: Service, document: str) -> None:
    service.worker.end()
    bulk = [service.submit("ada", document, priority="bulk") for _ in range(20)]
    urgent = [service.submit("ada", document) for _ in range(5)]
    # One at a time, for those of one batch are decided in the same instant.
    service.workers.append(Worker(service.env, service.folder, "--concurrency", "1"))
    service.worker.await_text(" ready.")
    last_urgent = max(service.wait(job).decided_at for job in urgent)
    decided = sorted(service.wait(job).decided_at for job in bulk)
    assert last_urgent <= decided[0]
    service.worker.end()  # the next test has one as usual


def test_a_worker_takes_only_the_work_it_is_for(service: Service, document: str) -> None:
    for worker in service.workers:
        worker.end()
    trainer = Worker(service.env, service.folder, "--work", "train,enrol")
    trainer.await_text(" ready.")
    job = service.submit("ada", document)
    app = make_app(service.settings)
    for kind in ("enrol", "train"):
        app.send_task(f"sigctl.{kind}.nothing_yet")
    trainer.await_text("sigctl.train.nothing_yet")
    trainer.await_text("sigctl.enrol.nothing_yet")
    with redis.Redis.from_url(service.redis_url) as broker:
        assert broker.llen(service.settings.queue) == 1
    assert not service.is_decided(job)
    trainer.end()
    assert service.worker.running()
    assert service.wait(job).verdict == "accept"


def test_nothing_on_the_queue_stops_the_worker(service: Service, document: str) -> None:
    queue, worker = service.settings.queue, service.worker
    with redis.Redis.from_url(service.redis_url) as broker:
        for text in rubbish(queue):
            broker.lpush(queue, text)
        assert service.wait(service.submit("ada", document)).verdict == "accept"
        assert worker.running()
        await_nothing_left(broker, queue)


def rubbish(queue: str) -> list[str]:
    """What might turn up on the list, from a slip of the hand to an attack."""
    good = {"headers": {"task": "sigctl.verify", "id": "x"}, "content-type": "application/json"}
    good |= {"content-encoding": "utf-8"}
    tag = {"delivery_tag": "t", "delivery_info": {"exchange": "", "routing_key": queue}}
    encoded = {**tag, "body_encoding": "base64"}
    texts = [
        "this is no JSON",
        "[1, 2]",
        "null",
        "{}",
        json.dumps({"body": "", "properties": {}}),
        json.dumps({**good, "body": "%%%", "properties": encoded}),
        json.dumps({**good, "body": "Zm9v", "properties": encoded}),
        json.dumps({**good, "body": 7, "properties": encoded}),
        json.dumps({**good, "body": "[]", "properties": tag}),
        json.dumps({**good, "body": '[[], "x", {}]', "properties": tag}),
        json.dumps({**good, "body": "[[1,2,3,4,5,6,7,8,9], {}, {}]", "properties": tag}),
        json.dumps(
            {
                **good,
                "content-type": "application/x-python-serialize",
                "body": "gASVAAA=",
                "properties": encoded,
            }
        ),
        json.dumps(
            {
                **good,
                "headers": {"task": "os.system", "id": "y"},
                "body": "[[], {}, {}]",
                "properties": tag,
            }
        ),
        json.dumps(
            {
                **good,
                "headers": {"task": "sigctl.verify"},
                "body": "[[], {}, {}]",
                "properties": tag,
            }
        ),
        json.dumps({**good, "headers": None, "body": "[[], {}, {}]", "properties": tag}),
        "[" * 100_000,
        json.dumps(
            {**good, "body": '[[], {"a":' + "[" * 900 + "]" * 900 + "}, {}]", "properties": tag}
        ),
        json.dumps({**good, "body": '[[], {"page": NaN}, {}]', "properties": tag}),
        json.dumps({**good, "body": "x" * 10_000_000, "properties": tag}),
        *(
            json.dumps(
                {
                    **good,
                    **wrong,
                    "headers": {"task": "sigctl.verify", "id": "z", **more},
                    "body": '[[], {"page": 1}, {}]',
                    "properties": tag,
                }
            )
            for wrong, more in [
                ({"content-encoding": "utf-7"}, {}),
                ({"content-encoding": "no-such"}, {}),
                ({"content-encoding": 7}, {}),
                ({}, {"compression": "application/x-gzip"}),
                ({}, {"compression": "no-such"}),
                ({}, {"retries": "many"}),
                ({}, {"eta": "never"}),
                ({}, {"expires": [1]}),
                ({}, {"timelimit": "long"}),
            ]
        ),
    ]
    return [text.replace('"t"', f'"t{number}"') for number, text in enumerate(texts)]


def await_nothing_left(broker: redis.Redis, queue: str) -> None:
    """No message waits, and none is held back to be delivered once more."""
    deadline = time.monotonic() + PATIENCE
    while broker.llen(queue) or broker.hlen("unacked"):
        assert time.monotonic() < deadline, broker.hgetall("unacked")
        time.sleep(0.1)


def test_nobody_who_can_write_to_the_broker_gives_orders_to_a_worker(
    service: Service, document: str
) -> None:
    app = make_app(service.settings)
    assert service.worker.running()
    job = str(uuid.uuid4())
    app.control.revoke(job, terminate=True)
    app.control.broadcast("pool_shrink", arguments={"n": 99})
    app.control.cancel_consumer(service.settings.queue)
    app.control.shutdown()
    assert "error" in str(app.control.inspect(timeout=30, limit=1).conf())
    assert app.control.inspect(timeout=30, limit=1).ping()
    assert service.submit("ada", document, job_id=job) == job
    assert service.wait(job).verdict == "accept"
    assert service.worker.running()


def test_while_the_image_store_is_away_jobs_are_retried_and_then_recorded_as_failed(
    service: Service, document: str
) -> None:
    worker = service.worker
    service.bucket.stop()
    failed = service.submit("ada", document, job_id="store-away")
    outcome = service.wait(failed)
    assert outcome.error_code == "store_unavailable"
    tries = [line for line in worker.text.splitlines() if "try_failed" in line]
    assert len([line for line in tries if "store-away" in line]) == 4
    with transaction(service.runtime.sessions) as session:
        assert jobs.get(session, failed).status == "failed"

    service.bucket.start()
    assert service.wait(service.submit("ada", document)).verdict == "accept"


def test_while_the_database_is_away_no_job_is_dropped(service: Service, document: str) -> None:
    worker, message = service.worker, {"signer_id": "ada", "document": document}
    service.postgres.stop()
    for number in range(3):
        push_bare(service.redis_url, service.settings.queue, {"job_id": f"db-{number}", **message})
    worker.await_text("nothing_recorded")
    time.sleep(3)  # longer than the bounded retries would take
    service.postgres.start()
    assert {service.wait(f"db-{number}").verdict for number in range(3)} == {"accept"}


def test_a_worker_that_is_stopped_loses_no_job(service: Service, document: str) -> None:
    worker = service.worker
    sent = [service.submit("ada", document, job_id=f"stop-{number}") for number in range(60)]
    worker.await_text('"job_id": "stop-')
    assert worker.end() == 0
    assert service.worker.process.pid != worker.process.pid
    assert {service.wait(job_id).verdict for job_id in sent} == {"accept"}


def test_a_killed_worker_s_jobs_are_decided_by_another(service: Service, document: str) -> None:
    worker = service.worker
    jobs = [f"kill-{number}" for number in range(60)]
    for job_id in jobs:  # without a row: only Redis knows of them
        message = {"job_id": job_id, "signer_id": "ada", "document": document}
        push_bare(service.redis_url, service.settings.queue, message)
    worker.await_text('"job_id": "kill-')
    worker.end(signal.SIGKILL)
    assert service.worker.process.pid != worker.process.pid
    assert {service.wait(job_id).verdict for job_id in jobs} == {"accept"}
    service.worker.await_text("message_of_a_lost_worker_returned")


@pytest.mark.long
def test_a_document_that_kills_its_worker_is_set_aside_and_the_others_are_decided(
    service: Service, document: str, pictures: dict[str, bytes]
) -> None:
    for worker in service.workers:
        worker.end()
    deadly = service.submit("ada", service.bucket.put("deadly.png", pictures["ada0"]))
    others = [service.submit("ada", document) for _ in range(30)]
    env = service.env | {"SIGCTL_MAX_DELIVERIES": "3", "SIGCTL_CONCURRENCY": "8"}
    deaths = 0
    while not service.is_decided(deadly):
        worker = Worker(env, service.folder, command=["tests/deadly_worker.py"])
        service.workers.append(worker)
        while worker.running() and not service.is_decided(deadly):
            time.sleep(0.2)
        deaths += not worker.running()
    assert deaths == 3
    outcome = service.wait(deadly)
    assert outcome.error_code == "poison"
    assert outcome.error_message.startswith("3 workers took this job")
    assert {service.wait(job_id).verdict for job_id in others} == {"accept"}


def test_a_job_that_takes_its_time_is_not_delivered_again(service: Service, document: str) -> None:
    """Its worker, which lives, holds on to it for longer than the visibility timeout."""
    worker, returned = service.worker, "message_of_a_lost_worker_returned"
    before = worker.text.count(returned)
    service.postgres.stop()
    message = {"job_id": "slow", "signer_id": "ada", "document": document}
    push_bare(service.redis_url, service.settings.queue, message)
    worker.await_text('"job_id": "slow"')
    time.sleep(service.settings.visibility_timeout + 3)
    service.postgres.start()
    assert service.wait("slow").verdict == "accept"
    assert worker.text.count(returned) == before


def test_a_job_that_only_its_row_remembers_is_sent_again(service: Service, document: str) -> None:
    service.worker.end()
    job = service.submit("ada", document)
    with redis.Redis.from_url(service.redis_url) as broker:
        broker.flushdb()
    assert client.requeue(60, settings=service.settings) == []
    assert client.requeue(0, settings=service.settings) == [job]
    assert service.worker.running()
    assert service.wait(job).verdict == "accept"


def test_the_beat_sends_forgotten_jobs_again_and_ends_with_its_worker(
    service: Service, document: str
) -> None:
    for worker in service.workers:
        worker.end()
    job = service.submit("ada", document)
    with redis.Redis.from_url(service.redis_url) as broker:
        broker.flushdb()
    soon = service.env | {"SIGCTL_REQUEUE_AFTER": "8"}
    service.workers.append(Worker(soon, service.folder, "--beat", "--name", "beating"))
    assert service.wait(job).verdict == "accept"
    service.workers[-1].end(signal.SIGKILL)
    left = [process for process in psutil.process_iter() if "beating" in " ".join(_line(process))]
    assert not left


def _line(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:  # gone meanwhile
        return []


def test_a_prefork_pool_on_the_cpu_decides_as_well(service: Service, document: str) -> None:
    for worker in service.workers:
        worker.end()
    service.workers.append(Worker(service.env | {"SIGCTL_POOL": "prefork"}, service.folder))
    job = service.submit("ada", document)
    assert service.wait(job).verdict == "accept"
    assert service.workers[-1].end() == 0


WRONG = [
    ({"CHECKPOINT_SHA256": "0" * 64}, "is not the one that SIGCTL_CHECKPOINT_SHA256 names."),
    ({"POOL": "prefork", "DEVICE": "cuda"}, "does not survive a fork"),
    ({"RETRY_DELAY": "soon"}, "SIGCTL_RETRY_DELAY must be a positive number of seconds"),
    ({"BROKER_URL": ""}, "SIGCTL_BROKER_URL"),
]


def test_a_worker_that_cannot_work_says_why_and_does_not_start(service: Service) -> None:
    workers = []
    for wrong, _ in WRONG:  # all at once, on as many cores as there are
        variables = {f"SIGCTL_{name}": value for name, value in wrong.items()}
        workers.append(Worker(service.env | variables, service.folder))
    for worker, (wrong, sentence) in zip(workers, WRONG, strict=True):
        assert worker.process.wait(PATIENCE) != 0, wrong
        assert sentence in worker.text
        assert "Traceback" not in worker.text
