"""How fast the record answers, and that this does not grow with the record.

Fills PostgreSQL and SQLite twice, at a hundredth and at full size, and asks both sizes in turn:
the references of a signer, the decision of a job, the pages of `sigctl audit list` and the sums of
`sigctl audit stats`. Each time is that of a whole transaction.

    python -m bench.lookup [--scale 1] [--draws 500] [--json FILE]

At full size PostgreSQL holds 10^6 references and 10^7 decisions and needs 36 GB in the temporary
folder, SQLite a tenth of that. Everything is removed at the end.
"""

import argparse
import json
import shutil
import signal
import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import Progress
from sqlalchemy import Engine, create_engine, text

from bench.plans import plan
from bench.questions import Question, questions
from bench.record import disk, fill
from bench.rows import Size
from storage.database import Sessions, make_engine, make_sessions
from tests.services import new_folder, postgres_server

SMALL = 0.01  # of the full size
WARM = 100  # draws before the first that counts
SIZES = {
    "PostgreSQL": Size(signers=200_000, decisions=10_000_000, seconds=6.3),
    "SQLite": Size(signers=20_000, decisions=1_000_000, seconds=63.0),
}
"""Two years of decisions; the small record is the last week of the same traffic."""

BYTES = 3_600  # on disk for each decision, with its job, indexes and share of the references
# What an operator gives a server of its own on a machine with 16 GB; the tests' 32 MB would
# measure the copying of pages between PostgreSQL and the system.
SERVER = {
    "shared_buffers": "2GB",
    "effective_cache_size": "8GB",
    "maintenance_work_mem": "512MB",
    "work_mem": "64MB",
    "max_wal_size": "8GB",
}


@dataclass(frozen=True, kw_only=True)
class Record:
    """A filled database."""

    size: Size
    engine: Engine
    sessions: Sessions


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print the tables in Markdown; returns 1 when a target is missed."""
    options = _options(arguments)
    # As for Ctrl-C: leave by way of the functions that remove what was written.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    lack = _lack(options.scale)
    if lack:
        print(lack, file=sys.stderr)
        return 2
    result = measure(scale=options.scale, draws=options.draws)
    print(markdown(result))
    if options.json:
        options.json.write_text(json.dumps(result, indent=2) + "\n")
    return 0 if met(result) else 1


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="How fast the record answers.")
    parser.add_argument("--scale", type=float, default=1.0, help="of the full size, 1e-4 to 1")
    parser.add_argument("--draws", type=int, default=500, help="of each question")
    parser.add_argument("--json", type=Path, help="write the figures here as well")
    options = parser.parse_args(arguments)
    if not 1e-4 <= options.scale <= 1:
        parser.error("--scale is between 0.0001 and 1")
    if options.draws < 1:
        parser.error("--draws is at least 1")
    return options


def _lack(scale: float) -> str | None:
    folder = tempfile.gettempdir()
    # One kind after the other, so the larger is all that there ever is.
    needed = scale * BYTES * max(size.decisions for size in SIZES.values())
    free = shutil.disk_usage(folder).free
    if free > needed:
        return None
    return f"This needs {needed / 1e9:.0f} GB in {folder}, which has {free / 1e9:.0f} GB left."


def measure(*, scale: float = 1.0, draws: int = 500) -> dict[str, Any]:
    """The figures of both kinds of database, at `scale` times the full size."""
    kinds = {"PostgreSQL": _postgres, "SQLite": _sqlite}
    with Progress(console=Console(stderr=True), transient=True) as progress:
        measured = {}
        for name, opened in kinds.items():
            full = _scaled(SIZES[name], scale)
            with opened({"small": _scaled(full, SMALL), "full": full}, progress) as (made, facts):
                measured[name] = facts | {"questions": _ask_all(made, draws, progress, name)}
    return {"scale": scale, "draws": draws, "databases": measured}


def _scaled(size: Size, factor: float) -> Size:
    return replace(
        size,
        signers=max(1, round(size.signers * factor)),
        decisions=max(100, round(size.decisions * factor)),
    )


@contextmanager
def _postgres(
    sizes: Mapping[str, Size], progress: Progress
) -> Iterator[tuple[dict[str, Record], dict[str, Any]]]:
    server = postgres_server(SERVER)
    with ExitStack() as stack:
        stack.callback(server.server.remove)
        admin = create_engine(server.url(), isolation_level="AUTOCOMMIT")
        with admin.connect() as connection:
            for name in sizes:
                connection.execute(text(f'CREATE DATABASE "{name}"'))
            version = str(connection.scalar(text("SHOW server_version")))
        admin.dispose()
        yield _filled(
            {name: server.url(name) for name in sizes},
            sizes,
            server.server.folder / "data",
            stack,
            progress,
            {"version": version, "settings": SERVER},
        )


@contextmanager
def _sqlite(
    sizes: Mapping[str, Size], progress: Progress
) -> Iterator[tuple[dict[str, Record], dict[str, Any]]]:
    folder = new_folder("sqlite")
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        urls = {name: f"sqlite:///{folder / name}.db" for name in sizes}
        yield _filled(urls, sizes, folder, stack, progress, {"version": sqlite3.sqlite_version})


def _filled(
    urls: Mapping[str, str],
    sizes: Mapping[str, Size],
    folder: Path,
    stack: ExitStack,
    progress: Progress,
    facts: dict[str, Any],
) -> tuple[dict[str, Record], dict[str, Any]]:
    began = time.monotonic()
    made = {}
    for name, url in urls.items():
        task = progress.add_task("", total=1.0)
        fill(url, sizes[name], _reporter(progress, task, f"{url.split(':')[0]} {name}"))
        progress.remove_task(task)
        engine = make_engine(url)
        stack.callback(engine.dispose)
        made[name] = Record(size=sizes[name], engine=engine, sessions=make_sessions(engine))
    facts |= {
        name: {"references": size.references, "decisions": size.decisions, "signers": size.signers}
        for name, size in sizes.items()
    }
    return made, facts | {"fill_seconds": time.monotonic() - began, "bytes": disk(folder)}


def _reporter(progress: Progress, task: Any, title: str) -> Callable[[str, float], None]:
    def report(part: str, share: float) -> None:
        progress.update(task, description=f"{title}: {part}", completed=share)

    return report


def _ask_all(
    made: Mapping[str, Record], draws: int, progress: Progress, kind: str
) -> list[dict[str, Any]]:
    asked = []
    everything = list(questions())
    for record in made.values():
        _read_references(record)
    for question in progress.track(everything, description=f"{kind}: asking"):
        times = _ask(question, made, max(3, round(draws * question.share)))
        row: dict[str, Any] = {"name": question.name, "target_ms": question.target_ms}
        row |= {name: _summary(found) for name, found in times.items()}
        row["growth"] = row["full"]["p50_ms"] / row["small"]["p50_ms"]
        full = made["full"]
        with full.sessions.begin() as session:
            row["plan"] = plan(session, question.draw(full.size, np.random.default_rng(1)))
        asked.append(row)
    return asked


def _read_references(record: Record) -> None:
    """Every reference once, and not its length alone, which is known without."""
    with record.sessions.begin() as session:
        for column, table in (("vector", "embeddings"), ("uri", "signer_references")):
            session.execute(text(f"SELECT sum(length({column} || '')) FROM {table}"))


def _ask(question: Question, made: Mapping[str, Record], draws: int) -> dict[str, list[float]]:
    """Milliseconds; small and full in turn, so that a busy moment meets both."""
    times: dict[str, list[float]] = {name: [] for name in made}
    rng = np.random.default_rng(0)
    warm = min(WARM, draws)
    for number in range(-warm, draws):
        for name, record in made.items():
            ask = question.draw(record.size, rng)
            began = time.perf_counter()
            with record.sessions.begin() as session:
                ask(session)
            if number >= 0:
                times[name].append(1000 * (time.perf_counter() - began))
    return times


def _summary(times: Sequence[float]) -> dict[str, float]:
    p50, p99 = np.percentile(times, (50, 99))
    return {"p50_ms": float(p50), "p99_ms": float(p99), "draws": len(times)}


def met(result: Mapping[str, Any]) -> bool:
    """Whether PostgreSQL meets every target."""
    return all(
        row["target_ms"] is None or row["full"]["p99_ms"] < row["target_ms"]
        for row in result["databases"]["PostgreSQL"]["questions"]
    )


def markdown(result: Mapping[str, Any]) -> str:
    """A table for each kind of database."""
    return "\n\n".join(_table(name, found) for name, found in result["databases"].items())


def _table(name: str, found: Mapping[str, Any]) -> str:
    small, full = found["small"], found["full"]
    head = (
        f"{name} {found['version']}: {full['references']:,} references and"
        f" {full['decisions']:,} decisions, beside {small['references']:,} and"
        f" {small['decisions']:,}; {found['bytes'] / 1e9:.1f} GB, filled in"
        f" {found['fill_seconds']:.0f} s. Times in ms, p50 / p99."
    )
    lines = [head, "", "| | small | full | growth | target | plan |", "|---|---|---|---|---|---|"]
    for row in found["questions"]:
        target = f"p99 < {row['target_ms']:g}" if row["target_ms"] and name != "SQLite" else ""
        lines.append(
            f"| {row['name']} | {_pair(row['small'])} | {_pair(row['full'])}"
            f" | {row['growth']:.1f}x | {target} | {row['plan']} |"
        )
    return "\n".join(lines)


def _pair(times: Mapping[str, float]) -> str:
    return f"{times['p50_ms']:.2f} / {times['p99_ms']:.2f}"


if __name__ == "__main__":
    sys.exit(main())
