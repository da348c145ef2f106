"""What `sigctl audit drift` found, as table rows, as JSON and as a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from worker.cli import show

if TYPE_CHECKING:
    from model.drift_plot import Panel
    from worker.cells import Cell
    from worker.drift import Track
    from worker.moved import Finding

VERDICTS = ("accept", "review", "reject", "error")
COLUMNS = (
    show.Column(title="period", whole=True),
    *(
        show.Column(title=title, right=True)
        for title in (
            "decisions",
            "signers",
            "median",
            *(f"{each} %" for each in VERDICTS),
            "prep ms",
        )
    ),
)
INK_COLUMNS = (
    show.Column(title="period", whole=True),
    *(
        show.Column(title=title, right=True)
        for title in ("decisions", "stroke width px", "ink share %", "long side px")
    ),
)
DRAWN = 5


def sentences(found: Sequence[Finding], tests: int) -> list[str]:
    """What is said first: one sentence for each finding, or why there is none."""
    from worker import drift_words

    if not tests:
        return [drift_words.TOO_FEW]
    return [drift_words.sentence(each) for each in found] or [drift_words.NOTHING]


def _cells(track: Track) -> dict[str, Cell]:
    """All of a track, the baseline first under the name of its periods."""
    if not track.baseline.basis:
        return {}
    name = f"baseline to {track.baseline.basis[-1]}"
    return {name: track.baseline.cell} | track.periods


def rows(track: Track) -> list[tuple[object, ...]]:
    """The baseline and each period of a source, in the columns of `COLUMNS`."""
    from worker.cells import DISTANCE

    return [
        (
            period,
            f"{cell.verdicts.total():,}",
            f"{cell.signers.total():,}",
            show.number(cell.median(DISTANCE)),
            *(f"{100 * cell.verdicts[each] / cell.verdicts.total():.1f}" for each in VERDICTS),
            f"{cell.preprocess_ms / cell.preprocessed:.0f}" if cell.preprocessed else None,
        )
        for period, cell in _cells(track).items()
    ]


def ink_rows(track: Track) -> list[tuple[object, ...]]:
    """The same of the ink, medians in the columns of `INK_COLUMNS`; none where there is no ink."""
    from worker.cells import OF_INK, STROKE_WIDTH
    from worker.drift_words import ink_number

    if not track.inked.basis:
        return []
    later = {name: cell for name, cell in track.periods.items() if name not in track.inked.basis}
    cells = {f"baseline to {track.inked.basis[-1]}": track.inked.cell} | later
    return [
        (
            period,
            f"{cell.numbers[STROKE_WIDTH].total():,}",
            *(ink_number(measure, cell.median(measure)) for measure in OF_INK),
        )
        for period, cell in cells.items()
        if cell.numbers[STROKE_WIDTH]
    ]


def draw(tracks: Mapping[str, Track], found: Sequence[Finding], path: Path) -> None:
    """Write the picture: the sources that moved and all together, at most `DRAWN`.

    Raises PlotError and FileNotWritten.
    """
    from model.drift_plot import drift_plot
    from worker.drift import ALL

    names = list(dict.fromkeys([*(each.source for each in found), ALL]))[:DRAWN]
    drift_plot([_panel(tracks[name], found) for name in names if tracks[name].baseline.basis], path)


def _panel(track: Track, found: Sequence[Finding]) -> Panel:
    from model.drift_plot import Panel
    from worker.cells import DISTANCE, OF_INK
    from worker.moved import SHARES

    cells = _cells(track)

    def moved(*measures: str) -> frozenset[str]:
        own = [each for each in found if each.source == track.source and each.measure in measures]
        return frozenset(p for p in track.periods if any(f.first <= p <= f.last for f in own))

    return Panel(
        source=track.source,
        periods=list(cells),
        quantiles=[_quantiles(cell) for cell in cells.values()],
        verdicts=[cell.verdicts for cell in cells.values()],
        ink={_spelt(each): [cell.median(each) for cell in cells.values()] for each in OF_INK},
        moved=moved(DISTANCE, *SHARES),
        ink_moved={_spelt(each): moved(each) for each in OF_INK},
    )


def _spelt(measure: str) -> str:
    return measure.replace("_", " ")


def _quantiles(cell: Cell) -> tuple[float | None, float | None, float | None]:
    from worker.cells import DISTANCE, at

    distances = cell.numbers[DISTANCE]
    low, middle, high = (at(distances, DISTANCE, share) for share in (0.1, 0.5, 0.9))
    return low, middle, high


def as_dict(
    model_id: str, tracks: Mapping[str, Track], found: Sequence[Finding], tests: int
) -> dict[str, Any]:
    """All of it by name, as JSON."""
    from worker import drift_words, moved

    return {
        "model_id": model_id,
        "moved": bool(found),
        "sentences": sentences(found, tests),
        "remarks": drift_words.remarks(tracks),
        "comparisons": tests,
        "level": moved.LEVEL,
        "findings": [_finding(each) for each in found],
        "untested": moved.untested(tracks),
        "sources": {
            name: [_cell(*pair) for pair in _cells(t).items()] for name, t in tracks.items()
        },
    }


def _finding(found: Finding) -> dict[str, Any]:
    from worker.drift_words import sentence

    names = ("source", "measure", "first", "last", "goes_on", "new", "p")
    return {name: getattr(found, name) for name in names} | {"sentence": sentence(found)}


def _ink(cell: Cell, measure: str) -> dict[str, Any]:
    from worker.cells import middle

    counts = cell.numbers[measure]
    return {
        "decisions": counts.total(),
        "median": cell.median(measure),
        "histogram": {f"{middle(measure, place):.4g}": counts[place] for place in sorted(counts)},
    }


def _cell(period: str, cell: Cell) -> dict[str, Any]:
    from model.shifts import wilson
    from worker.cells import BIN, DISTANCE, OF_INK

    distances = cell.numbers[DISTANCE]
    signers = cell.signers.total()
    return {
        "period": period,
        "decisions": cell.verdicts.total(),
        "signers": signers,
        "median_distance": cell.median(DISTANCE),
        "distances": {f"{place * BIN:.3f}": distances[place] for place in sorted(distances)},
        "ink": {name: _ink(cell, name) for name in OF_INK},
        "verdicts": cell.verdicts,
        "intervals": {each: wilson(cell.signers[each], signers) for each in VERDICTS},
        "error_codes": cell.codes,
        "operating_points": sorted(point or "balanced" for point in cell.points),
        "mean_preprocess_ms": cell.preprocess_ms / cell.preprocessed if cell.preprocessed else None,
    }
