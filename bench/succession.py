"""What a change of the model costs a service under load: how soon all follow, and who waits.

Two workers decide documents that come at random moments; meanwhile the model is changed back and
forth between the checkpoint and its like, each time with all embeddings made anew.

    python -m bench.succession [--data DIR] [--changes 6] [--rate 20] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from bench import load
from bench.documents import corpus
from bench.load import prepare
from bench.service import Service, service
from model.checkpoint import save_checkpoint
from storage import models
from storage.tables import Decision
from worker import activation, registry
from worker.activation import Change
from worker.runtime import Runtime, get_runtime
from worker.transactions import transaction

CHECKPOINT = Path("checkpoints/siamese_vision_mamba_tiny.pt")
WORKERS = 2
CALM = 10.0
AROUND = timedelta(seconds=1)
SEEN_WITHIN = 5.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; returns 1 when a job failed or a worker took longer than five seconds."""
    options = _options(arguments)
    with TemporaryDirectory() as folder, service(options.checkpoint) as running:
        chosen = corpus(options.data, Path(folder))
        documents = prepare(running, chosen, crops=100, pages=0).crops
        with running.workers(WORKERS):
            found = measure(running, documents, options.changes, options.rate)
    sys.stdout.write(_told(found))
    if options.json:
        options.json.write_text(json.dumps(found, indent=2) + "\n")
    return int(found["failed"] > 0 or max(found["followed_seconds"]) > SEEN_WITHIN)


def measure(
    running: Service, documents: Sequence[tuple[str, str]], changes: int, rate: float
) -> dict[str, Any]:
    """The delays of jobs in calm and around the changes, in ms, and how long workers took."""
    runtime = get_runtime(running.settings)
    _ = runtime.embedder
    other = _other(runtime)
    stream = _Stream(running, documents, rate)
    time.sleep(CALM)
    made = [_changed(runtime, other, number) for number in range(changes)]
    jobs = stream.stop()
    rows = running.decisions(jobs, "stream-")
    moments = [moment for _, moment in made]
    around = [row for row in rows if _near(row, moments)]
    return {
        "jobs": jobs,
        "failed": sum(row.verdict == "error" for row in rows),
        "models": len({row.model_id for row in rows}),
        "followed_seconds": [change.seconds for change, _ in made],
        "late": sum(len(change.late) for change, _ in made),
        "embedded": [change.embedded for change, _ in made],
        "calm_ms": _delays([row for row in rows if row not in around]),
        "change_ms": _delays(around),
    }


def _changed(runtime: Runtime, other: str, number: int) -> tuple[Change, datetime]:
    """Activate whichever is not active, with nothing embedded; and when it became so."""
    with transaction(runtime.sessions) as session:
        own = models.active(session).id
        target = other if number % 2 == 0 else str(models.active(session).replaced_id)
        while models.prune(session, target):
            pass
    change = activation.activate(runtime, target)
    with transaction(runtime.sessions) as session:
        moment = models.get(session, target).activated_at
    if moment is None or change.before != own:
        raise RuntimeError("the model was changed by somebody else")
    time.sleep(2.0)
    return change, moment


def _other(runtime: Runtime) -> str:
    """The same network under another digest."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "other.pt"
        save_checkpoint(path, replace(runtime.embedder.checkpoint, threshold=0.5))
        return registry.register(runtime, path.read_bytes(), str(path)).id


class _Stream:
    """Jobs that come at random moments until it is stopped."""

    def __init__(self, running: Service, documents: Sequence[tuple[str, str]], rate: float) -> None:
        self._running, self._documents, self._rate = running, documents, rate
        self._jobs, self._stopped = 0, threading.Event()
        self._thread = threading.Thread(target=self._send)
        self._thread.start()

    def stop(self) -> int:
        """How many there were."""
        self._stopped.set()
        self._thread.join()
        return self._jobs

    def _send(self) -> None:
        rng = np.random.default_rng(7)
        while not self._stopped.wait(rng.exponential(1 / self._rate)):
            (job,) = load.messages(
                self._documents[self._jobs % len(self._documents) :], 1, "stream"
            )
            job |= {"job_id": f"stream-{self._jobs}", "metadata": {"sent": time.time()}}
            self._running.push([job])
            self._jobs += 1


def _near(row: Decision, moments: Sequence[datetime]) -> bool:
    return any(abs(row.decided_at - moment) < AROUND for moment in moments)


def _delays(rows: Sequence[Decision]) -> dict[str, float]:
    waited = [1000 * (row.decided_at.timestamp() - row.upstream["sent"]) for row in rows]
    return {f"p{p}": float(np.percentile(waited, p)) for p in (50, 99, 100)}


def _told(found: dict[str, Any]) -> str:
    lines = [
        f"{found['jobs']} jobs, {found['failed']} failed; {len(found['followed_seconds'])} changes,"
        f" {found['embedded'][0]} references embedded for each.",
        f"All workers had followed after {max(found['followed_seconds']):.1f} s at most"
        f" ({found['late']} late).",
    ]
    for name, words in (("calm_ms", "otherwise"), ("change_ms", "within a second of a change")):
        ms = found[name]
        lines.append(
            f"Delay {words}: median {ms['p50']:.0f} ms, p99 {ms['p99']:.0f}, longest"
            f" {ms['p100']:.0f}."
        )
    return "\n".join(lines) + "\n"


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench.succession", description=__doc__)
    parser.add_argument("--checkpoint", type=Path, default=CHECKPOINT)
    parser.add_argument("--data", type=Path, help="a corpus; generated signers otherwise")
    parser.add_argument("--changes", type=int, default=6)
    parser.add_argument("--rate", type=float, default=20.0, help="documents a second")
    parser.add_argument("--json", type=Path)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
