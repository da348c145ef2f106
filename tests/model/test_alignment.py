"""The frame of a signature hangs on where its ink lies, not on where its outermost strokes end."""

import pytest
import torch

from model.alignment import SPREADS, VIEW, aligned, detailed


def drawn(top, left, height, width, shape=(64, 128)):
    """White paper with one bar of ink, (1, 1, H, W)."""
    image = torch.ones(1, 1, *shape)
    image[..., top : top + height, left : left + width] = -1.0
    return image


def moments(image):
    """Mean and standard deviation of the ink by x and by y, in pixels."""
    ink = (1 - image[0, 0]) / 2
    found = []
    for profile in (ink.sum(0), ink.sum(1)):
        places = torch.arange(len(profile)) + 0.5
        share = profile / profile.sum()
        mean = (share * places).sum()
        found += [mean.item(), (share * (places - mean) ** 2).sum().sqrt().item()]
    return found


@pytest.mark.parametrize("bar", [(8, 10, 20, 60), (30, 70, 12, 40), (2, 3, 50, 30)])
def test_the_inks_mean_comes_to_the_middle_and_its_spread_to_a_fifth(bar):
    frame, _ = aligned(drawn(*bar))
    height, width = VIEW
    assert frame.shape == (1, 1, height, width)
    expected = [width / 2, width / SPREADS, height / 2, height / SPREADS]
    assert moments(frame) == pytest.approx(expected, rel=0.05)


def test_a_moved_and_stretched_signature_has_the_same_frame():
    frame, _ = aligned(drawn(10, 20, 16, 40))
    other, _ = aligned(drawn(24, 30, 32, 80))
    assert (frame - other).abs().mean() < 0.03


def test_the_aspect_is_kept_where_it_is_asked_for():
    frame, _ = aligned(drawn(20, 30, 10, 60), keep_aspect=True)
    _, wide, _, high = moments(frame)
    assert wide / high == pytest.approx(6.0, rel=0.1)
    assert wide == pytest.approx(VIEW[1] / SPREADS, rel=0.05)


def test_pixels_say_where_on_the_canvas_they_were():
    image = drawn(20, 30, 10, 60)
    _, places = aligned(image)
    assert places.shape == (1, 2, *VIEW)
    middle = places[0, :, VIEW[0] // 2 - 1 : VIEW[0] // 2 + 1, VIEW[1] // 2 - 1 : VIEW[1] // 2 + 1]
    assert middle.mean((1, 2)).tolist() == pytest.approx([60 / 64 - 1, 25 / 32 - 1], abs=1e-4)


def test_blank_paper_stays_blank_and_a_speck_does_not_blow_up():
    for image in (torch.ones(1, 1, 64, 128), drawn(5, 5, 1, 1)):
        frame, places = aligned(image)
        assert torch.isfinite(frame).all()
        assert torch.isfinite(places).all()
    assert torch.equal(aligned(torch.ones(2, 1, 32, 64))[0], torch.ones(2, 1, *VIEW))


def test_detail_is_the_mean_and_the_differences_of_every_two_by_two_pixels():
    frame = torch.rand(2, 1, 6, 8, generator=torch.Generator().manual_seed(1))
    found = detailed(frame)
    assert found.shape == (2, 3, 3, 4)
    for row in range(3):
        for column in range(4):
            a, b, c, d = (
                frame[:, 0, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2].flatten(1).T
            )
            told = torch.stack([(a + b + c + d) / 4, (a + c - b - d) / 2, (a + b - c - d) / 2], 1)
            torch.testing.assert_close(found[:, :, row, column], told)


def test_a_frame_may_be_twice_as_fine():
    image = drawn(20, 30, 10, 60)
    coarse, _ = aligned(image)
    fine, places = aligned(image, (2 * VIEW[0], 2 * VIEW[1]))
    assert fine.shape == (1, 1, 2 * VIEW[0], 2 * VIEW[1])
    assert places.shape == (1, 2, 2 * VIEW[0], 2 * VIEW[1])
    assert (detailed(fine)[:, :1] - coarse).abs().mean() < 0.02
