"""The descriptor against loops over pixels, and what a signature's copies have in common."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional

from model.descriptor import BINS, CELL, _smooth, orientation_histograms


def looped(smooth):
    """Votes of one smoothed image (H, W), pooled and normalised cell by cell."""
    height, width = smooth.shape
    cells = np.zeros((height // CELL, width // CELL, BINS))
    weights = {
        (cell, side): [
            math.exp(-0.5 * ((p - (CELL // 2 + CELL * cell)) / (CELL / 2)) ** 2)
            for p in range(side)
        ]
        for side in (height, width)
        for cell in range(side // CELL)
    }
    for y in range(height):
        for x in range(width):
            dx = smooth[y, x + 1] - smooth[y, x - 1] if 0 < x < width - 1 else 0.0
            dy = smooth[y + 1, x] - smooth[y - 1, x] if 0 < y < height - 1 else 0.0
            position = (math.atan2(dy, dx) / math.pi) % 1.0 * BINS
            below = math.floor(position) % BINS
            share = position - math.floor(position)
            for row in range(height // CELL):
                for column in range(width // CELL):
                    w = weights[row, height][y] / sum(weights[row, height])
                    w *= weights[column, width][x] / sum(weights[column, width])
                    vote = w * math.hypot(dx, dy)
                    cells[row, column, below] += vote * (1 - share)
                    cells[row, column, (below + 1) % BINS] += vote * share
    return cells


def test_the_descriptor_is_what_loops_give():
    image = torch.rand(1, 1, 32, 48, generator=torch.Generator().manual_seed(2))
    cells = looped(_smooth(image)[0, 0].double().numpy())
    squares = np.pad((cells**2).sum(-1), 1)
    energy = sum(squares[i : i + 2, j : j + 3] for i in range(3) for j in range(3)) / 9
    cells = cells / np.sqrt(energy + 1e-4)[..., None]
    expected = cells.transpose(2, 0, 1).ravel() / np.linalg.norm(cells)
    found = orientation_histograms(image)[0].numpy()
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_descriptors_are_unit_vectors_of_nine_a_cell():
    images = torch.rand(3, 1, 64, 128, generator=torch.Generator().manual_seed(2))
    found = orientation_histograms(images)
    assert found.shape == (3, 4 * 8 * 9)
    torch.testing.assert_close(torch.linalg.vector_norm(found, dim=1), torch.ones(3))


def test_smoothing_is_a_weighted_mean_that_repeats_the_border():
    image = torch.rand(1, 1, 16, 16, generator=torch.Generator().manual_seed(3))
    weights = torch.tensor([1.0, 4.0, 6.0, 4.0, 1.0]) / 16
    padded = functional.pad(image, (2, 2, 2, 2), mode="replicate")[0, 0]
    at_corner = sum(weights[i] * weights[j] * padded[i, j] for i in range(5) for j in range(5))
    assert _smooth(image)[0, 0, 0, 0].item() == pytest.approx(at_corner.item(), rel=1e-5)


def test_a_little_shift_matters_less_than_another_drawing():
    generator = torch.Generator().manual_seed(4)
    image = functional.interpolate(torch.rand(1, 1, 8, 16, generator=generator), (64, 128))
    other = functional.interpolate(torch.rand(1, 1, 8, 16, generator=generator), (64, 128))
    one, moved, different = (
        orientation_histograms(x)[0] for x in (image, image.roll(2, dims=3), other)
    )
    assert one @ moved > one @ different + 0.05
