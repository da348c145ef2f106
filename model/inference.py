"""Running a trained network: the embedder that the service uses, and the seed's two helpers."""

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from .checkpoint import Checkpoint, build_model, load_checkpoint
from .errors import ModelError
from .preprocess import MAX_PIXELS, Preprocessing, Region, preprocess
from .scoring import Scoring
from .siamese import SiameseNet


class DeviceUnavailable(ModelError):
    """The device asked for is not there."""

    code = "device_unavailable"


def choose_device(name: str) -> torch.device:
    """`auto` is CUDA if there is one, else the CPU; raises DeviceUnavailable."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise DeviceUnavailable(f"'{name}' is no device; use auto, cpu or cuda.") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise DeviceUnavailable("CUDA was asked for, but torch sees no CUDA device here.")
    return device


class Embedder:
    """A checkpoint made ready to embed documents. Safe to share between threads.

    `source` says where the checkpoint came from.
    """

    def __init__(self, checkpoint: Checkpoint, device: torch.device, *, source: str = "") -> None:
        self.checkpoint = checkpoint
        self.source = source
        self.device = device
        self.model = build_model(checkpoint, device)
        self._one_at_a_time = threading.Lock()

    @property
    def model_id(self) -> str:
        """sha256 of the checkpoint file."""
        return self.checkpoint.sha256

    @property
    def preprocessing(self) -> Preprocessing:
        """The input that the model was trained on."""
        return self.checkpoint.preprocessing

    @property
    def scoring(self) -> Scoring:
        """The rule and the thresholds that belong to the model."""
        return self.checkpoint.scoring

    @property
    def backbone(self) -> str:
        """timm name of the backbone."""
        return self.checkpoint.backbone

    @property
    def size(self) -> int:
        """Width of the canvas in pixels."""
        return self.checkpoint.size

    @property
    def threshold(self) -> float:
        """Threshold of the plain distance between two images."""
        return self.checkpoint.threshold

    def prepare(
        self,
        data: bytes,
        *,
        page: int | None = None,
        region: Region | None = None,
        max_pixels: int = MAX_PIXELS,
    ) -> NDArray[np.float32]:
        """Document bytes -> network input (1, H, W); raises what `preprocess` raises."""
        return preprocess(data, self.preprocessing, page=page, region=region, max_pixels=max_pixels)

    @torch.no_grad()
    def embed(
        self, images: Sequence[NDArray[np.float32]] | NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """Inputs (N, 1, H, W) -> unit embeddings (N, 512), float32."""
        batch = torch.from_numpy(np.stack(list(images))).to(self.device)
        with self._one_at_a_time:
            vectors = self.model.embed(batch)
        return np.asarray(vectors.cpu().numpy())


def load_embedder(path: Path | str, device: str = "auto") -> Embedder:
    """Load a checkpoint onto a device; raises CheckpointError or DeviceUnavailable."""
    return Embedder(load_checkpoint(path), choose_device(device), source=str(path))


def load_model_for_infer(
    path: Path | str, device: torch.device | str = "cpu"
) -> tuple[SiameseNet, float, int]:
    """The seed's helper: (model in evaluation mode, threshold, size).

    The model remembers its checkpoint's preprocessing, so that `compare_images` feeds it what it
    was trained on.
    """
    checkpoint = load_checkpoint(path)
    model = build_model(checkpoint, device)
    return model, checkpoint.threshold, checkpoint.size


@torch.no_grad()
def compare_images(
    model: SiameseNet,
    threshold: float,
    img1: Path | str,
    img2: Path | str,
    size: int,
    device: torch.device | str = "cpu",
) -> dict[str, Any]:
    """The seed's helper: {"distance", "threshold", "pred"}, pred 1 for the same signer.

    The distance is Euclidean between unit embeddings, in [0, 2]. A model without a remembered
    preprocessing gets the seed's own input at `size`. Raises UnreadableImage and its kin.
    """
    how = model.preprocessing or Preprocessing(name="seed_grey", height=size, width=size)
    inputs = [
        torch.from_numpy(preprocess(Path(image).read_bytes(), how))[None].to(device)
        for image in (img1, img2)
    ]
    distance = float(model(*inputs)[0].item())
    return {"distance": distance, "threshold": threshold, "pred": int(distance < threshold)}
