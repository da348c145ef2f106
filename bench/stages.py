"""The processor time of each stage of a document, one after the other on one core."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from bench.service import Service
from model.engine import one_core_a_thread
from model.inference import load_embedder
from model.preprocess import decode_grey
from storage.reference_cache import ReferenceCache
from worker.ledger import Case, Ledger, Progress
from worker.messages import VerifyRequest
from worker.runtime import get_runtime

TOGETHER = 8  # jobs in a batch or transaction


def measure(service: Service, documents: Sequence[tuple[str, str]]) -> Mapping[str, float]:
    """Milliseconds of processor time a document, that of the servers not included.

    Embedding, beginning and deciding are measured with eight jobs at a time.
    """
    one_core_a_thread()
    runtime = get_runtime(service.settings)
    embedder = load_embedder(service.settings.checkpoint, "auto", lanes=1)
    ledger = Ledger(runtime.sessions, ReferenceCache())
    requests = [
        VerifyRequest(job_id=f"stage-{number}", signer_id=signer, document=uri)
        for number, (signer, uri) in enumerate(documents)
    ]
    data = [runtime.images.fetch(request.document) for request in requests]
    canvases = [embedder.prepare(one) for one in data]
    vectors = embedder.embed(canvases, exact=True)
    cases = [
        Case(request=request, vector=vector, exact=True, progress=Progress())
        for request, vector in zip(requests, vectors, strict=True)
    ]
    decode = _each(decode_grey, data)
    return {
        "fetch": _each(lambda request: runtime.images.fetch(request.document), requests),
        "decode": decode,
        "find the ink": _each(embedder.prepare, data) - decode,
        "embed": _together(embedder.embed, canvases),
        "embed, close call": _each(lambda canvas: embedder.embed([canvas], exact=True), canvases),
        "begin": _together(ledger.begin, requests),
        "decide": _together(lambda some: ledger.decide(some, embedder, "1%"), cases),
    }


def _each(work: Callable[[Any], Any], items: Sequence[Any]) -> float:
    return _together(lambda some: work(some[0]), items, size=1)


def _together(
    work: Callable[[Sequence[Any]], Any], items: Sequence[Any], size: int = TOGETHER
) -> float:
    """Milliseconds an item, after a first batch that warms up."""
    batches = [items[n : n + size] for n in range(0, len(items) - size + 1, size)]
    work(batches[0])
    began = time.process_time()
    for batch in batches[1:]:
        work(batch)
    return 1000 * (time.process_time() - began) / (size * (len(batches) - 1))
