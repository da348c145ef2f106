"""Decisions gathered by source and period, in one pass, beside an earlier time of the same source.

A signer's signatures resemble each other, so many decisions of one signer say little more than
one. What is tested is therefore the first decision of each signer in a cell; what is shown counts
them all.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime

from storage.observations import Observation
from storage.tables import ERROR
from worker.sources import source_of

ALL, OTHERS = "all sources", "other sources"
BIN = 0.005
ENOUGH = 100
"""A baseline takes whole periods until it has so many signers."""
MAX_SOURCES = 500

Period = tuple[datetime, datetime]


@dataclass(kw_only=True)
class Cell:
    """The decisions of one source in one period; distances are counted in bins of `BIN`.

    `signers` and `measured` have one decision for each signer, the first one and the first one
    with a distance.
    """

    verdicts: Counter[str] = field(default_factory=Counter)
    codes: Counter[str] = field(default_factory=Counter)
    points: Counter[str | None] = field(default_factory=Counter)
    distances: Counter[int] = field(default_factory=Counter)
    signers: Counter[str] = field(default_factory=Counter)
    measured: Counter[int] = field(default_factory=Counter)
    preprocess_ms: float = 0.0
    preprocessed: int = 0
    _seen: set[int] = field(default_factory=set, repr=False)
    _seen_measured: set[int] = field(default_factory=set, repr=False)

    def add(self, row: Observation, unit: int) -> None:
        """Counts a decision; `unit` is the signer, or whatever else counts once."""
        self.verdicts[row.verdict] += 1
        if unit not in self._seen:
            self._seen.add(unit)
            self.signers[row.verdict] += 1
        if row.preprocess_ms is not None:
            self.preprocess_ms += row.preprocess_ms
            self.preprocessed += 1
        if row.verdict == ERROR:
            self.codes[row.error_code or ERROR] += 1
            return
        self.points[row.operating_point] += 1
        if row.distance is not None:
            place = int(row.distance / BIN)
            self.distances[place] += 1
            if unit not in self._seen_measured:
                self._seen_measured.add(unit)
                self.measured[place] += 1


@dataclass(kw_only=True)
class Track:
    """One source: its baseline, made of `basis` periods, and the periods after that."""

    source: str
    baseline: Cell = field(default_factory=Cell)
    basis: list[str] = field(default_factory=list)
    periods: dict[str, Cell] = field(default_factory=dict)
    _fixed: bool = False

    def add(self, row: Observation, unit: int, period: str, fixed: Period | None) -> None:
        """Counts a decision; rows come in the order of time."""
        if self._in_baseline(row.decided_at, period, fixed):
            if period not in self.basis[-1:]:
                self.basis.append(period)
            self.baseline.add(row, unit)
        else:
            self.periods.setdefault(period, Cell()).add(row, unit)

    def _in_baseline(self, at: datetime, period: str, fixed: Period | None) -> bool:
        if fixed is not None and at < fixed[1]:
            self._fixed = True
            return True
        if self._fixed or self.periods:
            return False
        # A source that is new after a fixed baseline begins its own, like one without.
        return period in self.basis[-1:] or self.baseline.signers.total() < ENOUGH


def week(at: datetime) -> str:
    """The week by ISO 8601, as in 2026-W48."""
    year, number, _ = at.isocalendar()
    return f"{year}-W{number:02}"


def day(at: datetime) -> str:
    """The date."""
    return at.date().isoformat()


def gathered(
    rows: Iterable[Observation],
    *,
    period_of: Callable[[datetime], str] = week,
    source: str | None = None,
    source_field: str | None = None,
    baseline: Period | None = None,
    each_decision: bool = False,
) -> dict[str, Track]:
    """The tracks by source, that of all sources first; rows come in the order of time.

    `source` leaves only that one. A `baseline` period is everybody's, and what is before it is
    left out; without one each source's first periods are its own. `each_decision` lets every
    decision count, which is right where all are of one signer. Beyond `MAX_SOURCES` the sources
    that come last are taken together.
    """
    tracks = {ALL: Track(source=ALL)}
    for row in rows:
        found = source_of(row.document, row.upstream, source_field)
        if source not in (None, found) or (baseline and row.decided_at < baseline[0]):
            continue
        if found not in tracks:
            found = found if len(tracks) <= MAX_SOURCES else OTHERS
            tracks.setdefault(found, Track(source=found))
        unit = hash(row.job_id if each_decision else row.signer_id)
        period = period_of(row.decided_at)
        for name in (ALL, found):
            tracks[name].add(row, unit, period, baseline)
    return tracks
