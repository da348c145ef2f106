"""A whole service on this machine: real servers, workers in processes of their own, a producer."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import redis
from sqlalchemy import func, select

from migrations.upgrade import upgrade
from storage import decisions
from storage.decisions import DecisionFilter
from storage.tables import Decision
from tests.conftest import Bucket, config_of, new_bucket
from tests.services import Server, postgres_server, redis_server, s3_server
from worker.enrolment import enroll
from worker.messages import TASK
from worker.runtime import get_runtime
from worker.settings import Settings, load_settings
from worker.transactions import transaction

PATIENCE = 1800.0  # seconds for the whole queue
SIGCTL = (sys.executable, "-m", "worker.cli.main")


@dataclass(frozen=True, kw_only=True)
class Service:
    """Servers that run, the settings to reach them, and a bucket for documents."""

    settings: Settings
    env: Mapping[str, str]
    bucket: Bucket
    servers: Mapping[str, Server]
    folder: Path
    broker: redis.Redis = field(repr=False)

    @contextmanager
    def workers(self, count: int = 1, **variables: str) -> Iterator[list[Worker]]:
        """So many worker processes, ready for work; `variables` are settings without SIGCTL_."""
        env = {**self.env, **{f"SIGCTL_{name}": value for name, value in variables.items()}}
        workers = [Worker(env, self.folder / f"{uuid.uuid4().hex}.log") for _ in range(count)]
        try:
            for worker in workers:
                worker.await_ready()
            yield workers
        finally:
            for worker in workers:
                worker.stop()

    def enrol(self, signer: str, images: Mapping[str, bytes]) -> None:
        """Enrol here and now; exits when an image is refused."""
        runtime = get_runtime(self.settings)
        report = enroll(
            signer,
            images.items(),
            sessions=runtime.sessions,
            images=runtime.images,
            embedder=runtime.embedder,
            force=True,  # corpora hold near duplicates, and benches repeat their pictures
        )
        if report.references != len(images):
            sys.exit(f"{signer} has {report.references} references, not {len(images)}.")

    def push(self, jobs: Sequence[Mapping[str, Any]]) -> None:
        """Send messages as an upstream system would, without a row: a worker makes it."""
        envelopes = [_envelope(job, self.settings.queue) for job in jobs]
        for start in range(0, len(envelopes), 500):
            self.broker.lpush(self.settings.queue, *envelopes[start : start + 500])

    def decided(self, prefix: str = "") -> int:
        """How many jobs have a decision, of those whose id begins so."""
        query = select(func.count()).select_from(Decision)
        with transaction(get_runtime(self.settings).sessions) as session:
            return session.scalar(query.where(Decision.job_id.startswith(prefix))) or 0

    def decisions(self, expected: int, prefix: str = "", poll: float = 0.5) -> list[Decision]:
        """Wait until so many jobs are decided, and read their decisions."""
        deadline = time.monotonic() + PATIENCE
        while (found := self.decided(prefix)) < expected:
            if time.monotonic() > deadline:
                sys.exit(f"Only {found} of {expected} jobs were decided in {PATIENCE:.0f} s.")
            time.sleep(poll)
        with transaction(get_runtime(self.settings).sessions) as session:
            rows = decisions.search(session, DecisionFilter())
            return [row for row in rows if row.job_id.startswith(prefix)]


class Worker:
    """A `celery worker` process."""

    def __init__(self, env: Mapping[str, str], log: Path, *options: str) -> None:
        self._log = log
        clean = {name: v for name, v in os.environ.items() if not name.startswith("SIGCTL_")}
        with log.open("w") as output:
            self.process = subprocess.Popen(
                [*SIGCTL, "worker", "--name", log.stem, *options],
                env={**clean, **env},
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    def await_ready(self) -> None:
        """Wait until it takes jobs; exits with its log when it does not start."""
        while " ready." not in self._log.read_text():
            if self.process.poll() is not None:
                sys.exit(self._log.read_text())
            time.sleep(0.1)

    def stop(self) -> None:
        """Warm shutdown."""
        if self.process.poll() is None:
            self.process.terminate()
        self.process.wait(60)

    def cpu_seconds(self) -> float:
        """Processor time of the process so far."""
        return cpu_seconds(self.process.pid)

    def megabytes(self) -> float:
        """Resident memory."""
        return float(psutil.Process(self.process.pid).memory_info().rss) / 2**20


@contextmanager
def service(checkpoint: Path, **variables: str) -> Iterator[Service]:
    """Redis, PostgreSQL and an S3 server; `variables` are settings without SIGCTL_."""
    with ExitStack() as stack:
        broker, postgres, s3 = redis_server(), postgres_server(), s3_server()
        for server in (broker, postgres, s3):
            stack.callback(server.stop)
        bucket = new_bucket(config_of(s3))
        env = {
            "SIGCTL_BROKER_URL": f"redis://127.0.0.1:{broker.port}/0",
            "SIGCTL_DATABASE_URL": postgres.url(),
            "SIGCTL_STORE": f"s3://{bucket.bucket}/store",
            "SIGCTL_BUCKETS": bucket.bucket,
            "SIGCTL_S3_ENDPOINT": str(bucket.config.endpoint),
            "SIGCTL_S3_ACCESS_KEY": str(bucket.config.access_key),
            "SIGCTL_S3_SECRET_KEY": str(bucket.config.secret_key),
            "SIGCTL_CHECKPOINT": str(checkpoint.resolve()),
            **{f"SIGCTL_{name}": value for name, value in variables.items()},
        }
        settings = load_settings(env)
        upgrade(settings.database_url)
        yield Service(
            settings=settings,
            env=env,
            bucket=bucket,
            servers={"redis": broker, "postgres": postgres.server, "s3": s3.server},
            folder=Path(stack.enter_context(tempfile.TemporaryDirectory())),
            broker=stack.enter_context(redis.Redis(port=broker.port)),
        )


def cpu_seconds(pid: int) -> float:
    """Processor time of a process and its children so far."""
    process = psutil.Process(pid)
    spent = 0.0
    for one in (process, *process.children(recursive=True)):
        try:
            times = one.cpu_times()
        except psutil.NoSuchProcess:
            continue
        spent += times.user + times.system + times.children_user + times.children_system
    return float(spent)


def _envelope(fields: Mapping[str, Any], queue: str) -> str:
    """One message of Celery's protocol 2, as docs/messages.md shows."""
    task_id = str(uuid.uuid4())
    body = json.dumps([[], dict(fields), {}])
    return json.dumps(
        {
            "body": base64.b64encode(body.encode()).decode(),
            "content-type": "application/json",
            "content-encoding": "utf-8",
            "headers": {"lang": "any", "task": TASK, "id": task_id, "root_id": task_id},
            "properties": {
                "body_encoding": "base64",
                "correlation_id": task_id,
                "delivery_mode": 2,
                "delivery_tag": str(uuid.uuid4()),
                "delivery_info": {"exchange": "", "routing_key": queue},
            },
        }
    )
