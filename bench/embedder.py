"""How fast the network embeds, in each way that this machine offers, and against what ceiling."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from bench.measure import Rates, interleaved, ratio
from model.dataset import Signer
from model.distance import vectors_of
from model.engine import Engine, TorchEngine, cores, reference_engine
from model.inference import Embedder, load_embedder
from model.precision import has_fast_bf16
from model.scoring import judge
from worker.ledger import too_close

BATCHES = (1, 4, 8, 16, 32)
SQUARE = 2048  # of the matrices whose product is the ceiling
REFERENCES = 5
STRANGERS = 2  # genuine signatures of each other writer that are judged as well


def measure(checkpoint: Path, *, rounds: int, seconds: float) -> dict[str, Any]:
    """Images a second by engine and batch, the machine's ceilings, and shares of them."""
    embedder = load_embedder(checkpoint, "auto")
    shape = (1, embedder.preprocessing.height, embedder.preprocessing.width)
    pages = np.ones((max(BATCHES), *shape), np.float32)
    pages[:, :, shape[1] // 3 : shape[1] // 2, shape[2] // 4 : -shape[2] // 4] = -1
    candidates: dict[str, Callable[[], int]] = {}
    for engine in _engines(embedder):
        for batch in BATCHES:
            candidates[f"{engine.name}|{batch}"] = _all_lanes(engine, pages[:batch])
    candidates |= _products(embedder.device)
    rates = interleaved(candidates, rounds=rounds, seconds=seconds, title="Embedder")
    gflop = _gflop(embedder, pages[:1])
    return {
        "device": str(embedder.device),
        "cores": cores(),
        "canvas": embedder.preprocessing.label,
        "chosen": embedder.engine.name,
        "why": embedder.engine.why,
        "gflop_an_image": gflop,
        "rows": [_row(name, rates, gflop) for name in candidates if "|" in name],
        "ceilings_gflops": {name: rates[name].as_dict() for name in candidates if "|" not in name},
    }


def _engines(embedder: Embedder) -> list[Engine]:
    """The reference first, then what else there is here; the one that is chosen among them."""
    model, device = embedder.model, embedder.device
    found: list[Engine] = [reference_engine(model, device)]
    if has_fast_bf16(device):
        found.append(TorchEngine(model, device, why="", mixed=True))
    if "OpenVINO" in embedder.engine.name:
        from model.openvino_engine import OpenVinoEngine

        how = embedder.preprocessing
        found.append(OpenVinoEngine(model, how, lanes=cores(), half=False))
        if has_fast_bf16(device):
            found.append(embedder.engine)
    return found


def _all_lanes(engine: Engine, batch: np.ndarray) -> Callable[[], int]:
    """A batch on each lane at the same time, on a core each, as the worker has it.

    PyTorch is given all cores for one batch instead.
    """
    alone = isinstance(engine, TorchEngine)
    lanes = 1 if alone else engine.lanes
    pool = ThreadPoolExecutor(lanes)

    def run() -> int:
        torch.set_num_threads(cores() if alone else 1)
        for _ in pool.map(engine, [batch] * lanes):
            pass
        return lanes * len(batch)

    return run


def _products(device: torch.device) -> dict[str, Callable[[], int]]:
    """What PyTorch reaches in one large matrix product, in GFLOP: the machine's own ceiling."""

    def product(dtype: torch.dtype) -> Callable[[], int]:
        one = torch.rand(SQUARE, SQUARE, device=device).to(dtype)

        def run() -> int:
            torch.set_num_threads(cores())
            one @ one
            if device.type == "cuda":
                torch.cuda.synchronize()
            return round(2 * SQUARE**3 / 1e9)

        return run

    found = {"float32": product(torch.float32)}
    if has_fast_bf16(device):  # elsewhere a product takes a minute, and no row is held against it
        found["bf16"] = product(torch.bfloat16)
    return found


def _gflop(embedder: Embedder, one: np.ndarray) -> float:
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        embedder.model.embed(torch.from_numpy(one).to(embedder.device))
    return float(counter.get_total_flops()) / 1e9


def _row(name: str, rates: Mapping[str, Rates], gflop: float) -> dict[str, Any]:
    engine, batch = name.split("|")
    reference = next(iter(rates))  # the reference one image at a time
    ceiling = rates["bf16" if "bf16" in engine else "float32"]
    share = ratio(rates[name], ceiling).median * gflop
    return {
        "engine": engine,
        "batch": int(batch),
        "images_per_second": rates[name].as_dict(),
        "times_reference": ratio(rates[name], rates[reference]).as_dict(),
        "share_of_ceiling": share,
    }


def agreement(checkpoint: Path, writers: Sequence[Signer], far: str | None) -> dict[str, Any]:
    """Whether the fast engine and the reference give the same verdicts on these writers.

    The first references of each are enrolled, everything else of theirs and a few signatures of
    each other writer are judged. A close call is judged by the reference, as the service does.
    """
    embedder = load_embedder(checkpoint, "auto")
    vectors = {writer.name: _vectors(embedder, writer) for writer in writers}
    cosine, flips, close, verdicts = 1.0, 0, 0, 0
    for exact, fast in vectors.values():
        cosine = min(cosine, float((vectors_of(exact) * vectors_of(fast)).sum(axis=1).min()))
    for writer in writers:
        references = vectors[writer.name][0][:REFERENCES]
        for exact, fast in _questioned(writer, vectors):
            truth = judge(exact, references, embedder.scoring, far=far)
            found = judge(fast, references, embedder.scoring, far=far)
            verdicts += 1
            if too_close(found, embedder.tolerance):
                close += 1
            else:
                flips += found.verdict != truth.verdict
    return {
        "engine": embedder.engine.name,
        "verdicts": verdicts,
        "flips": flips,
        "close_calls": close,
        "smallest_cosine": cosine,
        "tolerance": embedder.tolerance,
    }


def _vectors(embedder: Embedder, writer: Signer) -> tuple[np.ndarray, np.ndarray]:
    pages = [embedder.prepare(path.read_bytes()) for path in (*writer.genuine, *writer.forged)]
    return embedder.embed(pages, exact=True), embedder.embed(pages)


def _questioned(
    writer: Signer, vectors: Mapping[str, tuple[np.ndarray, np.ndarray]]
) -> list[tuple[np.ndarray, np.ndarray]]:
    exact, fast = vectors[writer.name]
    own = list(zip(exact[REFERENCES:], fast[REFERENCES:], strict=True))
    others = [
        (exact[place], fast[place])
        for name, (exact, fast) in vectors.items()
        if name != writer.name
        for place in range(STRANGERS)
    ]
    return own + others
