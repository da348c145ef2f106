"""What the chain costs those who record, and how long it takes to check and to migrate.

Processes record on one PostgreSQL at the same time, in rounds that alternate with a record that is
not chained. Then a record of 10^6 decisions is filled, adopted, checked, and taken down and up
through the migrations while somebody goes on writing.

    python -m bench.chain [--decisions 1000000] [--processes 4] [--rounds 9] [--json FILE]
"""

import argparse
import json
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing import get_context
from multiprocessing.synchronize import Barrier
from pathlib import Path
from statistics import median
from typing import Any
from uuid import uuid4

import numpy as np
from rich.console import Console
from rich.progress import Progress
from sqlalchemy import create_engine, text

from bench.lookup import SERVER
from bench.record import fill
from bench.rows import Size
from migrations.upgrade import downgrade, head, upgrade
from storage import chain, decisions, references, verification
from storage.database import Sessions, make_engine, make_sessions, upsert
from storage.reference_cache import ReferenceCache
from storage.seal import Key, Keys
from storage.tables import Decision
from tests.builders import a_model, a_reference, unit_vector
from tests.fakes import FakeEmbedder
from tests.services import postgres_server
from worker.ledger import Case, Ledger
from worker.ledger import Progress as Done
from worker.messages import VerifyRequest

KEY = Key.of("the key of the bench, 32 characters")
DURABLE = {"fsync": "on", "synchronous_commit": "on", "full_page_writes": "on"}
SIGNERS = 20
BATCH = 8  # jobs in one transaction, as a busy worker has them


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; returns 1 when a target is missed."""
    options = _options(arguments)
    with Progress(console=Console(stderr=True), transient=True) as bar:
        found = measure(options.decisions, options.processes, options.rounds, options.seconds, bar)
    print(markdown(found))
    if options.json:
        options.json.write_text(json.dumps(found, indent=2) + "\n")
    return 0 if found["cost"] <= 0.10 and found["verify_seconds_of_a_million"] < 60 else 1


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="What the chain costs.")
    parser.add_argument("--decisions", type=int, default=1_000_000, help="of the record checked")
    parser.add_argument("--processes", type=int, default=4, help="that record at the same time")
    parser.add_argument("--rounds", type=int, default=9, help="of each kind, in turn")
    parser.add_argument("--seconds", type=float, default=4.0, help="of one round")
    parser.add_argument("--json", type=Path, help="write the figures here as well")
    return parser.parse_args(arguments)


def measure(
    decided: int, processes: int, rounds: int, seconds: float, bar: Progress
) -> dict[str, Any]:
    """All figures; decisions per second, shares and seconds."""
    server = postgres_server(SERVER | DURABLE)
    try:
        recording = _recording(server.url(), processes, rounds, seconds, bar)
        admin = create_engine(server.url(), isolation_level="AUTOCOMMIT")
        with admin.connect() as connection:
            connection.execute(text("CREATE DATABASE checked"))
        admin.dispose()
        return recording | _checking(server.url("checked"), decided, bar)
    finally:
        server.server.remove()


def _recording(
    url: str, processes: int, rounds: int, seconds: float, bar: Progress
) -> dict[str, Any]:
    """Decisions per second of all processes together, with and without the chain."""
    upgrade(url)
    _enrol(make_sessions(url))
    context = get_context("spawn")
    barrier, results = context.Barrier(processes + 1), context.Queue()
    plan = (rounds, seconds, barrier, results)
    workers = [context.Process(target=_work, args=(url, *plan)) for _ in range(processes)]
    for worker in workers:
        worker.start()
    rates: dict[bool, list[float]] = {True: [], False: []}
    spent: dict[bool, list[float]] = {True: [], False: []}
    for turn in bar.track(range(2 * rounds), description="recording"):
        barrier.wait()
        made, cpu = map(sum, zip(*(results.get() for _ in workers), strict=True))
        rates[_chained(turn)].append(made / seconds)
        spent[_chained(turn)].append(1000 * cpu / made)
    for worker in workers:
        worker.join()
    pairs = zip(rates[True], rates[False], strict=True)
    return {
        "processes": processes,
        "chained": median(rates[True]),
        "plain": median(rates[False]),
        "cost": 1 - median(on / off for on, off in pairs),
        "chained_cpu_ms": median(spent[True]),
        "plain_cpu_ms": median(spent[False]),
    }


def _chained(turn: int) -> bool:
    """On, off, off, on: what drifts meets both alike."""
    return turn % 4 in (0, 3)


def _work(url: str, rounds: int, seconds: float, barrier: Barrier, results: Any) -> None:
    sessions, embedder = make_sessions(url, KEY), FakeEmbedder()
    ledger, record = Ledger(sessions, ReferenceCache()), decisions.record
    _batch(ledger, embedder)
    for turn in range(2 * rounds):
        decisions.record = record if _chained(turn) else _record_plainly
        barrier.wait()
        made, until, began = 0, time.perf_counter() + seconds, time.process_time()
        while time.perf_counter() < until:
            made += _batch(ledger, embedder)
        results.put((made, time.process_time() - began))


def _batch(ledger: Ledger, embedder: FakeEmbedder) -> int:
    """What a worker does with a batch of jobs beside fetching and embedding."""
    drawn = np.random.default_rng()
    requests = [
        VerifyRequest(job_id=uuid4().hex, signer_id=f"s{n}", document="s3://documents/a.png")
        for n in drawn.integers(SIGNERS, size=BATCH)
    ]
    ledger.begin(requests)
    vector = np.zeros(512, np.float32)
    vector[0] = 1
    cases = [Case(request=r, vector=vector, exact=True, progress=Done()) for r in requests]
    outcomes = ledger.decide(cases, embedder, None)  # type: ignore[arg-type]
    for outcome in outcomes:
        if isinstance(outcome, Exception):
            raise outcome
    return len(outcomes)


def _record_plainly(session: Any, decided: Sequence[Decision]) -> list[Decision]:
    """`decisions.record` as it was before the chain."""
    for decision in decided:
        decisions._check(decision)
    rows = [decisions._row(decision) for decision in decided]
    insert = upsert(session, Decision).on_conflict_do_nothing(index_elements=["job_id"])
    ordered = sorted(rows, key=lambda row: str(row["job_id"]))
    written = session.scalars(insert.returning(Decision), ordered).all()
    standing = {decision.job_id: decision for decision in written}
    return [standing[decision.job_id] for decision in decided]


def _enrol(sessions: Sessions) -> None:
    embedder = FakeEmbedder()
    with sessions.begin() as session:
        a_model(session, embedder.model_id)
        for number in range(SIGNERS):
            reference = a_reference(session, f"s{number}")
            references.put_embeddings(
                session, embedder.model_id, {reference.id: unit_vector(number)}
            )
    sessions.kw["bind"].dispose()


def _checking(url: str, decided: int, bar: Progress) -> dict[str, Any]:
    """Seconds to adopt, to verify and to migrate a record of so many decisions."""
    task = bar.add_task("filling", total=1.0)
    size = Size(signers=max(1, decided // 50), decisions=decided, seconds=60.0)
    fill(url, size, lambda part, done: bar.update(task, description=part, completed=done))
    sessions = make_sessions(url, KEY)
    adopting = _timed(lambda: _adopt(sessions, bar, decided))
    report: list[verification.Report] = []

    def verify() -> None:
        with sessions.begin() as session:
            report.append(verification.verify(session, Keys(current=KEY)))

    began = time.process_time()
    with bar.console.status("verifying"):
        verifying = median(_timed(verify) for _ in range(3))
    cpu = (time.process_time() - began) / 3
    if report[0].faults or report[0].decisions != decided:
        raise SystemExit("The record that was adopted does not hold.")
    sessions.kw["bind"].dispose()
    return {
        "decisions": decided,
        "adopt_seconds": adopting,
        "verify_seconds": verifying,
        "verify_cpu_seconds": cpu,
        "verify_seconds_of_a_million": verifying * 1e6 / decided,
        "migrations": [_migration(url, *way) for way in _ways()],
    }


def _ways() -> list[tuple[str, Callable[[str, str], None], str]]:
    newest = head()
    return [
        (f"down from {newest} to 0004", downgrade, "0004"),
        (f"up to {newest}", upgrade, newest),
        (f"down from {newest} to 0001", downgrade, "0001"),
        (f"up from 0001 to {newest}", upgrade, newest),
    ]


def _migration(url: str, name: str, act: Callable[[str, str], None], to: str) -> dict[str, Any]:
    with _writing(url) as waits:
        seconds = _timed(lambda: act(url, to))
    return {"name": name, "seconds": seconds, "longest_wait": max(waits)}


@contextmanager
def _writing(url: str) -> Iterator[list[float]]:
    """Somebody who records all the while; how long each transaction took."""
    waits: list[float] = []
    over = threading.Event()

    def write() -> None:
        engine = make_engine(url)
        while not over.is_set():
            waits.append(_timed(lambda: _insert(engine)))
            time.sleep(0.005)
        engine.dispose()

    writer = threading.Thread(target=write)
    writer.start()
    time.sleep(0.5)
    yield waits
    over.set()
    writer.join()


def _insert(engine: Any) -> None:
    """A job that failed, in columns that every release has."""
    job = "INSERT INTO jobs VALUES (:job, 's', 'd', NULL, NULL, '{}', 'failed', 1, now(), now())"
    decision = (
        "INSERT INTO decisions (job_id, signer_id, document, verdict, error_code, distances,"
        " upstream, decided_at) VALUES (:job, 's', 'd', 'error', 'blank_image', '[]', '{}', now())"
    )
    values = {"job": uuid4().hex}
    with engine.begin() as connection:
        for statement in (job, decision):
            connection.execute(text(statement), values)


def _adopt(sessions: Sessions, bar: Progress, decided: int) -> None:
    task, jobs = bar.add_task("adopting", total=decided), [""]
    while jobs:
        with sessions.begin() as session:
            jobs = chain.adopt(session, after=jobs[-1])
        bar.advance(task, len(jobs))


def _timed(work: Callable[[], None]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def markdown(found: dict[str, Any]) -> str:
    """The figures as a table."""
    lines = [
        f"{found['processes']} processes, {BATCH} decisions a transaction, durable commits;"
        f" then {found['decisions']:,} decisions.",
        "",
        "| | measured | target |",
        "|---|---|---|",
        f"| decisions/s, chained / not | {found['chained']:.0f} / {found['plain']:.0f} | |",
        f"| the workers' processor time for a decision | {found['chained_cpu_ms']:.2f} /"
        f" {found['plain_cpu_ms']:.2f} ms | |",
        f"| what the chain costs | {100 * found['cost']:.1f} % | at most 10 % |",
        f"| `audit adopt` | {found['adopt_seconds']:.0f} s | |",
        f"| `audit verify` | {found['verify_seconds']:.1f} s, of which it computes"
        f" {found['verify_cpu_seconds']:.1f} s | 60 s for 10^6 |",
    ]
    for one in found["migrations"]:
        figures = f"{one['seconds']:.1f} s, a writer waits at most {one['longest_wait']:.2f} s"
        lines.append(f"| {one['name']} | {figures} | |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
