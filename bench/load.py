"""The whole service under load: documents a second, latency, processor time, memory."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import psutil
from rich.progress import track

from bench.documents import REFERENCES, Corpus, crop, first, page, signer_id
from bench.service import Service, Worker, cpu_seconds
from storage.tables import Decision

LOADS = (0.25, 0.5, 0.9)
PERCENTILES = (50, 95, 99)
WARM_UP = 64


@dataclass(frozen=True, kw_only=True)
class Uploaded:
    """Documents in the store: who is claimed, and the URI."""

    crops: tuple[tuple[str, str], ...]
    pages: tuple[tuple[str, str], ...]


def prepare(service: Service, corpus: Corpus, *, crops: int = 200, pages: int = 40) -> Uploaded:
    """Enrol the writers and put their questioned signatures into the store."""
    for signer in track(corpus.signers, "Enrolling", transient=True):
        specimens = {path.name: path.read_bytes() for path in signer.genuine[:REFERENCES]}
        service.enrol(signer_id(signer), specimens)
    asked = corpus.questioned
    drawn = first(asked, crops), first(asked, pages)

    def put(kind: str, number: int, data: bytes) -> str:
        return service.bucket.put(f"{kind}/{number}", data)

    return Uploaded(
        crops=tuple(
            (signer, put("crops", number, crop(path.read_bytes())))
            for number, (signer, path) in enumerate(track(drawn[0], "Crops", transient=True))
        ),
        pages=tuple(
            (signer, put("pages", number, page(path.read_bytes())))
            for number, (signer, path) in enumerate(track(drawn[1], "Pages", transient=True))
        ),
    )


def saturate(
    service: Service,
    workers: Sequence[Worker],
    documents: Sequence[tuple[str, str]],
    count: int,
    name: str,
) -> dict[str, Any]:
    """All messages wait before the first is taken; the rate is between first and last decision."""
    _warm_up(service, documents, f"warm-{name}")
    before = _spent(service, workers)
    began = time.perf_counter()
    service.push(list(messages(documents, count, name)))
    rows = service.decisions(count, f"{name}-", poll=0.2)
    seconds = time.perf_counter() - began
    after = _spent(service, workers)
    decided = sorted(row.decided_at for row in rows)
    return {
        "documents": count,
        "workers": len(workers),
        "documents_per_second": (count - 1) / (decided[-1] - decided[0]).total_seconds(),
        "failed": sum(row.verdict == "error" for row in rows),
        "cpu_ms": {part: 1000 * (after[part] - before[part]) / count for part in after},
        "busy_share": sum(after[part] - before[part] for part in after)
        / (seconds * (psutil.cpu_count() or 1)),
        "stage_ms": _stages(rows),
    }


def latency(
    service: Service,
    documents: Sequence[tuple[str, str]],
    rate: float,
    count: int,
    name: str,
) -> dict[str, Any]:
    """Documents come at random moments, `rate` a second; ms from sending to the decision."""
    rng = np.random.default_rng(7)
    moments = np.cumsum(rng.exponential(1 / rate, count))
    jobs = list(messages(documents, count, name))
    began = time.time()
    for job, moment in zip(jobs, moments, strict=True):
        ahead = began + moment - time.time()
        if ahead > 0:
            time.sleep(ahead)
        job["metadata"] = {"sent": time.time()}
        service.push([job])
    rows = service.decisions(count, f"{name}-")
    waited = [1000 * (row.decided_at.timestamp() - row.upstream["sent"]) for row in rows]
    found = {f"p{p}": float(np.percentile(waited, p)) for p in PERCENTILES}
    return {"rate": rate, "documents": count, **found}


def endure(
    service: Service,
    worker: Worker,
    documents: Sequence[tuple[str, str]],
    count: int,
    *,
    chunk: int = 1000,
) -> dict[str, Any]:
    """The worker's memory in MB, before and after every `chunk` documents."""
    _warm_up(service, documents, "warm-endure")
    memory = [worker.megabytes()]
    for done in track(range(0, count, chunk), "Endurance", transient=True):
        name = f"endure{done}"
        service.push(list(messages(documents, chunk, name)))
        service.decisions(chunk, f"{name}-", poll=1.0)
        memory.append(worker.megabytes())
    return {"documents": count, "every": chunk, "megabytes": memory}


def _warm_up(service: Service, documents: Sequence[tuple[str, str]], name: str) -> None:
    service.push(list(messages(documents, WARM_UP, name)))
    service.decisions(WARM_UP, f"{name}-", poll=0.1)


def messages(
    documents: Sequence[tuple[str, str]], count: int, name: str
) -> Iterator[dict[str, Any]]:
    """So many jobs over the documents, again and again; their ids begin with the name."""
    for number in range(count):
        signer, uri = documents[number % len(documents)]
        yield {"job_id": f"{name}-{number}", "signer_id": signer, "document": uri}


def _spent(service: Service, workers: Sequence[Worker]) -> dict[str, float]:
    servers = {
        name: cpu_seconds(server.process.pid)
        for name, server in service.servers.items()
        if server.process is not None
    }
    return {"workers": sum(worker.cpu_seconds() for worker in workers), **servers}


def _stages(rows: Sequence[Decision]) -> Mapping[str, float]:
    """Medians as recorded: how long each stage took, its waiting included."""
    names = ("fetch_ms", "preprocess_ms", "embed_ms", "total_ms")
    return {name: float(np.median([getattr(row, name) or 0.0 for row in rows])) for name in names}
