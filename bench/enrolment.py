"""How long it takes to enrol many signers, and to embed them for another model.

Both beside only decoding and embedding the same images, in rounds that alternate.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

import numpy as np
from rich.progress import track

from bench.documents import Corpus, crop, numbered
from bench.service import Service
from model.checkpoint import save_checkpoint
from model.engine import cores, one_core_a_thread
from storage import models, references
from worker import registry
from worker.embedding import TOGETHER, embed_references
from worker.embedding_queue import CHUNK
from worker.enrolment import enroll
from worker.register import Register
from worker.runtime import Runtime, get_runtime
from worker.transactions import transaction

IMAGES = 5
THREADS_PER_CORE = 2  # one fetches and writes while the other embeds
ROUND = 50
"""Signers in a round: first their images are only embedded, then they are enrolled."""


@dataclass(frozen=True, kw_only=True)
class Took:
    """Seconds of a round by the clock, and of this process on all cores."""

    wall: float
    own: float


Signer = tuple[str, Mapping[str, bytes]]
Item = TypeVar("Item")


def measure(service: Service, corpus: Corpus, signers: int) -> dict[str, Any]:
    """Enrol `signers` with five images each, several signers at a time; images a second.

    `overhead` is what checks, store and database add to decoding and embedding the same images in
    the same threads, as a share of that: the median of rounds that alternate, and all of them.
    `own` is the same in processor time of this process alone, without that of the servers beside
    it. Where the corpus has too few signers their pictures come again, under other hashes.
    """
    one_core_a_thread()
    hands = [signer.genuine[:IMAGES] for signer in corpus.signers]
    hands = [paths for paths in hands if len(paths) == IMAGES]
    runtime = get_runtime(service.settings)
    register = Register(runtime.embedder.model_id)

    def embed(signer: Signer) -> None:
        canvases = [runtime.embedder.prepare(image) for image in signer[1].values()]
        runtime.embedder.embed(canvases, exact=True)

    def enrol(signer: Signer) -> None:
        enroll(
            signer[0],
            signer[1].items(),
            sessions=runtime.sessions,
            images=runtime.images,
            embedder=runtime.embedder,
            register=register,
            force=signers > len(hands),  # what comes again is another signer's
        )

    enrol(_signer(signers, hands))
    bare, whole = [], []
    with ThreadPoolExecutor(THREADS_PER_CORE * cores()) as pool:
        for first in track(range(0, signers, ROUND), "Enrolment", transient=True):
            chosen = [_signer(n, hands) for n in range(first, min(first + ROUND, signers))]
            bare.append(_took(pool, embed, chosen))
            whole.append(_took(pool, enrol, chosen))
    return {
        "signers": signers,
        "images": IMAGES,
        "hands": len(hands),
        **_told(bare, whole, IMAGES * signers),
        "re_embedding": _re_embedding(runtime),
    }


def _re_embedding(runtime: Runtime) -> dict[str, Any]:
    """The same for embedding all references with a second model, in chunks as workers get them."""
    own = runtime.embedder.checkpoint
    with TemporaryDirectory() as folder:
        save_checkpoint(path := Path(folder) / "other.pt", replace(own, threshold=0.5))
        other = registry.register(runtime, path.read_bytes(), str(path)).id
    embedder = runtime.models.get(other)
    with transaction(runtime.sessions) as session:
        missing = models.lacking(session, other)

    def embed(images: Sequence[bytes]) -> None:
        for start in range(0, len(images), TOGETHER):
            some = images[start : start + TOGETHER]
            embedder.embed([embedder.prepare(image) for image in some], exact=True)

    def re_embed(numbers: Sequence[int]) -> None:
        embed_references(
            numbers, sessions=runtime.sessions, images=runtime.images, embedder=embedder
        )

    bare, whole = [], []
    with ThreadPoolExecutor(THREADS_PER_CORE * cores()) as pool:
        for first in track(range(0, len(missing), IMAGES * ROUND), "Re-embedding", transient=True):
            chosen = missing[first : first + IMAGES * ROUND]
            chunks = [chosen[start : start + CHUNK] for start in range(0, len(chosen), CHUNK)]
            images = [_stored(runtime, chunk) for chunk in chunks]
            bare.append(_took(pool, embed, images))
            whole.append(_took(pool, re_embed, chunks))
    return _told(bare, whole, len(missing))


def _stored(runtime: Runtime, chunk: Sequence[int]) -> list[bytes]:
    """The very images that are embedded anew, fetched before anything is timed."""
    with transaction(runtime.sessions) as session:
        uris = [reference.uri for reference in references.numbered(session, chunk).values()]
    return [runtime.images.fetch(uri) for uri in uris]


def _told(bare: Sequence[Took], whole: Sequence[Took], images: int) -> dict[str, Any]:
    seconds = sum(took.wall for took in whole)
    overheads = [above.wall / below.wall - 1 for above, below in zip(whole, bare, strict=True)]
    own = [above.own / below.own - 1 for above, below in zip(whole, bare, strict=True)]
    return {
        "seconds": seconds,
        "images_per_second": images / seconds,
        "overhead": {"median": float(np.median(overheads)), "rounds": overheads},
        "own": {"median": float(np.median(own)), "rounds": own},
    }


def _signer(number: int, hands: Sequence[Sequence[Path]]) -> Signer:
    """Scans of one hand, stored under hashes that are new each time."""
    paths = hands[number % len(hands)]
    images = {path.name: numbered(crop(path.read_bytes()), number) for path in paths}
    return f"enrolled-{number}", images


def _took(pool: ThreadPoolExecutor, work: Callable[[Item], None], items: Sequence[Item]) -> Took:
    began, busy = time.perf_counter(), time.process_time()
    for _ in pool.map(work, items):
        pass
    return Took(wall=time.perf_counter() - began, own=time.process_time() - busy)
