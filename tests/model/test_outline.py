"""How outlines turn: against a count by hand, and what must not or must change the histograms."""

from math import atan2, prod, tau

import cv2
import numpy as np
import pytest
import torch

from model.outline import (
    BINS,
    BINS_BY_PLACE,
    CELLS,
    KEPT,
    KEPT_BY_PLACE,
    LEGS,
    LENGTHS,
    REACH,
    SHORTEST,
    STRIDE,
    WEIGHT,
    WEIGHT_BY_PLACE,
    Outlines,
    outline_histograms,
    with_other_pens,
)
from model.preprocess import Preprocessing, from_grey
from model.synthetic import genuine, make_signer
from tests.model.writers import people

HOW = Preprocessing(height=256, width=512)


def on_canvas(draw):
    """A canvas (1, 1, 256, 512) on which `draw` has drawn in black."""
    pixels = np.full((256, 512), 255, np.uint8)
    draw(pixels)
    return torch.from_numpy(np.where(pixels < 128, -1.0, 1.0).astype(np.float32))[None, None]


def disc(x, y):
    return on_canvas(lambda pixels: cv2.circle(pixels, (x, y), 40, 0, -1))


@pytest.fixture(scope="module")
def signatures():
    """Two signatures each of six made-up signers."""
    rng = np.random.default_rng(11)
    signers = [make_signer(rng) for _ in range(6)]
    return torch.from_numpy(
        np.stack([from_grey(genuine(signer, rng), HOW) for signer in signers for _ in range(2)])
    )


def by_hand(image):
    """The histograms of one image, point by point and vote by vote."""
    mask = (image[0, 0].numpy() < 0).astype(np.uint8)
    found, _ = cv2.findContours(mask, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    outlines = []
    for outline in (one[:, 0].astype(float) for one in found if len(one) >= SHORTEST):
        outlines.append((np.roll(outline, 1, 0) + 2 * outline + np.roll(outline, -1, 0)) / 4)
    every = np.concatenate(outlines)
    mean, spread = every.mean(0), every.std(0)
    whole = np.zeros((len(LEGS), BINS, BINS))
    placed = np.zeros((len(LEGS), *CELLS, BINS_BY_PLACE, BINS_BY_PLACE))
    for outline in outlines:
        for at, point in enumerate(outline):
            if at % STRIDE:
                continue
            x, y = (point - mean) / spread
            cell = [
                min(max((place / reach + 1) / 2 * (cells - 1), 0), cells - 1)
                for place, reach, cells in zip((y, x), REACH, CELLS, strict=True)
            ]
            for n, leg in enumerate(LEGS):
                if len(outline) < 2 * leg + 2:
                    continue
                ends = [outline[(at + steps) % len(outline)] for steps in (leg, -leg)]
                turns = [atan2(end[1] - point[1], end[0] - point[0]) / tau % 1 for end in ends]
                vote(whole[n], [turn * BINS for turn in turns])
                vote(placed[n], [*cell, *(turn * BINS_BY_PLACE for turn in turns)])
    shares = [counted.ravel() / counted.sum() for counted in (*whole, *placed)]
    return np.sqrt(np.concatenate(shares))


def vote(counted, places):
    for corner in np.ndindex(*[2] * len(places)):
        share, index = 1.0, []
        for step, place, size in zip(corner, places, counted.shape, strict=True):
            share *= place % 1 if step else 1 - place % 1
            index.append((int(place) + step) % size)
        counted[tuple(index)] += share


def test_the_histograms_are_those_counted_by_hand(signatures):
    for image in signatures[:2]:
        found = outline_histograms(image[None])[0]
        assert found.shape == (sum(LENGTHS),)
        np.testing.assert_allclose(found.numpy() ** 2, by_hand(image[None]) ** 2, atol=2e-5)


def test_an_image_says_the_same_alone_and_among_others(signatures):
    alone = torch.cat([outline_histograms(image[None]) for image in signatures])
    torch.testing.assert_close(outline_histograms(signatures), alone, atol=1e-6, rtol=0)


def test_a_leg_each_way_along_a_straight_side_makes_half_a_turn():
    bar = on_canvas(lambda pixels: cv2.rectangle(pixels, (50, 100), (450, 140), 0, -1))
    shares = outline_histograms(bar)[0, : BINS**2].reshape(BINS, BINS).square()
    half = BINS // 2
    across = shares[0, half] + shares[half, 0]  # its upper and its lower side
    down = shares[BINS // 4, 3 * half // 2] + shares[3 * half // 2, BINS // 4]
    assert across > 0.8
    assert across + down > 0.9


def test_where_a_shape_lies_on_the_canvas_changes_nothing():
    torch.testing.assert_close(
        outline_histograms(disc(100, 80)), outline_histograms(disc(300, 150))
    )


def test_a_mirrored_signature_turns_otherwise(signatures):
    plain, mirrored = (outline_histograms(images) for images in (signatures, signatures.flip(3)))
    between = torch.cdist(plain, torch.cat([plain, mirrored]))
    same = between[torch.arange(12), torch.arange(12) + 12]
    assert (same > 0.1).all()


@pytest.mark.parametrize("ink", [None, 3])
def test_what_has_no_outline_says_nothing_and_is_no_error(ink):
    """A blank canvas, and a dot that is too small to turn around."""
    blank = on_canvas(
        lambda pixels: ink and cv2.rectangle(pixels, (9, 9), (9 + ink - 1, 11), 0, -1)
    )
    found = outline_histograms(blank)
    assert not found.any()
    assert torch.isfinite(Outlines()(blank)).all()


def test_other_pens_are_two_thinner_and_two_thicker(signatures):
    drawn = with_other_pens(signatures)
    assert set(drawn.unique().tolist()) == {-1.0, 1.0}
    before, after = ((images < 0).float().mean((1, 2, 3)) for images in (signatures, drawn))
    thicker = torch.arange(len(signatures)) % 4 >= 2
    assert torch.equal(after > before, thicker)
    assert torch.equal(after < before, ~thicker)


def test_a_map_that_has_met_other_pens_tells_them_less_apart(signatures):
    drawn, writers = with_other_pens(signatures), people(6, genuine=2, forged=0)
    found, penned = outline_histograms(signatures), outline_histograms(drawn)
    moved = []
    for copies in (found, penned):
        outlines = Outlines()
        outlines.fit(found, copies, writers)
        moved.append(torch.linalg.vector_norm(outlines(signatures) - outlines(drawn), dim=1).mean())
    assert moved[1] < 0.9 * moved[0]


def test_no_gradient_passes(signatures):
    assert not outline_histograms(signatures[:1].requires_grad_()).requires_grad


def test_fitted_outlines_tell_made_up_signers_apart(signatures):
    outlines = Outlines()
    penned = outline_histograms(with_other_pens(signatures))
    outlines.fit(outline_histograms(signatures), penned, people(6, genuine=2, forged=0))
    found = outlines(signatures)
    whole, places = found.split([KEPT, KEPT_BY_PLACE], dim=1)
    for part, weight in ((whole, WEIGHT), (places, WEIGHT_BY_PLACE)):
        torch.testing.assert_close(torch.linalg.vector_norm(part, dim=1), torch.full((12,), weight))
    between = torch.cdist(found, found) + 9 * torch.eye(12)
    assert (between.argmin(1) // 2 == torch.arange(12) // 2).all()


def test_cells_are_as_many_as_the_histograms_say():
    assert LENGTHS[1] == len(LEGS) * BINS_BY_PLACE**2 * prod(CELLS)
