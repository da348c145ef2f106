"""How good a verifier looks on CEDAR that looks at the grey of the ink and at nothing else.

    python -m bench.grey --data DIR [--checkpoint FILE]

DIR is a corpus whose scans keep their grey, such as `cedar_grey`. A logistic regression calls each
image genuine or forged by how often each of the 256 levels of grey is in its ink: it knows no
reference and no hand. It is fitted to the writers of the other folds of five, so every writer is
unseen. The distance of two images is that of their two answers. Beside it stand, for the
checkpoint's own test writers, the hand alone and both together. **Leaky**: where the forgeries
were scanned apart, all that this shows is which session an image is of.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import LeaveOneGroupOut, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from bench.rule import options_of, percent
from model import evaluate, metrics
from model.arrays import Floats, Rows, Vectors
from model.cache import CachedImages
from model.checkpoint import Checkpoint, build_model, load_checkpoint
from model.dataset import scan_dataset
from model.inference import choose_device
from model.lineage import lineage_of
from model.preprocess import decode_grey
from model.sampling import Writer, writers_of
from worker.cli import show

CANNOT = 2
WEIGHT = 2.0
"""Of the grey beside the hand: as far as two hands can be apart."""

WHITE = 255


def main(arguments: Sequence[str] | None = None) -> int:
    """Print single images by their grey, and 1:1 by grey, by hand and by both."""
    options = options_of("What the grey of the ink is worth.", arguments)
    checkpoint = load_checkpoint(options.checkpoint)
    signers = [signer for signer in scan_dataset(options.data) if signer.forged]
    images = CachedImages(signers, checkpoint.preprocessing, options.cache)
    writers = writers_of(signers, images)
    if len(writers) < 2 * evaluate.FOLD:
        show.say("--data needs ten writers with usable signatures and forgeries.", stderr=True)
        return CANNOT
    levels = _levels(images)
    answers = _answers(levels, writers)
    grey = answers[:, None].astype(np.float32)
    compared = [("the grey of the ink", writers, _pairs(grey, writers))]
    if tested := _tested(writers, checkpoint):
        device = choose_device(options.device)
        embeddings = evaluate.embed_rows(build_model(checkpoint, device), images, device)
        hand = _pairs(embeddings, tested)
        both = _added(hand, _pairs(WEIGHT * grey, tested))
        compared += [("the hand, of strokes", tested, hand), ("both", tested, both)]
    show.table(
        [show.Column(title=t, right=t != "compared") for t in ("compared", "writers", "1:1")],
        [
            [name, str(len(own)), percent(pairs.eer("skilled"), pairs.eer("random"))]
            for name, own, pairs in compared
        ],
        title="LEAKY: EER in %, skilled / random forgeries",
    )
    genuine, forged = _rows(writers)
    alone = metrics.eer(answers[genuine], answers[forged])[0]
    show.say(f"Single images, without any reference: EER {100 * alone:.2f} %.")
    show.say(_missing(levels[genuine], levels[forged]))
    return 0


def _levels(images: CachedImages) -> Floats:
    """The shares (N, 256) of each level of grey among all that is not white."""
    levels = np.zeros((len(images.pixels), 256))
    for path, row in images.index.items():
        grey = decode_grey(path.read_bytes())
        counts = np.bincount(grey[grey < WHITE], minlength=256)
        levels[row] = counts / max(counts.sum(), 1)
    return levels


def _answers(levels: Floats, writers: Sequence[Writer]) -> Floats:
    """How sure it is that each image (N,) is forged, in 0 to 1, by writers of other folds."""
    members = [np.concatenate([writer.genuine, writer.forged]) for writer in writers]
    folds = np.arange(len(writers)) // evaluate.FOLD
    rows, (_, forged) = np.concatenate(members), _rows(writers)
    votes = cross_val_predict(
        make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000)),
        np.sqrt(levels[rows]),
        np.isin(rows, forged),
        groups=np.repeat(folds, [len(each) for each in members]),
        cv=LeaveOneGroupOut(),
        method="predict_proba",
    )
    answers = np.zeros(len(levels))
    answers[rows] = votes[:, 1]
    return answers


def _rows(writers: Sequence[Writer]) -> tuple[Rows, Rows]:
    """Of all genuine and of all forged images."""
    genuine, forged = ([w.genuine for w in writers], [w.forged for w in writers])
    return np.concatenate(genuine), np.concatenate(forged)


def _missing(genuine: Floats, forged: Floats) -> str:
    """Which levels of grey no forgery has, as a tone curve leaves them."""
    missing = (genuine > 0).any(axis=0) & ~(forged > 0).any(axis=0)
    inked = genuine[:, missing].sum(axis=1)
    return (
        f"No forgery has any of {missing.sum()} levels of grey that genuine images have; of their "
        f"ink {100 * inked.mean():.1f} % lies there, and {100 * (inked > 0).mean():.1f} % of them "
        "have some."
    )


def _tested(writers: Sequence[Writer], checkpoint: Checkpoint) -> list[Writer]:
    """Those who test the checkpoint, as `cedar_grey/7` is writer 7 of `cedar`."""
    testing = [name.rpartition("/") for name in lineage_of(checkpoint.provenance).testing]
    return [
        writer
        for writer in writers
        if any(
            writer.corpus.startswith(corpus) and writer.name.rpartition("/")[2] == number
            for corpus, _, number in testing
        )
    ]


def _pairs(vectors: Vectors, writers: Sequence[Writer]) -> evaluate.Scores:
    """The distances of pairs, the same pairs of the same writers each time."""
    return evaluate.folds_of_five(vectors, writers, np.random.default_rng(0))[0]


def _added(first: evaluate.Scores, second: evaluate.Scores) -> evaluate.Scores:
    """The sums of two distances of each pair."""
    return evaluate.Scores(**{kind: first.of(kind) + second.of(kind) for kind in evaluate.KINDS})


if __name__ == "__main__":
    sys.exit(main())
