"""What people would pick instead, with the same model, servers and documents, in the same run."""

from __future__ import annotations

import http.client
import json
import os
import queue
import subprocess
import sys
import sysconfig
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
from celery import Celery
from sqlalchemy import make_url

from bench.service import Service
from tests.services import free_port

LITSERVE = "litserve==0.2.19"
CLIENTS = 24  # requests under way at a time
HOME = Path(".cache/peers")
START_SECONDS = 120
STANDSTILL_SECONDS = 120


@dataclass(frozen=True, kw_only=True)
class Peer:
    """How a peer is named in the table, and how the network runs in it."""

    name: str
    kind: str
    engine: bool


PEERS = (
    Peer(name="Celery prefork, PyTorch", kind="celery", engine=False),
    Peer(name="Celery prefork, our engine", kind="celery", engine=True),
    Peer(name="LitServe, PyTorch", kind="litserve", engine=False),
    Peer(name="LitServe, our engine", kind="litserve", engine=True),
)


def install() -> None:
    """LitServe in a virtual environment of its own, which sees the project's packages too."""
    python = HOME / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(HOME)], check=True)
    inside = "import sysconfig; print(sysconfig.get_path('purelib'))"
    found = subprocess.run([python, "-c", inside], check=True, capture_output=True, text=True)
    Path(found.stdout.strip(), "project.pth").write_text(sysconfig.get_path("purelib") + "\n")
    pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", LITSERVE]
    subprocess.run([python, *pip], check=True)


def saturate(
    service: Service, peer: Peer, documents: Sequence[tuple[str, str]], count: int, name: str
) -> dict[str, Any]:
    """Documents a second between the first and the last decision, as `load.saturate` has it."""
    config = _config(service, peer)
    with psycopg.connect(config["database"], autocommit=True) as database:
        run = _through_celery if peer.kind == "celery" else _through_litserve
        with run(service, config) as send:
            send(_jobs(documents, 2 * CLIENTS, f"{name}-warm"))
            _await(database, f"{name}-warm", 2 * CLIENTS)
            send(_jobs(documents, count, f"{name}-run"))
            first, last = _await(database, f"{name}-run", count)
    return {
        "peer": peer.name,
        "documents": count,
        "documents_per_second": (count - 1) / (last - first),
    }


def _config(service: Service, peer: Peer) -> dict[str, Any]:
    bucket, settings = service.bucket.config, service.settings
    url = make_url(settings.database_url).set(drivername="postgresql")
    return {
        "checkpoint": str(settings.checkpoint),
        "engine": peer.engine,
        "endpoint": bucket.endpoint,
        "access_key": bucket.access_key,
        "secret_key": bucket.secret_key,
        "database": url.render_as_string(hide_password=False),
        "broker": str(settings.broker_url)[:-1] + "1",  # another database of the same Redis
    }


def _jobs(documents: Sequence[tuple[str, str]], count: int, name: str) -> list[dict[str, str]]:
    chosen = (documents[number % len(documents)] for number in range(count))
    return [
        {"job": f"{name}-{number}", "signer": signer, "uri": uri}
        for number, (signer, uri) in enumerate(chosen)
    ]


def _await(database: psycopg.Connection, prefix: str, count: int) -> tuple[float, float]:
    """When the first and the last of these were decided, once all are."""
    query = """SELECT count(*), extract(epoch FROM min(decided_at))::float,
        extract(epoch FROM max(decided_at))::float FROM peer_decisions WHERE job LIKE %s"""
    decided, since = 0, time.monotonic()
    while time.monotonic() - since < STANDSTILL_SECONDS:
        found, first, last = database.execute(query, (f"{prefix}-%",)).fetchone() or (0, 0.0, 0.0)
        if found >= count:
            return first, last
        if found > decided:
            decided, since = found, time.monotonic()
        time.sleep(0.2)
    sys.exit(f"The peer stands still: it has decided {decided} of {count} documents.")


@contextmanager
def _through_celery(_service: Service, config: Mapping[str, Any]) -> Iterator[Any]:
    command = [sys.executable, "-m", "celery", "-A", "bench.peer_celery", "worker"]
    options = ["--pool", "prefork", "--concurrency", str(os.cpu_count() or 1)]
    env = {"PEER_CONFIG": json.dumps(config), "PEER_BROKER": config["broker"]}
    app = Celery("producer", broker=config["broker"], set_as_current=False)
    quiet = ["--loglevel", "warning", "--without-gossip", "--without-mingle"]
    with _process([*command, *options, *quiet], env), app.connection_for_write() as connection:

        def send(jobs: Sequence[Mapping[str, str]]) -> None:
            for job in jobs:
                app.send_task("peer.verify", kwargs=job, connection=connection)

        _ensure_table(config)
        yield send


@contextmanager
def _through_litserve(_service: Service, config: Mapping[str, Any]) -> Iterator[Any]:
    port = free_port()
    command = [str(HOME / "bin" / "python"), "-m", "bench.peer_litserve", str(port)]
    with _process(command, {"PEER_CONFIG": json.dumps(config)}):
        _await_server(port)

        def send(jobs: Sequence[Mapping[str, str]]) -> None:
            waiting: queue.SimpleQueue[Mapping[str, str] | None] = queue.SimpleQueue()
            for job in (*jobs, *[None] * CLIENTS):
                waiting.put(job)
            threads = [
                threading.Thread(target=_post_all, args=(port, waiting)) for _ in range(CLIENTS)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()

        yield send


def _post_all(port: int, waiting: queue.SimpleQueue[Mapping[str, str] | None]) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=300)
    while (job := waiting.get()) is not None:
        headers = {"Content-Type": "application/json"}
        connection.request("POST", "/predict", json.dumps(job), headers)
        answer = connection.getresponse()
        body = answer.read()
        if answer.status != 200:
            sys.exit(f"LitServe answered {answer.status}: {body[:200]!r}")
    connection.close()


def _await_server(port: int) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        try:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
            connection.request("GET", "/health")
            if connection.getresponse().status == 200:
                return
        except OSError:
            pass
        time.sleep(0.2)
    sys.exit("LitServe did not start.")


def _ensure_table(config: Mapping[str, Any]) -> None:
    from bench.peer_work import TABLE

    with psycopg.connect(config["database"], autocommit=True) as database:
        database.execute(TABLE)


@contextmanager
def _process(command: Sequence[str], env: Mapping[str, str]) -> Iterator[None]:
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen(command, env={**os.environ, **env}, start_new_session=True, **quiet)  # type: ignore[call-overload]
    try:
        yield
    finally:
        os.killpg(process.pid, 15)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, 9)
            process.wait()
