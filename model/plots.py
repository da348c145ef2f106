"""Pictures for people: what was compared and decided, and how training went.

Figures are made by matplotlib's object interface, never pyplot, so that nothing is global and any
thread may draw. Each is a PNG that appears whole or not at all.
"""

import functools
import io
import math
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from .errors import ModelError
from .files import write_atomically

_DPI = 110
_VERDICTS = {"accept": "#00734f", "reject": "#b3261e", "review": "#8a5a00", "error": "#4a5560"}
GENUINE, SKILLED, RANDOM, MARK = "#0072b2", "#d55e00", "#9467bd", "#222222"

# The comparison sheet, in inches: cards of two pictures and a text, in one or two columns.
_PICTURE = (1.75, 0.97)
_CARD = (2 * _PICTURE[0] + 2.45, _PICTURE[1] + 0.36)
_HEAD = 0.45
_LINES = 5  # of a caption


class PlotError(ModelError):
    """The picture cannot be drawn."""

    code = "plot_error"


@dataclass(frozen=True, kw_only=True)
class SheetRow:
    """One document of a comparison sheet.

    A picture is (H, W) or (1, H, W): uint8 grey with light paper, or float as the network sees
    it, white 1 and ink -1.
    The caption's line ends are kept, its long lines wrapped, and what is beyond five lines is cut.
    Where `questioned` or `nearest` is missing, it stands in that place as the reason.
    """

    title: str
    questioned: np.ndarray | None
    nearest: np.ndarray | None
    caption: str
    verdict: str


def comparison_sheet(rows: Sequence[SheetRow], path: Path) -> None:
    """Write a sheet with questioned signature, nearest reference, caption and verdict of each row.

    Up to eight rows stand in one column, more in two. Raises PlotError if there are no rows or
    `path` cannot be written.
    """
    if not rows:
        raise PlotError("there are no documents to show")
    columns = 1 if len(rows) <= 8 else 2
    lines = math.ceil(len(rows) / columns)
    width, height = columns * _CARD[0], lines * _CARD[1] + _HEAD
    figure = Figure(figsize=(width, height), dpi=_DPI)
    page = figure.add_axes((0, 0, 1, 1))
    page.set_axis_off()
    for column in range(columns):
        for text, x in (("questioned", 0.16), ("nearest reference", _PICTURE[0] + 0.26)):
            _text(page, column * _CARD[0] + x, height - 0.3, text, color="#555555")
    for place, row in enumerate(rows):
        column, line = divmod(place, lines)
        _card(page, row, column * _CARD[0] + 0.12, height - _HEAD - line * _CARD[1])
    page.set(xlim=(0, width), ylim=(0, height))
    save(figure, path)


def training_plot(rows: Sequence[Mapping[str, object]], path: Path) -> None:
    """Write loss and validation EER against the epoch, from the rows of the training log.

    A row has `epoch`, `loss`, `skilled_eer` and `random_eer` (rates in 0..1) as numbers or as the
    text of a CSV; what is missing or empty is not drawn. The line marks the epoch with the lowest
    mean of the two rates. Raises PlotError if there are no rows, for a value that is no number
    and if `path` cannot be written.
    """
    if not rows:
        raise PlotError("the training log has no rows")
    epoch = _column(rows, "epoch")
    skilled, random = 100 * _column(rows, "skilled_eer"), 100 * _column(rows, "random_eer")
    figure = Figure(figsize=(7.5, 6), dpi=_DPI, layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True)
    upper.plot(epoch, _column(rows, "loss"), ".-", color=GENUINE)
    upper.set(ylabel="training loss")
    for name, rates, colour in (("skilled", skilled, SKILLED), ("random", random, RANDOM)):
        there = np.isfinite(rates)  # an epoch without validation leaves no gap in the line
        lower.plot(epoch[there], rates[there], ".-", color=colour, label=f"{name} forgeries")
    mean = (skilled + random) / 2
    if np.isfinite(mean).any():
        best = int(np.nanargmin(mean))
        label = f"lowest mean: epoch {epoch[best]:g}, {mean[best]:.2f} %"
        lower.axvline(epoch[best], color=MARK, ls="--", lw=1, label=label)
    lower.set(xlabel="epoch", ylabel="validation EER, %")
    lower.set_ylim(bottom=0)
    lower.legend(frameon=False)
    for axes in (upper, lower):
        plain(axes)
    save(figure, path)


def _card(page: Axes, row: SheetRow, x: float, top: float) -> None:
    wide, high = _PICTURE
    colour = _VERDICTS.get(row.verdict.lower(), MARK)
    bottom = top - _CARD[1] + 0.1
    page.fill_between([x - 0.06, x - 0.02], bottom, top, color=colour, lw=0)
    _text(page, x + 0.04, top - 0.15, _cut(row.title, 66), weight="bold", size=8.5)
    aside = x + 2 * wide + 0.3
    _text(page, aside, top - 0.4, row.verdict.upper(), weight="bold", size=11, color=colour)
    left, right, edge = x + 0.04, x + wide + 0.14, bottom + high
    gap = 0 if row.questioned is None and row.nearest is None else right - left - wide
    for start, stop in ((left, right - gap), (right, right + wide)):
        page.fill_between([start, stop], bottom, edge, facecolor="#f4f4f4", lw=0)
    for picture, at in ((row.questioned, left), (row.nearest, right)):
        if picture is not None:
            _picture(page, picture, at, bottom)
    if row.questioned is None:
        room = 56 if row.nearest is None else 26
        _paragraph(page, left + 0.08, edge - 0.12, row.caption, room, color=colour)
    elif row.nearest is None:
        _paragraph(page, right + 0.08, edge - 0.12, row.caption, 26, color=colour)
    else:
        _paragraph(page, aside, top - 0.52, row.caption, 32)


def _picture(page: Axes, picture: np.ndarray, x: float, y: float) -> None:
    grey = _grey(picture)
    wide, high = _PICTURE
    rows, columns = grey.shape
    scale = min(wide / columns, high / rows)
    width, height = columns * scale, rows * scale
    if scale * _DPI < 1:  # averaging keeps thin strokes that skipping pixels would lose
        size = max(1, round(width * _DPI)), max(1, round(height * _DPI))
        grey = np.asarray(cv2.resize(grey, size, interpolation=cv2.INTER_AREA), np.uint8)
    x, y = x + (wide - width) / 2, y + (high - height) / 2
    place = (x, x + width, y, y + height)
    page.imshow(grey, cmap="gray", vmin=0, vmax=255, extent=place, aspect="auto", zorder=2)


def _grey(picture: np.ndarray) -> NDArray[np.uint8]:
    flat = picture[0] if picture.ndim == 3 and picture.shape[0] == 1 else picture
    if flat.ndim != 2 or not flat.size:
        raise PlotError(f"a picture must be of shape (H, W), not {picture.shape}")
    if flat.dtype == np.uint8:
        return flat
    light = (np.clip(flat.astype(np.float64), -1, 1) + 1) / 2
    return np.asarray(np.rint(255 * light), dtype=np.uint8)


def _column(rows: Sequence[Mapping[str, object]], name: str) -> NDArray[np.float64]:
    cells = [row.get(name) for row in rows]
    try:
        return np.array([math.nan if cell in (None, "") else float(str(cell)) for cell in cells])
    except ValueError as error:
        raise PlotError(f"the training log's column {name} is not all numbers: {error}") from error


def plain(axes: Axes) -> None:
    """Take the frame's upper and right line away."""
    axes.spines[["top", "right"]].set_visible(False)


def _paragraph(page: Axes, x: float, top: float, text: str, width: int, color: str = MARK) -> None:
    lines = [part for line in text.splitlines() for part in textwrap.wrap(line, width)]
    if len(lines) > _LINES:
        lines = [*lines[: _LINES - 1], "…"]
    _text(page, x, top, "\n".join(lines), size=7.5, color=color, va="top")


def _text(page: Axes, x: float, y: float, text: str, **look: Any) -> None:
    # An id or a path may hold a $, which would start a formula, or a letter the font has not.
    known = _letters()
    shown = "".join(c if c == "\n" or ord(c) in known else "?" for c in text)
    page.text(x, y, shown, parse_math=False, **{"size": 8, **look})


@functools.cache
def _letters() -> frozenset[int]:
    return frozenset(font_manager.get_font(font_manager.findfont("DejaVu Sans")).get_charmap())


def _cut(text: str, longest: int) -> str:
    """Both ends of a long text: of a path, the file's name is at the end."""
    half = (longest - 1) // 2
    return text if len(text) <= longest else f"{text[:half]}…{text[-half:]}"


def save(figure: Figure, path: Path) -> None:
    """Write a figure as PNG, whole or not at all; raises FileNotWritten."""
    buffer = io.BytesIO()
    FigureCanvasAgg(figure)  # becomes the figure's canvas
    figure.savefig(buffer, format="png", metadata={"Software": None})
    write_atomically(path, buffer.getvalue())
