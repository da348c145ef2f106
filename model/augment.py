"""Random changes that leave the writer the same: pose, pen and scan, never a mirror image."""

import math
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from .preprocess import Grey, as_grey

PAPER = 255
OVERSAMPLING = 2  # a pen grows by half a canvas pixel at a time


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """How far an image may be changed; each value is drawn anew for every image.

    Rotation and shear in degrees, scale as the largest relative change per axis, shift as a share
    of the canvas, elastic as the standard deviation of a smooth displacement in canvas pixels,
    pen as the most by which strokes grow wider in canvas pixels, thinner by half of it, blur as the
    largest sigma, erase as the probability that a small box is lost.
    """

    rotation: float = 0.0
    shear: float = 0.0
    scale: float = 0.0
    shift: float = 0.0
    elastic: float = 0.0
    pen: float = 0.0
    blur: float = 0.0
    erase: float = 0.0

    def finer(self, times: float) -> "Augmentation":
        """As far on a canvas of so many times the pixels a side; a scan is as sharp on any."""
        return replace(self, elastic=times * self.elastic, pen=times * self.pen)

    @property
    def pens(self) -> tuple[int, int]:
        """The least and the most by which strokes change, in half canvas pixels."""
        return -math.ceil(self.pen), round(self.pen * OVERSAMPLING)

    def pose(self, rng: np.random.Generator) -> NDArray[np.float64]:
        """A rotation, shear and scale about the middle: from the result to the image (2, 2)."""
        angle, lean = np.deg2rad(
            [rng.uniform(-self.rotation, self.rotation), rng.uniform(-self.shear, self.shear)]
        )
        zoom = 1 + rng.uniform(-self.scale, self.scale, 2)
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        leaning = np.array([[1, np.tan(lean)], [0, 1]])
        return np.asarray(np.linalg.inv(turn @ leaning @ np.diag(zoom)))

    def __call__(self, pixels: Grey, rng: np.random.Generator) -> Grey:
        """One image (H, W), uint8 -> a changed copy of its shape; what opens is white paper."""
        height, width = pixels.shape
        large = self._warp(pixels, rng)
        if self.pen:
            large = self._change_pen(large, rng)
        result = as_grey(cv2.resize(large, (width, height), interpolation=cv2.INTER_AREA))
        if self.blur and rng.random() < 0.5:
            result = as_grey(cv2.GaussianBlur(result, (0, 0), rng.uniform(0.1, self.blur)))
        if rng.random() < self.erase:
            h, w = (int(side * rng.uniform(0.05, 0.2)) for side in (height, width))
            top, left = rng.integers(0, height - h + 1), rng.integers(0, width - w + 1)
            result[top : top + h, left : left + w] = PAPER
        return result

    def _warp(self, pixels: Grey, rng: np.random.Generator) -> Grey:
        height, width = pixels.shape
        size = (width * OVERSAMPLING, height * OVERSAMPLING)
        # From a pixel of the large canvas to the pixel of the image it shows.
        inverse = (self.pose(rng) / OVERSAMPLING).astype(np.float32)
        move = rng.uniform(-self.shift, self.shift, 2) * size
        centre = np.array([width - 1, height - 1]) / 2
        middle = (np.array(size) - 1) / 2 + move
        x = (np.arange(size[0]) - middle[0]).astype(np.float32)[None, :]
        y = (np.arange(size[1]) - middle[1]).astype(np.float32)[:, None]
        map_x = inverse[0, 0] * x + (inverse[0, 1] * y + np.float32(centre[0]))
        map_y = inverse[1, 0] * x + (inverse[1, 1] * y + np.float32(centre[1]))
        if self.elastic:
            map_x += self._displacement(size, rng)
            map_y += self._displacement(size, rng)
        border = cv2.BORDER_CONSTANT
        return as_grey(
            cv2.remap(pixels, map_x, map_y, cv2.INTER_LINEAR, borderMode=border, borderValue=PAPER)
        )

    def _displacement(self, size: tuple[int, int], rng: np.random.Generator) -> NDArray[np.float32]:
        coarse = rng.normal(0, self.elastic, (3, 6)).astype(np.float32)
        return np.asarray(cv2.resize(coarse, size, interpolation=cv2.INTER_CUBIC))

    def _change_pen(self, large: Grey, rng: np.random.Generator) -> Grey:
        steps = int(rng.integers(*self.pens, endpoint=True))
        if steps == 0:
            return large
        kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (abs(steps) + 1, abs(steps) + 1))
        # Ink is dark, so eroding the brightness makes strokes thicker.
        return as_grey((cv2.erode if steps > 0 else cv2.dilate)(large, kernel))
