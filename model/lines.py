"""Lines of a form, which no hand has drawn, taken off the ink.

A box to sign in and a rule to sign on are straight, lie along the scan and go on beyond it: they
come in by one edge of it and leave by another. Strokes of a pen do not.
"""

from collections.abc import Iterator
from itertools import product

import cv2
import numpy as np
from numpy.typing import NDArray

from .arrays import Mask

Line = tuple[slice, Mask]
"""Columns of a page, and what of them (H, W') is a line that runs down it."""

STEEPEST = 0.05
"""Pixels across for each along: a scan lies no more than three degrees askew."""

WHOLE = 0.95
"""Share of its length along which a line shows ink."""

STRAIGHT = 0.7
STRAY, LEAST_STRAY = 0.004, 1.0
"""Along so much of it its middle strays no farther than that share of its length, or a pixel."""

WIDEST, LEAST_WIDEST = 0.04, 12
"""How wide a line may be: a share of the scan across it, and that many pixels of a small one."""

NEAR = 3
"""What lies within so many pixels of an edge of the scan runs off it."""

SHORTEST, LEAST_SHORTEST = 0.15, 24
"""How far a line goes along the edge that it leaves by: a share of that edge, and in pixels."""

SLOPES = (0.0, 0.5, -0.5, 1.0, -1.0)
"""Pixels down for each across at which a stroke goes on beyond the line that it crosses."""

MOST = 4096
"""Pairs of ends that are looked at; only noise has more."""


def without_lines(ink: Mask) -> Mask:
    """A mask (H, W) without the lines that run off it; strokes that cross them stay whole."""
    kept = ink.copy()
    if _take_off_all(kept):
        _take_off_all(kept)  # one line hides where another leaves the scan
    return kept


def _take_off_all(ink: Mask) -> int:
    """Leave a mask (H, W) without the lines that are seen, and say how many there were."""
    count = 0
    for page in (ink, ink.T):
        count += _take_off(_lines_down(page), page)
        for seen in (page, page[:, ::-1]):
            count += _take_off(_lines_at_the_side(seen), seen)
    return count


def _take_off(lines: Iterator[Line], page: Mask) -> int:
    """Leave a page (H, W) without these lines; strokes are joined again where one was between."""
    count = 0
    for columns, line in lines:
        count += 1
        strokes = page[:, columns] & ~line
        page[:, columns] = strokes | (line & _joined(strokes, int(line.sum(1).max())))
    return count


def _joined(strokes: Mask, gap: int) -> Mask:
    """Strokes (H, W), continued straight on where they end for so many pixels across."""
    margin = 3 * (gap + 2)
    padded = np.pad(strokes.view(np.uint8), margin)  # the edge of the page is no stroke
    found = np.zeros(padded.shape, np.bool_)
    for slope in SLOPES:
        down = round(slope * (gap + 1))
        kernel = np.zeros((abs(down) + 1, gap + 2), np.uint8)
        cv2.line(kernel, (0, max(-down, 0)), (gap + 1, max(down, 0)), 1)
        found |= cv2.morphologyEx(padded, cv2.MORPH_CLOSE, kernel) > 0
    return found[margin:-margin, margin:-margin]


def _lines_down(page: Mask) -> Iterator[Line]:
    """The lines that run down a page (H, W) from edge to edge."""
    height = len(page)
    widest = _widest(page)
    above, below = (_ends(edge, widest) for edge in (page[:NEAR], page[-NEAR:]))
    if len(above) * len(below) > MOST:
        return
    for top, bottom in product(above, below):
        if abs(bottom - top) <= STEEPEST * height:
            middle = np.round(np.linspace(top, bottom, height)).astype(np.intp)
            if _beside(page, middle, 1).any(1).mean() >= WHOLE:
                yield from _line(page, middle, widest)


def _widest(page: Mask) -> int:
    return max(int(WIDEST * page.shape[1]), LEAST_WIDEST)


def _ends(edge: Mask, widest: int) -> list[float]:
    """The middles of what runs off an edge (NEAR, W) and is no wider than a line."""
    return [
        (start + end - 1) / 2
        for start, end in _runs(np.asarray(edge.any(0)))
        if end - start <= widest
    ]


def _runs(row: Mask) -> Iterator[tuple[int, int]]:
    """Where what is true (N,) begins, and where it has ended."""
    turns = np.flatnonzero(np.diff(row.view(np.int8), prepend=np.int8(0), append=np.int8(0)))
    return zip(turns[::2].tolist(), turns[1::2].tolist(), strict=True)


def _beside(page: Mask, middle: NDArray[np.intp], far: int) -> Mask:
    """The ink (H, 2 far + 1) around one place of each row of a page (H, W); none outside it."""
    places = middle[:, None] + np.arange(-far, far + 1)
    inside = (places >= 0) & (places < page.shape[1])
    around = page[np.arange(len(page))[:, None], places.clip(0, page.shape[1] - 1)]
    return np.asarray(around & inside)


def _line(page: Mask, middle: NDArray[np.intp], widest: int) -> Iterator[Line]:
    """The line along these places (H,) of a page (H, W), unless what is there is none."""
    around = _beside(page, middle, widest)
    left, right = _depths(around[:, widest - 1 :: -1]), _depths(around[:, widest + 1 :])
    stray = np.abs(right - left - np.median(right - left)) / 2
    # Along most of its length nothing crosses a line.
    reach = np.median(left), np.median(right)
    allowed = max(STRAY * len(page), LEAST_STRAY)
    if np.quantile(stray, STRAIGHT) > allowed or sum(reach) >= widest:
        return
    # Of a few columns only, which joins what lies farther from the line than it is wide.
    start = max(int(middle.min()) - 2 * widest, 0)
    columns = slice(start, int(middle.max()) + 2 * widest + 1)
    off = np.arange(page.shape[1])[columns] - middle[:, None]
    yield columns, page[:, columns] & (off >= -reach[0] - 1) & (off <= reach[1] + 1)


def _depths(ink: Mask) -> NDArray[np.intp]:
    """How many pixels of ink (H, W) follow each other in each row, from the first one on."""
    return np.asarray(np.where(ink.all(1), ink.shape[1], ink.argmin(1)))


def _lines_at_the_side(page: Mask) -> Iterator[Line]:
    """The lines that come in above or below and leave a page (H, W) by its left edge."""
    height, widest = len(page), _widest(page)
    shortest = max(SHORTEST * height, LEAST_SHORTEST)
    columns = slice(0, 3 * widest)
    for start, end in _runs(np.asarray(page[:, :NEAR].any(1))):
        if end - start < shortest or (start > NEAR and end < height - NEAR):
            continue
        part = page[start:end, columns].copy()
        part[:, :NEAR] = True  # cut off by the edge, it may begin beside it
        deep = _straightened(_depths(part)) + 1
        if deep.max() <= widest:
            line = np.zeros_like(page[:, columns])
            line[start:end] = page[start:end, columns] & (np.arange(part.shape[1]) < deep[:, None])
            yield columns, line


def _straightened(depths: NDArray[np.intp]) -> NDArray[np.float64]:
    """The straight border (H,) that most of these have, whatever else reaches in here and there."""
    half = len(depths) // 2
    above, below = np.median(depths[:half]), np.median(depths[-half:])
    slope = (below - above) / (len(depths) - half)
    return np.asarray((above + below) / 2 + slope * (np.arange(len(depths)) - len(depths) / 2))
