"""How long it takes to enrol many signers, and to embed them for another model.

Both beside only decoding and embedding the same images, in rounds that alternate.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
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
from storage.images import Images, S3Config
from worker import registry
from worker.cli.manifest import THREADS_PER_CORE
from worker.embedding import TOGETHER, embed_references
from worker.embedding_queue import CHUNK
from worker.enrolment import enroll
from worker.lanes import Lanes
from worker.register import Register
from worker.runtime import Runtime, get_runtime
from worker.standing import Embed, alone
from worker.transactions import transaction

IMAGES = 5
RE_EMBEDDING_PER_CORE = 2  # threads: one fetches and writes while the other embeds
STORES = ("s3", "folder")
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

    `overhead` is what checks, store and database add to decoding and embedding as many images in
    the same threads and batches, as a share of that: the median of rounds that alternate, and all
    of them. `own` is the same in processor time of this process alone, without that of the servers
    beside it. Both with the S3 server of the service as the store and with a folder. `apart` is
    what is lost if each signer's images are embedded by themselves. Where the corpus has too few
    signers their pictures come again, under other hashes.
    """
    one_core_a_thread()
    hands = [signer.genuine[:IMAGES] for signer in corpus.signers]
    hands = [paths for paths in hands if len(paths) == IMAGES]
    runtime = get_runtime(service.settings)
    register = Register(runtime.embedder.model_id)

    def embed(embed_with: Embed, signer: Signer) -> None:
        canvases = [runtime.embedder.prepare(image) for image in signer[1].values()]
        embed_with(runtime.embedder, canvases)

    def enrol(lanes: Lanes, images: Images, signer: Signer) -> None:
        enroll(
            signer[0],
            signer[1].items(),
            sessions=runtime.sessions,
            images=images,
            embedder=runtime.embedder,
            register=register,
            force=len(STORES) * signers > len(hands),  # what comes again is another signer's
            embed_with=lanes,
        )

    with (
        TemporaryDirectory() as folder,
        closing(Lanes(cores())) as lanes,
        ThreadPoolExecutor(THREADS_PER_CORE * cores()) as pool,
    ):
        stores = dict(zip(STORES, (runtime.images, _in_folder(folder)), strict=True))
        enrol(lanes, runtime.images, _signer(len(STORES) * signers, hands))
        bare: list[Took] = []
        apart: list[Took] = []
        whole: dict[str, list[Took]] = {store: [] for store in stores}
        for first in track(range(0, signers, ROUND), "Enrolment", transient=True):
            numbers = range(first, min(first + ROUND, signers))
            same = [_signer(n, hands) for n in numbers]
            bare.append(_took(pool, partial(embed, lanes), same))
            apart.append(_took(pool, partial(embed, alone), same))
            for place, (store, images) in enumerate(stores.items()):
                chosen = [_signer(place * signers + n, hands) for n in numbers]
                whole[store].append(_took(pool, partial(enrol, lanes, images), chosen))
        again = _re_embedding(runtime, stores)
    return {
        "signers": signers,
        "images": IMAGES,
        "hands": len(hands),
        "apart": _told(bare, apart, IMAGES * signers)["overhead"],
        "stores": {
            store: {**_told(bare, whole[store], IMAGES * signers), "re_embedding": again[store]}
            for store in stores
        },
    }


def _in_folder(folder: str) -> Images:
    store = Path(folder).resolve().as_uri()
    return Images(roots=(), buckets=(), store=store, s3=S3Config(), max_bytes=2**24)


def _re_embedding(runtime: Runtime, stores: Mapping[str, Images]) -> dict[str, dict[str, Any]]:
    """The same for embedding all references with a second model, in chunks as workers get them."""
    own = runtime.embedder.checkpoint
    with TemporaryDirectory() as folder:
        save_checkpoint(path := Path(folder) / "other.pt", replace(own, threshold=0.5))
        other = registry.register(runtime, path.read_bytes(), str(path)).id
    embedder = runtime.models.get(other)
    with transaction(runtime.sessions) as session:
        missing = references.numbered(session, models.lacking(session, other))

    def embed(images: Sequence[bytes]) -> None:
        for start in range(0, len(images), TOGETHER):
            some = images[start : start + TOGETHER]
            embedder.embed([embedder.prepare(image) for image in some], exact=True)

    def re_embed(images: Images, numbers: Sequence[int]) -> None:
        embed_references(numbers, sessions=runtime.sessions, images=images, embedder=embedder)

    told = {}
    with ThreadPoolExecutor(RE_EMBEDDING_PER_CORE * cores()) as pool:
        for store, images in stores.items():
            numbers = sorted(number for number, one in missing.items() if images.keeps(one.uri))
            bare, whole = [], []
            rounds = range(0, len(numbers), IMAGES * ROUND)
            for first in track(rounds, "Re-embedding", transient=True):
                chosen = numbers[first : first + IMAGES * ROUND]
                chunks = [chosen[start : start + CHUNK] for start in range(0, len(chosen), CHUNK)]
                # The very images that are embedded anew, fetched before anything is timed.
                data = [[images.fetch(missing[number].uri) for number in chunk] for chunk in chunks]
                bare.append(_took(pool, embed, data))
                whole.append(_took(pool, partial(re_embed, images), chunks))
            told[store] = _told(bare, whole, len(numbers))
    return told


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
