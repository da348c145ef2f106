"""Distances and verdicts of a source over time, drawn: what drift looks like."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .plots import GENUINE, MARK, SKILLED, PlotError, plain, save

_DPI = 110
_COLOURS = {"accept": "#00734f", "review": "#e0a030", "reject": "#b3261e", "error": "#4a5560"}


@dataclass(frozen=True, kw_only=True)
class Panel:
    """One source: for each of its periods the distances' 10 %, 50 % and 90 % quantiles and counts.

    Quantiles are None where nothing was compared. The first period is the baseline. `moved` are
    the periods to mark.
    """

    source: str
    periods: Sequence[str]
    quantiles: Sequence[tuple[float | None, float | None, float | None]]
    verdicts: Sequence[Mapping[str, int]]
    moved: frozenset[str] = frozenset()


def drift_plot(panels: Sequence[Panel], path: Path) -> None:
    """Write a row of two pictures for each source: distances, and shares of verdicts.

    Raises PlotError if there are no panels and FileNotWritten if `path` cannot be written.
    """
    if not panels:
        raise PlotError("there are no decisions to draw")
    size = (11, 2.8 * len(panels) + 0.4)
    figure = Figure(figsize=size, dpi=_DPI, layout="constrained")
    axes = figure.subplots(len(panels), 2, squeeze=False)
    for panel, (left, right) in zip(panels, axes, strict=True):
        _distances(left, panel)
        _shares(right, panel)
        for each in (left, right):
            _label(each, panel)
    above = {"loc": "lower right", "bbox_to_anchor": (1.0, 1.0)}
    axes[0][1].legend(frameon=False, ncols=4, fontsize=7, **above)
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


def _label(axes: Axes, panel: Panel) -> None:
    step = max(1, len(panel.periods) // 8)
    at = range(0, len(panel.periods), step)
    names = [panel.periods[index] for index in at]
    axes.set_xticks(list(at), names, fontsize=7, rotation=20, ha="right")
    plain(axes)
