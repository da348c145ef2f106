"""Made-up signatures: the same for a seed, near for one hand, and no cue but the strokes."""

import functools
import itertools
import re

import cv2
import numpy as np
import pytest

from model import metrics, synthetic
from model.errors import DatasetError, FileNotWritten

SIGNERS, EACH = 12, 5


def hand(seed):
    return synthetic.make_signer(np.random.default_rng([5, seed]))


@functools.cache
def population():
    """Genuine and imitated images of a few signers, (SIGNERS, EACH, H, W) each."""
    signers = [hand(s) for s in range(SIGNERS)]

    def draw(make, kind):
        return np.array(
            [
                [make(signer, np.random.default_rng([9, s, kind, n])) for n in range(EACH)]
                for s, signer in enumerate(signers)
            ]
        )

    return draw(synthetic.genuine, 1), draw(synthetic.imitation, 2)


@functools.cache
def crowd():
    """One genuine and one imitated image of many signers: a pen goes with a hand."""
    signers = [hand(100 + s) for s in range(200)]
    ours = [synthetic.genuine(x, np.random.default_rng([1, s])) for s, x in enumerate(signers)]
    theirs = [synthetic.imitation(x, np.random.default_rng([2, s])) for s, x in enumerate(signers)]
    return ours, theirs


def strokes(image):
    """A small blurred picture of the ink, cropped to it, of zero mean and unit length."""
    ink = (image < np.median(image) - 40).astype(np.uint8) * 255
    x, y, w, h = cv2.boundingRect(ink)
    small = cv2.resize(ink[y : y + h, x : x + w], (64, 32), interpolation=cv2.INTER_AREA)
    smooth = cv2.GaussianBlur(small.astype(np.float64), (0, 0), 1.5).ravel()
    smooth -= smooth.mean()
    return smooth / np.linalg.norm(smooth)


def all_strokes(images):
    return np.array([[strokes(image) for image in row] for row in images])


def distances():
    """Of pairs genuine-genuine, genuine-imitation of one signer, and of two signers."""
    ours, theirs = (all_strokes(images) for images in population())
    pairs = list(itertools.combinations(range(EACH), 2))
    same = [1 - a[i] @ a[j] for a in ours for i, j in pairs]
    skilled = [1 - a[i] @ b[j] for a, b in zip(ours, theirs, strict=True) for i, j in pairs]
    random = [1 - a[0] @ b[0] for a, b in itertools.combinations(ours, 2)]
    return same, skilled, random


def paper(image):
    """Statistics of what is far from any ink: grey, noise, texture at two scales, gradient."""
    ink = (image < np.median(image) - 25).astype(np.uint8)
    away = cv2.dilate(ink, np.ones((9, 9), np.uint8)) == 0
    values = image.astype(np.float64)
    fine = np.abs(np.diff(values, axis=1))[away[:, 1:]].mean()
    coarse = cv2.blur(values, (9, 9))[away].std()
    return [np.median(values[away]), values[away].std(), fine, coarse, values[:, :20].mean()]


def pen(image):
    """Darkness of the ink, in the middle of the strokes and on the whole."""
    levels = np.sort(image.ravel())
    return [levels[50], levels[300], levels[1000]]


def test_an_image_is_light_paper_with_dark_ink_of_the_promised_size():
    for image in itertools.chain(*population()[0], *population()[1]):
        assert image.shape == (synthetic.HEIGHT, synthetic.WIDTH)
        assert image.dtype == np.uint8
        assert np.median(image) > 215
        assert 0.008 < (image < 170).mean() < 0.15


def test_the_ink_keeps_off_the_edge_of_the_page():
    for image in itertools.chain(*population()[0], *population()[1]):
        inner = image[5:-5, 5:-5]
        assert (image < 170).sum() == (inner < 170).sum()


@pytest.mark.parametrize("make", [synthetic.genuine, synthetic.imitation])
def test_the_same_generator_gives_the_same_image_and_another_one_another(make):
    one, again, other = (make(hand(3), np.random.default_rng(seed)) for seed in (7, 7, 8))
    assert np.array_equal(one, again)
    assert not np.array_equal(one, other)


def test_the_same_generator_gives_the_same_signer():
    one, again, other = hand(1), hand(1), hand(2)
    assert np.array_equal(one.strokes.targets, again.strokes.targets)
    assert one.pen == again.pen
    assert one.strokes.targets.shape != other.strokes.targets.shape or one.pen != other.pen


def test_no_global_randomness_is_drawn():
    before = np.random.get_state()[1].copy()
    synthetic.imitation(hand(4), np.random.default_rng(1))
    assert np.array_equal(before, np.random.get_state()[1])


def test_different_signers_differ_more_than_the_duplicates_of_one():
    same, _, random = distances()
    assert metrics.roc_auc(same, random) > 0.93


def test_an_imitation_lies_between_a_duplicate_and_a_stranger():
    same, skilled, random = distances()
    assert np.mean(same) + 0.03 < np.mean(skilled) < np.mean(random) - 0.1
    assert metrics.roc_auc(same, skilled) > 0.6  # imitations can be told
    assert metrics.roc_auc(skilled, random) > 0.8  # and are near misses, not scribbles


def test_two_signatures_of_one_hand_are_never_the_same_pixels():
    ours = all_strokes(population()[0])
    for row in ours:
        assert all(a @ b < 0.995 for a, b in itertools.combinations(row, 2))


@pytest.mark.parametrize("statistics", [paper, pen])
def test_paper_scan_and_pen_do_not_tell_an_imitation(statistics):
    """The trap of CEDAR: there the median grey alone separates the classes with an AUC of 1."""
    ours, theirs = crowd()
    for a, b in zip(
        np.transpose([statistics(image) for image in ours]),
        np.transpose([statistics(image) for image in theirs]),
        strict=True,
    ):
        assert 0.4 < metrics.roc_auc(a, b) < 0.6


def test_a_blank_page_has_paper_and_no_ink():
    image = synthetic.blank(np.random.default_rng(2))
    assert image.shape == (synthetic.HEIGHT, synthetic.WIDTH)
    assert image.min() > 190
    assert image.std() > 0.5


def test_a_lone_stroke_runs_from_target_to_target_with_a_log_normal_speed():
    plan = synthetic.Strokes(
        targets=np.array([[50.0, 80.0], [150.0, 80.0]]),
        down=np.array([True, False]),
        turn=np.array([0.0, 0.8]),
        mu=np.array([-2.0, -2.0]),
        sigma=np.array([0.25, 0.25]),
        delay=np.ones(2),
    )
    (path,) = synthetic._write(plan, np.random.default_rng(0))
    assert path[0] == pytest.approx([50, 80], abs=0.5)
    assert path[-1] == pytest.approx([150, 80], abs=0.5)
    assert path[:, 1].max() == pytest.approx(80 + 50 * np.tan(0.8 / 4), abs=0.1)  # left: below
    speed = np.hypot(*np.diff(path, axis=0).T)
    peak = int(speed.argmax())
    assert peak < len(speed) / 2  # fast rise, slow decay
    assert (np.diff(speed[:peak]) > 0).all()
    assert (np.diff(speed[peak:]) < 0).all()


def test_a_dataset_has_the_cedar_layout(tmp_path):
    seen = []
    synthetic.write_dataset(
        tmp_path / "new" / "set", signers=2, genuine=3, forgeries=1, seed=4,
        progress=lambda done, total: seen.append((done, total)),
    )  # fmt: skip
    files = sorted(p.relative_to(tmp_path / "new/set").as_posix() for p in tmp_path.rglob("*.*"))
    assert files == [
        "full_forg/forgeries_1_1.png", "full_forg/forgeries_2_1.png",
        *(f"full_org/original_{s}_{n}.png" for s in (1, 2) for n in (1, 2, 3)),
    ]  # fmt: skip
    assert seen == [(n, 8) for n in range(1, 9)]


def test_an_image_of_a_dataset_depends_on_its_seed_and_numbers_only(tmp_path):
    for name, counts, seed in (("a", (2, 2, 1), 4), ("b", (1, 3, 2), 4), ("c", (1, 1, 1), 5)):
        signers, genuine, forgeries = counts
        synthetic.write_dataset(
            tmp_path / name, signers=signers, genuine=genuine, forgeries=forgeries, seed=seed
        )
    for file in ("full_org/original_1_1.png", "full_org/original_1_2.png"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()
    first = "full_org/original_1_1.png"
    assert (tmp_path / "a" / first).read_bytes() != (tmp_path / "c" / first).read_bytes()


def test_a_written_image_reads_back_as_a_signature(tmp_path):
    synthetic.write_dataset(tmp_path, signers=1, genuine=1, forgeries=0, seed=1)
    image = cv2.imread(str(tmp_path / "full_org" / "original_1_1.png"), cv2.IMREAD_UNCHANGED)
    expected = synthetic.genuine(
        synthetic.make_signer(np.random.default_rng([1, 1])), np.random.default_rng([1, 1, 1, 1])
    )
    assert np.array_equal(image, expected)


def test_a_write_that_fails_leaves_no_file_behind(tmp_path, monkeypatch):
    def full(source, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("model.files.Path.replace", full)
    with pytest.raises(FileNotWritten, match=r"original_1_1.png cannot be written: No space"):
        synthetic.write_dataset(tmp_path, signers=1, genuine=1, forgeries=0, seed=1)
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == []


def test_a_folder_that_is_a_file_is_refused_in_a_sentence(tmp_path):
    (tmp_path / "taken").write_text("")
    with pytest.raises(FileNotWritten, match=re.escape(str(tmp_path / "taken"))):
        synthetic.write_dataset(tmp_path / "taken", signers=1, genuine=1, forgeries=0, seed=1)


def test_a_negative_count_is_refused(tmp_path):
    with pytest.raises(DatasetError, match="negative"):
        synthetic.write_dataset(tmp_path, signers=1, genuine=-1, forgeries=0, seed=1)


def test_every_letter_ends_where_the_next_can_begin():
    for name, arcs in synthetic.LETTERS.items():
        x, y, _ = arcs[-1]
        assert x == max(a for a, _, _ in arcs), name
        assert 0 <= y <= 1, name
