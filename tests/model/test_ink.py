"""The ink of a page is measured right, at next to no cost to what the network sees."""

import tracemalloc
from pathlib import Path

import cv2
import numpy as np
import pytest

from model import synthetic
from model.errors import BlankImage
from model.ink import Ink, measure_ink
from model.preprocess import Preprocessing, preprocess
from model.questioned import look
from tests.model.test_preprocess import png

HOW = Preprocessing(height=64, width=128)
LENGTH = 500
CEDAR = Path(__file__).parents[3] / "shared" / "data" / "cedar" / "full_org"


def signature(seed=0):
    """A generated signature, (250, 450)."""
    rng = np.random.default_rng(seed)
    return synthetic.genuine(synthetic.make_signer(rng), rng)


def ink_of(grey) -> Ink:
    return look(png(grey), HOW).ink


def band(angle, width, side=800, length=LENGTH):
    """A mask with one straight line of about this width through its middle."""
    turned = np.deg2rad(angle)
    y, x = np.mgrid[:side, :side] - side / 2
    along = x * np.cos(turned) + y * np.sin(turned)
    across = y * np.cos(turned) - x * np.sin(turned)
    return (abs(across) < width / 2) & (abs(along) < length / 2)


@pytest.mark.parametrize("angle", [0, 10, 22.5, 45, 70, 90, 135])
@pytest.mark.parametrize("width", [3, 6, 12])
def test_a_line_measures_its_width_in_any_direction(angle, width):
    line = band(angle, width)
    drawn = np.count_nonzero(line) / LENGTH  # pixels make of 3, aslant, up to 3.5
    assert measure_ink(line).stroke_width == pytest.approx(drawn, rel=0.07)


def test_a_level_line_fills_its_box_which_is_as_long_as_it():
    mask = np.zeros((100, 500), bool)
    mask[40:44, 50:450] = True
    found = measure_ink(mask)
    assert (found.ink_share, found.long_side) == (1.0, 400)
    mask[80:84, 50:450] = True  # four and four of 44 rows
    found = measure_ink(mask.T)
    assert (found.ink_share, found.long_side) == (round(8 / 44, 5), 400)


def test_ink_at_the_border_of_the_page_has_an_edge_there():
    mask = np.zeros((4, 300), bool)
    mask[:] = True
    assert measure_ink(mask).stroke_width == pytest.approx(4, rel=0.1)


@pytest.mark.parametrize("seed", range(5))
def test_twice_the_resolution_doubles_widths_and_lengths_and_keeps_the_share(seed):
    page = signature(seed)
    once = ink_of(page)
    twice = ink_of(cv2.resize(page, None, fx=2, fy=2, interpolation=cv2.INTER_CUBIC))
    assert twice.stroke_width / once.stroke_width == pytest.approx(2, rel=0.1)
    assert twice.long_side / once.long_side == pytest.approx(2, rel=0.02)
    assert twice.ink_share / once.ink_share == pytest.approx(1, rel=0.1)


def test_a_scanner_that_thickens_strokes_widens_them_and_leaves_the_length():
    page = signature()
    thin, thick = ink_of(page), ink_of(cv2.erode(page, np.ones((3, 3), np.uint8)))
    assert thick.stroke_width > 1.3 * thin.stroke_width
    assert thick.ink_share > 1.3 * thin.ink_share
    assert thick.long_side == pytest.approx(thin.long_side, rel=0.02)


def test_a_form_with_a_line_lengthens_the_ink_and_thins_it_out():
    page = np.full((500, 900), 245, np.uint8)
    page[100:350, 200:650] = signature()
    without = ink_of(page)
    page[400:403, 20:880] = 60
    ruled = ink_of(page)
    assert ruled.long_side > 1.5 * without.long_side
    assert ruled.ink_share < 0.8 * without.ink_share


@pytest.mark.parametrize(
    "asked", [{}, {"region": (0, 0, 300, 200)}, {"how": Preprocessing(name="seed_grey")}]
)
def test_measuring_changes_no_bit_of_what_the_network_sees(asked):
    asked = {"how": HOW} | asked
    for seed in range(20):
        data = png(signature(seed))
        assert look(data, **asked).canvas.tobytes() == preprocess(data, **asked).tobytes()


@pytest.mark.skipif(not CEDAR.is_dir(), reason="the real signatures of ../shared/data are absent")
def test_on_real_signatures_it_changes_no_bit_either_and_measures_pens():
    widths = []
    for path in sorted(CEDAR.iterdir())[::40]:
        data = path.read_bytes()
        found = look(data, HOW)
        assert found.canvas.tobytes() == preprocess(data, HOW).tobytes()
        assert found.ink.plausible
        widths.append(found.ink.stroke_width)
    assert 3 < np.median(widths) < 5  # pixels at 300 dpi, which is a third of a millimetre


def test_where_no_ink_is_looked_for_none_is_measured():
    grey = Preprocessing(name="seed_grey", height=96, width=96)
    assert look(png(signature()), grey).ink is None


def test_a_blank_page_is_refused_as_ever():
    with pytest.raises(BlankImage):
        look(png(synthetic.blank(np.random.default_rng(0))), HOW)


def test_a_page_of_noise_is_measured_in_little_memory():
    """Its edges are millions, and to follow each would take seconds and gigabytes."""
    noise = np.random.default_rng(0).random((2000, 2000)) < 0.5
    tracemalloc.start()
    found = measure_ink(noise)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found.stroke_width == pytest.approx(1.0, abs=0.5)
    assert peak < 3 * noise.size  # bytes


@pytest.mark.parametrize(
    "wrong", [(0, 0.1, 400), (float("nan"), 0.1, 400), (401, 0.1, 400), (4, 1.1, 400), (4, 0, 400)]
)
def test_numbers_that_no_mask_can_measure_are_told(wrong):
    width, share, side = wrong
    assert not Ink(stroke_width=width, ink_share=share, long_side=side).plausible
