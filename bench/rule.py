"""What each part of the scoring rule is worth, on the writers that the rule was fitted on.

    python -m bench.rule --data DIR [--checkpoint FILE]

DIR holds the corpora of the checkpoint's development writers. Every corpus is measured by itself,
for a signer is compared within one script, with the same draws of references for every rule. The
coefficients are the checkpoint's, each as it is or 0.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from itertools import combinations, product
from pathlib import Path

import numpy as np

from model import evaluate
from model.arrays import Vectors
from model.cache import CachedImages
from model.checkpoint import Checkpoint, build_model, load_checkpoint
from model.dataset import Signer, scan_dataset
from model.distance import has_cells, vectors_of
from model.inference import choose_device
from model.lineage import lineage_of
from model.sampling import Writer, writers_of
from model.scoring import Scoring
from worker.cli import show
from worker.cli.options import DEFAULT_CACHE

PARTS = ("centre_weight", "spread_weight", "cohort_weight")
CANNOT = 2
Part = tuple[Vectors, Sequence[Writer]]
"""Embeddings of the signatures of one corpus, and whose they are."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a table for each number of references."""
    options = options_of("What each part of the rule is worth.", arguments)
    checkpoint = load_checkpoint(options.checkpoint)
    corpora = list(corpora_of(options.data, lineage_of(checkpoint.provenance).tuning))
    if not corpora:
        show.say("--data holds none of the checkpoint's development writers.", stderr=True)
        return CANNOT
    parts = list(embedded(corpora, checkpoint, options))
    for count in evaluate.REFERENCE_COUNTS:
        _table(count, parts, checkpoint.scoring)
    return 0


def options_of(description: str, arguments: Sequence[str] | None) -> argparse.Namespace:
    """Which checkpoint is measured, and on which corpora."""
    parser = argparse.ArgumentParser(description=description)
    default = Path("checkpoints/siamese_vision_mamba_tiny.pt")
    parser.add_argument("--data", type=Path, required=True, help="the folder of the corpora")
    parser.add_argument("--checkpoint", type=Path, default=default)
    parser.add_argument("--cache", type=Path, default=DEFAULT_CACHE)
    parser.add_argument("--device", default="auto")
    return parser.parse_args(arguments)


def corpora_of(data: Path, names: Collection[str]) -> Iterator[list[Signer]]:
    """The signers of these names, corpus by corpus."""
    for corpus in sorted({name.rpartition("/")[0] for name in names}):
        if (data / corpus).is_dir():
            yield [signer for signer in scan_dataset(data / corpus) if signer.name in names]


def embedded(
    corpora: Sequence[Sequence[Signer]], checkpoint: Checkpoint, options: argparse.Namespace
) -> Iterator[Part]:
    """The signatures of each corpus as the checkpoint embeds them, and its writers."""
    device = choose_device(options.device)
    model = build_model(checkpoint, device)
    for signers in corpora:
        images = CachedImages(signers, checkpoint.preprocessing, options.cache)
        yield evaluate.embed_rows(model, images, device), writers_of(signers, images)


def _table(count: int, parts: Sequence[Part], scoring: Scoring) -> None:
    able = [part for part in parts if any(len(writer.genuine) > count for writer in part[1])]
    if not able:
        return
    titles = [writers[0].corpus for _, writers in able]
    kinds: dict[str, list[Vectors]] = {"": [vectors for vectors, _ in able]}
    if has_cells(able[0][0]):
        kinds["without cells: "] = [vectors_of(vectors) for vectors in kinds[""]]
    rows = []
    for (kind, embeddings), (name, rule) in product(kinds.items(), _rules(scoring)):
        errors = [
            errors_of(vectors, writers, count, rule)
            for vectors, (_, writers) in zip(embeddings, able, strict=True)
        ]
        means = np.mean(errors, axis=0)
        rows.append([kind + name, *(percent(*pair) for pair in [*errors, means])])
    show.table(
        [show.Column(title="rule"), *(show.Column(title=t, right=True) for t in [*titles, "mean"])],
        rows,
        title=title_of(count),
    )


def errors_of(
    vectors: Vectors,
    writers: Sequence[Writer],
    references: int,
    scoring: Scoring,
    questioned: Vectors | None = None,
) -> tuple[float, float]:
    """EER in 0 to 1, skilled and random, by the same draws of references whatever is measured."""
    found = evaluate.with_references(
        vectors,
        writers,
        references=references,
        scoring=scoring,
        rng=np.random.default_rng(references),
        questioned=questioned,
    )
    return found.eer("skilled"), found.eer("random")


def _rules(scoring: Scoring) -> Iterator[tuple[str, Scoring]]:
    """Every choice of the coefficients that are not 0, from none to all."""
    used = [part for part in PARTS if getattr(scoring, part)]
    for size in range(len(used) + 1):
        for kept in combinations(used, size):
            dropped = {part: 0.0 for part in used if part not in kept}
            name = " ".join(part.removesuffix("_weight") for part in kept)
            yield f"nearest {name}".strip(), replace(scoring, **dropped)


def title_of(references: int) -> str:
    """What a table with so many references shows."""
    plural = "s" if references > 1 else ""
    return f"{references} reference{plural}, EER in %, skilled / random forgeries"


def percent(skilled: float, random: float) -> str:
    """Two rates in 0 to 1, skilled / random, in per cent."""
    return f"{100 * skilled:.1f} / {100 * random:.1f}"


if __name__ == "__main__":
    sys.exit(main())
