"""A writer changed in the same way all over is another writer: more hands from the same corpora.

`augment` changes one image and leaves its writer; a disguise changes all images of a writer in a
batch alike, genuine and forged. Mirrored, bent or cut to a part of the name they are the work of
somebody the corpus does not hold, and the imitations are still imitations of it. Corpora have
many images of few hands, so this is where a network from random weights overfits first.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from .augment import PAPER
from .preprocess import Grey, as_grey
from .sampling import Writer

Change = Callable[[Grey], Grey]

INK = 160  # darker is ink, on a canvas whose strokes are smoothed
MARGIN = 1 / 16  # of each side, as `strokes_canvas` leaves
WAVE = (3, 5)  # rows and columns of the grid on which writers are bent
LARGEST = 2.0  # times its size; a short stroke is not blown up to the canvas


@dataclass(frozen=True, kw_only=True)
class Disguise:
    """How often and how far writers are changed.

    `mirror` and `window` are the probabilities that a writer is mirrored (left to right, upside
    down or both) and is cut to a part of the width of the ink; with probability `bend` all
    images are sheared, stretched and smoothly bent by one random map. `splice` is the probability
    that the end of the signature is another writer's.
    """

    mirror: float = 0.0
    bend: float = 0.0
    window: float = 0.0
    splice: float = 0.0

    def draw(self, shape: tuple[int, int], rng: np.random.Generator) -> Change:
        """One writer's change, for images (H, W) of that shape; the same for each of them."""
        changes: list[Change] = []
        if rng.random() < self.window:
            left, right = cut(rng)
            changes.append(lambda pixels: _cut(pixels, left, right))
        if rng.random() < self.bend:
            across, down = _bent(shape, rng)
            changes.append(lambda pixels: _moved(pixels, across, down))
        if rng.random() < self.mirror:
            axis = int(rng.integers(-1, 2))
            changes.append(lambda pixels: as_grey(cv2.flip(pixels, axis)))

        def change(pixels: Grey) -> Grey:
            for step in changes:
                pixels = step(pixels)
            return pixels

        return change

    def partner(
        self, writer: Writer, corpus: Sequence[Writer], rng: np.random.Generator
    ) -> tuple[Writer, float] | None:
        """As whose signatures those of the writer end, and from which share of the ink on.

        Mostly as nobody's. Genuine end as genuine and forged as forged, so a writer of whom there
        are no forgeries is no partner.
        """
        if rng.random() >= self.splice:
            return None
        share = float(rng.uniform(0.35, 0.65))
        other = corpus[int(rng.integers(len(corpus)))]
        return None if other is writer or not len(other.forged) else (other, share)


def cut(rng: np.random.Generator) -> tuple[float, float]:
    """Between which shares of the width a writer's name is cut out."""
    width = rng.uniform(0.4, 0.8)
    left = rng.uniform(0, 1 - width)
    return left, left + width


def bend(rng: np.random.Generator) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """A map (2, 2) from a place of the result to the place it shows, and what is added to that.

    The latter (2, *WAVE) on a coarse grid, in heights of the canvas.
    """
    lean = np.tan(np.deg2rad(rng.uniform(-20, 20)))
    zoom = np.exp(rng.uniform(-0.3, 0.3, 2))
    return np.array([[zoom[0], lean], [0, zoom[1]]]), rng.normal(0, 0.035, (2, *WAVE))


def beside(left: Grey, right: Grey, share: float) -> Grey:
    """The first `share` of one signature's ink, then the rest of another's, on one canvas.

    Made of two writers in the same way all over, the images of a batch are the work of a third,
    and there are as many of those as pairs of writers.
    """
    parts = [_ink(left, 0.0, share), _ink(right, share, 1.0)]
    height = max(part.shape[0] for part in parts)
    padded = []
    for part in parts:
        above = (height - part.shape[0]) // 2
        below = height - part.shape[0] - above
        padded.append(np.pad(part, ((above, below), (0, 0)), constant_values=PAPER))
    return _on_canvas(as_grey(np.concatenate(padded, axis=1)), (left.shape[0], left.shape[1]))


def _cut(pixels: Grey, left: float, right: float) -> Grey:
    """The ink between two shares of its width, brought onto the canvas anew."""
    return _on_canvas(_ink(pixels, left, right), (pixels.shape[0], pixels.shape[1]))


def _ink(pixels: Grey, left: float, right: float) -> Grey:
    """The box around the ink between two shares of its width; all of the image without ink."""
    columns = np.flatnonzero((pixels < INK).any(axis=0))
    if not columns.size:
        return pixels
    start, width = columns[0], columns[-1] + 1 - columns[0]
    part = pixels[:, int(start + left * width) : int(start + right * width) + 1]
    rows = np.flatnonzero((part < INK).any(axis=1))
    return part[rows[0] : rows[-1] + 1] if rows.size else pixels


def _on_canvas(part: Grey, shape: tuple[int, int]) -> Grey:
    room = np.array(shape) * (1 - 2 * MARGIN)
    scale = min(*(room / part.shape), LARGEST)
    height, wide = (max(round(side * scale), 1) for side in part.shape)
    how = cv2.INTER_LINEAR if scale > 1 else cv2.INTER_AREA
    canvas = np.full(shape, PAPER, np.uint8)
    top, first = (shape[0] - height) // 2, (shape[1] - wide) // 2
    canvas[top : top + height, first : first + wide] = cv2.resize(
        part, (wide, height), interpolation=how
    )
    return canvas


def _bent(
    shape: tuple[int, int], rng: np.random.Generator
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Maps (H, W) from a pixel to the pixel that it shows."""
    height, width = shape
    turned, waves = bend(rng)
    x = np.arange(width, dtype=np.float32)[None, :] - width / 2
    y = np.arange(height, dtype=np.float32)[:, None] - height / 2
    across, down = (
        cv2.resize(part, (width, height), interpolation=cv2.INTER_CUBIC)
        for part in (height * waves).astype(np.float32)
    )
    return (
        np.asarray(x * turned[0, 0] + y * turned[0, 1] + width / 2 + across, np.float32),
        np.asarray(y * turned[1, 1] + height / 2 + down, np.float32),
    )


def _moved(pixels: Grey, across: NDArray[np.float32], down: NDArray[np.float32]) -> Grey:
    return as_grey(
        cv2.remap(
            pixels,
            across,
            down,
            cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_CONSTANT,
            borderValue=PAPER,
        )
    )
