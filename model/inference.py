"""Running a trained network: the embedder that the service uses, and the seed's two helpers."""

import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from .arrays import Canvas, Images, Vectors
from .checkpoint import Checkpoint, build_model, load_checkpoint
from .engine import Engine, choose_engine, cores, reference_engine
from .errors import ModelError
from .preprocess import MAX_PIXELS, Preprocessing, Region, preprocess
from .questioned import Questioned, look
from .scoring import Scoring
from .siamese import SiameseNet
from .specimen import Specimen, examine


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


DRIFT_MARGIN = 2.0
"""The scores of 516 CEDAR signatures move by as much as the distances of the generated ones that
are measured; other hands may move a little farther."""


Decode = Callable[..., Questioned]
Examine = Callable[..., Specimen]
"""What stands in for `look` and `examine`, with their arguments, results and errors."""


class Embedder:
    """A checkpoint made ready to embed documents. Safe to share between threads.

    `engine` is the fast way to run it, made when first asked for, and `tolerance` by how much a
    score may thereby differ from the reference's, in units of distance. With `exact` there is the
    reference only. A processor works on `lanes` batches at a time, one on each core unless given.
    `source` says where the checkpoint came from; `decode` and `examine` are who prepares documents
    and specimens, this process itself unless given.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        device: torch.device,
        *,
        source: str = "",
        exact: bool = False,
        lanes: int | None = None,
        decode: Decode = look,
        examine: Examine = examine,
    ) -> None:
        self.checkpoint = checkpoint
        self.source = source
        self.device = device
        self.model = build_model(checkpoint, device)
        self._decode, self._examine = decode, examine
        self._lanes = lanes or cores()
        self._reference = reference_engine(self.model, device, self._lanes)
        self._chosen: tuple[Engine, float] | None = (self._reference, 0.0) if exact else None
        self._choosing = threading.RLock()

    @property
    def engine(self) -> Engine:
        """What runs the network when speed counts."""
        return self._choice()[0]

    @property
    def tolerance(self) -> float:
        """The nearest distance and the weighted mean of the cohort's may both move."""
        return DRIFT_MARGIN * self._choice()[1] * (1 + self.scoring.cohort_weight)

    def _choice(self) -> tuple[Engine, float]:
        with self._choosing:
            if self._chosen is None:
                self._chosen = choose_engine(
                    self.model, self._reference, self.device, self.preprocessing, self._lanes
                )
            return self._chosen

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
    def provenance(self) -> Mapping[str, Any]:
        """How the model came about and what it was measured to do."""
        return self.checkpoint.provenance

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
    ) -> Canvas:
        """Document bytes -> network input (1, H, W); raises what `preprocess` raises."""
        return self.look(data, page=page, region=region, max_pixels=max_pixels).canvas

    def look(
        self,
        data: bytes,
        *,
        page: int | None = None,
        region: Region | None = None,
        max_pixels: int = MAX_PIXELS,
    ) -> Questioned:
        """The same, with what the document's ink measures."""
        how = self.preprocessing
        return self._decode(data, how, page=page, region=region, max_pixels=max_pixels)

    def examine(self, data: bytes, *, max_pixels: int = MAX_PIXELS) -> Specimen:
        """Specimen bytes -> network input with what the page measures; raises the same."""
        return self._examine(data, self.preprocessing, max_pixels=max_pixels)

    def embed(
        self,
        images: Sequence[Canvas] | Images,
        *,
        exact: bool = False,
    ) -> Vectors:
        """Inputs (N, 1, H, W) -> embeddings (N, D), float32; `exact` takes the reference.

        Raises MemoryError when the device has no room for so many.
        """
        batch = np.stack(list(images))
        return self._reference(batch) if exact else self.engine(batch)


def load_embedder(
    path: Path | str,
    device: str = "auto",
    *,
    exact: bool = False,
    lanes: int | None = None,
    decode: Decode = look,
    examine: Examine = examine,
    sha256: str | None = None,
) -> Embedder:
    """Load a checkpoint, of this sha256 if given, onto a device.

    Raises CheckpointError or DeviceUnavailable.
    """
    checkpoint = load_checkpoint(path, sha256=sha256)
    where = choose_device(device)
    return Embedder(
        checkpoint,
        where,
        source=str(path),
        exact=exact,
        lanes=lanes,
        decode=decode,
        examine=examine,
    )


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

    The distance lies in [0, 2]. A model without a remembered preprocessing gets the seed's own
    input at `size`. Raises UnreadableImage and its kin.
    """
    how = model.preprocessing or Preprocessing(name="seed_grey", height=size, width=size)
    inputs = [
        torch.from_numpy(preprocess(Path(image).read_bytes(), how))[None].to(device)
        for image in (img1, img2)
    ]
    distance = float(model(*inputs)[0].item())
    return {"distance": distance, "threshold": threshold, "pred": int(distance < threshold)}
