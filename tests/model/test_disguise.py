"""A disguise changes all images of a writer alike, and leaves paper and size as they are."""

import cv2
import numpy as np
import pytest

from model.disguise import Disguise, beside

SHAPE = (64, 128)


def canvas(left=20, right=108):
    pixels = np.full(SHAPE, 255, np.uint8)
    cv2.line(pixels, (left, 50), (right, 14), 0, 3)
    return pixels


@pytest.mark.parametrize("seed", range(12))
def test_one_draw_changes_every_image_in_the_same_way(seed):
    change = Disguise(mirror=0.5, bend=0.5, window=0.5).draw(SHAPE, np.random.default_rng(seed))
    first, again = change(canvas()), change(canvas())
    assert np.array_equal(first, again)
    assert first.shape == SHAPE
    assert first.dtype == np.uint8
    assert first.min() < 128
    assert (first == 255).mean() > 0.5


def test_without_a_disguise_nothing_changes():
    assert np.array_equal(Disguise().draw(SHAPE, np.random.default_rng(0))(canvas()), canvas())


def test_a_mirrored_writer_is_one_of_the_three_mirror_images():
    mirrored = {
        Disguise(mirror=1.0).draw(SHAPE, np.random.default_rng(seed))(canvas()).tobytes()
        for seed in range(20)
    }
    assert mirrored == {cv2.flip(canvas(), axis).tobytes() for axis in (-1, 0, 1)}


def test_a_window_keeps_a_part_of_the_ink_and_fills_the_canvas_with_it():
    pixels = canvas()
    pixels[40:60, 20:24] = 0  # a mark at the left end
    kept = [
        Disguise(window=1.0).draw(SHAPE, np.random.default_rng(seed))(pixels) for seed in range(20)
    ]
    columns = [np.flatnonzero((image < 160).any(axis=0)) for image in kept]
    assert all(found[0] >= 3 for found in columns)  # the margin of the canvas stays free
    assert len({image.tobytes() for image in kept}) > 10


def test_an_empty_canvas_stays_empty():
    paper = np.full(SHAPE, 255, np.uint8)
    change = Disguise(mirror=1, bend=1, window=1).draw(SHAPE, np.random.default_rng(0))
    assert np.array_equal(change(paper), paper)


def test_two_signatures_beside_each_other_fill_one_canvas():
    rising = canvas()
    falling = cv2.flip(canvas(), 1)
    both = beside(rising, falling, 0.5)
    assert both.shape == SHAPE
    assert both.dtype == np.uint8
    columns = np.flatnonzero((both < 160).any(axis=0))
    assert columns[-1] - columns[0] > 50
    # The first half rises to the middle, the second falls from it.
    height = [np.flatnonzero(both[:, column] < 160).mean() for column in columns]
    middle = len(height) // 2
    assert np.polyfit(range(middle), height[:middle], 1)[0] < 0
    assert np.polyfit(range(len(height) - middle), height[middle:], 1)[0] > 0


def test_beside_an_empty_canvas_a_signature_is_still_there():
    paper = np.full(SHAPE, 255, np.uint8)
    assert (beside(canvas(), paper, 0.5) < 160).any()
    assert np.array_equal(beside(paper, paper, 0.5), paper)
