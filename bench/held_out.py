"""Held-out writers of a corpus through the whole service, and how often it errs.

Starts Redis, PostgreSQL, an S3 server and a Celery worker on this machine, enrols the first
references of every writer that the model has not seen, submits the other genuine signatures, all
skilled forgeries and signatures of the other writers, and reads the figures from the decisions
in the database.

    python -m bench.held_out [--data DIR] [--checkpoint FILE] [--references 5] [--json FILE]

Without --data it makes up signers, which shows that all works, and nothing about handwriting.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.progress import track

from migrations.upgrade import upgrade
from model import metrics
from model.checkpoint import load_checkpoint
from model.dataset import Signer, scan_dataset
from model.scoring import OPERATING_POINTS
from model.synthetic import write_dataset
from storage import decisions
from storage.decisions import DecisionFilter
from storage.tables import VERDICTS, Decision
from tests.conftest import config_of, new_bucket
from tests.services import postgres_server, redis_server, s3_server
from worker import client
from worker.enrolment import enroll
from worker.runtime import get_runtime
from worker.settings import Settings, load_settings
from worker.transactions import transaction

KINDS = ("genuine", "skilled", "random")
STRANGERS = 2  # genuine signatures of each other writer that are tried as random forgeries
PATIENCE = 1800.0  # seconds for the whole queue


@dataclass(frozen=True, kw_only=True)
class Question:
    """A document to verify, and what it really is: genuine, skilled or random."""

    signer: Signer
    path: Path
    kind: str


def main() -> None:
    """Run the service on the corpus and print the table in Markdown."""
    options = _options()
    with tempfile.TemporaryDirectory() as made:
        if options.data is None:
            options.data = Path(made) / "generated"
            write_dataset(options.data, signers=8, genuine=12, forgeries=8, seed=options.seed)
        _run(options)


def _run(options: argparse.Namespace) -> None:
    writers = _unseen(options.data, options.checkpoint)
    rng = np.random.default_rng(options.seed)
    questions = list(_questions(writers, options.references, rng))
    with _service(options.checkpoint, options.far) as (settings, put):
        _enrol(writers, options.references, settings)
        began = time.monotonic()
        for question in track(questions, "Submitting", transient=True):
            uri = put(question.path.read_bytes())
            truth = {"truth": question.kind}
            client.submit(_id(question.signer), uri, metadata=truth, settings=settings)
        rows = _decisions(len(questions), settings)
        seconds = time.monotonic() - began
    balanced = load_checkpoint(options.checkpoint).scoring.threshold_for(options.references)
    result = figures(rows, balanced)
    result |= {"writers": len(writers), "references": options.references, "seed": options.seed}
    result |= {"corpus": options.data.resolve().name, "documents_per_second": len(rows) / seconds}
    print(markdown(result))
    if options.json:
        options.json.write_text(json.dumps(result, indent=2) + "\n")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Held-out writers through the whole service.")
    default = Path("checkpoints/siamese_vision_mamba_tiny.pt")
    parser.add_argument("--data", type=Path, help="a corpus in the CEDAR layout")
    parser.add_argument("--checkpoint", type=Path, default=default)
    parser.add_argument("--references", type=int, default=5)
    points = ("balanced", *OPERATING_POINTS)
    parser.add_argument("--far", choices=points, default="1%", help="the operating point")
    parser.add_argument("--seed", type=int, default=123, help="of the draw of random forgeries")
    parser.add_argument("--json", type=Path, help="write the figures here as well")
    return parser.parse_args()


def _unseen(data: Path, checkpoint: Path) -> tuple[Signer, ...]:
    provenance = load_checkpoint(checkpoint).provenance
    seen = {*provenance.get("train_writers", ()), *provenance.get("development_writers", ())}
    unseen = tuple(signer for signer in scan_dataset(data) if signer.name not in seen)
    if not unseen:
        sys.exit("The model was trained or tuned on every writer of this folder.")
    return unseen


def _questions(
    writers: Sequence[Signer], references: int, rng: np.random.Generator
) -> Iterator[Question]:
    for signer in writers:
        for path in signer.genuine[references:]:
            yield Question(signer=signer, path=path, kind="genuine")
        for path in signer.forged:
            yield Question(signer=signer, path=path, kind="skilled")
        for other in writers:
            if other is not signer:
                for index in rng.choice(len(other.genuine), STRANGERS, replace=False):
                    yield Question(signer=signer, path=other.genuine[index], kind="random")


def _id(signer: Signer) -> str:
    return signer.name.replace("/", "-")


@contextmanager
def _service(checkpoint: Path, far: str) -> Iterator[tuple[Settings, Callable[[bytes], str]]]:
    """Servers and a worker; yields the settings and a function that uploads a document."""
    with ExitStack() as stack:
        redis, postgres, s3 = redis_server(), postgres_server(), s3_server()
        for server in (redis, postgres, s3):
            stack.callback(server.stop)
        bucket = new_bucket(config_of(s3))
        upgrade(postgres.url())
        env = {
            "SIGCTL_BROKER_URL": f"redis://127.0.0.1:{redis.port}/0",
            "SIGCTL_DATABASE_URL": postgres.url(),
            "SIGCTL_STORE": f"s3://{bucket.bucket}/store",
            "SIGCTL_BUCKETS": bucket.bucket,
            "SIGCTL_S3_ENDPOINT": str(bucket.config.endpoint),
            "SIGCTL_S3_ACCESS_KEY": str(bucket.config.access_key),
            "SIGCTL_S3_SECRET_KEY": str(bucket.config.secret_key),
            "SIGCTL_CHECKPOINT": str(checkpoint.resolve()),
            "SIGCTL_FAR": far,
        }
        log = stack.enter_context(tempfile.TemporaryFile())
        worker = subprocess.Popen(
            [sys.executable, "-m", "celery", "-A", "worker.app", "worker"],
            env={k: v for k, v in os.environ.items() if not k.startswith("SIGCTL_")} | env,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        stack.callback(worker.wait, 60)
        stack.callback(worker.terminate)
        count = iter(range(10**9))
        yield load_settings(env), lambda data: bucket.put(f"documents/{next(count)}", data)


def _enrol(writers: Sequence[Signer], references: int, settings: Settings) -> None:
    runtime = get_runtime(settings)
    for signer in track(writers, "Enrolling", transient=True):
        report = enroll(
            _id(signer),
            ((path.name, path.read_bytes()) for path in signer.genuine[:references]),
            sessions=runtime.sessions,
            images=runtime.images,
            embedder=runtime.embedder,
        )
        if report.references != references:
            sys.exit(f"{signer.name} has {report.references} references, not {references}.")


def _decisions(expected: int, settings: Settings) -> list[Decision]:
    """Wait until every job is decided, and read all decisions."""
    sessions = get_runtime(settings).sessions
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        with transaction(sessions) as session:
            rows = list(decisions.search(session, DecisionFilter()))
        if len(rows) >= expected:
            return rows
        time.sleep(1.0)
    sys.exit(f"Only {len(rows)} of {expected} jobs were decided within {PATIENCE:.0f} s.")


def figures(rows: Sequence[Decision], balanced: float) -> dict[str, Any]:
    """Rates in 0 to 1, from the recorded scores and verdicts.

    FRR and FAR are at the `balanced` threshold, the shares of the verdicts at the operating point.
    What failed counts as not accepted.
    """
    kinds = {kind: [row for row in rows if row.upstream["truth"] == kind] for kind in KINDS}
    scores = {
        kind: [row.score for row in of if row.score is not None] for kind, of in kinds.items()
    }
    passed = {
        kind: float(np.sum(np.less(scores[kind], balanced))) / len(of) for kind, of in kinds.items()
    }
    judged = next(row for row in rows if row.threshold is not None)
    return {
        "model": judged.model_id,
        "threshold": balanced,
        "operating_point": judged.operating_point,
        "accept_below": judged.threshold,
        "reject_from": judged.reject_threshold,
        "documents": {kind: len(of) for kind, of in kinds.items()},
        "failed": sum(row.verdict == "error" for row in rows),
        "skilled_eer": metrics.eer(scores["genuine"], scores["skilled"])[0],
        "random_eer": metrics.eer(scores["genuine"], scores["random"])[0],
        "frr": 1 - passed["genuine"],
        "far_skilled": passed["skilled"],
        "far_random": passed["random"],
        "shares": {kind: _shares(of) for kind, of in kinds.items()},
        "median_ms": float(np.median([row.total_ms for row in rows if row.total_ms])),
    }


def _shares(rows: Sequence[Decision]) -> dict[str, float]:
    return {name: sum(row.verdict == name for row in rows) / len(rows) for name in VERDICTS}


def markdown(result: dict[str, Any]) -> str:
    """The figures as two tables: error rates, and the shares of each verdict."""
    names = ("skilled_eer", "random_eer", "frr", "far_skilled", "far_random")
    rates = " | ".join(f"{100 * result[name]:.1f} %" for name in names)
    of = result["documents"]
    return "\n".join(
        (
            f"{result['corpus']}: {result['writers']} unseen writers, {result['references']} "
            f"references each; {of['genuine']} genuine, {of['skilled']} skilled and "
            f"{of['random']} random forgeries; {result['failed']} failed; balanced threshold "
            f"{result['threshold']:.3f}; model {result['model'][:12]}.",
            "",
            "| skilled EER | random EER | FRR | FAR skilled | FAR random |",
            "|---|---|---|---|---|",
            f"| {rates} |",
            "",
            *_shares_table(result),
        )
    )


def _shares_table(result: dict[str, Any]) -> Iterator[str]:
    """What became of each kind at the operating point."""
    if result["operating_point"] is None:
        yield "One threshold, no review:"
    else:
        yield (
            f"At the operating point {result['operating_point']}, accept below "
            f"{result['accept_below']:.3f}, reject from {result['reject_from']:.3f}:"
        )
    yield ""
    yield f"| | {' | '.join(VERDICTS)} |"
    yield "|---" * (1 + len(VERDICTS)) + "|"
    for kind, shares in result["shares"].items():
        yield f"| {kind} | {' | '.join(f'{100 * shares[name]:.1f} %' for name in VERDICTS)} |"


if __name__ == "__main__":
    main()
