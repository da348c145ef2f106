"""Writers whose signatures lie one after another in a table."""

from __future__ import annotations

import numpy as np

from model.sampling import Writer


def in_rows(
    count: int, *, genuine: int, forged: int = 0, corpus: str = "c", first: int = 0
) -> list[Writer]:
    """So many writers from row `first` on, each with genuine signatures, then forgeries."""
    found = []
    for number in range(count):
        rows = np.arange(genuine + forged) + first + number * (genuine + forged)
        name = f"{corpus}/{number}"
        writer = Writer(name=name, corpus=corpus, genuine=rows[:genuine], forged=rows[genuine:])
        found.append(writer)
    return found
