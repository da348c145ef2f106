"""Signers who are enrolled at the same time share batches, and nobody gets another's embedding."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.fakes import FakeEmbedder, ink
from worker.batching import ShuttingDown
from worker.lanes import Lanes
from worker.standing import alone

SIGNERS, SPECIMENS = 4, 3


class Counting(FakeEmbedder):
    """Keeps how many it was given at a time, and begins when the test lets it."""

    def __init__(self, **given: Any) -> None:
        super().__init__(**given)
        self.batches: list[int] = []
        self.entered, self.go = threading.Event(), threading.Event()

    def embed(self, images: Sequence[NDArray[np.float32]], *, exact: bool = False) -> Any:
        assert exact
        self.batches.append(len(images))
        self.entered.set()
        assert self.go.wait(30)
        return super().embed(images, exact=exact)


def canvases(embedder: FakeEmbedder, signer: int) -> list[NDArray[np.float32]]:
    return [embedder.prepare(ink(signer + 0.1 * number)) for number in range(SPECIMENS)]


def until_all_wait(lanes: Lanes, count: int) -> None:
    deadline = time.monotonic() + 30
    while lanes._batcher._waiting.qsize() != count:
        assert time.monotonic() < deadline, f"not all of {count} canvases came"
        time.sleep(0.001)


def test_what_waits_shares_a_batch_and_everyone_gets_their_own() -> None:
    embedder = Counting()
    offered = [canvases(embedder, signer) for signer in range(SIGNERS)]
    with closing(Lanes(1)) as lanes, ThreadPoolExecutor(SIGNERS) as pool:
        first = pool.submit(lanes, embedder, offered[0])
        assert embedder.entered.wait(30)
        others = [pool.submit(lanes, embedder, some) for some in offered[1:]]
        until_all_wait(lanes, SIGNERS * SPECIMENS - embedder.batches[0])
        embedder.go.set()
        found = [future.result(30) for future in (first, *others)]
    assert embedder.batches[-1] > SPECIMENS
    for some, vectors in zip(offered, found, strict=True):
        np.testing.assert_array_equal(vectors, alone(embedder, some))


def test_each_is_embedded_by_the_model_that_it_was_given_for() -> None:
    older, newer = Counting(name="older"), Counting(name="newer", size=128)
    some = canvases(older, 1)
    with closing(Lanes(1)) as lanes, ThreadPoolExecutor(3) as pool:
        first = pool.submit(lanes, older, some)
        assert older.entered.wait(30)
        others = [pool.submit(lanes, model, some) for model in (older, newer)]
        until_all_wait(lanes, 3 * SPECIMENS - older.batches[0])
        older.go.set()
        newer.go.set()
        found = [future.result(30) for future in (first, *others)]
    assert newer.batches == [SPECIMENS]
    assert sum(older.batches) == 2 * SPECIMENS
    assert all(len(vectors) == SPECIMENS for vectors in found)


def test_one_who_comes_after_the_end_is_told() -> None:
    lanes = Lanes(1)
    lanes.close()
    with pytest.raises(ShuttingDown):
        lanes(FakeEmbedder(), canvases(FakeEmbedder(), 0))
