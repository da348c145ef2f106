"""How long it takes to enrol many signers, and what that costs beside embedding their images."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from rich.progress import track

from bench.documents import Corpus, crop, numbered
from bench.service import Service
from model.engine import cores, one_core_a_thread
from worker.enrolment import enroll
from worker.register import Register
from worker.runtime import get_runtime

IMAGES = 5
THREADS_PER_CORE = 2  # one fetches and writes while the other embeds
ROUND = 50
"""Signers in a round: first their images are only embedded, then they are enrolled."""

Signer = tuple[str, Mapping[str, bytes]]


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
    seconds = sum(whole)
    overheads = [above / below - 1 for above, below in zip(whole, bare, strict=True)]
    return {
        "signers": signers,
        "images": IMAGES,
        "seconds": seconds,
        "images_per_second": IMAGES * signers / seconds,
        "overhead": {"median": float(np.median(overheads)), "rounds": overheads},
    }


def _signer(number: int, pictures: Sequence[bytes]) -> Signer:
    """The pictures repeat, under other hashes: what is stored and embedded is new each time."""
    chosen = [pictures[(IMAGES * number + n) % len(pictures)] for n in range(IMAGES)]
    images = {f"{n}.png": numbered(image, number) for n, image in enumerate(chosen)}
    return f"enrolled-{number}", images


def _seconds(
    pool: ThreadPoolExecutor, work: Callable[[Signer], None], signers: Sequence[Signer]
) -> float:
    began = time.perf_counter()
    for _ in pool.map(work, signers):
        pass
    return time.perf_counter() - began
