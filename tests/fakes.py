"""An embedder without a network: the "image" says which vector it wants, so distances are chosen.

It keeps the contract of `model.inference.Embedder`; `tests/worker/test_fakes.py` holds both to it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.errors import BlankImage, ImageTooLarge, PageNotFound, RegionOutside, UnreadableImage
from model.ink import Ink
from model.preprocess import Preprocessing
from model.questioned import Questioned
from model.scoring import Scoring
from model.specimen import Measures, Specimen

EMBEDDING_SIZE = 512
MAGIC = b"fake:"
BLANK = MAGIC + b"blank"


WHOLE = Measures(long=400, strokes=4, crossings=0, crossed=0, beside=0, above=0)
"""What a page measures that nothing is wrong with."""
INKED = Ink(stroke_width=4.0, ink_share=0.08, long_side=400)
"""What the ink of every document measures."""


def ink(angle: float, note: str = "") -> bytes:
    """A document whose embedding lies at `angle` (radians) from that of `ink(0)`.

    Two documents at angles a and b are 2 sin(|a - b| / 2) apart. `note` changes the bytes; with
    "coarse" in it a specimen is of doubtful resolution, with "tiny" of one too low.
    """
    return MAGIC + f"{angle!r} {note}".encode()


@dataclass(kw_only=True)
class FakeEngine:
    """What stages ask of an engine."""

    name: str = "fake"
    why: str = "this is a test"
    lanes: int = 2
    batch: int = 4


@dataclass(kw_only=True)
class FakeEmbedder:
    """Embeds `ink(angle)` as (cos angle, sin angle, 0, ...); everything else is unreadable."""

    name: str = "fake"
    scoring: Scoring = field(default_factory=lambda: Scoring(thresholds={1: 0.5}))
    preprocessing: Preprocessing = field(default_factory=Preprocessing)
    backbone: str = "fake"
    size: int = 224
    threshold: float = 0.5
    tolerance: float = 0.0
    engine: FakeEngine = field(default_factory=FakeEngine)
    provenance: dict[str, Any] = field(default_factory=dict)
    prepared: int = 0
    embedded: int = 0

    @property
    def model_id(self) -> str:
        return hashlib.sha256(self.name.encode()).hexdigest()

    @property
    def source(self) -> str:
        return f"{self.name}.pt"

    def prepare(
        self,
        data: bytes,
        *,
        page: int | None = None,
        region: tuple[int, int, int, int] | None = None,
        max_pixels: int = 100_000_000,
    ) -> NDArray[np.float32]:
        self.prepared += 1
        if not data.startswith(MAGIC):
            raise UnreadableImage("The file is not a PNG, JPEG, BMP or TIFF image.")
        if page not in (None, 1):
            raise PageNotFound(f"The document has no page {page}.")
        if region is not None and region[0] + region[2] > self.size:
            raise RegionOutside("The region does not lie within the page.")
        if max_pixels < self.size**2:
            raise ImageTooLarge("The image declares more pixels than the limit allows.")
        if data == BLANK:
            raise BlankImage("The image holds no ink.")
        angle = float(data.removeprefix(MAGIC).split()[0])
        canvas = np.ones((1, self.preprocessing.height, self.preprocessing.width), np.float32)
        canvas[0, 1:, round(40 * angle) % self.preprocessing.width] = -1  # a line of its own
        canvas[0, 0, 0] = angle
        return canvas

    def look(self, data: bytes, **asked: Any) -> Questioned:
        return Questioned(canvas=self.prepare(data, **asked), ink=INKED)

    def examine(self, data: bytes, *, max_pixels: int = 100_000_000) -> Specimen:
        canvas = self.prepare(data, max_pixels=max_pixels)
        long = 50.0 if b"tiny" in data else 120.0 if b"coarse" in data else WHOLE.long
        return Specimen(canvas=canvas, measures=replace(WHOLE, long=long))

    def embed(
        self,
        images: Sequence[NDArray[np.float32]] | NDArray[np.float32],
        *,
        exact: bool = False,
    ) -> NDArray[np.float32]:
        batch = np.stack(list(images))
        self.embedded += len(batch)
        vectors = np.zeros((len(batch), EMBEDDING_SIZE), np.float32)
        vectors[:, 0] = np.cos(batch[:, 0, 0, 0])
        vectors[:, 1] = np.sin(batch[:, 0, 0, 0])
        return vectors


class Trouble:
    """Stands in for any collaborator and fails: each method raises the next of `errors`.

    When they are used up, calls go through to `inner`.
    """

    def __init__(self, inner: Any, *errors: Exception) -> None:
        self._inner = inner
        self._errors = list(errors)

    def __getattr__(self, name: str) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            if self._errors:
                raise self._errors.pop(0)
            return getattr(self._inner, name)(*args, **kwargs)

        value = getattr(self._inner, name)
        return call if callable(value) else value
