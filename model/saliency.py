"""Which strokes moved the distance: SmoothGrad maps, painted onto the strokes.

A gradient says where a small change of ink would change the distance most. It explains one
comparison to a person; it proves nothing about who wrote what.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor

from .arrays import Canvas
from .matching import between
from .plots import MARK, save
from .preprocess import as_grey
from .siamese import SiameseNet

Map = NDArray[np.float32]

_RANGE = 2.0  # of network input, from ink -1 to paper 1
_OUTLIERS = 99.0  # percentile; a few pixels have gradients ten times as steep as the rest
_LONG_SIDE = 640  # pixels of a drawn canvas, at least
_HEAT = LinearSegmentedColormap.from_list("heat", ["#9aa1a9", "#eaa33a", "#d1400e", "#6a0018"])


def smoothgrad(
    model: SiameseNet,
    questioned: Canvas,
    reference: Canvas,
    *,
    samples: int = 16,
    noise: float = 0.1,
    generator: torch.Generator,
) -> Map:
    """How much each pixel of `questioned` moves its distance to `reference`: (H, W), 0 to 1.

    Both are network input (1, H, W) in [-1, 1]. The map is the absolute gradient of the distance,
    averaged over `samples` copies of `questioned` with Gaussian noise of `noise` times the range
    of the input (Smilkov et al., "SmoothGrad", 2017); 1 stands for its 99th percentile. The
    model must be in evaluation mode. All 0 where the distance does not depend on the pixels.
    """
    device = next(model.parameters()).device
    with torch.no_grad():
        target = model.embed(torch.from_numpy(reference)[None].to(device))
    total = torch.zeros(questioned.shape[1:], device=device)
    for _ in range(samples):  # one at a time: a batch of them would hold gigabytes
        grain = torch.randn(questioned.shape, generator=generator) * (noise * _RANGE)
        total += _gradient(model, (torch.from_numpy(questioned) + grain).to(device), target).abs()
    steepness = total.cpu().numpy()
    top = np.percentile(steepness, _OUTLIERS) or steepness.max()
    return np.asarray(np.clip(steepness / top, 0, 1) if top else steepness, dtype=np.float32)


def _gradient(model: SiameseNet, image: Tensor, target: Tensor) -> Tensor:
    """Of the distance to an embedding (1, D), by the pixels of an image (1, H, W): (H, W)."""
    image = image.requires_grad_()
    (gradient,) = torch.autograd.grad(between(model.embed(image[None]), target).sum(), image)
    return gradient[0]


def overlay(canvas: Canvas, saliency: Map) -> NDArray[np.uint8]:
    """Paint a map (H, W) onto network input (1, H, W): RGB (H, W, 3).

    Strokes go from grey over orange to dark red; paper around them is tinted, for a stroke that
    is not there can move a distance too.
    """
    ink = ((1 - canvas[0]) / 2)[..., None]
    heat = np.asarray(_HEAT(saliency), np.float32)[..., :3]
    tint = 0.45 * saliency[..., None]
    paper = 1 - tint * (1 - heat)
    return as_grey(np.rint(255 * np.clip(ink * heat + (1 - ink) * paper, 0, 1)))


@dataclass(frozen=True, kw_only=True)
class Explained:
    """A picture as the network saw it (1, H, W), its map (H, W), and what to call it."""

    name: str
    canvas: Canvas
    saliency: Map


def explain(
    model: SiameseNet,
    first: Canvas,
    second: Canvas,
    *,
    names: tuple[str, str] = ("A", "B"),
    seed: int = 0,
) -> tuple[Explained, Explained]:
    """Both pictures of a comparison with the map of each against the other."""
    generator = torch.Generator().manual_seed(seed)
    of_first = smoothgrad(model, first, second, generator=generator)
    of_second = smoothgrad(model, second, first, generator=generator)
    return (
        Explained(name=names[0], canvas=first, saliency=of_first),
        Explained(name=names[1], canvas=second, saliency=of_second),
    )


def saliency_plot(pictures: Sequence[Explained], title: str, path: Path) -> None:
    """Write the pictures side by side as the network saw them, painted with their maps.

    Raises ModelError when `path` cannot be written.
    """
    height, width = pictures[0].canvas.shape[1:]
    side = 4.2  # inches
    size = (side * len(pictures) + 0.3, side * height / width + 1.35)
    figure = Figure(figsize=size, dpi=150, layout="constrained")
    figure.suptitle(title, size=12, weight="bold", color=MARK, parse_math=False)
    panels = figure.subplots(1, len(pictures), squeeze=False)[0]
    for axes, picture in zip(panels, pictures, strict=True):
        _panel(axes, picture)
    bar = figure.colorbar(
        ScalarMappable(cmap=_HEAT), ax=list(panels), location="bottom", shrink=0.5, aspect=40
    )
    bar.set_ticks([0, 1], labels=["hardly", "most"])
    bar.set_label("how much a stroke moves the distance to the other picture", size=9)
    bar.outline.set_visible(False)
    save(figure, path)


def _panel(axes: Axes, picture: Explained) -> None:
    height, width = picture.saliency.shape
    scale = max(_LONG_SIDE / max(height, width), 1.0)
    size = (round(width * scale), round(height * scale))
    # A gradient alternates between neighbouring pixels; a stroke is wider than one.
    soft = cv2.GaussianBlur(picture.saliency, (0, 0), max(width, height) / 128)
    large = cv2.resize(soft / max(soft.max(), 1e-6), size, interpolation=cv2.INTER_LINEAR)
    canvas = cv2.resize(picture.canvas[0], size, interpolation=cv2.INTER_CUBIC)
    axes.imshow(overlay(_float(canvas)[None].clip(-1, 1), _float(large).clip(0, 1)))
    axes.set_title(picture.name, size=10, color=MARK, parse_math=False)
    axes.set(xticks=[], yticks=[])
    for spine in axes.spines.values():
        spine.set_color("#cccccc")


def _float(values: NDArray[Any]) -> NDArray[np.float32]:
    """The same values as float32: OpenCV keeps the type, but its stubs do not say so."""
    return np.asarray(values, dtype=np.float32)
