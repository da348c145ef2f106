"""How the network is run on the device at hand: which library, which arithmetic, and why.

The reference is the network in float32 as PyTorch runs it. Whatever is faster gives slightly other
embeddings; by how much is measured when a model is loaded, and what is off too far is not used.
"""

import importlib.util
import os
from typing import Protocol

import cv2
import numpy as np
import torch

from .arrays import Floats, Images, Vectors
from .distance import vectors_of
from .precision import has_fast_bf16, mixed_precision
from .preprocess import Preprocessing, from_grey
from .scoring import distances_to
from .siamese import SiameseNet
from .synthetic import genuine, make_signer

SPECIMENS = 16
MIN_COSINE = 0.999


class Engine(Protocol):
    """A way to run one network. Safe to call from as many threads as it has lanes.

    `name` says what runs it and in which arithmetic, `why` the reason. `lanes` batches are worked
    on at the same time, and a batch above `batch` images is not faster.
    """

    name: str
    why: str
    lanes: int
    batch: int

    def __call__(self, images: Images) -> Vectors:
        """Inputs (N, 1, H, W) -> embeddings (N, D), float32. Raises MemoryError."""
        ...


class TorchEngine:
    """PyTorch as it is, in float32 or with matrix products in half precision."""

    def __init__(
        self,
        model: SiameseNet,
        device: torch.device,
        *,
        why: str,
        mixed: bool = False,
        lanes: int = 1,
    ) -> None:
        self._model, self._device, self._mixed = model, device, mixed
        arithmetic = "bf16" if mixed else "float32"
        self.name = f"PyTorch {arithmetic} on {device}"
        self.why = why
        self.lanes, self.batch = (1, 64) if device.type == "cuda" else (lanes, 8)

    @torch.no_grad()
    def __call__(self, images: Images) -> Vectors:
        """As the protocol says."""
        batch = torch.from_numpy(images)
        try:
            if self._device.type == "cuda":  # copied while the device still computes
                batch = batch.pin_memory().to(self._device, non_blocking=True)
            with mixed_precision(self._device, wanted=self._mixed):
                vectors = self._model.embed(batch)
        except torch.OutOfMemoryError as error:
            raise MemoryError(f"the device has no room for {len(images)} images") from error
        return np.asarray(vectors.cpu().numpy())


def choose_engine(
    model: SiameseNet, reference: Engine, device: torch.device, how: Preprocessing, lanes: int
) -> tuple[Engine, float]:
    """The fastest way that agrees with the reference, and the `drift` of its distances.

    For a network in evaluation mode; the reference itself where nothing is faster. A processor
    works on `lanes` batches at a time.
    """
    fast = _fast_engine(model, device, how, lanes)
    if fast is None:
        return reference, 0.0
    images = specimens(how)
    found, expected = fast(images), reference(images)
    cosine = float((vectors_of(found) * vectors_of(expected)).sum(axis=1).min())
    if not cosine >= MIN_COSINE:  # nan as well
        reference.why = f"{fast.name} gives other embeddings on this machine (cosine {cosine:.4f})"
        return reference, 0.0
    return fast, drift(found, expected)


def reference_engine(model: SiameseNet, device: torch.device, lanes: int = 1) -> TorchEngine:
    """The network in float32 as PyTorch runs it: what every other way is measured against."""
    why = "it is the reference, and nothing faster is at hand"
    return TorchEngine(model, device, why=why, lanes=lanes)


def _fast_engine(
    model: SiameseNet, device: torch.device, how: Preprocessing, lanes: int
) -> Engine | None:
    half = has_fast_bf16(device)
    if device.type == "cpu" and importlib.util.find_spec("openvino"):
        from .openvino_engine import OpenVinoEngine  # a second to import

        return OpenVinoEngine(model, how, lanes=lanes, half=half)
    if half:
        why = "the device multiplies in bf16" + (
            "; with openvino installed it would be faster" if device.type == "cpu" else ""
        )
        return TorchEngine(model, device, why=why, mixed=True, lanes=lanes)
    return None


def cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def one_core_a_thread() -> None:
    """For a process that works on many images at a time: each is worked on by one core.

    Threads of OpenMP and OpenCV that share an image wait for each other in spin loops, which costs
    many times the work as soon as something else runs on one of the cores.
    """
    torch.set_num_threads(1)
    cv2.setNumThreads(1)


def specimens(how: Preprocessing) -> Images:
    """Generated signatures (N, 1, H, W) on the model's canvas, always the same."""
    rng = np.random.default_rng(0)
    return np.stack([from_grey(genuine(make_signer(rng), rng), how) for _ in range(SPECIMENS)])


def drift(found: Vectors, expected: Vectors) -> float:
    """The most that a distance moves when the engine embeds one of the two images.

    `found` (N, D) is the engine's, `expected` (N, D) the reference's, of the same images; over
    all pairs of different images.
    """
    moved = np.abs(_distances(found, expected) - _distances(expected, expected))  # (N, N)
    np.fill_diagonal(moved, 0.0)
    return float(moved.max())


def _distances(first: Vectors, second: Vectors) -> Floats:
    return np.stack([distances_to(one, second) for one in first])
