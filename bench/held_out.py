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
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.progress import track

from bench.documents import signer_id
from bench.service import service
from model import metrics
from model.checkpoint import load_checkpoint
from model.dataset import Signer, scan_dataset
from model.scoring import OPERATING_POINTS
from model.synthetic import write_dataset
from storage.tables import VERDICTS, Decision
from worker import client

KINDS = ("genuine", "skilled", "random")
STRANGERS = 2  # genuine signatures of each other writer that are tried as random forgeries


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
    with service(options.checkpoint, FAR=options.far) as running, running.workers():
        for signer in track(writers, "Enrolling", transient=True):
            specimens = signer.genuine[: options.references]
            running.enrol(signer_id(signer), {path.name: path.read_bytes() for path in specimens})
        began = time.monotonic()
        for number, question in enumerate(track(questions, "Submitting", transient=True)):
            uri = running.bucket.put(f"documents/{number}", question.path.read_bytes())
            truth = {"truth": question.kind}
            name = signer_id(question.signer)
            client.submit(name, uri, metadata=truth, settings=running.settings)
        rows = running.decisions(len(questions))
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
