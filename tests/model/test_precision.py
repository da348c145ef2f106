"""Depthwise convolutions leave mixed precision; nothing else changes."""

import copy

import torch
from torch import nn

from model.precision import Float32Convolution, depthwise_in_float32


def test_depthwise_convolutions_compute_in_float32_and_keep_type_and_names():
    network = nn.Sequential(nn.Conv2d(4, 8, 1), nn.Conv2d(8, 8, 7, padding=3, groups=8))
    plain = copy.deepcopy(network)
    depthwise_in_float32(network)
    assert [type(module) for module in network] == [nn.Conv2d, Float32Convolution]
    assert network.state_dict().keys() == plain.state_dict().keys()
    images = torch.rand(2, 8, 9, 9, generator=torch.Generator().manual_seed(1)).bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = network[1](images)
    assert found.dtype == torch.bfloat16
    assert torch.equal(found, plain[1](images.float()).bfloat16())
