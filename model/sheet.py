"""A sheet of a signer's specimens with the distances between them, for the eye of an operator."""

import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from .plots import MARK, PlotError, save

Grey = NDArray[np.uint8]

_DPI = 110
_ACROSS = 5  # pictures in a row
_TILE = (1.9, 1.3)  # inches
_CELL = 0.55
_MARGIN = 0.4
MOST = 60
"""Specimens of one sheet; with more, the table is too large to read."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Tile:
    """A specimen: its name, its grey picture (H, W) or None where that cannot be had, a remark."""

    name: str
    picture: Grey | None
    remark: str = ""


def specimen_sheet(
    title: str, tiles: Sequence[Tile], distances: NDArray[np.floating], path: Path
) -> None:
    """Write a PNG with the pictures and, below, the table of `distances` (N, N), NaN left empty.

    The darker a cell, the farther apart. Raises PlotError without specimens, with more than
    `MOST`, or with a table of another size, and FileNotWritten.
    """
    count = len(tiles)
    if not 0 < count <= MOST:
        raise PlotError(f"a sheet shows 1 to {MOST} specimens, not {count}")
    if distances.shape != (count, count):
        raise PlotError(f"{count} specimens have no table of distances {distances.shape}")
    rows, table = math.ceil(count / _ACROSS), count * _CELL
    width = max(_ACROSS * _TILE[0], table + 1.2) + 2 * _MARGIN
    height = rows * _TILE[1] + table + 3 * _MARGIN
    figure = Figure(figsize=(width, height), dpi=_DPI)
    figure.text(
        _MARGIN / width, 1 - 0.25 / height, title, weight="bold", va="center", parse_math=False
    )
    for number, tile in enumerate(tiles):
        row, column = divmod(number, _ACROSS)
        left, top = _MARGIN + column * _TILE[0], height - _MARGIN - row * _TILE[1]
        place = (left, top - _TILE[1] + 0.32, _TILE[0] - 0.15, _TILE[1] - 0.45)
        _tile(figure.add_axes(_shares(place, width, height)), tile)
    side = count * _CELL
    cells = figure.add_axes(_shares((_MARGIN + 0.9, _MARGIN, side, side), width, height))
    _table(cells, [tile.name for tile in tiles], distances)
    save(figure, path)


def _shares(
    place: tuple[float, float, float, float], width: float, height: float
) -> tuple[float, float, float, float]:
    left, bottom, wide, high = place
    return left / width, bottom / height, wide / width, high / height


def _tile(axes: Axes, tile: Tile) -> None:
    axes.set(xticks=[], yticks=[])
    for line in axes.spines.values():
        line.set(color="#c4cad2", lw=0.8)
    if tile.picture is None:
        axes.text(0.5, 0.5, "no picture", ha="center", va="center", size=8, color="#8a5a00")
    else:
        axes.imshow(_small(tile.picture), cmap="gray", vmin=0, vmax=255, aspect="equal")
    axes.set_title(tile.name, size=8, weight="bold", loc="left", pad=2, parse_math=False)
    remark = "\n".join(textwrap.wrap(tile.remark, 34)[:2])
    axes.set_xlabel(remark, size=6.5, color="#8a5a00", labelpad=2, parse_math=False)


def _small(picture: Grey) -> Grey:
    """Averaged down: thin strokes would be lost between the pixels that are skipped."""
    rows, columns = picture.shape
    scale = min(1.0, 2 * _TILE[0] * _DPI / columns, 2 * _TILE[1] * _DPI / rows)
    size = max(1, round(columns * scale)), max(1, round(rows * scale))
    return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.uint8)


def _table(axes: Axes, names: Sequence[str], distances: NDArray[np.floating]) -> None:
    shown = distances.astype(np.float64)
    np.fill_diagonal(shown, np.nan)
    known = shown[np.isfinite(shown)]
    low, high = (float(known.min()), float(known.max())) if known.size else (0.0, 1.0)
    axes.imshow(shown, cmap="Blues", vmin=low - (high - low) - 1e-6, vmax=high + (high - low))
    for (row, column), value in np.ndenumerate(shown):
        if np.isfinite(value):
            axes.text(column, row, f"{value:.2f}", ha="center", va="center", size=7, color=MARK)
    places = range(len(names))
    axes.set_xticks(places, names, size=7, parse_math=False)
    axes.set_yticks(places, names, size=7, parse_math=False)
    axes.tick_params(length=0, top=True, labeltop=True, bottom=False, labelbottom=False)
    for line in axes.spines.values():
        line.set_visible(False)
