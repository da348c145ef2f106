"""What moved: each period of a source against its baseline, corrected for how often it was asked.

Only what is both unlikely by chance and large enough to matter is called out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import groupby

from model import shifts
from storage.tables import ACCEPT, ERROR, REVIEW
from worker.drift import ALL, Cell, Track

LEVEL = 0.01
"""The chance that a report on decisions which did not move calls anything out."""
FEWEST = 30
"""Of fewer signers, in the period or in the baseline, nothing is claimed."""
LEAST_DISTANCE = 0.1
"""By how much the cumulative shares of distances must differ."""
LEAST_SHARE = 0.02
"""By how much a share of verdicts must differ."""

DISTANCE, ACCEPTED, REVIEWED, FAILED = MEASURES = ("distance", "accepted", "review", "failed")
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
        least = LEAST_DISTANCE if self.measure == DISTANCE else LEAST_SHARE
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
        if track.basis and everything.basis and track.basis[0] > everything.basis[-1]:
            new = _test(track.source, measure, track.basis[0], everything.baseline, track.baseline)
            yield from (replace(test, new=True) for test in new)
        for period, cell in track.periods.items():
            yield from _test(track.source, measure, period, track.baseline, cell)


def _test(source: str, measure: str, period: str, before: Cell, now: Cell) -> Iterator[Comparison]:
    """One comparison, or none where too few signers or another operating point forbid it."""
    ask = _distance if measure == DISTANCE else _rate(measure)
    result = ask(before, now)
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


def _distance(before: Cell, now: Cell) -> tuple[float, float] | None:
    if min(before.measured.total(), now.measured.total()) < FEWEST:
        return None
    return shifts.kolmogorov(before.measured, now.measured)


def _rate(measure: str) -> Callable[[Cell, Cell], tuple[float, float] | None]:
    def ask(before: Cell, now: Cell) -> tuple[float, float] | None:
        (was, of), (hits, total) = share(before, measure), share(now, measure)
        if min(of, total) < FEWEST or (measure != FAILED and not same_point(before, now)):
            return None
        return abs(hits / total - was / of), shifts.fisher(hits, total, was, of)

    return ask


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
