"""How fast sigctl is on this machine, beside what people would use instead.

    python -m bench [--data CORPUS] [--quick] [--only PART ...] [--signers N] [--output DIR]

Writes performance.json after each part, so that a run that is stopped leaves what it had, and at
the end performance.md and performance.png. docs/performance.md explains the parts and what limits
each. Without --data the signatures are generated.
"""

from __future__ import annotations

import argparse
import json
import platform
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from bench import embedder, enrolment, load, lookup, peers, snippet, stages, tables
from bench.documents import Corpus, corpus
from bench.service import Service, service
from model.checkpoint import load_checkpoint
from model.files import write_atomically

PARTS = ("embedder", "snippet", "service", "lookup", "enrolment")


@dataclass(frozen=True, kw_only=True)
class Size:
    """How much is measured: `rounds` of interleaved timings, documents, and the tables' scale."""

    rounds: int
    seconds: float
    documents: int
    repeats: int
    endurance: int
    signers: int
    scale: float


FULL = Size(
    rounds=7, seconds=1.0, documents=1500, repeats=3, endurance=10_000, signers=1000, scale=1.0
)
QUICK = Size(
    rounds=3, seconds=0.3, documents=200, repeats=1, endurance=1000, signers=20, scale=0.01
)


def main() -> None:
    """Measure, write, print."""
    options = _options()
    options.output.mkdir(parents=True, exist_ok=True)
    size = QUICK if options.quick else FULL
    size = replace(size, signers=options.signers or size.signers)
    with tempfile.TemporaryDirectory() as made:
        chosen = corpus(options.data, Path(made))
        result = _about(options, chosen)
        for part in options.only or PARTS:
            result |= {part: _measured(part, options.checkpoint, chosen, size)}
            text = json.dumps(result, indent=2) + "\n"
            write_atomically(options.output / "performance.json", text.encode())
    page = tables.markdown(result)
    write_atomically(options.output / "performance.md", page.encode())
    tables.draw(result, options.output / "performance.png")
    print(page)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    default = Path("checkpoints/siamese_vision_mamba_tiny.pt")
    parser.add_argument("--data", type=Path, help="a corpus in the CEDAR layout")
    parser.add_argument("--checkpoint", type=Path, default=default)
    parser.add_argument("--quick", action="store_true", help="a few minutes, noisier")
    parser.add_argument("--only", nargs="+", choices=PARTS, metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--signers", type=int, help="who enrol; 1000, or 20 with --quick")
    parser.add_argument("--output", type=Path, default=Path("bench-output"))
    return parser.parse_args()


def _about(options: argparse.Namespace, chosen: Corpus) -> dict[str, Any]:
    return {
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": {
            "processor": platform.processor() or platform.machine(),
            "cores": torch.get_num_threads(),
            "python": platform.python_version(),
            "torch": torch.__version__,
        },
        "checkpoint": load_checkpoint(options.checkpoint).sha256,
        "corpus": chosen.name,
        "quick": options.quick,
    }


def _measured(part: str, checkpoint: Path, chosen: Corpus, size: Size) -> dict[str, Any]:
    measures: dict[str, Callable[[], dict[str, Any]]] = {
        "embedder": lambda: _embedder(checkpoint, chosen, size),
        "snippet": lambda: _snippet(checkpoint, chosen, size),
        "service": lambda: _service(checkpoint, chosen, size),
        "lookup": lambda: lookup.measure(scale=size.scale),
        "enrolment": lambda: _enrolment(checkpoint, chosen, size),
    }
    return measures[part]()


def _embedder(checkpoint: Path, chosen: Corpus, size: Size) -> dict[str, Any]:
    found = embedder.measure(checkpoint, rounds=size.rounds, seconds=size.seconds)
    return {**found, "agreement": embedder.agreement(checkpoint, chosen.signers, far="1%")}


def _snippet(checkpoint: Path, chosen: Corpus, size: Size) -> dict[str, Any]:
    signer = chosen.signers[0]
    questioned = [path for _, path in chosen.questioned[:64]]
    return snippet.measure(checkpoint, questioned, signer.genuine, rounds=size.rounds)


def _service(checkpoint: Path, chosen: Corpus, size: Size) -> dict[str, Any]:
    """The service and its peers in turn, several times, on the same servers and documents."""
    peers.install()
    with service(checkpoint) as running:
        uploaded = load.prepare(running, chosen)
        found: dict[str, Any] = {"saturated": [], "pages": [], "peers": []}
        found["stages"] = stages.measure(running, uploaded.crops)
        for turn in range(size.repeats):
            for count in (1, 2):
                with running.workers(count) as workers:
                    name = f"crops-{turn}-{count}"
                    found["saturated"].append(
                        load.saturate(running, workers, uploaded.crops, size.documents, name)
                    )
            for peer in peers.PEERS:
                name = f"{turn}-{peer.kind}-{peer.engine}"
                found["peers"].append(
                    peers.saturate(running, peer, uploaded.crops, size.documents, name)
                )
        return found | _alone(running, uploaded, size, found["saturated"])


def _alone(
    running: Service, uploaded: load.Uploaded, size: Size, saturated: list[dict[str, Any]]
) -> dict[str, Any]:
    """Pages, latency and memory, on as many worker processes as saturate best."""
    count = tables.best_workers(saturated)
    rate = tables.saturation(saturated, count)
    with running.workers(count) as workers:
        pages = load.saturate(running, workers, uploaded.pages, size.documents // 5, "pages")
        latencies = [
            load.latency(
                running, uploaded.crops, share * rate, max(int(30 * share * rate), 100), f"l{share}"
            )
            | {"share": share}
            for share in load.LOADS
        ]
    with running.workers(1) as (worker,):
        memory = load.endure(running, worker, uploaded.crops, size.endurance)
    return {"pages": [pages], "latency": latencies, "memory": memory, "best_workers": count}


def _enrolment(checkpoint: Path, chosen: Corpus, size: Size) -> dict[str, Any]:
    with service(checkpoint) as running:
        return enrolment.measure(running, chosen, size.signers)


if __name__ == "__main__":
    main()
