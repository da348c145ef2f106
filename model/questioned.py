"""A document as it is verified: the network's input, and what its ink measures."""

from dataclasses import dataclass

from .arrays import Canvas
from .ink import Ink, measure_ink
from .preprocess import (
    MAX_PIXELS,
    Preprocessing,
    Region,
    decode_part,
    from_grey,
    ink_mask,
    memory_errors,
    strokes_canvas,
)


@dataclass(frozen=True, kw_only=True, eq=False)
class Questioned:
    """The network's input (1, H, W); `ink` is None where preprocessing does not look for ink."""

    canvas: Canvas
    ink: Ink | None


def look(
    data: bytes,
    how: Preprocessing,
    *,
    page: int | None = None,
    region: Region | None = None,
    max_pixels: int = MAX_PIXELS,
) -> Questioned:
    """The canvas of `preprocess` to the bit, with what the ink measures; raises the same."""
    with memory_errors():
        grey = decode_part(data, page, region, max_pixels)
        if not how.finds_ink:
            return Questioned(canvas=from_grey(grey, how), ink=None)
        mask = ink_mask(grey, how)  # found once for both
        return Questioned(canvas=strokes_canvas(mask, how), ink=measure_ink(mask))
