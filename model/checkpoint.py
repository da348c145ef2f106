"""Checkpoints: a plain `torch.save` of a dict, the seed's four keys always among them.

    model          state dict of SiameseNet (half precision allowed)
    backbone       timm name
    size           width of the canvas in pixels
    threshold      of the distance between two images
    preprocessing  mode, version, canvas        \\
    scoring        rule for several references   | absent from seed checkpoints
    provenance     how it came about            /
    head           "places", "views", "outlines" or "cells" where the network has one of these
    cohort         embeddings (K, D), float16, where the rule weighs a cohort

A file's sha256 is the identity of its model.
"""

import hashlib
import io
import math
import pickle
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast, get_args

import torch
from torch import Tensor

from .errors import (
    CheckpointError,
    CheckpointIsTorchScript,
    CheckpointKeyMissing,
    CheckpointMismatch,
    CheckpointNotFound,
    CheckpointNotPinned,
    CheckpointUnreadable,
)
from .files import write_atomically
from .preprocess import Preprocessing
from .scoring import Scoring
from .siamese import Head, SiameseNet

FORMAT = 1
SEED_KEYS = ("model", "backbone", "size", "threshold")
FITTED = ("views.", "outlines.", "reduced.")
"""Where the names of weights begin that no descent has learnt."""
ADDED = ("places.", "cells.")
"""And those of heads that a network may learn after all else."""


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """What a checkpoint file says. `sha256` names the model in every embedding and decision."""

    weights: Mapping[str, Tensor]
    backbone: str
    size: int
    threshold: float
    preprocessing: Preprocessing
    scoring: Scoring
    head: Head = "seed"
    provenance: Mapping[str, Any] = field(default_factory=dict)
    sha256: str = ""


def save_checkpoint(path: Path, checkpoint: Checkpoint, *, half: bool = False) -> str:
    """Write atomically, in half precision if asked; returns the file's sha256."""
    content = {
        "model": {name: _stored(tensor, half) for name, tensor in checkpoint.weights.items()},
        "backbone": checkpoint.backbone,
        "size": checkpoint.size,
        "threshold": checkpoint.threshold,
        "format": FORMAT,
        "preprocessing": checkpoint.preprocessing.as_dict(),
        "scoring": checkpoint.scoring.as_dict(),
        "head": checkpoint.head,
        "provenance": dict(checkpoint.provenance),
    }
    if checkpoint.scoring.cohort is not None:
        content["cohort"] = torch.from_numpy(checkpoint.scoring.cohort).half()
    buffer = io.BytesIO()
    torch.save(content, buffer)
    write_atomically(path, buffer.getvalue())
    return hashlib.sha256(buffer.getvalue()).hexdigest()


def _stored(tensor: Tensor, half: bool) -> Tensor:
    # A clone, because strides of size 1 may differ between a run and the same run resumed.
    tensor = tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
    return tensor.half() if half and tensor.is_floating_point() else tensor


def load_checkpoint(path: Path | str, *, sha256: str | None = None) -> Checkpoint:
    """Read and check a checkpoint; raises a CheckpointError that says what is wrong with it."""
    data, _ = read_checkpoint(path, sha256=sha256)
    return parse_checkpoint(data, path, sha256=sha256)


def parse_checkpoint(data: bytes, path: Path | str, *, sha256: str | None = None) -> Checkpoint:
    """What the bytes of a checkpoint say; `path` is where they come from, for the sentences.

    Raises as `load_checkpoint` does.
    """
    found = _pinned(data, path, sha256)
    content = _unpickle(Path(path), data)
    for key in SEED_KEYS:
        if key not in content:
            raise CheckpointKeyMissing(f"The checkpoint {path} has no key '{key}'.")
    if content.get("format", FORMAT) != FORMAT:
        raise CheckpointError(
            f"The checkpoint {path} has format {content['format']}; this release reads {FORMAT}."
        )
    try:
        return _interpret(content, found)
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        raise CheckpointError(f"The checkpoint {path} holds a wrong value: {error}.") from error


def read_checkpoint(path: Path | str, *, sha256: str | None = None) -> tuple[bytes, str]:
    """The bytes of the file and their sha256, before anything in them is looked at.

    Raises CheckpointNotFound, CheckpointUnreadable, and CheckpointNotPinned when the `sha256` that
    was asked for is another.
    """
    data = _read(Path(path))
    return data, _pinned(data, path, sha256)


def _pinned(data: bytes, path: Path | str, sha256: str | None) -> str:
    found = hashlib.sha256(data).hexdigest()
    if sha256 not in (None, found):
        raise CheckpointNotPinned(
            f"{path} is not the checkpoint that was asked for: its sha256 is {found}, not {sha256}."
        )
    return found


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise CheckpointNotFound(f"There is no checkpoint {path}.") from error
    except OSError as error:
        raise CheckpointUnreadable(f"{path} cannot be read: {error.strerror}.") from error


def _unpickle(path: Path, data: bytes) -> Mapping[str, Any]:
    if zipfile.is_zipfile(io.BytesIO(data)):
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            if any(name.endswith("/constants.pkl") for name in archive.namelist()):
                raise CheckpointIsTorchScript(
                    f"{path} is a TorchScript archive; a checkpoint is a dict saved by torch.save."
                )
    try:
        content = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointUnreadable(
            f"{path} is not a checkpoint, or holds objects beyond tensors and plain values."
        ) from error
    except (RuntimeError, EOFError, ValueError, KeyError, OSError) as error:
        raise CheckpointUnreadable(f"{path} is truncated or not a checkpoint.") from error
    if not isinstance(content, dict):
        raise CheckpointUnreadable(f"{path} holds no dict, so it is not a checkpoint.")
    return content


def _interpret(content: Mapping[str, Any], sha256: str) -> Checkpoint:
    size, threshold = int(content["size"]), float(content["threshold"])
    if not math.isfinite(threshold):
        raise ValueError(f"threshold {threshold}")
    seed_input = {"name": "seed_grey", "version": 1, "height": size, "width": size}
    return Checkpoint(
        weights=content["model"],
        backbone=str(content["backbone"]),
        size=size,
        threshold=threshold,
        preprocessing=Preprocessing(**content.get("preprocessing", seed_input)),
        scoring=_scoring(content, threshold),
        head=_head(content),
        provenance=content.get("provenance", {}),
        sha256=sha256,
    )


def _head(content: Mapping[str, Any]) -> Head:
    head = content.get("head", "seed")
    if head not in get_args(Head):
        raise ValueError(f"head {head}")
    return cast(Head, head)


def _scoring(content: Mapping[str, Any], threshold: float) -> Scoring:
    rule = content.get("scoring", {"thresholds": {1: threshold}})
    cohort = content.get("cohort")
    return Scoring(**rule, cohort=None if cohort is None else cohort.half().numpy())


def build_model(checkpoint: Checkpoint, device: torch.device | str = "cpu") -> SiameseNet:
    """The network in evaluation mode with the checkpoint's weights, float32, every key matched."""
    how = checkpoint.preprocessing
    model = SiameseNet(
        checkpoint.backbone,
        coordinates=how.coordinates,
        detail=how.detail,
        head=checkpoint.head,
    )
    model.preprocessing = how
    load_weights(model, checkpoint)
    return model.float().eval().to(device)


def load_weights(model: SiameseNet, checkpoint: Checkpoint) -> None:
    """Give a network the checkpoint's weights, every key matched; raises CheckpointMismatch."""
    try:
        model.load_state_dict(dict(checkpoint.weights), strict=True)
    except (RuntimeError, AttributeError, TypeError) as error:
        raise CheckpointMismatch(
            f"The weights of {checkpoint.backbone} do not fit the network: {_first_line(error)}"
        ) from error


def begin_with(model: SiameseNet, checkpoint: Checkpoint) -> None:
    """Give a network to be trained the checkpoint's weights; a head it adds keeps its own.

    What was fitted in closed form is left out, unless the network has it from the beginning: it is
    fitted anew when training has ended. Raises CheckpointMismatch.
    """
    own = model.state_dict()
    learnt = {
        name: value
        for name, value in checkpoint.weights.items()
        if name in own or not name.startswith(FITTED)
    }
    added = {
        name: value for name, value in own.items() if name.startswith(ADDED) and name not in learnt
    }
    load_weights(model, replace(checkpoint, weights=learnt | added))


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join(lines[1:3]) if len(lines) > 1 else str(error)
