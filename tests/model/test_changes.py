"""Batches changed as a whole are changed as one image after the other is."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch

from model.augment import Augmentation
from model.changes import changed, draw
from model.disguise import Disguise
from model.preprocess import Preprocessing, from_grey, to_pixels
from model.recipes import PLACES
from model.sampling import Writer, WriterBatch
from model.synthetic import genuine, make_signer

SHAPE = (64, 128)
STILL, PLAIN = Augmentation(), Disguise()


@pytest.fixture(scope="module")
def canvases():
    """Six signatures of each of two signers."""
    rng = np.random.default_rng(5)
    how = Preprocessing(height=SHAPE[0], width=SHAPE[1])
    signers = [make_signer(rng) for _ in range(2)]
    images = [to_pixels(from_grey(genuine(s, rng), how)) for s in signers for _ in range(6)]
    return torch.from_numpy(np.stack(images))


def writers():
    """Two, the first three signatures of each as genuine and the others as forged."""
    rows = [np.arange(0, 6), np.arange(6, 12)]
    return [
        Writer(name=str(n), corpus="a", genuine=r[:3], forged=r[3:]) for n, r in enumerate(rows)
    ]


def batch(rows, numbers, kinds=None, seed=1):
    kinds = [True] * len(rows) if kinds is None else kinds
    return WriterBatch(
        rows=np.array(rows), writers=np.array(numbers), genuine=np.array(kinds), seed=seed
    )


def made(canvases, one, *, augmentation=STILL, disguise=PLAIN):
    of = writers()
    shape = tuple(canvases.shape[1:])
    drawn = draw(one, of, {"a": of}, augmentation=augmentation, disguise=disguise, shape=shape)
    return changed(canvases, drawn)


def as_input(pixels):
    return pixels[:, None].float() / 127.5 - 1


def test_where_nothing_is_asked_for_signatures_stay_as_they_are(canvases):
    found = made(canvases, batch(range(12), [0] * 6 + [1] * 6))
    assert found.shape == (12, 1, *SHAPE)
    assert (found - as_input(canvases)).abs().mean() < 0.06  # fitted into the canvas once more
    assert found.min() >= -1
    assert found.max() <= 1


def test_a_seed_decides_everything(canvases):
    how = {"augmentation": PLACES.augmentation, "disguise": PLACES.disguise}
    once, again, other = (
        made(canvases, batch([0, 1, 6, 7], [0, 0, 1, 1], seed=s), **how) for s in (1, 1, 2)
    )
    assert torch.equal(once, again)
    assert not torch.equal(once, other)


@pytest.mark.parametrize("disguise", [Disguise(bend=1.0), Disguise(window=1.0)])
def test_a_disguise_is_one_for_all_images_of_a_writer(canvases, disguise):
    one, two, away = made(canvases, batch([0, 0, 0], [0, 0, 1]), disguise=disguise)
    assert torch.equal(one, two)
    plain = made(canvases, batch([0], [0]))[0]
    assert (one - plain).abs().mean() > 0.02
    assert not torch.equal(one, away)


def test_a_mirrored_writer_is_one_of_the_three_mirror_images(canvases):
    (plain,) = made(canvases, batch([0], [0]))
    images = [torch.flip(plain, axes) for axes in ((1,), (2,), (1, 2))]
    seen = set()
    for seed in range(12):
        (found,) = made(canvases, batch([0], [0], seed=seed), disguise=Disguise(mirror=1.0))
        seen.add(int(np.argmin([(found - image).abs().mean() for image in images])))
        assert min((found - image).abs().mean() for image in images) < 0.01
    assert seen == {0, 1, 2}


def test_spliced_writers_end_as_others_do_genuine_as_genuine_and_forged_as_forged():
    """Every signature a box as high as says which it is; side by side they keep their ratio."""
    boxes = torch.full((12, *SHAPE), 255, dtype=torch.uint8)
    for row in range(12):
        boxes[row, 28 - 2 * row : 36 + 2 * row, 8:-8] = 0
    kinds = [True, True, False, False]
    spliced = 0
    for seed in range(8):
        one = batch([0, 1, 3, 4], [0] * 4, kinds, seed=seed)
        found = made(boxes, one, disguise=Disguise(splice=1.0))
        for image, row, is_genuine in zip(found[:, 0], one.rows, kinds, strict=True):
            begins, ends = ((image[:, x] < 0).sum().item() for x in (20, 108))
            if begins != ends:
                end = ((8 + 4 * row) * ends / begins - 8) / 4
                assert (
                    min(abs(end - mate) for mate in ((6, 7, 8) if is_genuine else (9, 10, 11))) < 1
                )
                spliced += 1
    assert spliced >= 8


def test_a_cut_writer_fills_the_canvas_with_a_part_of_the_name(canvases):
    strokes = torch.full((12, *SHAPE), 255, dtype=torch.uint8)
    strokes[:, 28:36, 8:120:8] = 0  # fourteen bars
    (found,) = made(strokes, batch([0], [0]), disguise=Disguise(window=1.0))
    bars = (found[0, 32] < 0).int().diff().clamp(min=0).sum()
    assert 5 <= bars <= 12  # 0.4 to 0.8 of them


def test_a_pen_grows_and_shrinks_within_what_is_allowed(canvases):
    plain = (made(canvases, batch([0], [0])) < 0).sum()
    pen = Augmentation(pen=1.0)
    shares = {
        int(p): (image < 0).sum() / plain
        for seed in range(12)
        for p, image in _penned(canvases, batch([0], [0], seed=seed), pen)
    }
    assert sorted(shares) == [-1, 0, 1, 2]
    assert [shares[p] for p in sorted(shares)] == sorted(shares.values())


def _penned(canvases, one, pen):
    of = writers()
    drawn = draw(one, of, {"a": of}, augmentation=pen, disguise=PLAIN, shape=SHAPE)
    return zip(drawn.pen.tolist(), changed(canvases, drawn), strict=True)


def test_what_is_lost_is_paper():
    black = torch.zeros(12, *SHAPE, dtype=torch.uint8)
    (whole,) = made(black, batch([0], [0]))
    (found,) = made(black, batch([0], [0]), augmentation=Augmentation(erase=1.0))
    lost = ((found > 0) & (whole < 0)).float().mean()
    assert 0.05**2 * 0.8 < lost < 0.2**2


def test_images_are_changed_as_far_as_one_after_the_other_is(canvases):
    """Over many draws, the mean image and the share of ink are those of `Augmentation`."""
    for how in (
        replace(PLACES.augmentation, pen=0.0),
        replace(PLACES.augmentation, erase=0.0),
        Augmentation(rotation=20.0, shear=15.0, scale=0.3, shift=0.1),
    ):
        rng = np.random.default_rng(3)
        single = np.stack([how(canvases[0].numpy(), rng) for _ in range(200)])
        whole = made(canvases, batch([0] * 200, [0] * 200), augmentation=how)
        ours, theirs = (1 - whole[:, 0].numpy()) / 2, 1 - single / 255
        assert ours.mean() == pytest.approx(theirs.mean(), rel=0.08)
        middles = [
            cv2.GaussianBlur(x.mean(0).astype(np.float32), (0, 0), 2) for x in (ours, theirs)
        ]
        assert np.corrcoef(*(m.ravel() for m in middles))[0, 1] > 0.98
        spreads = [x.reshape(200, -1).std(0).mean() for x in (ours, theirs)]
        assert spreads[0] == pytest.approx(spreads[1], rel=0.1)
