"""How long it takes to enrol many signers."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from rich.progress import track

from bench.documents import Corpus, crop, numbered
from bench.service import Service
from model.engine import cores, one_core_a_thread

IMAGES = 5
THREADS_PER_CORE = 2  # one fetches and writes while the other embeds


def measure(service: Service, corpus: Corpus, signers: int) -> dict[str, Any]:
    """Enrol `signers` with five images each, several signers at a time; images a second."""
    one_core_a_thread()
    pictures = [
        crop(path.read_bytes()) for signer in corpus.signers for path in signer.genuine[:IMAGES]
    ]

    def enrol(number: int) -> None:
        # The pictures repeat, under other hashes: what is stored and embedded is new each time.
        chosen = [pictures[(IMAGES * number + n) % len(pictures)] for n in range(IMAGES)]
        images = {f"{n}.png": numbered(image, number) for n, image in enumerate(chosen)}
        service.enrol(f"enrolled-{number}", images)

    enrol(signers)
    began = time.perf_counter()
    with ThreadPoolExecutor(THREADS_PER_CORE * cores()) as pool:
        done = pool.map(enrol, range(signers))
        for _ in track(done, "Enrolment", total=signers, transient=True):
            pass
    seconds = time.perf_counter() - began
    return {
        "signers": signers,
        "images": IMAGES,
        "seconds": seconds,
        "images_per_second": IMAGES * signers / seconds,
    }
