"""How long it takes to enrol many signers, and to embed them for another model.

Both beside only decoding and embedding the same images, in rounds that alternate.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

import numpy as np
from rich.progress import track

from bench.documents import Corpus, crop, numbered
from bench.service import Service
from model.checkpoint import save_checkpoint
from model.engine import cores, one_core_a_thread
from storage import models
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

Signer = tuple[str, Mapping[str, bytes]]
Item = TypeVar("Item")


def measure(service: Service, corpus: Corpus, signers: int) -> dict[str, Any]:
    """Enrol `signers` with five images each, several signers at a time; images a second.

    `overhead` is what checks, store and database add to decoding and embedding the same images in
    the same threads, as a share of that: the median of rounds that alternate, and all of them.
    """
    one_core_a_thread()
    pictures = [
        crop(path.read_bytes()) for signer in corpus.signers for path in signer.genuine[:IMAGES]
    ]
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
            force=True,  # the pictures repeat, so some are another signer's
        )

    enrol(_signer(signers, pictures))
    bare, whole = [], []
    with ThreadPoolExecutor(THREADS_PER_CORE * cores()) as pool:
        for first in track(range(0, signers, ROUND), "Enrolment", transient=True):
            chosen = [_signer(n, pictures) for n in range(first, min(first + ROUND, signers))]
            bare.append(_seconds(pool, embed, chosen))
            whole.append(_seconds(pool, enrol, chosen))
    return {
        "signers": signers,
        "images": IMAGES,
        **_told(bare, whole, IMAGES * signers),
        "re_embedding": _re_embedding(runtime, pictures),
    }


def _re_embedding(runtime: Runtime, pictures: Sequence[bytes]) -> dict[str, Any]:
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
            images = [[pictures[number % len(pictures)] for number in chunk] for chunk in chunks]
            bare.append(_seconds(pool, embed, images))
            whole.append(_seconds(pool, re_embed, chunks))
    return _told(bare, whole, len(missing))


def _told(bare: Sequence[float], whole: Sequence[float], images: int) -> dict[str, Any]:
    seconds = sum(whole)
    overheads = [above / below - 1 for above, below in zip(whole, bare, strict=True)]
    return {
        "seconds": seconds,
        "images_per_second": images / seconds,
        "overhead": {"median": float(np.median(overheads)), "rounds": overheads},
    }


def _signer(number: int, pictures: Sequence[bytes]) -> Signer:
    """The pictures repeat, under other hashes: what is stored and embedded is new each time."""
    chosen = [pictures[(IMAGES * number + n) % len(pictures)] for n in range(IMAGES)]
    images = {f"{n}.png": numbered(image, number) for n, image in enumerate(chosen)}
    return f"enrolled-{number}", images


def _seconds(
    pool: ThreadPoolExecutor, work: Callable[[Item], None], items: Sequence[Item]
) -> float:
    began = time.perf_counter()
    for _ in pool.map(work, items):
        pass
    return time.perf_counter() - began
