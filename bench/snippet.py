"""The seed's way of verifying a document beside ours: same weights, same images, no service."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from bench.measure import interleaved, ratio
from model import compare_images, load_model_for_infer
from model.engine import cores, one_core_a_thread
from model.inference import Embedder, load_embedder
from model.scoring import judge

REFERENCES = 5
DOCUMENTS = 32  # of ours in one measurement; a few batches for each core


def measure(
    checkpoint: Path, documents: Sequence[Path], references: Sequence[Path], *, rounds: int
) -> dict[str, Any]:
    """Documents a second against five references each, and what ours is as a multiple."""
    references = references[:REFERENCES]
    threads = torch.get_num_threads()
    seed = _seed(checkpoint, documents, references)
    ours = _ours(load_embedder(checkpoint, "auto"), documents, references)

    def all_cores_on_one_image() -> int:
        torch.set_num_threads(threads)
        return seed()

    def a_core_for_each_image() -> int:
        one_core_a_thread()
        return ours()

    rates = interleaved(
        {"seed": all_cores_on_one_image, "ours": a_core_for_each_image},
        rounds=rounds,
        seconds=2.0,
        title="The seed's snippet",
    )
    torch.set_num_threads(threads)
    return {
        "references": len(references),
        "documents_per_second": {name: rate.as_dict() for name, rate in rates.items()},
        "milliseconds": {name: 1000 / rate.median for name, rate in rates.items()},
        "times": ratio(rates["ours"], rates["seed"]).as_dict(),
    }


def _seed(
    checkpoint: Path, documents: Sequence[Path], references: Sequence[Path]
) -> Callable[[], int]:
    """Both images are read, prepared and embedded for every comparison, in float32."""
    model, threshold, size = load_model_for_infer(checkpoint, "cpu")
    turn = iter(range(10**9))

    def run() -> int:
        document = documents[next(turn) % len(documents)]
        for reference in references:
            compare_images(model, threshold, reference, document, size)
        return 1

    return run


def _ours(
    embedder: Embedder, documents: Sequence[Path], references: Sequence[Path]
) -> Callable[[], int]:
    """References are embedded once; a thread on each core prepares, embeds in batches, judges."""
    known = embedder.embed([embedder.prepare(path.read_bytes()) for path in references], exact=True)

    def work(waiting: queue.SimpleQueue[Sequence[Path]]) -> None:
        while True:
            try:
                some = waiting.get_nowait()
            except queue.Empty:
                return
            for vector in embedder.embed([embedder.prepare(p.read_bytes()) for p in some]):
                judge(vector, known, embedder.scoring, far="1%")

    def run() -> int:
        waiting: queue.SimpleQueue[Sequence[Path]] = queue.SimpleQueue()
        chosen = [documents[n % len(documents)] for n in range(DOCUMENTS)]
        for start in range(0, DOCUMENTS, embedder.engine.batch):
            waiting.put(chosen[start : start + embedder.engine.batch])
        threads = [threading.Thread(target=work, args=(waiting,)) for _ in range(cores())]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return DOCUMENTS

    return run
