"""The seed notebook's evaluation: single pairs of a few held-out writers, and one threshold.

Of each writer all genuine pairs count and as many pairs with a skilled forgery of it, drawn: 276
and 276 of 24 + 24 signatures, so 3,312 pairs of CEDAR's six test writers. The threshold is fitted
on the validation writers and used unchanged on the test writers. Figures of the seed itself are of
grey input, which is leaky on CEDAR; six writers are few, whatever the input.

The seed mixed pairs of strangers among its forgeries, which are easier to refuse. Here they are
apart: every figure is of skilled forgeries but `far_random`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from . import metrics
from .arrays import Vectors
from .evaluate import Scores, folds_of_five
from .sampling import Writer

VALIDATION = "validation"
FIGURES = ("acc", "f1", "roc_auc", "pr_auc", "far", "frr", "eer")


def seed_pairs(
    vectors: Mapping[str, Vectors], writers: Mapping[str, Sequence[Writer]], *, seed: int
) -> dict[str, Scores]:
    """The distances of each part's pairs; a part without writers is left out.

    `vectors[part]` (N, D) are embeddings whose rows `writers[part]` name. The same seed draws the
    same pairs.
    """
    return {
        part: folds_of_five(vectors[part], found, np.random.default_rng(seed))[0]
        for part, found in writers.items()
        if found
    }


def seed_table(
    vectors: Mapping[str, Vectors],
    writers: Mapping[str, Sequence[Writer]],
    *,
    policy: metrics.Policy,
    seed: int,
) -> list[dict[str, Any]]:
    """The seed's table, a row for each part of `writers`, "validation" among them.

    A row has `part`, `writers`, `pairs` (genuine and skilled), `policy`, `threshold`, the rates
    named in `FIGURES` and `far_random`, all in 0 to 1; the last is nan where there is one writer.
    `policy` is youden, maxacc or eer. Raises metrics.MetricsError for another, and where a part
    has no skilled forgeries.
    """
    distances = seed_pairs(vectors, writers, seed=seed)
    fitted = distances[VALIDATION]
    threshold = metrics.threshold(fitted.genuine, fitted.skilled, policy)
    return [
        {"part": part, "writers": len(writers[part]), "policy": policy, **_row(found, threshold)}
        for part, found in distances.items()
    ]


def _row(found: Scores, threshold: float) -> dict[str, Any]:
    summary = metrics.summary(found.genuine, found.skilled, threshold).as_dict()
    return {
        "pairs": len(found.genuine) + len(found.skilled),
        "threshold": threshold,
        **{name: summary[name] for name in FIGURES},
        "far_random": metrics.far(found.random, threshold) if len(found.random) else np.nan,
    }
