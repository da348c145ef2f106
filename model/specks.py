"""Specks, which no hand has made, taken off the ink: what is small, and by itself for its size.

A faint stroke falls to pieces no larger than dust. But one follows the other, and dust lies
anywhere: the farther from all that is kept, the larger must be what is to be kept as well.
"""

import math
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from .arrays import Mask
from .lines import NEAR

LARGE = 0.01
"""Share of all ink from which on a piece stays, wherever it lies; the dot of an i has 0.003."""

PER_DISTANCE = 0.02
"""Share of all ink that a piece must have where it lies a diagonal of the large ones away."""

LARGEST_SPECK = 0.001
"""Share of all ink below which nothing stays by itself: a page of noise has no piece as large."""

FEWEST = 4
"""Pixels of the smallest piece that stays, for `strokes/1`."""

MOST = 1_000
"""Small pieces that are looked at, the largest ones; only noise has more."""

Boxes = NDArray[np.intp]
"""Left, top, right and below (N, 4), the latter two just outside."""


def without_specks(ink: Mask) -> Mask:
    """A mask (H, W) without its specks."""
    if not ink.any():  # in an empty box OpenCV looks where no memory is
        return ink.copy()
    box, labels, stats = _pieces(ink)
    areas = stats[:, cv2.CC_STAT_AREA]
    shares = areas / max(areas.sum(), 1)
    large = shares >= max(min(LARGE, shares.max()), LARGEST_SPECK)
    found = large[labels]
    if large.any():
        boxes = _boxes(stats)
        left, top = box[1].start, box[0].start
        crumbs = _at_edge(boxes + np.array([left, top, left, top]), ink.shape)
        small = np.flatnonzero(~large & (areas > 0) & ~(crumbs & (shares < LARGEST_SPECK)))
        small = small[np.argsort(-areas[small], kind="stable")[:MOST]]
        for piece in small[_beside(found, boxes[small], shares[small])]:
            x, y, right, below = boxes[piece]
            found[y:below, x:right] |= labels[y:below, x:right] == piece
    return _on_page(found, box, ink)


def without_small_pieces(ink: Mask) -> Mask:
    """The same by size alone, as `strokes/1` has it, of a mask (H, W) that holds some ink."""
    box, labels, stats = _pieces(ink)
    areas = stats[:, cv2.CC_STAT_AREA]
    stay = areas >= max(float(FEWEST), LARGEST_SPECK * areas.sum())
    return _on_page(stay[labels], box, ink)


def _pieces(ink: Mask) -> tuple[tuple[slice, slice], NDArray[Any], NDArray[Any]]:
    """The box around all ink, a third of a usual scan, which piece is where in it, and OpenCV's
    statistics of each; the first is the paper, of no area.
    """
    mask = ink.view(np.uint8)
    left, top, width, height = cv2.boundingRect(mask)
    box = (slice(top, top + height), slice(left, left + width))
    _, labels, stats, _ = cv2.connectedComponentsWithStats(mask[box], connectivity=8)
    stats[0, cv2.CC_STAT_AREA] = 0
    return box, labels, stats


def _on_page(found: Mask, box: tuple[slice, slice], ink: Mask) -> Mask:
    kept = np.zeros_like(ink)
    kept[box] = found
    return kept


def _boxes(stats: NDArray[Any]) -> Boxes:
    starts = stats[:, [cv2.CC_STAT_LEFT, cv2.CC_STAT_TOP]].astype(np.intp)
    return np.concatenate([starts, starts + stats[:, [cv2.CC_STAT_WIDTH, cv2.CC_STAT_HEIGHT]]], 1)


def _at_edge(boxes: Boxes, shape: tuple[int, ...]) -> Mask:
    """Which boxes (N,) come so near the edge of a page of this shape that a line left them."""
    near = boxes[:, :2].min(1) < NEAR
    return np.asarray(near | (boxes[:, 2] > shape[1] - NEAR) | (boxes[:, 3] > shape[0] - NEAR))


def _beside(large: Mask, boxes: Boxes, shares: NDArray[np.float64]) -> Mask:
    """Which pieces (N,), of these boxes and shares of the ink, are large enough for where they lie.

    `large` (H, W) is what stays anyway; whatever stays is what the next may lie beside.
    """
    _, _, width, height = cv2.boundingRect(large.view(np.uint8))
    reach = shares / PER_DISTANCE * math.hypot(width, height)
    stay = np.array([_reaches(large, *one) for one in zip(boxes, reach, strict=True)], np.bool_)
    new = np.flatnonzero(stay)
    while new.size:
        others = np.flatnonzero(~stay)
        new = others[_gaps(boxes[others], boxes[new]) <= reach[others]]
        stay[new] = True
    return stay


def _reaches(ink: Mask, box: Boxes, reach: float) -> bool:
    """Whether any ink (H, W) lies no farther from a box than that."""
    left, top, right, below = box.tolist()
    far = int(reach)
    around = ink[max(top - far, 0) : below + far, max(left - far, 0) : right + far]
    return bool(around.any())


def _gaps(boxes: Boxes, others: Boxes) -> NDArray[np.intp]:
    """How far (N,) each box lies from the nearest of others (M, 4), by the longer side."""
    before = others[None, :, :2] - boxes[:, None, 2:]
    behind = boxes[:, None, :2] - others[None, :, 2:]
    apart = np.maximum(before, behind).max(2) + 1
    return np.asarray(apart.min(1, initial=np.iinfo(np.intp).max))
