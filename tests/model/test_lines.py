"""Lines of a form are taken off, whatever crosses them; what a hand drew stays."""

import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model import synthetic
from model.lines import without_lines
from model.preprocess import Preprocessing, ink_mask, preprocess

DATA = Path(__file__).parents[3] / "shared" / "data"
HEIGHT, WIDTH = 250, 450
HOW = Preprocessing(height=64, width=128)


def hand(seed=0):
    """The ink of a generated signature, (250, 450), which touches no edge."""
    rng = np.random.default_rng(seed)
    return ink_mask(synthetic.genuine(synthetic.make_signer(rng), rng), HOW)


def ruled(ink, start, end, width=3):
    """The same with a straight line between two places (x, y), which may lie off the page."""
    drawn = ink.astype(np.uint8)
    cv2.line(drawn, start, end, 1, width)
    return drawn > 0


LINES = {
    "a box's right side": ((430, -5), (431, 255)),
    "its left side": ((12, -5), (10, 255)),
    "a rule below": ((-5, 240), (455, 238)),
    "a rule above": ((-5, 8), (455, 8)),
    "askew": ((435, -5), (425, 255)),
    "along the right edge": ((449, -5), (449, 255)),
    "off by the right edge": ((445, -5), (453, 150)),
    "off by the left edge": ((3, 255), (-4, 90)),
    "off by the upper edge": ((-5, 2), (300, -4)),
}


@pytest.mark.parametrize("ends", LINES.values(), ids=LINES)
def test_a_line_beside_a_signature_leaves_nothing_behind(ends):
    ink = hand()
    assert np.array_equal(without_lines(ruled(ink, *ends)), ink)


@pytest.mark.parametrize("width", [1, 2, 4, 7])
def test_two_lines_of_any_width_are_taken_off(width):
    ink = hand(1)
    both = ruled(ruled(ink, (-5, 243), (455, 243), width), (440, -5), (440, 255), width)
    assert np.array_equal(without_lines(both), ink)


def pieces(ink):
    """How many there are, but for crumbs."""
    return int(
        np.count_nonzero(cv2.connectedComponentsWithStats(ink.view(np.uint8))[2][1:, 4] > 10)
    )


def test_strokes_that_cross_a_line_stay_whole():
    wrong, before, apart, cut = [], [], [], []
    for seed in range(20):
        ink = hand(seed)
        middle = int(np.average(np.arange(HEIGHT), weights=ink.sum(1)))
        line = ruled(np.zeros_like(ink), (-5, middle), (455, middle + 2))
        found = without_lines(ink | line)
        wrong.append(np.count_nonzero(found ^ ink))
        before.append(np.count_nonzero((ink | line) ^ ink))
        apart.append(abs(pieces(found) - pieces(ink)))
        cut.append(abs(pieces(ink & ~line) - pieces(ink)))
    assert sum(wrong) < sum(before) / 4
    assert sum(apart) < sum(cut) / 4


def test_the_network_is_shown_the_same_with_a_box_around_the_signature():
    grey = synthetic.genuine(
        synthetic.make_signer(np.random.default_rng(4)), np.random.default_rng(4)
    )
    boxed = grey.copy()
    for start, end in (((440, 0), (440, 249)), ((0, 243), (449, 243))):
        cv2.line(boxed, start, end, 40, 2)
    before = Preprocessing(version=1, height=64, width=128)
    apart = {}
    for how in (HOW, before):
        shown = [preprocess(cv2.imencode(".png", page)[1].tobytes(), how) for page in (grey, boxed)]
        apart[how.version] = np.abs(shown[0] - shown[1]).mean()
    assert apart[2] < 0.01 < 0.2 < apart[1]  # with the line, Otsu's threshold is another


@pytest.mark.parametrize("seed", range(30))
def test_signatures_stay_as_they_are_even_where_they_are_cut_close(seed):
    ink = hand(seed)
    assert np.array_equal(without_lines(ink), ink)
    rows, columns = np.flatnonzero(ink.any(1)), np.flatnonzero(ink.any(0))
    close = ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    assert np.array_equal(without_lines(close), close)


def wavy(ink, sway):
    """The same with a stroke from the upper to the lower edge that sways by so many pixels."""
    drawn = ink.astype(np.uint8)
    rows = np.arange(HEIGHT)
    x = np.round(430 + sway * np.sin(rows / 40)).astype(int)
    cv2.polylines(drawn, [np.stack([x, rows], 1).astype(np.int32)], False, 1, 3)
    return drawn > 0


@pytest.mark.parametrize(
    "ink",
    [
        ruled(hand(), (430, 10), (430, 240)),
        ruled(hand(), (430, -5), (430, 200)),
        ruled(hand(), (400, -5), (440, 255)),
        ruled(hand(), (-5, 240), (300, 240)),
        ruled(hand(), (430, -5), (430, 255), width=40),
        wavy(hand(), 5),
        ruled(hand(), (449, 60), (449, 160)),
    ],
    ids=[
        "touching no edge",
        "touching one",
        "too steep",
        "ending on the page",
        "as wide as a beam",
        "not straight",
        "along an edge, from nowhere",
    ],
)
def test_what_is_no_line_of_a_form_stays(ink):
    assert np.array_equal(without_lines(ink), ink)


def test_a_page_of_nothing_but_lines_is_blank():
    ink = ruled(ruled(np.zeros((HEIGHT, WIDTH), bool), (-5, 60), (455, 60)), (80, -5), (80, 255))
    assert not without_lines(ink).any()


@given(st.integers(0, 2**32), st.floats(0.0, 0.7), st.integers(1, 60), st.integers(1, 60))
def test_nothing_is_ever_added(seed, density, height, width):
    ink = np.random.default_rng(seed).random((height, width)) < density
    as_it_was = ink.copy()
    assert not (without_lines(ink) & ~ink).any()
    assert np.array_equal(ink, as_it_was)


def test_noise_and_forms_full_of_lines_do_not_take_long():
    noise = np.random.default_rng(0).random((3000, 3000)) < 0.3
    grid = np.zeros((3000, 3000), bool)
    grid[::50] = grid[:, ::50] = True
    begun = time.perf_counter()
    without_lines(noise)
    without_lines(grid)
    assert time.perf_counter() - begun < 10  # a quarter of a second


@pytest.mark.skipif(not DATA.is_dir(), reason="the real signatures of ../shared/data are absent")
@pytest.mark.parametrize(("corpus", "scans"), [("cedar", 50), ("bhsig_bengali", 0)])
def test_so_many_real_scans_have_lines_as_people_see_there(corpus, scans):
    changed = []
    for path in sorted((DATA / corpus).glob("full_*/*.png")):
        ink = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE) == 0
        changed.append(not np.array_equal(without_lines(ink), ink))
    assert sum(changed) == scans
