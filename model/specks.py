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

COARSE = 512
"""Pixels of the longer side on which distances are taken."""

EDGE = 3
"""Within so many pixels of the scan's edge, a piece as small is left of a line, not of a stroke."""

MOST = 20_000
"""Small pieces that are looked at, the largest ones; only noise has more."""

ROUNDS = 64
"""How many pieces in a row may each stay for the sake of the one before."""

CORNERS = ((0.0, 0.0), (0.0, 1.0), (0.5, 0.5), (1.0, 0.0), (1.0, 1.0))
"""Where in the box around a piece its distance is taken, in shares of height and width."""


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
    stay = shares >= max(min(LARGE, shares.max()), LARGEST_SPECK)
    at_edge = _at_edge(stats, left, top, ink.shape) & (shares < LARGEST_SPECK)
    small = np.flatnonzero(~stay & (areas > 0) & ~at_edge)
    small = small[np.argsort(-areas[small], kind="stable")[:MOST]]
    if stay.any() and len(small):
        stay[small] = _beside(stay[labels], stats[small], shares[small])
    kept = np.zeros_like(ink)
    kept[box] = stay[labels]
    return kept


def _at_edge(stats: NDArray[Any], left: int, top: int, shape: tuple[int, ...]) -> Mask:
    """Which boxes, on a page of this shape and off by so much, come near its edge."""
    x, y = stats[:, cv2.CC_STAT_LEFT] + left, stats[:, cv2.CC_STAT_TOP] + top
    right, below = x + stats[:, cv2.CC_STAT_WIDTH], y + stats[:, cv2.CC_STAT_HEIGHT]
    near = (np.minimum(x, y) < EDGE) | (right > shape[1] - EDGE) | (below > shape[0] - EDGE)
    return np.asarray(near)


def _beside(large: Mask, stats: NDArray[Any], shares: NDArray[np.float64]) -> Mask:
    """Which pieces (N,), of these boxes and shares of the ink, are large enough for where they lie.

    `large` (H, W) is what stays anyway.
    """
    height, width = large.shape
    scale = min(1.0, COARSE / max(height, width))
    size = max(round(width * scale), 1), max(round(height * scale), 1)
    near = cv2.resize(large.view(np.uint8) * 255, size, interpolation=cv2.INTER_AREA) > 0
    _, _, across, down = cv2.boundingRect(near.view(np.uint8))
    diagonal = math.hypot(across, down)
    places = _places(stats, scale, near.shape)
    stay = np.zeros(len(shares), np.bool_)
    for _ in range(ROUNDS):
        away = cv2.distanceTransform((~near).view(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_5)
        distances = away[places].min(0) / diagonal
        new = ~stay & (shares >= PER_DISTANCE * distances)
        if not new.any():
            break
        stay |= new
        near[places[0][:, new], places[1][:, new]] = True
    return stay


def _places(
    stats: NDArray[Any], scale: float, shape: tuple[int, ...]
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Rows and columns (5, N) of corners and middles of boxes, on the coarser grid."""
    corners = np.array(CORNERS)[:, :, None]
    starts = stats[:, [cv2.CC_STAT_TOP, cv2.CC_STAT_LEFT]].T
    sides = stats[:, [cv2.CC_STAT_HEIGHT, cv2.CC_STAT_WIDTH]].T - 1
    found = (scale * (starts + corners * sides)).astype(np.intp)
    rows, columns = found[:, 0].clip(0, shape[0] - 1), found[:, 1].clip(0, shape[1] - 1)
    return rows, columns
