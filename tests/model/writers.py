"""Writers whose signatures lie one after another in a table."""

from __future__ import annotations

import numpy as np

from model.sampling import Writer


def people(
    count: int, genuine: int = 8, forged: int = 8, corpus: str = "made", first: int = 0
) -> list[Writer]:
    """So many writers from row `first` on, each with genuine signatures, then forgeries."""
    each = genuine + forged
    rows = np.arange(first, first + count * each).reshape(count, each)
    return [
        Writer(name=f"{corpus}/{n}", corpus=corpus, genuine=own[:genuine], forged=own[genuine:])
        for n, own in enumerate(rows)
    ]
