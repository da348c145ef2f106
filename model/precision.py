"""Which arithmetic is fast here."""

import torch
from torch import Tensor, nn


def has_fast_bf16(device: torch.device) -> bool:
    """Whether matrix products in bf16 are faster than in float32.

    They are on GPUs and on processors with AMX or AVX512-BF16. Measured on two cores with
    AVX512-BF16, a training step of mambaout_tiny at 64 x 128: 80 images/s against 32 in float32.
    """
    return device.type == "cuda" or (
        device.type == "cpu"
        and (torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported())
    )


def mixed_precision(device: torch.device, *, wanted: bool = True) -> torch.autocast:
    """Matrix products in bf16 where that is faster and `wanted`, all else in float32."""
    return torch.autocast(
        device.type, dtype=torch.bfloat16, enabled=wanted and has_fast_bf16(device)
    )


class Float32Convolution(nn.Conv2d):
    """A convolution that leaves mixed precision; what it puts out has its input's type again."""

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, C, H, W) -> the same convolved, in their own type."""
        with torch.autocast(images.device.type, enabled=False):
            return super().forward(images.float()).to(images.dtype)


def depthwise_in_float32(network: nn.Module) -> None:
    """Let depthwise convolutions compute in float32, weights and their names unchanged.

    Their backward pass is slow in bf16 on processors: 52 ms against 17 for (64, 96, 16, 32) and a
    7 x 7 kernel, which makes a training step of mambaout_tiny 1.27 times as fast.
    """
    for module in network.modules():
        if type(module) is nn.Conv2d and module.groups > 1:
            module.__class__ = Float32Convolution
