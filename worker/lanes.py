"""Embedding for several threads at a time, in batches that they share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from model.arrays import Canvas, Vector
from worker.batching import Batcher
from worker.embedding import TOGETHER

if TYPE_CHECKING:
    from model.inference import Embedder

CAPACITY = 16 * TOGETHER


class Lanes:
    """Embeds canvases as `standing.alone` does, those of several threads in one batch.

    A signer has five specimens, and a batch of five takes longer than a third of one of fifteen:
    the weights are read from memory once for each. As many batches as there are `lanes` are worked
    on at the same time, on a core each.
    """

    def __init__(self, lanes: int) -> None:
        self._batcher: Batcher[tuple[Embedder, Canvas], Vector] = Batcher(
            _embedded, name="reference", size=TOGETHER, capacity=CAPACITY, threads=lanes
        )

    def __call__(self, embedder: Embedder, canvases: Sequence[Canvas]) -> Sequence[Vector]:
        """Canvases (1, H, W) -> embeddings (D,); blocks. Raises ShuttingDown when closed."""
        return self._batcher.all([(embedder, canvas) for canvas in canvases])

    def close(self) -> None:
        """Finish what was asked for, and let the threads go."""
        self._batcher.close()


def _embedded(some: Sequence[tuple[Embedder, Canvas]]) -> list[Vector]:
    """Each by its own model, in case another became the active one meanwhile."""
    found: dict[int, Vector] = {}
    for embedder in {id(embedder): embedder for embedder, _ in some}.values():
        places = [place for place, (model, _) in enumerate(some) if model is embedder]
        vectors = embedder.embed([some[place][1] for place in places], exact=True)
        found |= zip(places, vectors, strict=True)
    return [found[place] for place in range(len(some))]
