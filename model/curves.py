"""How a verifier errs, drawn: ROC, precision and recall, DET, distances, confusion matrices.

All rates are in per cent. Colours are told apart by colour-blind readers, and lines by their
dashes on a black-and-white print.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import NormalDist
from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray

from . import metrics
from .plots import GENUINE, MARK, RANDOM, SKILLED, PlotError, plain, save

_DPI = 150
_SIZE = (5.2, 4.8)
_STYLES = (
    (SKILLED, "solid"),
    (RANDOM, (0, (6, 2))),
    (GENUINE, (0, (6, 2, 1, 2))),
    ("#00734f", (0, (3, 1.5))),
    ("#222222", (0, (1, 1.2))),
)
Corner = Literal["lower left", "lower right", "upper right"]
_RATES = (0.001, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 0.95)


@dataclass(frozen=True, kw_only=True)
class Line:
    """One curve: genuine against forged comparisons. A cross marks the errors at `threshold`."""

    name: str
    genuine: ArrayLike
    forged: ArrayLike
    threshold: float | None = None


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """One confusion matrix: counts of `verdicts` for each kind of questioned signature."""

    title: str
    verdicts: tuple[str, ...]
    counts: Mapping[str, tuple[int, ...]]


def roc_plot(lines: Sequence[Line], path: Path) -> None:
    """Write ROC curves: true against false acceptance, with the area under each.

    This and the other curves raise metrics.MetricsError if a class is empty or holds NaN,
    PlotError if there are no lines or more than five, FileNotWritten if `path` cannot be written.
    """
    figure, axes = _axes(lines)
    for line, (colour, dashes) in zip(lines, _STYLES, strict=False):
        curve = metrics.error_curve(line.genuine, line.forged)
        label = f"{line.name}, AUC {metrics.roc_auc(line.genuine, line.forged):.4f}"
        axes.plot(
            100 * curve.far, 100 * (1 - curve.frr), color=colour, ls=dashes, lw=1.8, label=label
        )
        if line.threshold is not None:
            x, y = _errors(line, line.threshold)
            axes.plot(100 * x, 100 * (1 - y), "x", color=colour, ms=8, mew=2, clip_on=False)
    axes.plot([0, 100], [0, 100], color="#999999", ls=":", lw=1, label="chance")
    axes.set(xlabel="forgeries accepted (FAR), %", ylabel="genuine accepted, %")
    _finish(figure, axes, path, "lower right", lines)


def pr_plot(lines: Sequence[Line], path: Path) -> None:
    """Write precision against recall of acceptance, with the average precision of each line."""
    figure, axes = _axes(lines)
    for line, (colour, dashes) in zip(lines, _STYLES, strict=False):
        recall, precision = _precision(line)
        label = f"{line.name}, AP {metrics.average_precision(line.genuine, line.forged):.4f}"
        axes.step(
            100 * recall, 100 * precision, where="pre", color=colour, ls=dashes, lw=1.8, label=label
        )
        if line.threshold is not None:
            found = metrics.summary(line.genuine, line.forged, line.threshold)
            accepted = (1 - found.frr) * found.n_genuine
            if accepted:
                at = accepted / (accepted + found.far * found.n_forged)
                axes.plot(
                    100 * (1 - found.frr), 100 * at, "x", color=colour, ms=8, mew=2, clip_on=False
                )
    axes.set(xlabel="genuine accepted (recall), %", ylabel="genuine among accepted (precision), %")
    _finish(figure, axes, path, "lower left", lines)


def det_plot(lines: Sequence[Line], path: Path) -> None:
    """Write DET curves, both error rates on axes of normal deviates, with the EER marked.

    Martin et al., "The DET curve in assessment of detection task performance", Eurospeech 1997.
    """
    figure, axes = _axes(lines)
    ticks = probit(_RATES)
    span = float(ticks[0]) - 0.12, float(ticks[-1])
    axes.plot(span, span, ":", color="#999999", lw=1)
    for line, (colour, dashes) in zip(lines, _STYLES, strict=False):
        curve = metrics.error_curve(line.genuine, line.forged)
        rate, _ = metrics.eer(line.genuine, line.forged)
        label = f"{line.name}, EER {100 * rate:.2f} %"
        axes.plot(
            probit(curve.far), probit(curve.frr), color=colour, ls=dashes, lw=1.8, label=label
        )
        axes.plot(*probit([rate, rate])[:, None], "o", color=colour, ms=6)
        if line.threshold is not None:
            at = probit(_errors(line, line.threshold))
            axes.plot(*at[:, None], "x", color=colour, ms=8, mew=2, clip_on=False)
    names = [f"{100 * rate:g}" for rate in _RATES]
    axes.set(xlim=span, ylim=span, aspect="equal")
    axes.set_xticks(ticks, names)
    axes.set_yticks(ticks, names)
    axes.set(xlabel="forgeries accepted (FAR), %", ylabel="genuine rejected (FRR), %")
    axes.plot([], [], "o", color=MARK, ms=6, label="equal error rate")
    _finish(figure, axes, path, "upper right", lines)


def histogram_plot(
    genuine: ArrayLike, skilled: ArrayLike, random: ArrayLike, threshold: float, path: Path
) -> None:
    """Write how the distances or scores of each kind lie about the threshold.

    Kinds may be empty, but not all: metrics.EmptyClass.
    """
    kinds = {"genuine": (genuine, GENUINE), "skilled forgeries": (skilled, SKILLED)}
    kinds["random forgeries"] = random, RANDOM
    there = {name: (np.asarray(v, np.float64), c) for name, (v, c) in kinds.items() if np.size(v)}
    if not there:
        raise metrics.EmptyClass("there are no distances to draw")
    together = np.concatenate([values for values, _ in there.values()])
    if not np.isfinite(together).all():
        raise metrics.NonFiniteDistance("the distances contain NaN or infinity")
    figure = Figure(figsize=_SIZE, dpi=_DPI, layout="constrained")
    axes = figure.subplots()
    bins = np.histogram_bin_edges(together, bins=50).tolist()
    for name, (values, colour) in there.items():
        share = np.full(values.size, 100 / values.size)
        axes.hist(values, bins, weights=share, color=colour, alpha=0.2)
        axes.hist(values, bins, weights=share, color=colour, histtype="step", lw=1.6,
                  label=f"{name} ({values.size})")  # fmt: skip
    axes.axvline(threshold, color=MARK, ls="--", lw=1.3, label=f"threshold {threshold:.3f}")
    axes.set(xlabel="distance or score (below the threshold: accepted)", ylabel="share of kind, %")
    axes.margins(y=0.25)  # room for the legend
    axes.legend(frameon=False, fontsize=9, loc="upper right")
    plain(axes)
    save(figure, path)


def confusion_plot(outcomes: Sequence[Outcome], path: Path) -> None:
    """Write confusion matrices: each cell the share of its row, and the count below it."""
    if not outcomes:
        raise PlotError("there are no decisions to show")
    columns = min(len(outcomes), 2)
    lines = -(-len(outcomes) // columns)
    figure = Figure(figsize=(3.6 * columns, 2.7 * lines), dpi=_DPI, layout="constrained")
    grid = figure.subplots(lines, columns, squeeze=False).ravel()
    for axes, outcome in zip(grid, outcomes, strict=False):
        _matrix(axes, outcome)
    for axes in grid[len(outcomes) :]:
        axes.set_axis_off()
    save(figure, path)


def _matrix(axes: Axes, outcome: Outcome) -> None:
    counts = np.array(list(outcome.counts.values()), np.float64)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    for (row, column), share in np.ndenumerate(shares):
        text = f"{100 * share:.1f} %\n{counts[row, column]:.0f}" if counts[row].sum() else "none"
        colour = "white" if share > 0.55 else MARK
        axes.text(column, row, text, ha="center", va="center", color=colour, size=9)
    axes.set_xticks(range(len(outcome.verdicts)), outcome.verdicts)
    axes.set_yticks(range(len(outcome.counts)), list(outcome.counts))
    axes.set_title(outcome.title, size=10)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)


def probit(rates: ArrayLike) -> NDArray[np.float64]:
    """Normal deviates of rates; 0 and 1 come just outside the axes of the DET plot."""
    inside = np.clip(np.asarray(rates, dtype=np.float64), 0.0008, 0.9992)
    return np.array([NormalDist().inv_cdf(rate) for rate in inside])


def _axes(lines: Sequence[Line]) -> tuple[Figure, Axes]:
    if not 1 <= len(lines) <= len(_STYLES):
        raise PlotError(f"one to {len(_STYLES)} curves can be drawn together, not {len(lines)}")
    figure = Figure(figsize=_SIZE, dpi=_DPI, layout="constrained")
    axes = figure.subplots()
    axes.set(xlim=(-1, 101), ylim=(-1, 101))
    return figure, axes


def _finish(figure: Figure, axes: Axes, path: Path, corner: Corner, lines: Sequence[Line]) -> None:
    if any(line.threshold is not None for line in lines):
        axes.plot([], [], "x", color=MARK, mew=2, label="at the threshold")
    axes.grid(color="#dddddd", lw=0.6)
    axes.legend(loc=corner, framealpha=0.95, edgecolor="none", fontsize=9)
    plain(axes)
    save(figure, path)


def _errors(line: Line, threshold: float) -> tuple[float, float]:
    return metrics.far(line.forged, threshold), metrics.frr(line.genuine, threshold)


def _precision(line: Line) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    curve = metrics.error_curve(line.genuine, line.forged)
    accepted = (1 - curve.frr) * np.size(line.genuine)
    all_accepted = accepted + curve.far * np.size(line.forged)
    some = all_accepted > 0
    recall, precision = 1 - curve.frr[some], accepted[some] / all_accepted[some]
    return np.append(0.0, recall), np.append(precision[0], precision)
