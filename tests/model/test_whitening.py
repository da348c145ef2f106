"""Whom the maps of the descriptors are fitted to, and what they must not learn to tell apart."""

from __future__ import annotations

import numpy as np
import torch

from model.whitening import ENOUGH, Whitened
from tests.model.writers import people

SIZE = 12


def made(rng, count, *, genuine=4, forged=0, shaky=(), apart=0.0):
    """Descriptors of writers: wide where `shaky` within each, forgeries all off by `apart` in 5."""
    found = rng.normal(size=(count, 1, SIZE)) + 0.3 * rng.normal(
        size=(count, genuine + forged, SIZE)
    )
    for direction in shaky:
        found[..., direction] += 2 * rng.normal(size=found.shape[:2])
    found[:, genuine:, 5] += apart
    return torch.from_numpy(found.reshape(-1, SIZE).astype(np.float32))


def weights(found, writers):
    """How much each of the numbers weighs in the map, (SIZE,)."""
    fitted = Whitened((SIZE,), SIZE)
    fitted.fit(found, writers)
    return torch.linalg.vector_norm(fitted.map, dim=1)


def test_a_corpus_weighs_as_much_as_another_with_many_more_writers():
    rng = np.random.default_rng(1)
    few, many = made(rng, ENOUGH, shaky=[0]), made(rng, 10 * ENOUGH, shaky=[1])
    writers = [
        *people(ENOUGH, genuine=4, corpus="few", forged=0),
        *people(10 * ENOUGH, genuine=4, corpus="many", first=len(few), forged=0),
    ]
    of_few, of_many = weights(torch.cat([few, many]), writers)[:2]
    assert 0.9 < of_few / of_many < 1.1


def test_a_corpus_of_hardly_any_writers_weighs_little():
    rng = np.random.default_rng(2)
    few, many = made(rng, 2, shaky=[0]), made(rng, ENOUGH, shaky=[1])
    writers = [
        *people(2, genuine=4, corpus="few", forged=0),
        *people(ENOUGH, genuine=4, corpus="many", first=len(few), forged=0),
    ]
    found = weights(torch.cat([few, many]), writers)
    assert found[1] < 0.7 * found[0]


def test_what_all_forgeries_of_a_corpus_share_weighs_less():
    writers = people(2 * ENOUGH, genuine=4, forged=4)
    found = made(np.random.default_rng(3), 2 * ENOUGH, forged=4, apart=3.0)
    weight = weights(found, writers)
    assert weight[5] < 0.5 * weight.mean()


def test_a_displacement_of_each_forger_s_own_is_no_session():
    rng = np.random.default_rng(4)
    writers = people(2 * ENOUGH, genuine=4, forged=4)
    found = made(rng, 2 * ENOUGH, forged=4).reshape(-1, 8, SIZE)
    found[:ENOUGH, 4:, 5] += 3.0
    found[ENOUGH:, 4:, 5] -= 3.0
    weight = weights(found.reshape(-1, SIZE), writers)
    assert weight[5] > 0.9 * weight.mean()


def test_the_few_that_are_kept_are_those_in_which_signatures_differ_most():
    writers = people(2 * ENOUGH, genuine=4, forged=0)
    found = made(np.random.default_rng(4), 2 * ENOUGH, shaky=[0, 1, 2])
    few, every = Whitened((SIZE,), 3), Whitened((SIZE,), SIZE)
    few.fit(found, writers)
    every.fit(found, writers)
    differ = (every.centred(found) @ every.map).std(0)
    assert torch.equal(differ, differ.sort().values)
    torch.testing.assert_close(few.map.abs(), every.map[:, -3:].abs())
