"""Copies, strangers among a signer's own specimens, and somebody else's hand."""

import cv2
import numpy as np
import pytest

from model import synthetic
from model.likeness import COPY, close, copied, far, near, overlap
from model.preprocess import Preprocessing, from_grey
from model.scoring import Scoring
from model.specimen import Weight

HOW = Preprocessing(height=64, width=128)
PLAIN = Scoring(thresholds={1: 0.5})
BANDED = Scoring(thresholds={1: 0.5}, accept={"1%": {1: 0.3}}, reject={1: 0.8})


def at(angle):
    """A unit vector; two of them lie 2 sin(half the angle) apart."""
    return np.array([np.cos(angle), np.sin(angle)], np.float32)


def pages(count, seed=3):
    rng = np.random.default_rng(seed)
    signer = synthetic.make_signer(rng)
    return [synthetic.genuine(signer, rng) for _ in range(count)]


def saved_again(grey):
    """Smaller, paler, noisier and compressed."""
    noise = np.random.default_rng(0).normal(0, 4, grey.shape)
    pale = np.clip(grey * 0.85 + 20 + noise, 0, 255).astype(np.uint8)
    small = cv2.resize(pale, None, fx=0.9, fy=0.9, interpolation=cv2.INTER_AREA)
    return cv2.imdecode(cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, 60])[1], 0)


def test_the_overlap_is_that_of_the_ink():
    first, second = np.ones((2, 1, 4, 4), np.float32)
    first[0, 0, :3] = second[0, 0, 1:] = -1
    assert overlap(first, second) == pytest.approx(2 / 4)
    assert overlap(first, first) == pytest.approx(1)


def test_a_scan_saved_again_is_a_copy_and_another_signature_is_not():
    one, *others = (from_grey(grey, HOW) for grey in pages(8))
    again = from_grey(saved_again(pages(1)[0]), HOW)
    remark = copied(overlap(one, again), "1.png")
    assert remark is not None
    assert (remark.code, remark.weight) == ("near_duplicate", Weight.REFUSAL)
    assert "the same signature as 1.png" in remark.sentence
    assert all(copied(overlap(one, other), "1.png") is None for other in others)


def test_between_copy_and_not_there_is_a_doubt():
    remark = copied(0.5, "1.png")
    assert remark is not None
    assert remark.weight is Weight.WARNING
    assert "may be" in remark.sentence


def test_close_is_a_share_of_what_is_usual():
    assert close(0.24, PLAIN)
    assert not close(0.26, PLAIN)
    known = Scoring(thresholds={1: -0.5}, population_spread=0.7)
    assert close(0.34, known)
    assert not close(0.36, known)


def test_two_scans_with_rough_edges_share_their_ink_on_a_fine_canvas_too():
    rng = np.random.default_rng(8)
    scans = []
    for _ in range(2):
        scan = np.ones((1, 256, 512), np.float32)
        for column, top in enumerate(100 + rng.integers(-3, 4, 400), start=40):
            scan[0, top : top + 8, column] = -1
        scans.append(scan)
    ink = [scan[0] < 0 for scan in scans]
    pixel_by_pixel = (ink[0] & ink[1]).sum() / (ink[0] | ink[1]).sum()
    assert pixel_by_pixel < COPY < overlap(*scans)


def test_what_the_rule_would_reject_is_far_and_only_warned_of():
    fellows = np.stack([at(0), at(0.1)])
    assert far(at(0.9), fellows, BANDED) is None
    remark = far(at(1.2), fellows, BANDED)
    assert remark is not None
    assert (remark.code, remark.weight) == ("far_from_own", Weight.WARNING)


def test_the_first_specimen_has_nobody_to_be_far_from():
    assert far(at(0), np.empty((0, 2), np.float32), BANDED) is None


def test_what_the_rule_would_accept_as_another_signers_is_near():
    theirs = np.stack([at(0), at(0.1)])
    assert near(at(0.5), theirs, "bo", BANDED, is_far=lambda: False) is None
    remark = near(at(0.3), theirs, "bo", BANDED, is_far=lambda: False)
    assert remark is not None
    assert (remark.code, remark.weight) == ("near_another", Weight.WARNING)
    assert "bo" in remark.sentence


def test_far_from_the_own_and_near_anothers_is_refused():
    remark = near(at(0.3), at(0)[None], "bo", BANDED, is_far=lambda: True)
    assert remark is not None
    assert remark.weight is Weight.REFUSAL


def test_a_checkpoint_without_operating_points_says_nothing_of_other_signers():
    assert near(at(0), at(0)[None], "bo", PLAIN, is_far=lambda: True) is None
