"""What `sigctl audit drift` found, as table rows, as JSON and as a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from worker.cli import show

if TYPE_CHECKING:
    from model.drift_plot import Panel
    from worker.drift import Cell, Track
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
DRAWN = 5


def sentences(found: Sequence[Finding], tests: int) -> list[str]:
    """What is said first: one sentence for each finding, or why there is none."""
    from worker import drift_words

    if not tests:
        return [drift_words.TOO_FEW]
    return [drift_words.sentence(each) for each in found] or [drift_words.NOTHING]


def _cells(track: Track) -> dict[str, Cell]:
    """All of a track, the baseline first under the name of its periods."""
    if not track.basis:
        return {}
    name = f"baseline to {track.basis[-1]}"
    return {name: track.baseline} | track.periods


def rows(track: Track) -> list[tuple[object, ...]]:
    """The baseline and each period of a source, in the columns of `COLUMNS`."""
    from worker.drift_words import median

    return [
        (
            period,
            f"{cell.verdicts.total():,}",
            f"{cell.signers.total():,}",
            show.number(median(cell.distances)),
            *(f"{100 * cell.verdicts[each] / cell.verdicts.total():.1f}" for each in VERDICTS),
            f"{cell.preprocess_ms / cell.preprocessed:.0f}" if cell.preprocessed else None,
        )
        for period, cell in _cells(track).items()
    ]


def draw(tracks: Mapping[str, Track], found: Sequence[Finding], path: Path) -> None:
    """Write the picture: the sources that moved and all together, at most `DRAWN`.

    Raises PlotError and FileNotWritten.
    """
    from model.drift_plot import drift_plot
    from worker.drift import ALL

    names = list(dict.fromkeys([*(each.source for each in found), ALL]))[:DRAWN]
    drift_plot([_panel(tracks[name], found) for name in names if tracks[name].basis], path)


def _panel(track: Track, found: Sequence[Finding]) -> Panel:
    from model.drift_plot import Panel

    cells = _cells(track)
    spans = [(each.first, each.last) for each in found if each.source == track.source]
    return Panel(
        source=track.source,
        periods=list(cells),
        quantiles=[_quantiles(cell) for cell in cells.values()],
        verdicts=[cell.verdicts for cell in cells.values()],
        moved=frozenset(p for p in track.periods if any(a <= p <= b for a, b in spans)),
    )


def _quantiles(cell: Cell) -> tuple[float | None, float | None, float | None]:
    from worker.drift_words import at

    low, middle, high = (at(cell.distances, share) for share in (0.1, 0.5, 0.9))
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


def _cell(period: str, cell: Cell) -> dict[str, Any]:
    from model.shifts import wilson
    from worker.drift import BIN
    from worker.drift_words import median

    signers = cell.signers.total()
    return {
        "period": period,
        "decisions": cell.verdicts.total(),
        "signers": signers,
        "median_distance": median(cell.distances),
        "distances": {
            f"{place * BIN:.3f}": cell.distances[place] for place in sorted(cell.distances)
        },
        "verdicts": cell.verdicts,
        "intervals": {each: wilson(cell.signers[each], signers) for each in VERDICTS},
        "error_codes": cell.codes,
        "operating_points": sorted(point or "balanced" for point in cell.points),
        "mean_preprocess_ms": cell.preprocess_ms / cell.preprocessed if cell.preprocessed else None,
    }
