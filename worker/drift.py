"""Decisions by source and period, in one pass, beside an earlier time of the same source."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime

from storage.observations import Observation
from worker.cells import DECISION, INK, OF_INK, Bins, Cell, binned
from worker.sources import source_of

ALL, OTHERS = "all sources", "other sources"
ENOUGH = 100
"""A baseline takes whole periods until it has so many signers."""
MAX_SOURCES = 500

Period = tuple[datetime, datetime]


@dataclass(kw_only=True)
class Baseline:
    """The time that a source is compared with: whole periods, named in `basis`, in one cell.

    It is complete when enough signers have a first of its kind.
    """

    kind: str = DECISION
    cell: Cell = field(default_factory=Cell)
    basis: list[str] = field(default_factory=list)
    _fixed: bool = False
    _complete: bool = False

    def takes(self, at: datetime, period: str, fixed: Period | None) -> bool:
        """Whether a decision of that time belongs to it; they come in the order of time."""
        if fixed is not None and at < fixed[1]:
            self._fixed = True
        elif not self._goes_on(period):
            self._complete = True
            return False
        if period not in self.basis[-1:]:
            self.basis.append(period)
        return True

    def _goes_on(self, period: str) -> bool:
        if self._fixed or self._complete:
            return False
        # A source that is new after a fixed baseline begins its own, like one without.
        return period in self.basis[-1:] or self.cell.units(self.kind) < ENOUGH


@dataclass(kw_only=True)
class Track:
    """One source: its baseline, and the periods after that.

    Ink has a baseline of its own, since older decisions do not have it: of those with ink, the
    first ones. The other cells count ink wherever it is.
    """

    source: str
    baseline: Baseline = field(default_factory=Baseline)
    inked: Baseline = field(default_factory=lambda: Baseline(kind=INK))
    periods: dict[str, Cell] = field(default_factory=dict)

    def add(
        self, row: Observation, bins: Bins, unit: int, period: str, fixed: Period | None
    ) -> None:
        """Counts a decision; rows come in the order of time."""
        if self.baseline.takes(row.decided_at, period, fixed):
            self.baseline.cell.add(row, bins, unit)
        else:
            self.periods.setdefault(period, Cell()).add(row, bins, unit)
        if INK in bins and self.inked.takes(row.decided_at, period, fixed):
            self.inked.cell.add(row, bins, unit)

    def baseline_of(self, measure: str) -> Baseline:
        """What this measure is compared with."""
        return self.inked if measure in OF_INK else self.baseline


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
        period, bins = period_of(row.decided_at), binned(row)
        for name in (ALL, found):
            tracks[name].add(row, bins, unit, period, baseline)
    return tracks
