"""What forgeries of a corpus have in common, and whether those of another have it, too.

    python -m bench.displacement --data DIR [--checkpoint FILE]

DIR holds the corpora of the checkpoint's development and test writers. Along the direction in which
the forgeries of a corpus' other writers lie off their genuine signatures, and along those of the
other corpora, forged is told from genuine with some AUC. The errors are those with 3 references by
the checkpoint's rule: as they are, and with the direction of the corpus taken out of all vectors;
it is that of the very writers who are measured, so that no more than the difference hangs on it.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from bench.rule import corpora_of, embedded, errors_of, options_of, percent
from model.arrays import Vectors
from model.checkpoint import load_checkpoint
from model.distance import vectors_of
from model.leakage import common_displacement, lies_off
from model.lineage import lineage_of
from model.metrics import roc_auc
from model.sampling import Writer
from worker.cli import show

CANNOT = 2
REFERENCES = 3

Direction = NDArray[np.float64]


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a row for each corpus."""
    options = options_of("What the forgeries of a corpus have in common.", arguments)
    checkpoint = load_checkpoint(options.checkpoint)
    lineage = lineage_of(checkpoint.provenance)
    corpora = list(corpora_of(options.data, lineage.tuning | lineage.testing))
    parts = {}
    for vectors, writers in embedded(corpora, checkpoint, options):
        if able := [writer for writer in writers if len(writer.forged)]:
            parts[able[0].corpus] = vectors, able
    if not parts:
        show.say("--data holds no forgeries of the checkpoint's own writers.", stderr=True)
        return CANNOT
    directions = {name: direction_of(*part) for name, part in parts.items()}
    rows = []
    for name, (vectors, writers) in parts.items():
        along = {
            other: told(vectors, writers, to)
            if other != name
            else common_displacement(vectors, writers)
            for other, to in directions.items()
        }
        errors = [
            percent(*errors_of(each, writers, REFERENCES, checkpoint.scoring))
            for each in (vectors, without(vectors, directions[name]))
        ]
        aucs = (f"{auc:.2f}" for auc in along.values())
        rows.append([name, str(len(writers)), *aucs, *errors])
    titles = ("writers", *directions, "EER", "without")
    show.table(
        [show.Column(title="corpus"), *(show.Column(title=title, right=True) for title in titles)],
        rows,
        title="AUC along the direction of each corpus; EER in %, skilled / random, with "
        f"{REFERENCES} references, as it is and without the direction of its own",
    )
    return 0


def direction_of(vectors: Vectors, writers: Sequence[Writer]) -> Direction:
    """Where the forgeries of these writers lie off their genuine signatures, on average: (D,)."""
    return np.mean([lies_off(vectors, writer)[1].mean(0) for writer in writers], axis=0)


def told(vectors: Vectors, writers: Sequence[Writer], direction: Direction) -> float:
    """AUC by which how far a signature lies along a direction tells forged from genuine."""
    off = [lies_off(vectors, writer) for writer in writers]
    genuine, forged = (np.concatenate(kind) @ direction for kind in zip(*off, strict=True))
    return roc_auc(genuine, forged)


def without(vectors: Vectors, direction: Direction) -> Vectors:
    """Embeddings (N, D) whose unit vectors have nothing of one direction; their cells stay."""
    axis = direction / np.linalg.norm(direction)
    units = vectors_of(vectors)
    left = units - np.outer(units @ axis, axis)
    left /= np.linalg.norm(left, axis=1, keepdims=True)
    return np.concatenate([left, vectors[:, units.shape[1] :]], axis=1).astype(np.float32)


if __name__ == "__main__":
    sys.exit(main())
