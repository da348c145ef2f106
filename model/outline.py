"""How the outline of the ink turns: what a hand does without thinking of it.

At each point of an outline two legs go along it, forwards and backwards, and the angles of both are
counted together: the contour hinge (Bulacu and Schomaker, PAMI 29, 2007), which tells writers apart
whatever they write. An imitator draws the letters of another and bends his strokes as he always
does. Counted over the whole signature, the hinges say how; counted by place, where.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import pi, prod

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from .sampling import Writer
from .whitening import Whitened

LEGS = (2, 4, 8, 16)
"""Lengths of the legs, in pixels along the outline."""

BINS, BINS_BY_PLACE = 16, 8
"""Of the angles in a full turn: over the whole signature, and in each cell."""

CELLS = (2, 4)
REACH = (1.2, 1.6)
"""Rows and columns of cells, and how far from the outline's mean the middles of the outermost ones
lie: in standard deviations down and across."""

SHORTEST = 12  # points; what has fewer is a dot, around which nothing turns
STRIDE = 2  # every second point begins a hinge: neighbours say nearly the same

KEPT, KEPT_BY_PLACE = 128, 192
WEIGHT, WEIGHT_BY_PLACE = 0.6, 0.7
"""Numbers of each in the embedding, and their weights where what is learnt weighs 1."""

LENGTHS = (len(LEGS) * BINS**2, len(LEGS) * BINS_BY_PLACE**2 * prod(CELLS))
"""Numbers in the histograms of the whole and of its places."""


_SQUARE, _ROUND = np.ones((3, 3), np.uint8), cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (5, 5))
_CROSS = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
PENS = ((cv2.erode, _CROSS), (cv2.erode, _SQUARE), (cv2.dilate, _SQUARE), (cv2.dilate, _ROUND))
"""Two that are thinner than the one that wrote, and two that are thicker."""


def with_other_pens(images: Tensor) -> Tensor:
    """Images (B, 1, H, W) of white paper 1 and ink -1 -> the same, each by the next of four pens.

    Smoothed by the median that `strokes_canvas` ends with.
    """
    masks = (images[:, 0] < 0).cpu().numpy().view(np.uint8)
    drawn = []
    for number, mask in enumerate(masks):
        change, kernel = PENS[number % len(PENS)]
        drawn.append(cv2.medianBlur(change(mask, kernel), 5))
    return 1 - 2 * torch.from_numpy(np.stack(drawn))[:, None].to(images)


@dataclass(frozen=True, kw_only=True)
class _Traced:
    """Points (N, 2) on the outlines of several images, x and y, one closed outline after another.

    `first` and `count` (N,) say where each point's outline begins and how many points it has,
    `image` (N,) which image it is of.
    """

    points: Tensor
    first: Tensor
    count: Tensor
    image: Tensor

    def every(self, stride: int) -> Tensor:
        """The numbers of every `stride`-th point, counted along each outline by itself."""
        numbers = torch.arange(len(self.points))
        return numbers[(numbers - self.first) % stride == 0]

    def along(self, at: Tensor, steps: int) -> Tensor:
        """The points `steps` farther along the outline than those numbered `at`."""
        first = self.first[at]
        return self.points[first + (at - first + steps) % self.count[at]]


@torch.no_grad()
def outline_histograms(images: Tensor) -> Tensor:
    """Images (B, 1, H, W) of white paper 1 and ink -1 -> roots of hinge shares (B, 3072), float32.

    The shares of every leg over the whole signature, then those by place. Of their square roots
    the Euclidean distance is that of Hellinger. Legs are of few pixels, so the canvas should be
    fine: 256 x 512. No gradient passes.
    """
    traced = _traced(images)
    begins = traced.every(STRIDE)
    rows_and_columns = _cells(traced, len(images))
    whole, placed = [], []
    for leg in LEGS:
        at = begins[traced.count[begins] >= 2 * leg + 2]
        image, turns = traced.image[at], [_turns(traced, at, steps) for steps in (leg, -leg)]
        cells = [cell[at] for cell in rows_and_columns]
        angles = [turn * BINS for turn in turns]
        coarse = [turn * BINS_BY_PLACE for turn in turns]
        whole.append(_voted(angles, (BINS, BINS), image, len(images)))
        sizes = (*CELLS, BINS_BY_PLACE, BINS_BY_PLACE)
        placed.append(_voted([*cells, *coarse], sizes, image, len(images)))
    return torch.cat([_roots(counted) for counted in (*whole, *placed)], 1).to(images.device)


def _roots(counted: Tensor) -> Tensor:
    return (counted / counted.sum(1, keepdim=True).clamp(min=1e-9)).sqrt()


def _traced(images: Tensor) -> _Traced:
    """The outlines of the ink and of the paper within it, smoothed over three points."""
    masks = (images[:, 0] < 0).cpu().numpy().view(np.uint8)
    found = [(number, outline) for number, mask in enumerate(masks) for outline in _outlines(mask)]
    counts = np.array([len(outline) for _, outline in found], np.int64)
    points = np.concatenate([np.empty((0, 2), np.int32), *(outline for _, outline in found)])
    firsts = np.repeat(np.cumsum(counts) - counts, counts)
    traced = _Traced(
        points=torch.from_numpy(points.astype(np.float32)),
        first=torch.from_numpy(firsts),
        count=torch.from_numpy(np.repeat(counts, counts)),
        image=torch.from_numpy(np.repeat(np.array([n for n, _ in found], np.int64), counts)),
    )
    every = traced.every(1)
    smooth = (traced.along(every, -1) + 2 * traced.points + traced.along(every, 1)) / 4
    return _Traced(points=smooth, first=traced.first, count=traced.count, image=traced.image)


def _outlines(mask: NDArray[np.uint8]) -> Iterator[NDArray[np.int32]]:
    outlines, _ = cv2.findContours(mask, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    for outline in outlines:
        if len(outline) >= SHORTEST:
            yield np.asarray(outline[:, 0], np.int32)


def _cells(traced: _Traced, images: int) -> list[Tensor]:
    """Row and column (N,) of every point among the cells, as fractions of their distance."""
    number = torch.bincount(traced.image, minlength=images).clamp(min=1)[:, None]
    sums = traced.points.new_zeros(images, 2)
    mean = sums.index_add(0, traced.image, traced.points) / number
    off = traced.points - mean[traced.image]
    spread = (sums.index_add(0, traced.image, off.square()) / number).sqrt().clamp(min=1e-3)
    down, across = (off / spread[traced.image]).flip(1).unbind(1)
    return [
        ((place / reach + 1) / 2 * (cells - 1)).clamp(0, cells - 1)
        for place, reach, cells in zip((down, across), REACH, CELLS, strict=True)
    ]


def _turns(traced: _Traced, at: Tensor, steps: int) -> Tensor:
    """The directions (N,) in which legs of so many points leave those `at`, in parts of a turn."""
    x, y = (traced.along(at, steps) - traced.points[at]).unbind(1)
    return torch.remainder(torch.atan2(y, x) / (2 * pi), 1.0)


def _voted(places: Sequence[Tensor], sizes: Sequence[int], image: Tensor, images: int) -> Tensor:
    """Histograms (images, product of sizes); each vote (N,) is shared by the bins around it.

    Beyond the last bin comes the first, as angles do; a cell is never beyond its last.
    """
    bins, share = image[None], torch.ones(1, len(image))
    for place, size in zip(places, sizes, strict=True):
        below = place.floor()
        low, above = below.long() % size, place - below
        bins = torch.cat([bins * size + low, bins * size + (low + 1) % size])
        share = torch.cat([share * (1 - above), share * above])
    counted = torch.zeros(images * prod(sizes))
    return counted.scatter_add_(0, bins.flatten(), share.flatten()).view(images, -1)


def _divided(found: Tensor) -> tuple[Tensor, Tensor]:
    """Histograms of the whole, and by place."""
    whole, places = torch.split(found, list(LENGTHS), dim=1)
    return whole, places


class Outlines(nn.Module):
    """The hinges of the whole and of its places, each mapped as fitted and made a unit vector."""

    def __init__(self) -> None:
        super().__init__()
        self.whole = Whitened(LENGTHS[:1], KEPT)
        self.places = Whitened(LENGTHS[1:], KEPT_BY_PLACE)

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, 1, H, W) -> both vectors, weighed, one after the other (B, 320)."""
        with torch.autocast(images.device.type, enabled=False):
            whole, places = _divided(outline_histograms(images))
            whole, places = self.whole.mapped(whole), self.places.mapped(places)
            return torch.cat([WEIGHT * whole, WEIGHT_BY_PLACE * places], 1)

    def fit(self, found: Tensor, penned: Tensor, writers: Sequence[Writer]) -> None:
        """Fit both to histograms (N, 3072), whose rows the writers name.

        `penned` (N, 3072) are those of the same signatures by other pens. A writer holds one pen
        while a corpus is made, and his forger another, so that without them the maps would learn
        to tell pens apart.
        """
        whole, places = _divided(found)
        whole_penned, places_penned = _divided(penned)
        self.whole.fit(whole, writers, [whole_penned])
        self.places.fit(places, writers, [places_penned])
