"""Specks are taken off by how small they are for where they lie; faint strokes stay whole."""

import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model import synthetic
from model.errors import BlankImage
from model.preprocess import Preprocessing, ink_mask
from model.specks import PER_DISTANCE, without_specks

HOW = Preprocessing(height=64, width=128)


def stroke():
    """A page (200, 400) with one stroke, 200 by 10 pixels: a diagonal of 200 for all distances."""
    ink = np.zeros((200, 400), bool)
    ink[100:110, 60:260] = True
    return ink


def with_piece(ink, away, side):
    """The same with a square of that side so many pixels to the right of the stroke."""
    marked = ink.copy()
    marked[105 : 105 + side, 259 + away : 259 + away + side] = True
    return marked


@pytest.mark.parametrize(
    ("away", "side", "stays"),
    [
        (2, 2, True),  # 0.2 % of the ink a hundredth away: 0.02 % would do
        (15, 2, True),  # 0.15 %
        (30, 2, False),  # 0.3 %
        (30, 3, True),  # 0.45 % of the ink
        (120, 4, False),  # 0.8 % where 1.2 % are asked
        (120, 5, True),  # more than 1 %, which stays anywhere
        (2, 1, True),  # 0.05 %: a pixel
        (8, 1, False),
    ],
)
def test_the_farther_off_the_larger_must_it_be(away, side, stays):
    ink = stroke()
    marked = with_piece(ink, away, side)
    assert np.array_equal(without_specks(marked), marked if stays else ink)


def test_pieces_of_a_faint_stroke_stay_for_each_other_and_dust_as_large_does_not():
    ink = stroke()
    for number in range(12):
        ink = with_piece(ink, 8 + 10 * number, 2)
    assert np.array_equal(without_specks(ink), ink)
    dusty = ink.copy()
    dusty[20:22, 300:302] = dusty[180:182, 20:22] = True
    assert np.array_equal(without_specks(dusty), ink)


def test_crumbs_at_the_edge_of_the_scan_are_none_of_a_stroke():
    ink = stroke()[:112]
    crumbs = ink.copy()
    crumbs[111, 100:250:30] = True
    assert np.array_equal(without_specks(crumbs), ink)
    inside = np.pad(crumbs, ((0, 10), (0, 0)))
    assert np.array_equal(without_specks(inside), inside)


def test_the_dot_of_an_i_stays():
    ink = stroke()
    ink[70:73, 150:153] = True  # 0.4 % of the ink, 27 pixels above
    assert np.array_equal(without_specks(ink), ink)


@pytest.mark.parametrize("scale", [1, 2, 5])
def test_a_finer_scan_keeps_the_same_pieces(scale):
    kept, lost = with_piece(stroke(), 15, 2), with_piece(stroke(), 30, 2)
    for ink, result in ((kept, kept), (lost, stroke())):
        finer, found = (np.kron(mask, np.ones((scale, scale), bool)) for mask in (ink, result))
        assert np.array_equal(without_specks(finer), found)


def by_hand(ink):
    """The rule, one piece and one pixel after the other."""
    _, labels, stats, _ = cv2.connectedComponentsWithStats(ink.astype(np.uint8), connectivity=8)
    areas = {k: stats[k, 4] for k in range(1, len(stats))}
    total = sum(areas.values())
    large = max(min(0.01, max(areas.values()) / total), 0.001)
    stay = {k for k, area in areas.items() if area / total >= large}
    rows, columns = np.nonzero(np.isin(labels, list(stay)))
    near = [(y, x, y, x) for y, x in zip(rows, columns, strict=True)]
    diagonal = np.hypot(np.ptp(rows) + 1, np.ptp(columns) + 1)

    def away(box):
        top, left, below, right = box
        return min(max(top - b, t - below, left - r, c - right) for t, c, b, r in near)

    while True:
        new = []
        for k in areas.keys() - stay:
            x, y, w, h = stats[k, :4]
            at_edge = min(x, y, ink.shape[1] - x - w, ink.shape[0] - y - h) < 3
            if at_edge and areas[k] / total < 0.001:
                continue
            box = (y, x, y + h - 1, x + w - 1)
            if away(box) <= int(areas[k] / total / PER_DISTANCE * diagonal):
                new.append((k, box))
        if not new:
            return np.isin(labels, list(stay))
        stay |= {k for k, _ in new}
        near += [box for _, box in new]


@pytest.mark.parametrize("seed", range(12))
def test_it_is_the_rule_written_out_by_hand(seed):
    rng = np.random.default_rng(seed)
    ink = stroke()
    for _ in range(40):
        side = int(rng.integers(1, 6))
        top, left = rng.integers(0, 195), rng.integers(0, 395)
        ink[top : top + side, left : left + side] = True
    assert np.array_equal(without_specks(ink), by_hand(ink))


@given(st.integers(0, 2**32), st.floats(0.0, 0.7), st.integers(1, 60), st.integers(1, 60))
def test_nothing_is_ever_added(seed, density, height, width):
    ink = np.random.default_rng(seed).random((height, width)) < density
    as_it_was = ink.copy()
    assert not (without_specks(ink) & ~ink).any()
    assert np.array_equal(ink, as_it_was)


def test_a_page_of_noise_has_no_ink_and_does_not_take_long():
    noise = np.random.default_rng(0).random((4000, 4000)) < 0.02
    begun = time.perf_counter()
    assert not without_specks(noise).any()
    assert time.perf_counter() - begun < 10  # a quarter of a second
    with pytest.raises(BlankImage):
        ink_mask(np.where(noise, 0, 255).astype(np.uint8), HOW)


def test_dust_does_not_shrink_a_signature_any_more():
    rng = np.random.default_rng(5)
    grey = synthetic.genuine(synthetic.make_signer(rng), rng)
    page = cv2.copyMakeBorder(grey, 100, 100, 200, 200, cv2.BORDER_CONSTANT, value=250)
    clean = ink_mask(page, HOW)
    side = int(np.sqrt(0.002 * np.count_nonzero(clean)))
    page[5 : 5 + side, 5 : 5 + side] = page[-9 : side - 9, -9 : side - 9] = 30
    assert np.array_equal(ink_mask(page, HOW), clean)
    before = ink_mask(page, Preprocessing(version=1, height=64, width=128))
    assert before[5, 5]
    assert before[-9, -9]


@pytest.mark.skipif(
    not (Path(__file__).parents[3] / "shared" / "data").is_dir(),
    reason="the real signatures of ../shared/data are absent",
)
def test_a_faint_signature_keeps_strokes_that_it_lost_before():
    place = Path(__file__).parents[3] / "shared" / "data" / "cedar" / "full_org"
    grey = cv2.imread(str(place / "original_41_12.png"), cv2.IMREAD_GRAYSCALE)
    before, now = (ink_mask(grey, Preprocessing(version=version)) for version in (1, 2))
    assert np.count_nonzero(now & ~before) > 120  # of 196 that were lost, some of them dust
    assert np.count_nonzero(before & ~now) < 20  # dust
