"""What decoding in child processes costs the whole service.

    python -m bench.sandbox [--data CORPUS] [--pages] [--rounds 5] [--documents 600]

One worker at a time, in turn with decoding in child processes and in its own, on the same servers
and documents. A ratio above 1 says that child processes make the service faster.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bench import load
from bench.documents import corpus
from bench.measure import Rates, ratio
from bench.service import Service, service

Documents = Sequence[tuple[str, str]]
INSIDE = "its own process"


def main() -> None:
    """Measure, print, write sandbox.json."""
    options = _options()
    ways = {INSIDE: "0", **{f"{count} children": count for count in options.children}}
    with tempfile.TemporaryDirectory() as made, service(options.checkpoint) as running:
        uploaded = load.prepare(running, corpus(options.data, Path(made)))
        asked = uploaded.pages if options.pages else uploaded.crops
        runs: dict[str, list[dict[str, Any]]] = {name: [] for name in ways}
        for turn in range(options.rounds):
            for name, decoders in ways.items():
                run = f"{turn}-{decoders}"
                runs[name].append(_run(running, decoders, asked, options.documents, run))
    _tell(runs)
    options.output.mkdir(parents=True, exist_ok=True)
    (options.output / "sandbox.json").write_text(json.dumps(runs, indent=2) + "\n")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.sandbox", description=__doc__)
    default = Path("checkpoints/siamese_vision_mamba_tiny.pt")
    parser.add_argument("--data", type=Path, help="a corpus in the CEDAR layout")
    parser.add_argument("--checkpoint", type=Path, default=default)
    parser.add_argument("--pages", action="store_true", help="A4 pages instead of crops")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--documents", type=int, default=600)
    parser.add_argument("--children", nargs="+", default=["1", "2"], metavar="COUNT")
    parser.add_argument("--output", type=Path, default=Path("bench-output"))
    return parser.parse_args()


def _run(
    running: Service, decoders: str, asked: Documents, count: int, name: str
) -> dict[str, Any]:
    with running.workers(1, DECODERS=decoders) as workers:
        return load.saturate(running, workers, asked, count, f"sandbox-{name}")


def _tell(runs: dict[str, list[dict[str, Any]]]) -> None:
    """Medians of the rounds; processor time is that of the worker with its children."""
    rates = {
        name: Rates(rounds=tuple(run["documents_per_second"] for run in some))
        for name, some in runs.items()
    }
    print(f"{'decoded in':18} documents/s   worker ms   against {INSIDE}")
    for name, some in runs.items():
        spent = float(np.median([run["cpu_ms"]["workers"] for run in some]))
        relative = ratio(rates[name], rates[INSIDE])
        low, high = relative.spread
        print(
            f"{name:18} {rates[name].median:11.1f} {spent:11.1f}"
            f"   {relative.median:.2f} ({low:.2f} to {high:.2f})"
        )


if __name__ == "__main__":
    main()
