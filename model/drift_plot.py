"""Distances, verdicts and ink of a source over time, drawn: what drift looks like."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .plots import GENUINE, MARK, SKILLED, PlotError, plain, save

_DPI = 110
_COLOURS = {"accept": "#00734f", "review": "#e0a030", "reject": "#b3261e", "error": "#4a5560"}
_INK_COLOURS = ("#1f4e8c", "#b5651d", "#5b8c5a")


@dataclass(frozen=True, kw_only=True)
class Panel:
    """One source: for each of its periods the distances' 10 %, 50 % and 90 % quantiles and counts.

    Quantiles are None where nothing was compared. The first period is the baseline. `ink` holds,
    by its name, a median for each period, None where none was measured. `moved` are the periods to
    mark, `ink_moved` those of the ink, by the same names.
    """

    source: str
    periods: Sequence[str]
    quantiles: Sequence[tuple[float | None, float | None, float | None]]
    verdicts: Sequence[Mapping[str, int]]
    ink: Mapping[str, Sequence[float | None]]
    moved: frozenset[str] = frozenset()
    ink_moved: Mapping[str, frozenset[str]] = field(default_factory=dict)


def drift_plot(panels: Sequence[Panel], path: Path) -> None:
    """Write a row of three pictures for each source: distances, shares of verdicts, and ink.

    Raises PlotError if there are no panels and FileNotWritten if `path` cannot be written.
    """
    if not panels:
        raise PlotError("there are no decisions to draw")
    size = (15, 2.8 * len(panels) + 0.4)
    figure = Figure(figsize=size, dpi=_DPI, layout="constrained")
    axes = figure.subplots(len(panels), 3, squeeze=False)
    for panel, row in zip(panels, axes, strict=True):
        for draw, each in zip((_distances, _shares, _ink), row, strict=True):
            draw(each, panel)
            _label(each, panel)
    above = {"loc": "lower right", "bbox_to_anchor": (1.0, 1.0)}
    for each in axes[0][1:]:
        each.legend(frameon=False, ncols=4, fontsize=7, **above)
    save(figure, path)


def _distances(axes: Axes, panel: Panel) -> None:
    numbers = [[np.nan if q is None else q for q in row] for row in panel.quantiles]
    low, middle, high = np.array(numbers, dtype=np.float64).T  # (3, periods)
    at = np.arange(len(panel.periods))
    axes.vlines(at, low, high, color=GENUINE, alpha=0.35, lw=5)
    axes.plot(at, middle, "o-", color=GENUINE, ms=4, lw=1)
    axes.axhline(middle[0], color=MARK, ls="--", lw=1)
    marked = [period in panel.moved for period in panel.periods]
    axes.plot(at[marked], middle[marked], "o", color=SKILLED, ms=7)
    axes.set(ylabel="distance")
    # A path may hold a $, which would start a formula.
    axes.set_title(panel.source, parse_math=False, fontsize=9, loc="left")


def _shares(axes: Axes, panel: Panel) -> None:
    at = np.arange(len(panel.periods))
    totals = np.array([max(1, sum(counts.values())) for counts in panel.verdicts])
    bottom = np.zeros(len(at))
    for verdict, colour in _COLOURS.items():
        counts = np.array([found.get(verdict, 0) for found in panel.verdicts])
        shares = 100 * counts / totals
        axes.bar(at, shares, bottom=bottom, color=colour, label=verdict, width=0.9)
        bottom = bottom + shares
    axes.set(ylabel="share, %", ylim=(0, 100))


def _ink(axes: Axes, panel: Panel) -> None:
    """Each median as a multiple of the first that was measured."""
    at = np.arange(len(panel.periods))
    for (name, medians), colour in zip(panel.ink.items(), _INK_COLOURS, strict=True):
        first = next((median for median in medians if median is not None), np.nan)
        factors = [np.nan if median is None else median / first for median in medians]
        axes.plot(at, factors, "o-", color=colour, ms=4, lw=1, label=name)
        marked = [period in panel.ink_moved.get(name, ()) for period in panel.periods]
        axes.plot(at[marked], np.array(factors)[marked], "o", color=SKILLED, ms=7)
    axes.axhline(1, color=MARK, ls="--", lw=1)
    low, high = axes.get_ylim()
    axes.set(ylabel="ink, times the first", ylim=(min(low, 0.8), max(high, 1.2)))
    axes.set_xlim(-0.5, len(at) - 0.5)


def _label(axes: Axes, panel: Panel) -> None:
    step = max(1, len(panel.periods) // 8)
    at = range(0, len(panel.periods), step)
    names = [panel.periods[index] for index in at]
    axes.set_xticks(list(at), names, fontsize=7, rotation=20, ha="right")
    plain(axes)
