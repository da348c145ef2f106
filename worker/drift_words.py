"""What moved, as sentences for people: one for each finding, and `Nothing moved.`"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from functools import reduce
from typing import TypeVar

from model import shifts
from model.calibration import GENUINE_TAIL
from storage.tables import ERROR, REJECT
from worker.drift import ALL, BIN, Cell, Track
from worker.moved import ACCEPTED, DISTANCE, FAILED, FEWEST, VERDICTS, Finding, same_point

NOTHING = "Nothing moved."
TOO_FEW = f"Nothing can be said yet: a baseline and a period after it need {FEWEST} signers each."
NEARLY = 2 * BIN
Key = TypeVar("Key")


def sentence(found: Finding) -> str:
    """The finding in plain words, with the numbers it rests on, all decisions counted."""
    if found.measure == DISTANCE:
        return _distance(found)
    return _share(found)


def remarks(tracks: Mapping[str, Track]) -> list[str]:
    """What a reader must know besides: a changed operating point, what the calibration says."""
    track = tracks[ALL]
    told = []
    for period, cell in track.periods.items():
        if cell.points and track.baseline.points and not same_point(track.baseline, cell):
            told.append(
                f"From {period} on decisions were made at another operating point (was "
                f"{_points(track.baseline)}, now {_points(cell)}): shares of verdicts are not "
                "compared across that."
            )
            break
    return told + calibrated(track)


def calibrated(track: Track) -> list[str]:
    """The share rejected beside that of the genuine at calibration, where there is a band."""
    cells = [track.baseline, *track.periods.values()]
    verdicts = _sum(cell.verdicts for cell in cells)
    if not any(point for cell in cells for point in cell.points):
        return []
    decided = verdicts.total() - verdicts[ERROR]
    return [
        f"{_percent(verdicts[REJECT], decided)} of all decided documents are rejected, forged ones "
        f"among them; at calibration {100 * GENUINE_TAIL:g} % of the genuine were."
    ]


def median(distances: Counter[int]) -> float | None:
    """The median of distances in bins, None without any."""
    return at(distances, 0.5)


def at(distances: Counter[int], share: float) -> float | None:
    """A quantile of distances in bins: the middle of its bin, None without any."""
    place = shifts.quantile(distances, share)
    return None if place is None else (place + 0.5) * BIN


def _distance(found: Finding) -> str:
    now = _sum(cell.distances for cell in found.periods)
    before, after = median(found.before.distances), median(now)
    if before is None or after is None:  # which no test would have let through
        return f"{_when(found)} distances of {found.source} moved."
    how = f"{abs(after - before):.2f} {'farther from' if after > before else 'nearer to'}"
    if abs(after - before) < NEARLY:
        how = "with another spread around"
    return (
        f"{_when(found)} documents of {found.source} lie {how} their references than "
        f"{_than(found)} (median {after:.2f}, was {before:.2f}; {now.total():,} decisions): "
        "a new scanner or form?"
    )


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
    return f"{100 * hits / total if total else 0:.1f} %"


def _points(cell: Cell) -> str:
    return ", ".join(sorted(point or "balanced" for point in cell.points))


def _sum(counters: Iterable[Counter[Key]]) -> Counter[Key]:
    start: Counter[Key] = Counter()
    return reduce(lambda total, more: total + more, counters, start)
