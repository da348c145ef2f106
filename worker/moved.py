"""What moved: each period of a source against its baseline, corrected for how often it was asked.

Only what is both unlikely by chance and large enough to matter is called out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import groupby

from model import shifts
from storage.tables import ACCEPT, ERROR, REVIEW
from worker.cells import DISTANCE, OF_INK, Cell
from worker.drift import ALL, Track

LEVEL = 0.01
"""The chance that a report on decisions which did not move calls anything out."""
FEWEST = 30
"""Of fewer signers, in the period or in the baseline, nothing is claimed."""
LEAST_SHIFT = 0.1
"""By how much the cumulative shares of distances, or of numbers of the ink, must differ."""
LEAST_SHARE = 0.02
"""By how much a share of verdicts must differ."""

ACCEPTED, REVIEWED, FAILED = SHARES = ("accepted", "review", "failed")
MEASURES = (DISTANCE, *SHARES, *OF_INK)
VERDICTS = {ACCEPTED: ACCEPT, REVIEWED: REVIEW, FAILED: ERROR}


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """One test: `now`, which is one period of a source, against `before`.

    `p` is as it stands after all tests of the report. `new` where the source had no earlier time
    and is held against the baseline of all sources.
    """

    source: str
    measure: str
    period: str
    before: Cell
    now: Cell
    effect: float
    p: float
    new: bool = False

    @property
    def moved(self) -> bool:
        """Whether it is called out."""
        least = LEAST_SHARE if self.measure in SHARES else LEAST_SHIFT
        return self.p <= LEVEL and self.effect >= least


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What moved at one source: periods that follow each other, of which the `last` may go on."""

    source: str
    measure: str
    first: str
    last: str
    goes_on: bool
    new: bool
    before: Cell
    periods: tuple[Cell, ...]
    p: float


def compared(tracks: Mapping[str, Track]) -> list[Comparison]:
    """Every test there are enough signers for, by source, measure and time.

    With one source, it is not asked a second time under the name of all.
    """
    asked = [test for track in _asked(tracks) for test in _tests(track, tracks[ALL])]
    adjusted = shifts.holm([test.p for test in asked])
    return [replace(test, p=p) for test, p in zip(asked, adjusted, strict=True)]


def findings(comparisons: Iterable[Comparison]) -> list[Finding]:
    """What moved, single sources first; of all sources only what no single one shows."""
    found: list[Finding] = []
    for _, group in groupby(comparisons, key=lambda c: (c.source == ALL, c.source, c.measure)):
        tests = list(group)
        found += (_finding(list(run), tests) for moved, run in _runs(tests) if moved)
    single = {each.measure for each in found if each.source != ALL}
    return [each for each in found if each.source != ALL or each.measure not in single]


def untested(tracks: Mapping[str, Track]) -> list[str]:
    """The sources with too few signers for any claim."""
    tested = {test.source for track in _asked(tracks) for test in _tests(track, tracks[ALL])}
    return [name for name in _names(tracks) if name not in tested]


def share(cell: Cell, measure: str) -> tuple[int, int]:
    """How many signers' decisions count for a measure, of how many: failures are no verdicts."""
    return _share(cell.signers, measure)


def _share(counted: Counter[str], measure: str) -> tuple[int, int]:
    total = counted.total() - (0 if measure == FAILED else counted[ERROR])
    return counted[VERDICTS[measure]], total


def _names(tracks: Mapping[str, Track]) -> list[str]:
    single = sorted(tracks.keys() - {ALL})
    return single if len(single) == 1 else [*single, ALL]


def _asked(tracks: Mapping[str, Track]) -> list[Track]:
    return [tracks[name] for name in _names(tracks)]


def _tests(track: Track, everything: Track) -> Iterator[Comparison]:
    for measure in MEASURES:
        own, common = track.baseline_of(measure), everything.baseline_of(measure)
        if own.basis and common.basis and own.basis[0] > common.basis[-1]:
            new = _test(track.source, measure, own.basis[0], common.cell, own.cell)
            yield from (replace(test, new=True) for test in new)
        for period, cell in track.periods.items():
            if period not in own.basis:
                yield from _test(track.source, measure, period, own.cell, cell)


def _test(source: str, measure: str, period: str, before: Cell, now: Cell) -> Iterator[Comparison]:
    """One comparison, or none where too few signers or another operating point forbid it."""
    ask = _rate if measure in SHARES else _number
    result = ask(measure, before, now)
    if result is not None:
        effect, p = result
        yield Comparison(
            source=source,
            measure=measure,
            period=period,
            before=before,
            now=now,
            effect=effect,
            p=p,
        )


def _number(measure: str, before: Cell, now: Cell) -> tuple[float, float] | None:
    was, found = before.firsts[measure], now.firsts[measure]
    if min(was.total(), found.total()) < FEWEST:
        return None
    return shifts.kolmogorov(was, found)


def _rate(measure: str, before: Cell, now: Cell) -> tuple[float, float] | None:
    (was, of), (hits, total) = share(before, measure), share(now, measure)
    if min(of, total) < FEWEST or (measure != FAILED and not same_point(before, now)):
        return None
    return abs(hits / total - was / of), shifts.fisher(hits, total, was, of)


def same_point(before: Cell, now: Cell) -> bool:
    """Whether both were decided at the same operating points, so that verdicts compare."""
    return before.points.keys() == now.points.keys()


def _runs(tests: list[Comparison]) -> Iterator[tuple[bool, Iterator[Comparison]]]:
    for (moved, _), run in groupby(tests, key=lambda test: (test.moved, test.new)):
        yield moved, run


def _finding(run: list[Comparison], tests: list[Comparison]) -> Finding:
    first, last = run[0], run[-1]
    return Finding(
        source=first.source,
        measure=first.measure,
        first=first.period,
        last=last.period,
        goes_on=last.period == tests[-1].period,
        new=first.new,
        before=first.before,
        periods=tuple(test.now for test in run),
        p=max(test.p for test in run),
    )
