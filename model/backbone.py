"""The timm network that turns an image into a feature vector, and what stands in for it.

timm's `mambaout_*` are the gated-CNN blocks of MambaOut (Yu and Wang, 2024): the Mamba block
without its state-space layer. They are what the seed of this project calls Vision Mamba.
"""

import os
import socket
import sys
import threading
import types
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches

import torch
from torch import Tensor, nn

from .errors import BackboneError

DEFAULT_BACKBONE = "mambaout_tiny"
LAST_RESORT = "resnet18"

_IMPORTING = threading.Lock()


def import_timm() -> types.ModuleType:
    """Import timm, without torch's compiler. This is the only place that imports timm.

    timm and torchvision name the compiler where they mark functions for it. Loading it takes two of
    the three seconds of the import, and 69 MB, in every process; nothing here compiles. So it has
    stand-ins meanwhile, and is loaded as ever when somebody asks for it later.
    """
    with _IMPORTING:
        if "timm" not in sys.modules and "torch._dynamo" not in sys.modules:
            try:
                with _standing_in(_stand_ins()):
                    return _timm()
            except (ImportError, AttributeError):  # of other versions, which name more of it
                _forget_timm()
        return _timm()


def _stand_ins() -> dict[str, types.ModuleType]:
    compiler, parts = map(types.ModuleType, ("torch._dynamo", "torch._dynamo.utils"))
    vars(compiler).update(disable=lambda function, *_, **__: function, utils=parts)
    vars(parts).update(is_compile_supported=lambda _device: False)
    return {each.__name__: each for each in (compiler, parts)}


@contextmanager
def _standing_in(modules: Mapping[str, types.ModuleType]) -> Iterator[None]:
    sys.modules.update(modules)
    vars(torch)["_dynamo"] = modules["torch._dynamo"]
    try:
        yield
    finally:
        del vars(torch)["_dynamo"]
        for name in modules:
            del sys.modules[name]


def _timm() -> types.ModuleType:
    """Import timm, also where torchvision was built for CUDA and torch was not.

    torchvision's wheel then lacks two compiled operators that its import refers to. timm needs
    neither, so declaring their signatures is enough.
    """
    try:
        import timm
    except RuntimeError as error:
        if "torchvision::" not in str(error):
            raise
        _forget_timm()
        for operator in ("torchvision::nms", "torchvision::qnms"):
            torch.library.define(
                operator, "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
            )
        import timm
    return timm


def _forget_timm() -> None:
    """Take away what an import that failed has left."""
    for name in [n for n in sys.modules if n.split(".")[0] in ("timm", "torchvision")]:
        del sys.modules[name]


@dataclass(frozen=True, kw_only=True)
class BackboneChoice:
    """The timm name that will be built, and why it is not the one asked for (or None)."""

    name: str
    notice: str | None = None


def choose_backbone(wanted: str) -> BackboneChoice:
    """Find `wanted` in timm, else the nearest mamba-like model, else ResNet-18.

    A pretrained tag (`mambaout_tiny.in1k`) is accepted and dropped: it names weights, not a
    network. Raises BackboneError when timm has not even the last resort.
    """
    models = import_timm().list_models()
    name = wanted.split(".")[0]
    if name in models:
        return BackboneChoice(name=name)
    mamba_like = [model for model in models if "mamba" in model and not model.startswith("test_")]
    nearest = get_close_matches(name, mamba_like, n=1, cutoff=0.4)
    if "mamba" in name and (nearest or mamba_like):
        instead = nearest[0] if nearest else mamba_like[0]
        return BackboneChoice(name=instead, notice=f"timm has no {wanted}; using {instead}.")
    if LAST_RESORT in models:
        return BackboneChoice(
            name=LAST_RESORT, notice=f"timm has no {wanted} or model like it; using {LAST_RESORT}."
        )
    raise BackboneError(f"timm has neither {wanted} nor {LAST_RESORT}.")


class VisionBackbone(nn.Module):
    """A timm encoder without its classifier: (B, 3, H, W) -> (B, width).

    The attribute `encoder` is the name under which seed checkpoints keep these weights.
    """

    def __init__(self, name: str, *, pretrained: bool = False, drop_path: float = 0.0) -> None:
        super().__init__()
        timm = import_timm()
        options = {"drop_path_rate": drop_path} if drop_path else {}
        try:
            self.encoder = timm.create_model(
                name, pretrained=pretrained, num_classes=0, global_pool="avg", **options
            )
        except (RuntimeError, OSError, TypeError) as error:
            raise BackboneError(f"timm cannot build {name}: {error}") from error
        self.width = _width(self.encoder)

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, 3, H, W) -> features (B, width)."""
        features: Tensor = self.encoder(images)
        return features

    def with_maps(self, images: Tensor, stages: Sequence[int]) -> tuple[Tensor, list[Tensor]]:
        """The same features, and the maps (B, H', W', C) that these stages put out."""
        last, maps = self.encoder.forward_intermediates(images, indices=list(stages))
        return self.encoder.forward_head(last), [found.permute(0, 2, 3, 1) for found in maps]

    def stage(self, number: int) -> tuple[int, int]:
        """Channels of that stage's map, and how many pixels a side of its cells spans.

        Raises BackboneError for a network that is not built in stages.
        """
        try:
            found = self.encoder.feature_info[number]
        except (AttributeError, LookupError, TypeError) as error:
            raise BackboneError("The head `places` needs a backbone in stages.") from error
        return int(found["num_chs"]), int(found["reduction"])


def _width(encoder: nn.Module) -> int:
    """Measured, because MambaOut keeps an MLP in its head that `num_features` does not count."""
    training = encoder.training
    encoder.eval()
    with torch.no_grad():
        width = encoder(torch.zeros(1, 3, 64, 64)).shape[-1]
    encoder.train(training)
    return int(width)


def build_backbone(
    wanted: str, *, pretrained: bool = False, drop_path: float = 0.0
) -> tuple[VisionBackbone, list[str]]:
    """Build what `choose_backbone` finds; returns it with the sentences a person should read.

    Pretrained weights are asked for only when the hub can be reached: without a network timm
    would try for about 50 seconds before it fails.
    """
    choice = choose_backbone(wanted)
    notices = [choice.notice] if choice.notice else []
    if not pretrained:
        return VisionBackbone(choice.name, drop_path=drop_path), notices
    if _hub_is_reachable():
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                network = VisionBackbone(choice.name, pretrained=True, drop_path=drop_path)
            return network, notices
        except BackboneError as error:
            reason = str(error)
    else:
        reason = "the Hugging Face hub cannot be reached"
    notices.append(f"No pretrained weights for {choice.name}: {reason}. Starting from random ones.")
    return VisionBackbone(choice.name, drop_path=drop_path), notices


def _hub_is_reachable(timeout: float = 2.0) -> bool:
    if os.environ.get("HF_HUB_OFFLINE", "") not in ("", "0"):
        return False
    try:
        socket.create_connection(("huggingface.co", 443), timeout=timeout).close()
    except OSError:
        return False
    return True
