"""What is counted of the decisions of one source in one period: verdicts, and numbers in bins.

A signer's signatures resemble each other, so many decisions of one signer say little more than
one. What is tested is therefore the first decision of each signer in a cell; what is shown counts
them all.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field

from model import shifts
from storage.observations import Observation
from storage.tables import ERROR

DECISION, DISTANCE, INK = "decision", "distance", "ink"
"""What a signer's first of is looked for: each has its own, since not every decision has all."""
STROKE_WIDTH, INK_SHARE, LONG_SIDE = OF_INK = ("stroke_width", "ink_share", "long_side")
"""The numbers of `model.ink.Ink`."""

BIN = 0.005
"""The width of a bin of distances."""
STEP = math.log(1.02)
"""Bins of ink are 2 % wide, for it moves by factors."""

Bins = Mapping[str, Mapping[str, int]]
Histograms = defaultdict[str, Counter[int]]


def binned(row: Observation) -> Bins:
    """The bins of a decision's numbers, by what they belong to, and by measure."""
    found: dict[str, Mapping[str, int]] = {}
    if row.distance is not None:
        found[DISTANCE] = {DISTANCE: int(row.distance / BIN)}
    if row.ink:
        numbers = ((name, row.ink.get(name)) for name in OF_INK)
        found[INK] = {name: math.floor(math.log(x) / STEP) for name, x in numbers if x}
    return found


def middle(measure: str, place: float) -> float:
    """The number in the middle of a bin.

    >>> middle(DISTANCE, 66)
    0.3325
    """
    return (place + 0.5) * BIN if measure == DISTANCE else math.exp((place + 0.5) * STEP)


def at(counts: Mapping[int, int], measure: str, share: float) -> float | None:
    """A quantile of numbers in bins: the middle of its bin, None without any."""
    place = shifts.quantile(counts, share)
    return None if place is None else middle(measure, place)


@dataclass(kw_only=True)
class Cell:
    """The decisions of one source in one period.

    `numbers` holds a histogram for each measure; `signers` and `firsts` count one decision of each
    signer, the first, and the first that has the number.
    """

    verdicts: Counter[str] = field(default_factory=Counter)
    codes: Counter[str] = field(default_factory=Counter)
    points: Counter[str | None] = field(default_factory=Counter)
    numbers: Histograms = field(default_factory=lambda: defaultdict(Counter))
    signers: Counter[str] = field(default_factory=Counter)
    firsts: Histograms = field(default_factory=lambda: defaultdict(Counter))
    preprocess_ms: float = 0.0
    preprocessed: int = 0
    _seen: defaultdict[str, set[int]] = field(default_factory=lambda: defaultdict(set), repr=False)

    def add(self, row: Observation, bins: Bins, unit: int) -> None:
        """Counts a decision; `unit` is the signer, or whatever else counts once."""
        self.verdicts[row.verdict] += 1
        if self._is_first(DECISION, unit):
            self.signers[row.verdict] += 1
        if row.preprocess_ms is not None:
            self.preprocess_ms += row.preprocess_ms
            self.preprocessed += 1
        if row.verdict == ERROR:
            self.codes[row.error_code or ERROR] += 1
        else:
            self.points[row.operating_point] += 1
        for kind, places in bins.items():
            first = self._is_first(kind, unit)
            for measure, place in places.items():
                self.numbers[measure][place] += 1
                if first:
                    self.firsts[measure][place] += 1

    def units(self, kind: str) -> int:
        """How many signers have a first of this kind."""
        return len(self._seen[kind])

    def median(self, measure: str) -> float | None:
        """The median of all numbers, None without any."""
        return at(self.numbers[measure], measure, 0.5)

    def _is_first(self, kind: str, unit: int) -> bool:
        seen = self._seen[kind]
        if unit in seen:
            return False
        seen.add(unit)
        return True
