"""The shipped model and its table once more, from the corpora, with the project's own commands.

Trains by the recipes of the shipped network, the first of which wants a GPU, writes the report of
the evaluation, and prints the figures on the test writers beside those of the shipped checkpoint.

    python -m bench.reproduce --data DIR [--output DIR] [--checkpoint FILE]

A run that was stopped is resumed. The shipped checkpoint is read and left as it is.
"""

import argparse
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from model.checkpoint import load_checkpoint
from model.errors import CheckpointError
from model.rates import percent
from worker.cli import show
from worker.cli.main import main as sigctl

HOME = "cedar"
SOURCES = {
    HOME: "CEDAR, from the University at Buffalo",
    "bhsig_bengali": "BHSig260, from its authors at the Indian Statistical Institute",
    "chisig": "ChiSig, from its authors on GitHub",
    "gpds_synthetic": "GPDS synthetic, from the ULPGC",
}
"""The folders that the shipped model was trained on, and who gives the corpora out."""

RECIPES = ("fine", "cells", "cells", "cells")
"""Each run goes on from the checkpoint of the one before."""
SHIPPED = Path("checkpoints/siamese_vision_mamba_tiny.pt")
CANNOT = 2  # the exit code of `sigctl` for an input that cannot be used


def main(arguments: Sequence[str] | None = None) -> int:
    """Train, evaluate, compare; returns the exit code of the command that failed, or 0."""
    options = _options(arguments)
    refusal = _refusal(options.data)
    if refusal:
        return _cannot(refusal)
    try:
        expected = load_checkpoint(options.checkpoint).provenance.get("test", [])
    except CheckpointError as error:
        return _cannot(str(error))
    reached, start = options.output / options.checkpoint.name, None
    for number, recipe in enumerate(RECIPES, start=1):
        made = reached if number == len(RECIPES) else options.output / f"{number}-{recipe}.pt"
        code = _run(_training(options.data, recipe, made, start, options.extra))
        if code:
            return code
        start = made
    code = _run(_evaluation(options.data, reached))  # a report that refuses the model is one too
    _compare(expected, load_checkpoint(reached).provenance["test"])
    return code


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="The shipped model, trained once more.")
    parser.add_argument("--data", type=Path, help="the folder that holds the corpora")
    parser.add_argument("--output", type=Path, default=Path("runs/reproduced"))
    parser.add_argument("--checkpoint", type=Path, default=SHIPPED, help="what to compare with")
    parser.add_argument("extra", nargs="*", help="after --: more options for sigctl train")
    return parser.parse_args(arguments)


def _refusal(data: Path | None) -> str | None:
    """Which corpora are missing and where they are had; None if all are there."""
    if data is None:
        lacking, said = list(SOURCES), "DATA=DIR must name a folder that holds"
    else:
        lacking = [name for name in SOURCES if not (data / name).is_dir()]
        said = f"{data} lacks"
    sources = "; ".join(f"{name}/ ({SOURCES[name]})" for name in lacking)
    return f"{said}, each in the CEDAR layout: {sources}." if lacking else None


def _cannot(sentence: str) -> int:
    show.say(sentence, style="red", stderr=True)
    return CANNOT


def _run(command: Sequence[str]) -> int:
    show.say(f"$ sigctl {shlex.join(command)}")
    return sigctl(command)


def _training(
    data: Path, recipe: str, reached: Path, start: Path | None, extra: Sequence[str]
) -> list[str]:
    home, *others = (str(data / name) for name in SOURCES)
    split = [home, "--test", "0.2", "--validation", "0"]
    for other in others:
        split += ["--also", other]
    run = reached.parent / f"run-{reached.stem}"
    places = ["--output", str(reached), "--run", str(run)]
    begun = ["--start", str(start)] if start else []
    return ["train", *split, "--recipe", recipe, *begun, *places, *extra]


def _evaluation(data: Path, reached: Path) -> list[str]:
    report = reached.parent / "report"
    home = str(data / HOME)
    return ["evaluate", "--data", home, "--checkpoint", str(reached), "--report", str(report)]


RATES = {"skilled_eer": "EER sk.", "random_eer": "EER rnd.", "frr": "FRR"}


def _compare(expected: Sequence[Mapping[str, Any]], reached: Sequence[Mapping[str, Any]]) -> None:
    """Print the shipped figures and the new ones side by side, row by row."""
    ours = {row["protocol"]: row for row in reached}
    columns = [show.Column(title="protocol")]
    for title in RATES.values():
        columns += [show.Column(title=name, right=True) for name in (f"{title}, shipped", "now")]
    pairs = [(row, ours.get(row["protocol"], {})) for row in expected]
    rows = [
        [pair[0]["protocol"], *(_percent(row.get(rate)) for rate in RATES for row in pair)]
        for pair in pairs
    ]
    show.table(columns, rows, title="Test writers of CEDAR, never trained or tuned on")


def _percent(rate: float | None) -> str:
    return "-" if rate is None else percent(rate)


if __name__ == "__main__":
    sys.exit(main())
