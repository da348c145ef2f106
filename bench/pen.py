"""What another pen does: the signer enrolled with one, and every document was written with another.

    python -m bench.pen --data DIR [--checkpoint FILE]

In every corpus a writer holds one pen and his forger another, so that a model may learn pens where
it should learn hands, and no figure on such a corpus shows it. Here each questioned signature,
genuine and forged alike, is drawn anew by one of four pens, two thinner and two thicker ones. DIR
holds the corpora of the checkpoint's development and test writers; each is measured by itself.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from rich.progress import track

from bench.rule import corpora_of, errors_of, options_of, percent, title_of
from model import evaluate
from model.arrays import Vectors
from model.cache import CachedImages
from model.checkpoint import build_model, load_checkpoint
from model.inference import choose_device
from model.lineage import lineage_of
from model.outline import with_other_pens
from model.recipes import PLACES
from model.sampling import Writer, writers_of
from model.scoring import Scoring
from model.siamese import SiameseNet
from worker.cli import show

CANNOT = 2
Pair = tuple[Vectors, Vectors]
"""Embeddings of signatures as they are, and by other pens."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a table for each number of references."""
    options = options_of("What another pen does.", arguments)
    checkpoint = load_checkpoint(options.checkpoint)
    lineage = lineage_of(checkpoint.provenance)
    corpora = list(corpora_of(options.data, lineage.tuning | lineage.testing))
    if not corpora:
        show.say("--data holds none of the checkpoint's own writers.", stderr=True)
        return CANNOT
    # Pens differ by less than a pixel of what the network sees.
    how = replace(PLACES.preprocessing, name=checkpoint.preprocessing.name)
    device = choose_device(options.device)
    model = build_model(checkpoint, device)
    images = [CachedImages(one, how, options.cache) for one in corpora]
    writers = [writers_of(one, found) for one, found in zip(corpora, images, strict=True)]
    vectors = [_embedded(model, found, device) for found in images]
    for count in evaluate.REFERENCE_COUNTS:
        _table(count, writers, vectors, checkpoint.scoring)
    return 0


@torch.no_grad()
def _embedded(model: SiameseNet, images: CachedImages, device: torch.device) -> Pair:
    plain, penned = [], []
    rows = np.arange(len(images.pixels))
    for start in track(range(0, len(rows), evaluate.BATCH), "Embedding", transient=True):
        batch = torch.from_numpy(images.images(rows[start : start + evaluate.BATCH])).to(device)
        plain.append(model.embed(batch).cpu().numpy())
        penned.append(model.embed(with_other_pens(batch)).cpu().numpy())
    return np.concatenate(plain), np.concatenate(penned)


def _table(
    count: int, writers: Sequence[Sequence[Writer]], vectors: Sequence[Pair], scoring: Scoring
) -> None:
    able = [
        (own, pair)
        for own, pair in zip(writers, vectors, strict=True)
        if any(len(writer.genuine) > count for writer in own)
    ]
    rows = []
    for own, (plain, penned) in able:
        errors = [errors_of(plain, own, count, scoring, by) for by in (plain, penned)]
        rows.append([own[0].corpus, *(percent(*pair) for pair in errors)])
    if rows:
        titles = ("the pen of the references", "other pens")
        show.table(
            [show.Column(title="corpus"), *(show.Column(title=t, right=True) for t in titles)],
            rows,
            title=title_of(count),
        )


if __name__ == "__main__":
    sys.exit(main())
