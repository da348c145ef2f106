"""Pages that are no use as specimens are told from those that are."""

import re
from pathlib import Path

import cv2
import numpy as np
import pytest

from model import synthetic
from model.errors import BlankImage, ModelError
from model.preprocess import Preprocessing, decode_grey, ink_mask, preprocess
from model.specimen import Weight, examine, examine_grey, measure, remarks

HOW = Preprocessing(height=64, width=128)
DATA = Path(__file__).parents[3] / "shared" / "data"
CORPORA = ("cedar", "cedar_raw", "bhsig_bengali", "gpds_synthetic", "chisig")


def page(seed=0):
    """A generated signature, (250, 450)."""
    rng = np.random.default_rng(seed)
    return synthetic.genuine(synthetic.make_signer(rng), rng)


def cropped(grey):
    """The page cut to its ink, with a little paper around."""
    ink = ink_mask(grey, HOW)
    rows, columns = np.flatnonzero(ink.any(axis=1)), np.flatnonzero(ink.any(axis=0))
    box = grey[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return cv2.copyMakeBorder(box, 10, 10, 10, 10, cv2.BORDER_CONSTANT, value=245)


def found(grey):
    """What is said of a page: weights by code."""
    return {remark.code: remark.weight for remark in remarks(examine_grey(grey, HOW).measures)}


def drawn(height=200, width=400):
    return np.full((height, width), 255, np.uint8)


def test_of_100_generated_signatures_none_is_refused_and_few_are_doubted():
    weights = [found(page(seed)) for seed in range(100)]
    assert not any(Weight.REFUSAL in said.values() for said in weights)
    assert sum(bool(said) for said in weights) <= 3


def test_the_canvas_is_the_one_that_a_questioned_signature_gets():
    data = cv2.imencode(".png", page())[1].tobytes()
    specimen = examine(data, HOW)
    np.testing.assert_array_equal(specimen.canvas, preprocess(data, HOW))
    grey = Preprocessing(name="seed_grey", height=96, width=96)
    np.testing.assert_array_equal(examine(data, grey).canvas, preprocess(data, grey))


def test_a_blank_page_raises_what_preprocessing_raises():
    with pytest.raises(BlankImage):
        examine_grey(synthetic.blank(np.random.default_rng(0)), HOW)


def test_a_single_line_is_too_little_ink():
    line = drawn()
    cv2.line(line, (60, 120), (340, 80), 0, 4)
    assert found(line)["little_ink"] is Weight.REFUSAL
    cv2.line(line, (60, 120), (150, 80), 0, 4)
    assert found(line)["little_ink"] is Weight.WARNING


@pytest.mark.parametrize("width", [2, 4, 9])
def test_a_straight_line_measures_its_own_length_whatever_its_width(width):
    line = drawn()
    cv2.line(line, (40, 160), (360, 40), 0, width)
    assert measure(line == 0).strokes == pytest.approx(1.0, abs=0.1)


def test_strokes_that_run_into_a_border_are_counted_on_that_border():
    grid = drawn() == 0
    for column in (50, 90, 130, 170):
        grid[100:, column : column + 3] = True
    grid[150:154, 40:200] = True
    measures = measure(grid)
    assert (measures.crossings, measures.crossed) == (4, 1.0)
    turned = measure(np.rot90(grid))
    assert (turned.crossings, turned.crossed) == (4, 1.0)


def test_most_signatures_cut_through_the_middle_are_noticed():
    noticed = 0
    for seed in range(40):
        whole = cropped(page(seed))
        noticed += "cut_off" in found(whole[: whole.shape[0] * 6 // 10])
    assert noticed >= 30


def test_a_signature_that_touches_the_border_with_one_stroke_is_not_cut_off():
    for seed in range(20):
        tight = cropped(page(seed))[10:-10, 10:-10]
        assert found(tight).get("cut_off") is not Weight.REFUSAL


def test_a_signature_of_few_pixels_has_too_low_a_resolution():
    whole = cropped(page())
    scale = 130 / max(whole.shape)
    small = cv2.resize(whole, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    assert found(small)["low_resolution"] is Weight.WARNING
    tiny = cv2.resize(whole, None, fx=scale / 2, fy=scale / 2, interpolation=cv2.INTER_AREA)
    assert found(tiny)["low_resolution"] is Weight.REFUSAL


def test_two_signatures_one_above_the_other_are_several():
    one, other = cropped(page(1)), cropped(page(1))
    gap = np.full((one.shape[0] // 3, one.shape[1]), 245, np.uint8)
    assert found(np.vstack([one, gap, other]))["several_signatures"] is Weight.WARNING
    assert found(np.vstack([one, gap, gap, other]))["several_signatures"] is Weight.REFUSAL


def test_two_signatures_far_beside_each_other_are_several():
    one = cropped(page(1))
    gap = np.full((one.shape[0], 3 * one.shape[0]), 245, np.uint8)
    assert found(np.hstack([one, gap, one]))["several_signatures"] is Weight.REFUSAL


def test_every_remark_is_a_sentence_without_an_end():
    line = drawn()
    cv2.line(line, (10, 10), (60, 20), 0, 3)
    for remark in remarks(examine_grey(line, HOW).measures):
        assert re.fullmatch(r"[a-z].*[^.]", remark.sentence)


@pytest.mark.skipif(not DATA.is_dir(), reason="the real signatures of ../shared/data are absent")
@pytest.mark.parametrize("corpus", CORPORA)
def test_hardly_any_genuine_signature_of_a_real_corpus_is_refused(corpus):
    files = sorted((DATA / corpus / "full_org").iterdir())
    refused = warned = 0
    chosen = files[:: max(len(files) // 200, 1)]
    for path in chosen:
        try:
            weights = found(decode_grey(path.read_bytes())).values()
        except ModelError:
            weights = [Weight.REFUSAL]
        refused += Weight.REFUSAL in weights
        warned += bool(weights)
    assert refused <= 0.005 * len(chosen)
    assert warned <= 0.08 * len(chosen)
