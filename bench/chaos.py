"""Pull every plug, and count the jobs: none lost, none decided twice, none decided otherwise.

Starts Redis, PostgreSQL, an S3 server behind a proxy that spoils a tenth of the reads, and two
worker processes on this machine; sends jobs at an even pace, some without a row and some several
times; and meanwhile kills and stops workers, restarts the servers, makes Redis forget everything,
lets PostgreSQL hang and moves the workers' clocks. Then once more with SQLite, whose disk it fills.

    python -m bench.chaos [--data DIR] [--short] [--seed 7] [--json FILE]

Exit code 1 if a job is lost, decided twice, or decided otherwise than in a calm run.
"""

from __future__ import annotations

import argparse
import json
import random
import secrets
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.progress import Progress

from bench.crew import PRELOAD, Crew
from bench.documents import REFERENCES, Corpus, corpus, crop, first, signer_id
from bench.outages import cut, fill, lose_memory, restart, small_disk
from bench.service import Service, service
from bench.upstream import Answer, Question, Upstream, Watch, questions
from storage.tables import VERDICTS
from storage.verification import verify
from tests.fault_proxy import FaultProxy, fault_proxy
from worker import queues
from worker.errors import BrokerUnavailable
from worker.keys import chain_keys
from worker.runtime import get_runtime
from worker.settings import Settings
from worker.transactions import transaction

DOCUMENTS = 200
PLACES = 2
PATIENCE = 60.0  # seconds without a new decision, after which what is left is lost
CUT_SECONDS = 20.0
FULL_SECONDS = 5.0
WRONG_SECONDS = 10.0
CLOCKS = (3600, -3600, 86_400, -600)
SETTINGS = {
    "S3_READ_TIMEOUT": "2",
    "S3_RETRIES": "1",
    "RETRY_DELAY": "0.5",
    "RETRY_DELAY_MAX": "5",
    "MAX_RETRIES": "10",
    "VISIBILITY_TIMEOUT": "8",
    "REQUEUE_AFTER": "20",
    "CONCURRENCY": "8",
    "LOG_FORMAT": "json",
    "CHAIN_KEY": secrets.token_hex(32),
}


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How many jobs, over how many seconds, and how often each thing happens meanwhile."""

    jobs: int
    seconds: float
    kills: int = 0
    stops: int = 0
    redis_restarts: int = 0
    redis_losses: int = 0
    database_restarts: int = 0
    database_cuts: int = 0
    clock_moves: int = 0
    disk_fills: int = 0
    pause: float  # mean seconds between two of them, at least
    patient: bool = True  # no faster than a worker starts: or with many, none gets to work


FULL = Plan(
    jobs=2000,
    seconds=240,
    kills=20,
    stops=10,
    redis_restarts=3,
    redis_losses=1,
    database_restarts=3,
    database_cuts=1,
    clock_moves=4,
    pause=4,
)
DISK = Plan(jobs=200, seconds=40, kills=2, disk_fills=3, pause=2)
SHORT = Plan(
    jobs=100,
    seconds=15,
    kills=1,
    stops=1,
    redis_restarts=1,
    redis_losses=1,
    database_restarts=1,
    pause=2,
)
SHORT_DISK = Plan(jobs=40, seconds=5, disk_fills=1, pause=1)


@dataclass(frozen=True, kw_only=True)
class Count:
    """What became of the jobs. `failed` are errors by code, those of the calm run included."""

    jobs: int
    messages: int
    decided: int
    failed: Mapping[str, int]
    lost: tuple[str, ...]
    twice: tuple[str, ...]
    wrong: Mapping[str, str]
    broken: tuple[str, ...]
    median_delay: float
    longest_delay: float
    second_runs: int
    redelivered: int
    read_faults: Mapping[str, int]
    acts: Mapping[str, int]

    @property
    def good(self) -> bool:
        """Whether nothing was lost, decided twice or otherwise, and the record verifies."""
        return not (self.lost or self.twice or self.wrong or self.broken)


def main() -> None:
    """Run, print the table in Markdown, and exit by what it says."""
    options = _options()
    plan, disk_plan = (SHORT, SHORT_DISK) if options.short else (FULL, DISK)
    how: dict[str, Any] = {"seed": options.seed, "logs": options.logs}
    with tempfile.TemporaryDirectory() as made, small_disk() as disk:
        found = corpus(options.data, Path(made) / "generated")
        counts = {"PostgreSQL": run(plan, found, options.checkpoint, **how)}
        if disk is None:
            print("Only root may mount a small disk to fill, so SQLite's is left alone.")
        else:
            counts["SQLite"] = run(disk_plan, found, options.checkpoint, disk=disk, **how)
    print(markdown(counts))
    if options.json:
        named = {name: asdict(count) for name, count in counts.items()}
        options.json.write_text(json.dumps(named, indent=2) + "\n")
    sys.exit(not all(count.good for count in counts.values()))


def run(
    plan: Plan,
    found: Corpus,
    checkpoint: Path,
    *,
    seed: int,
    disk: Path | None = None,
    logs: Path | None = None,
) -> Count:
    """Do what the plan says and count; the workers' logs are copied to `logs`.

    With a `disk`, the database is SQLite and lies there.
    """
    rng = random.Random(seed)
    url = {} if disk is None else {"DATABASE_URL": f"sqlite:///{disk}/sigctl.db"}
    with service(checkpoint, **SETTINGS, **url) as running:
        documents = _documents(running, found, min(DOCUMENTS, plan.jobs // 2))
        calm = _calm(running, documents)
        endpoint = str(running.settings.s3_endpoint)
        with fault_proxy(endpoint, share=0.1, seed=seed) as proxy:
            running.env["SIGCTL_S3_ENDPOINT"] = proxy.endpoint
            asked = questions(documents, plan.jobs, "job-", rng)
            return _storm(plan, running, asked, calm, proxy, rng, disk, logs)


def _documents(running: Service, found: Corpus, crops: int) -> list[tuple[str, str]]:
    """Enrol the writers, and lay out so many crops of their questioned signatures and bad files."""
    for signer in found.signers:
        specimens = {path.name: path.read_bytes() for path in signer.genuine[:REFERENCES]}
        running.enrol(signer_id(signer), specimens)
    put, name = running.bucket.put, signer_id(found.signers[0])
    laid = [
        (signer, put(f"crops/{number}", crop(path.read_bytes())))
        for number, (signer, path) in enumerate(first(found.questioned, crops))
    ]
    return [
        *laid,
        (name, put("broken", b"\x89PNG and nothing more")),
        (name, running.bucket.uri("missing")),
        ("nobody", laid[0][1]),
    ]


def _calm(running: Service, documents: Sequence[tuple[str, str]]) -> dict[tuple[str, str], str]:
    """What each document comes to while nothing happens."""
    jobs = {f"calm-{number:05d}": document for number, document in enumerate(documents)}
    with running.workers():
        running.push(
            [{"job_id": id, "signer_id": s, "document": uri} for id, (s, uri) in jobs.items()]
        )
        rows = running.decisions(len(jobs), "calm-")
    return {jobs[row.job_id]: row.error_code or row.verdict for row in rows}


def _storm(
    plan: Plan,
    running: Service,
    asked: Sequence[Question],
    calm: Mapping[tuple[str, str], str],
    proxy: FaultProxy,
    rng: random.Random,
    disk: Path | None,
    logs: Path | None,
) -> Count:
    crew = Crew(running, PLACES, rng)
    ready = crew.await_ready()
    pause = max(plan.pause, ready) if plan.patient else plan.pause
    upstream = Upstream(running, asked, plan.seconds)
    watch = Watch(running, "job-")
    done: Counter[str] = Counter()
    try:
        with watch as seen, Progress(transient=True) as bar:
            upstream.start()
            acts = _acts(plan, running, crew, upstream, seen.answers, disk)
            rng.shuffle(acts)
            for name, act in bar.track(acts, description="Faults"):
                time.sleep(rng.uniform(0, 2 * pause))
                crew.keep()
                act()
                done[name] += 1
            _settle(running, upstream, asked, seen.answers, crew)
    finally:
        crew.close()
        if logs is not None:
            kept = logs / ("PostgreSQL" if disk is None else "SQLite")
            kept.mkdir(parents=True, exist_ok=True)
            for log in crew.logs:
                shutil.copy(log, kept)
    return _counted(asked, calm, upstream, watch, crew, proxy, done, _broken(running))


def _broken(running: Service) -> tuple[str, ...]:
    """What `sigctl audit verify` would find wrong."""
    with transaction(get_runtime(running.settings).sessions) as session:
        report = verify(session, chain_keys(running.settings))
    return (*map(str, report.faults), *(f"{job_id} has no entry" for job_id in report.unchained))


Acts = list[tuple[str, Callable[[], None]]]


def _acts(
    plan: Plan,
    running: Service,
    crew: Crew,
    upstream: Upstream,
    answers: Mapping[str, Answer],
    disk: Path | None,
) -> Acts:
    redis, postgres = running.servers["redis"], running.servers["postgres"]

    def forget() -> None:
        lose_memory(redis)
        upstream.send_bare_again(answers)

    clocks = CLOCKS[: plan.clock_moves] if PRELOAD.is_file() else ()
    acts: Acts = [("worker killed", crew.kill)] * plan.kills
    acts += [("worker stopped", crew.stop_one)] * plan.stops
    acts += [("Redis restarted", lambda: restart(redis))] * plan.redis_restarts
    acts += [("Redis restarted without its memory", forget)] * plan.redis_losses
    acts += [("PostgreSQL restarted", lambda: restart(postgres))] * plan.database_restarts
    acts += [("PostgreSQL cut off", lambda: cut(postgres, CUT_SECONDS))] * plan.database_cuts
    if disk is not None:
        acts += [("disk filled", lambda: fill(disk, FULL_SECONDS))] * plan.disk_fills
    acts += [("clock moved", lambda s=s: crew.move_clock(s, WRONG_SECONDS)) for s in clocks]  # type: ignore[misc]
    return acts


def _settle(
    running: Service,
    upstream: Upstream,
    asked: Sequence[Question],
    answers: Mapping[str, Answer],
    crew: Crew,
) -> None:
    """Wait until all is sent and decided and the queue is empty, or patience ends."""
    while upstream.is_sending():
        crew.keep()
        time.sleep(0.5)
    known, since = 0, time.monotonic()
    while time.monotonic() - since < PATIENCE:
        crew.keep()
        if len(answers) > known:
            known, since = len(answers), time.monotonic()
        if len(answers) == len(asked) and not _left(running.settings):
            return
        time.sleep(0.5)


def _left(settings: Settings) -> int:
    """Messages that a worker may still take up; all of them, while the broker says nothing."""
    try:
        backlog = queues.look(settings)
    except BrokerUnavailable:
        return sys.maxsize
    return sum(backlog.waiting.values()) + backlog.held + backlog.later


def _counted(
    asked: Sequence[Question],
    calm: Mapping[tuple[str, str], str],
    upstream: Upstream,
    watch: Watch,
    crew: Crew,
    proxy: FaultProxy,
    done: Counter[str],
    broken: tuple[str, ...],
) -> Count:
    answers = watch.seen.answers
    expected = {q.job_id: calm[q.signer_id, q.document] for q in asked}
    delays = [answers[id].seen - at for id, at in upstream.sent.items() if id in answers]
    results = {id: answer.result for id, answer in answers.items()}
    return Count(
        jobs=len(asked),
        messages=sum(question.times for question in asked) + upstream.again,
        decided=sum(result in VERDICTS for result in results.values()),
        failed=dict(Counter(r for r in results.values() if r not in VERDICTS)),
        lost=tuple(sorted(expected.keys() - answers.keys())),
        twice=tuple(sorted(watch.seen.changed)),
        wrong={id: f"{r}, not {expected[id]}" for id, r in results.items() if r != expected[id]},
        broken=broken,
        median_delay=float(np.median(delays)),
        longest_delay=max(delays),
        second_runs=crew.log_lines("already_decided"),
        redelivered=crew.log_lines("redelivered"),
        read_faults=dict(proxy.faults),
        acts=dict(done),
    )


def markdown(counts: Mapping[str, Count]) -> str:
    """The counts as a table, a column for each database."""
    columns = [_cells(count) for count in counts.values()]
    lines = [f"| {' | '.join(['', *counts])} |", "|---" * (len(counts) + 1) + "|"]
    lines += [f"| {name} | {' | '.join(c[name] for c in columns)} |" for name in columns[0]]
    return "\n".join(lines)


def _cells(count: Count) -> dict[str, str]:
    return {
        "jobs": f"{count.jobs}, in {count.messages} messages",
        "decided": str(count.decided),
        "failed with a code": _listed(count.failed),
        "lost": _named(count.lost),
        "decided twice": _named(count.twice),
        "otherwise than in a calm run": _named([f"{i}: {w}" for i, w in count.wrong.items()]),
        "broken or missing seals of the record": _named(count.broken),
        "from sending to decision, median, longest": f"{count.median_delay:.1f} s, "
        f"{count.longest_delay:.0f} s",
        "messages redelivered": str(count.redelivered),
        "deliveries of jobs that were decided": str(count.second_runs),
        "reads spoilt": _listed(count.read_faults),
        "meanwhile": _listed(count.acts),
    }


def _listed(counts: Mapping[str, int]) -> str:
    total = sum(counts.values())
    parts = ", ".join(f"{name} {number}" for name, number in sorted(counts.items()))
    return f"{total} ({parts})" if counts else "0"


def _named(some: Sequence[str]) -> str:
    return f"**{len(some)}**" + (f" ({', '.join(some[:5])})" if some else "")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Pull every plug, and count the jobs.")
    default = Path("checkpoints/siamese_vision_mamba_tiny.pt")
    parser.add_argument("--data", type=Path, help="a corpus in the CEDAR layout, else made up")
    parser.add_argument("--checkpoint", type=Path, default=default)
    parser.add_argument("--short", action="store_true", help="a minute instead of seven")
    parser.add_argument("--seed", type=int, default=7, help="of the order of things")
    parser.add_argument("--json", type=Path, help="write the figures here as well")
    parser.add_argument("--logs", type=Path, help="a folder to leave the workers' logs in")
    return parser.parse_args()


if __name__ == "__main__":
    main()
