"""Specks, which no hand has made, taken off the ink: what is small, and by itself for its size.

A faint stroke falls to pieces no larger than dust. But one follows the other, and dust lies
anywhere: the farther from all that is kept, the larger must be what is to be kept as well.
"""

import math
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]

LARGE = 0.01
"""Share of all ink from which on a piece stays, wherever it lies; the dot of an i has 0.003."""

PER_DISTANCE = 0.02
"""Share of all ink that a piece must have where it lies a diagonal of the large ones away."""

LARGEST_SPECK = 0.001
"""Share of all ink below which nothing stays by itself: a page of noise has no piece as large."""

EDGE = 3
"""Within so many pixels of the scan's edge, a piece as small is left of a line, not of a stroke."""

MOST = 1_000
"""Small pieces that are looked at, the largest ones; only noise has more."""

Boxes = NDArray[np.intp]
"""Left, top, right and below (N, 4), the latter two just outside."""


def without_specks(ink: Mask) -> Mask:
    """A mask (H, W) without its specks."""
    if not ink.any():  # in an empty box OpenCV looks where no memory is
        return ink.copy()
    mask = ink.view(np.uint8)
    left, top, width, height = cv2.boundingRect(mask)
    box = (slice(top, top + height), slice(left, left + width))  # a third of a usual scan
    _, labels, stats, _ = cv2.connectedComponentsWithStats(mask[box], connectivity=8)
    areas = stats[:, cv2.CC_STAT_AREA]
    areas[0] = 0  # the paper
    shares = areas / max(areas.sum(), 1)
    large = shares >= max(min(LARGE, shares.max()), LARGEST_SPECK)
    found = large[labels]
    if large.any():
        boxes = _boxes(stats)
        crumbs = _at_edge(boxes + np.array([left, top, left, top]), ink.shape)
        small = np.flatnonzero(~large & (areas > 0) & ~(crumbs & (shares < LARGEST_SPECK)))
        small = small[np.argsort(-areas[small], kind="stable")[:MOST]]
        for piece in small[_beside(found, boxes[small], shares[small])]:
            x, y, right, below = boxes[piece]
            found[y:below, x:right] |= labels[y:below, x:right] == piece
    kept = np.zeros_like(ink)
    kept[box] = found
    return kept


def _boxes(stats: NDArray[Any]) -> Boxes:
    starts = stats[:, [cv2.CC_STAT_LEFT, cv2.CC_STAT_TOP]].astype(np.intp)
    return np.concatenate([starts, starts + stats[:, [cv2.CC_STAT_WIDTH, cv2.CC_STAT_HEIGHT]]], 1)


def _at_edge(boxes: Boxes, shape: tuple[int, ...]) -> Mask:
    """Which boxes on a page of this shape (N,) come near its edge."""
    near = boxes[:, :2].min(1) < EDGE
    return np.asarray(near | (boxes[:, 2] > shape[1] - EDGE) | (boxes[:, 3] > shape[0] - EDGE))


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
