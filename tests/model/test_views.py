"""The classical descriptors: what they are made of, and what fitting them comes to."""

import numpy as np
import pytest
import torch

from model.alignment import aligned
from model.descriptor import orientation_histograms
from model.views import KEPT, LENGTHS, Views, histograms
from tests.model.writers import people


def test_each_view_is_a_unit_vector_and_the_first_is_the_descriptor_of_the_canvas():
    images = torch.rand(2, 1, 64, 128, generator=torch.Generator().manual_seed(4))
    found = histograms(images, aligned(images)[0])
    views = found.split(LENGTHS, dim=1)
    for view in views:
        torch.testing.assert_close(torch.linalg.vector_norm(view, dim=1), torch.ones(2))
    torch.testing.assert_close(views[0], orientation_histograms(images))


@pytest.fixture(scope="module")
def fitted():
    """Views fitted to 60 made-up writers of 4, whose own variation is all in two directions."""
    rng = np.random.default_rng(5)
    hands = rng.normal(size=(60, 1, sum(LENGTHS)))
    noise = np.zeros((60, 4, sum(LENGTHS)))
    noise[..., :2] = 20 * rng.normal(size=(60, 4, 2))
    found = torch.from_numpy((hands + noise).reshape(240, -1).astype(np.float32))
    views = Views()
    views.fit(found, people(60, genuine=4, forged=0))
    return views, found


def test_what_varies_within_a_writer_weighs_less_than_what_does_not(fitted):
    views, _ = fitted
    weight = torch.linalg.vector_norm(views.map, dim=1)
    assert weight[:2].max() < 0.5 * weight[2:].median()


def test_mapped_signatures_are_centred_unit_vectors_near_their_writer(fitted):
    views, found = fitted
    mapped = views.centred(found) @ views.map - views.offset
    torch.testing.assert_close(mapped.mean(0), torch.zeros(KEPT), atol=1e-4, rtol=0)
    unit = torch.nn.functional.normalize(mapped, dim=1)
    distances = torch.cdist(unit, unit) + 9 * torch.eye(240)
    assert (distances.argmin(1) // 4 == torch.arange(240) // 4).all()
