"""SmoothGrad: the map is the gradient's, repeats itself, and lies where the distance comes from."""

import cv2
import numpy as np
import pytest
import torch
from torch import nn

from model.engine import specimens
from model.errors import ModelError
from model.preprocess import Preprocessing
from model.saliency import Explained, explain, overlay, saliency_plot, smoothgrad
from model.siamese import SiameseNet

SHAPE = (32, 64)


class LeftHalf(nn.Module):
    """Embeds the left half of a picture by its pixels, and does not look at the right one."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def embed(self, images):
        return self.scale * images[..., : SHAPE[1] // 2].flatten(1)


@pytest.fixture
def canvases():
    rng = np.random.default_rng(5)
    return [np.where(rng.random((1, *SHAPE)) < 0.1, -1, 1).astype(np.float32) for _ in range(2)]


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_the_map_is_of_the_pictures_size_from_0_to_1(network, canvases):
    found = smoothgrad(network, *canvases, samples=3, generator=generator())
    assert (found.shape, found.dtype) == (SHAPE, np.float32)
    assert (found.min() >= 0, found.max()) == (True, 1)


def test_a_map_without_noise_is_the_gradient_of_the_distance(canvases):
    questioned, reference = canvases
    found = smoothgrad(LeftHalf(), *canvases, samples=2, noise=0, generator=generator())
    difference = np.abs(questioned - reference)[0, :, :32]  # of |a - b| by a, but for a factor
    np.testing.assert_allclose(found[:, :32], difference / 2, atol=1e-6)


@pytest.mark.parametrize("head", ["places", "views", "outlines", "cells"])
def test_every_head_has_a_map(head):
    """Paper has no gradient, and a root of nothing none either: its map was NaN all over."""
    with torch.random.fork_rng():
        torch.manual_seed(2)
        siamese = SiameseNet("test_mambaout", head=head, detail=True).eval()
        if siamese.views is not None:
            nn.init.normal_(siamese.views.map)
    questioned, reference = specimens(Preprocessing(height=128, width=256, detail=True))[:2]
    found = smoothgrad(siamese, questioned, reference, samples=2, generator=generator())
    assert np.isfinite(found).all()
    assert found.max() == 1


def test_pixels_that_the_network_does_not_see_move_nothing(canvases):
    found = smoothgrad(LeftHalf(), *canvases, generator=generator())
    assert found[:, :32].min() > 0
    assert not found[:, 32:].any()


def test_a_network_that_sees_nothing_gives_a_map_of_zeros(canvases):
    blind = LeftHalf()
    nn.init.zeros_(blind.scale)
    assert not smoothgrad(blind, *canvases, generator=generator()).any()


def test_the_same_picture_twice_has_a_map_that_is_a_number(network, canvases):
    found = smoothgrad(network, canvases[0], canvases[0], samples=3, generator=generator())
    assert np.isfinite(found).all()


def test_a_seed_gives_one_map_and_neither_network_nor_global_randomness_is_touched(
    network, canvases
):
    before, state = canvases[0].copy(), torch.get_rng_state()
    first, again, other = (
        smoothgrad(network, *canvases, samples=3, generator=generator(seed)) for seed in (1, 1, 2)
    )
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert np.array_equal(canvases[0], before)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(parameter.grad is None for parameter in network.parameters())


def test_more_samples_make_a_steadier_map(network, canvases):
    def distance(samples):
        first, second = (
            smoothgrad(network, *canvases, samples=samples, generator=generator(seed))
            for seed in (1, 2)
        )
        return np.abs(first - second).mean()

    assert distance(24) < distance(2)


def test_strokes_are_painted_by_their_heat_and_cold_paper_stays_white():
    canvas = np.ones((1, *SHAPE), np.float32)
    canvas[0, 10:20, 10:50] = -1
    heat = np.zeros(SHAPE, np.float32)
    heat[:, 30:] = 1
    painted = overlay(canvas, heat).astype(int)
    assert painted.shape == (*SHAPE, 3)
    assert (painted[0, :30] == 255).all()
    cold, hot = painted[15, 20], painted[15, 40]
    assert cold.max() - cold.min() < 20
    assert hot[0] > 2 * max(hot[1:])
    assert hot.sum() < painted[0, 40].sum() < 3 * 255  # its paper is tinted, and lighter


def test_a_comparison_is_drawn_with_both_pictures_side_by_side(network, canvases, tmp_path):
    pictures = explain(network, *canvases, names=("one $", "two"))
    assert [picture.name for picture in pictures] == ["one $", "two"]
    assert pictures[1].canvas is canvases[1]
    path = tmp_path / "new" / "p.png"
    saliency_plot(pictures, "different signers $1", path)
    image = cv2.imread(str(path))
    assert image.shape[1] > 1.5 * image.shape[0]
    assert [p.name for p in path.parent.iterdir()] == ["p.png"]
    saliency_plot(explain(network, *canvases, names=("one $", "two")), "different signers $1", path)
    assert np.array_equal(cv2.imread(str(path)), image)


def test_a_map_of_zeros_can_be_drawn(tmp_path):
    still = Explained(
        name="A", canvas=np.ones((1, *SHAPE), np.float32), saliency=np.zeros(SHAPE, np.float32)
    )
    saliency_plot([still], "nothing", tmp_path / "p.png")
    with pytest.raises(ModelError, match=r"q\.png"):
        saliency_plot([still], "nothing", tmp_path / "p.png" / "q.png")
