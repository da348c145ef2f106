"""What the page of a specimen shows before any network looks: is this a signature to compare with?

The limits come from the genuine signatures of five corpora (docs/enrolment.md): hardly one of them
is refused, and what only looks doubtful is accepted with a warning.
"""

from dataclasses import astuple, dataclass, fields
from enum import StrEnum
from typing import Self

import cv2
import numpy as np
from numpy.typing import NDArray

from .arrays import Canvas, Mask
from .ink import boxed
from .preprocess import (
    MAX_PIXELS,
    Grey,
    Preprocessing,
    decode_grey,
    from_grey,
    ink_mask,
    memory_errors,
    strokes_canvas,
)


class Weight(StrEnum):
    """What a remark means for the specimen."""

    WARNING = "warning"
    REFUSAL = "refusal"


@dataclass(frozen=True, kw_only=True)
class Remark:
    """Something to say about a specimen: a code for programs, a sentence for people."""

    code: str
    weight: Weight
    sentence: str


@dataclass(frozen=True, kw_only=True)
class Measures:
    """The ink of a page in numbers that do not depend on the scanner's resolution, but for `long`.

    `long` is the longer side of the box around the ink, in pixels. `strokes` is the length of all
    lines, in diagonals of that box: a straight line has 1. `crossings` are the strokes that run
    into one border of the page, that with the most, and `crossed` the same as a share of the most
    that any parallel of the border meets. `beside` and `above` are the widths of the empty strips,
    upright and level, that part the ink in two comparable halves, in heights of the box.
    """

    long: float
    strokes: float
    crossings: float
    crossed: float
    beside: float
    above: float

    def as_tuple(self) -> tuple[float, ...]:
        """The numbers in their order, as a decoder sends them."""
        return astuple(self)

    @classmethod
    def from_tuple(cls, numbers: tuple[float, ...]) -> Self:
        """The inverse of `as_tuple`."""
        names = (field.name for field in fields(cls))
        return cls(**dict(zip(names, numbers, strict=True)))


@dataclass(frozen=True, kw_only=True, eq=False)
class Specimen:
    """A decoded specimen: the network's input (1, H, W) and what its page measures."""

    canvas: Canvas
    measures: Measures


LONG = (100.0, 150.0)
STROKES = (1.2, 1.5)
CROSSINGS = (6.0, 3.0)
CROSSED = 0.5
BESIDE = (2.0, 1.2)
ABOVE = (0.25, 0.15)
"""Each the limit of refusal and that of a warning; `CROSSED` is for refusals alone."""

HALF = 0.4  # of the ink that a half has at least


def examine(data: bytes, how: Preprocessing, *, max_pixels: int = MAX_PIXELS) -> Specimen:
    """Decode a specimen and measure it; raises what `preprocess` raises, BlankImage among them."""
    with memory_errors():
        return examine_grey(decode_grey(data, max_pixels=max_pixels), how)


def examine_grey(grey: Grey, how: Preprocessing) -> Specimen:
    """The same from a decoded grey page (H, W), uint8."""
    ink = ink_mask(grey, how)  # found once for both
    canvas = strokes_canvas(ink, how) if how.finds_ink else from_grey(grey, how)
    return Specimen(canvas=canvas, measures=measure(ink))


def measure(ink: Mask) -> Measures:
    """Measure a mask (H, W) that holds some ink."""
    box = boxed(ink)
    height, width = box.shape
    crossings, crossed = max(_crossings(ink), _crossings(ink.T))
    return Measures(
        long=float(max(height, width)),
        strokes=_outline(box) / 2 / float(np.hypot(height, width)),
        crossings=crossings,
        crossed=crossed,
        beside=_gap(_sums(box, 0)) / height,
        above=_gap(_sums(box, 1)) / height,
    )


def remarks(found: Measures) -> tuple[Remark, ...]:
    """What is wrong or doubtful with a page, refusals and warnings, at most one of each kind."""
    cut = found.crossed >= CROSSED
    judged = (
        (
            _below(found.long, LONG),
            "low_resolution",
            f"the signature is {found.long:.0f} pixels long, too few to see its strokes;"
            " scan at 200 dpi or more",
        ),
        (
            _below(found.strokes, STROKES),
            "little_ink",
            "there is little more than one line, too little ink for a signature",
        ),
        (
            _above(found.crossings, CROSSINGS if cut else (np.inf, CROSSINGS[1])),
            "cut_off",
            f"{found.crossings:.0f} strokes run into one border of the image: the signature is cut"
            " off, or a line lies along the border",
        ),
        (
            _above(found.beside, BESIDE) or _above(found.above, ABOVE),
            "several_signatures",
            "the ink lies in two parts with much empty paper between them, so these may be"
            " several signatures; give one an image",
        ),
    )
    return tuple(
        Remark(code=code, weight=weight, sentence=sentence)
        for weight, code, sentence in judged
        if weight is not None
    )


def _below(value: float, limits: tuple[float, float]) -> Weight | None:
    refusal, warning = limits
    return Weight.REFUSAL if value < refusal else Weight.WARNING if value < warning else None


def _above(value: float, limits: tuple[float, float]) -> Weight | None:
    refusal, warning = limits
    return Weight.REFUSAL if value >= refusal else Weight.WARNING if value >= warning else None


def _outline(box: NDArray[np.uint8]) -> float:
    """The length of all edges in pixels; a line of any width has two."""
    paper_around = np.pad(box, 1)
    edges, _ = cv2.findContours(paper_around, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    return sum(cv2.arcLength(edge, True) for edge in edges)


def _sums(counted: NDArray[np.uint8], axis: int) -> NDArray[np.int32]:
    """As `counted.sum(axis)`; NumPy takes ten times as long over bytes."""
    sums = cv2.reduce(counted, axis, cv2.REDUCE_SUM, dtype=cv2.CV_32S)
    return np.asarray(sums, np.int32).ravel()


def _crossings(ink: Mask) -> tuple[float, float]:
    """Of the first and the last row: the strokes that meet it, and that as a share of the most."""
    begun = ink[:, 1:] > ink[:, :-1]
    met = _sums(begun.view(np.uint8), 1) + ink[:, 0]
    edge = float(max(met[0], met[-1]))
    return edge, edge / float(met.max())


def _gap(profile: NDArray[np.integer]) -> float:
    """The widest run of zeros with `HALF` of the ink on either side."""
    inked = np.flatnonzero(profile)
    before = np.cumsum(profile)[inked] / profile.sum()
    apart = np.diff(inked) - 1
    halves = (before[:-1] >= HALF) & (before[:-1] <= 1 - HALF)
    return float(apart[halves].max(initial=0))
