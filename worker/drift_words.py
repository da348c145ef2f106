"""What moved, as sentences for people: one for each finding, and `Nothing moved.`"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from functools import reduce
from typing import TypeVar

from model.calibration import GENUINE_TAIL
from model.rates import percent
from storage.tables import ERROR, REJECT
from worker.cells import BIN, DISTANCE, INK_SHARE, LONG_SIDE, STROKE_WIDTH, Cell, at
from worker.drift import ALL, Track
from worker.moved import ACCEPTED, FAILED, FEWEST, SHARES, VERDICTS, Finding, same_point

NOTHING = "Nothing moved."
TOO_FEW = f"Nothing can be said yet: a baseline and a period after it need {FEWEST} signers each."
NO_INK = (
    "No decision here has its ink on record: they are from before it was measured, or of a model "
    "that does not look for ink."
)
NEARLY = 2 * BIN
NEARLY_ONE = 0.03
"""A factor so near to 1 is called another spread, as a distance is within `NEARLY`."""
# What it is said of, how it moves by a factor, and how otherwise; the unit.
INK_WORDS = {
    STROKE_WIDTH: (
        "the strokes of documents of {} are",
        "as wide",
        "spread otherwise in width",
        "px",
    ),
    INK_SHARE: ("the ink of documents of {} is", "as dense in its box", "spread otherwise", "%"),
    LONG_SIDE: ("the ink of documents of {} is", "as long", "spread otherwise in length", "px"),
}
Key = TypeVar("Key")


def sentence(found: Finding) -> str:
    """The finding in plain words, with the numbers it rests on, all decisions counted."""
    if found.measure in SHARES:
        return _share(found)
    return _distance(found) if found.measure == DISTANCE else _ink(found)


def remarks(tracks: Mapping[str, Track]) -> list[str]:
    """What a reader must know besides: a changed operating point, what the calibration says."""
    track, was = tracks[ALL], tracks[ALL].baseline.cell
    told = []
    for period, cell in track.periods.items():
        if cell.points and was.points and not same_point(was, cell):
            told.append(
                f"From {period} on decisions were made at another operating point (was "
                f"{_points(was)}, now {_points(cell)}): shares of verdicts are not "
                "compared across that."
            )
            break
    return told + inked(track) + calibrated(track)


def inked(track: Track) -> list[str]:
    """Since when ink is on record, where that is not from the beginning."""
    basis = track.inked.basis
    if not basis:
        return [NO_INK]
    if basis[0] == track.baseline.basis[0]:
        return []
    return [
        f"Ink is on record since {basis[0]} and is compared with what it was until {basis[-1]}."
    ]


def calibrated(track: Track) -> list[str]:
    """The share rejected beside that of the genuine at calibration, where there is a band."""
    cells = [track.baseline.cell, *track.periods.values()]
    verdicts = _sum(cell.verdicts for cell in cells)
    if not any(point for cell in cells for point in cell.points):
        return []
    decided = verdicts.total() - verdicts[ERROR]
    return [
        f"{_percent(verdicts[REJECT], decided)} of all decided documents are rejected, forged ones "
        f"among them; at calibration {100 * GENUINE_TAIL:g} % of the genuine were."
    ]


def _distance(found: Finding) -> str:
    before, after, total = _medians(found)
    how = f"{abs(after - before):.2f} {'farther from' if after > before else 'nearer to'}"
    if abs(after - before) < NEARLY:
        how = "with another spread around"
    return (
        f"{_when(found)} documents of {found.source} lie {how} their references than "
        f"{_than(found)} (median {after:.2f}, was {before:.2f}; {total:,} decisions): "
        "a new scanner or form?"
    )


def _ink(found: Finding) -> str:
    before, after, total = _medians(found)
    what, as_much, otherwise, unit = INK_WORDS[found.measure]
    factor = after / before
    how = f"{round(factor, 2):g} times {as_much} as"
    if abs(factor - 1) < NEARLY_ONE:
        how = f"{otherwise} than"
    then = "with all sources" if found.new else "before"
    return (
        f"{_when(found)} {what.format(found.source)} {how} {then} (median "
        f"{ink_number(found.measure, after)} {unit}, was {ink_number(found.measure, before)}; "
        f"{total:,} decisions): a new scanner or form?"
    )


def ink_number(measure: str, value: float | None) -> str:
    """A number of the ink, a share in per cent; its unit stands beside it."""
    if value is None:
        return "-"
    if measure == LONG_SIDE:
        return f"{value:.0f}"
    return f"{100 * value if measure == INK_SHARE else value:.1f}"


def _medians(found: Finding) -> tuple[float, float, int]:
    """Of the baseline and of all that moved, and of how many decisions that is."""
    measure = found.measure
    now = _sum(cell.numbers[measure] for cell in found.periods)
    medians = (found.before.median(measure), at(now, measure, 0.5))
    before, after = (math.nan if each is None else each for each in medians)
    return before, after, now.total()  # without numbers there was no test


def _share(found: Finding) -> str:
    now = _sum(cell.verdicts for cell in found.periods)
    verdict = VERDICTS[found.measure]
    failures = found.measure == FAILED
    total = now.total() - (0 if failures else now[ERROR])
    was = found.before.verdicts
    of = was.total() - (0 if failures else was[ERROR])
    what = {ACCEPTED: "accepted", FAILED: "not decided"}.get(found.measure, "left for review")
    documents = "documents" if failures else "decided documents"
    return (
        f"{_when(found)} {_percent(now[verdict], total)} of the {documents} of {found.source} are "
        f"{what}, {_percent(was[verdict], of)} {_before(found)} ({total:,} decisions"
        f"{_code(found) if failures else ''}): a new scanner or form?"
    )


def _code(found: Finding) -> str:
    """The error code whose share grew most."""
    now, was = _sum(cell.codes for cell in found.periods), found.before.codes
    size = sum(cell.verdicts.total() for cell in found.periods)
    base = found.before.verdicts.total()
    grown = {code: count / size - was[code] / base for code, count in now.items()}
    return f", mostly {max(grown, key=grown.__getitem__)}" if grown else ""


def _when(found: Finding) -> str:
    if found.new:
        return f"New in {found.first}:"
    if found.goes_on:
        return f"Since {found.first}"
    return f"In {found.first}" if found.first == found.last else f"{found.first} to {found.last}:"


def _than(found: Finding) -> str:
    return "those of all sources" if found.new else "before"


def _before(found: Finding) -> str:
    return "of those of all sources" if found.new else "before"


def _percent(hits: int, total: int) -> str:
    return percent(hits / total if total else 0.0)


def _points(cell: Cell) -> str:
    return ", ".join(sorted(point or "balanced" for point in cell.points))


def _sum(counters: Iterable[Counter[Key]]) -> Counter[Key]:
    start: Counter[Key] = Counter()
    return reduce(lambda total, more: total + more, counters, start)
