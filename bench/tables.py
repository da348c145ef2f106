"""What the bench found, as a page of tables and as a picture."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import matplotlib.pyplot as plt

from bench import lookup

Result = dict[str, Any]


def best_workers(saturated: Sequence[Result]) -> int:
    """The number of worker processes that did most documents a second."""
    return max({run["workers"] for run in saturated}, key=lambda n: saturation(saturated, n))


def saturation(saturated: Sequence[Result], workers: int) -> float:
    """Documents a second with so many worker processes, the median of the turns."""
    return median(r["documents_per_second"] for r in saturated if r["workers"] == workers)


def markdown(result: Result) -> str:
    """Every part that was measured, as tables."""
    machine = result["machine"]
    head = (
        f"Measured {result['when']} on {machine['cores']} cores ({machine['processor']}), "
        f"torch {machine['torch']}, checkpoint {result['checkpoint'][:12]}, corpus "
        f"{result['corpus']}{', quick' if result['quick'] else ''}. Medians, with the slowest and "
        "the fastest round in brackets."
    )
    parts = {
        "embedder": _embedder,
        "snippet": _snippet,
        "service": _service,
        "lookup": lambda found: [lookup.markdown(found)],
        "enrolment": _enrolment,
    }
    lines = [head, ""]
    for name, part in parts.items():
        if name in result:
            lines += [*part(result[name]), ""]
    if {"embedder", "service"} <= result.keys():
        lines += [*_shares(result), ""]
    return "\n".join(lines)


def _embedder(found: Result) -> Iterator[str]:
    yield f"## Embedder, {found['canvas']}, {found['gflop_an_image']:.2f} GFLOP an image"
    yield ""
    yield "| engine | batch | images/s | times the reference at 1 | share of its ceiling |"
    yield "|---|---|---|---|---|"
    for row in found["rows"]:
        yield (
            f"| {row['engine']} | {row['batch']} | {_rates(row['images_per_second'])} | "
            f"{_rates(row['times_reference'], 1)} | {100 * row['share_of_ceiling']:.0f} % |"
        )
    yield ""
    ceilings = (
        f"{name} {_rates(rates)} GFLOP/s" for name, rates in found["ceilings_gflops"].items()
    )
    yield f"Ceilings, one product of 2048 x 2048 matrices: {', '.join(ceilings)}."
    agreed = found["agreement"]
    yield (
        f"Chosen: {agreed['engine']}. Of {agreed['verdicts']} verdicts {agreed['flips']} differ "
        f"from the reference's; {agreed['close_calls']} were close calls, within "
        f"{agreed['tolerance']:.4f} of a threshold, which the reference decides. Smallest cosine "
        f"{agreed['smallest_cosine']:.6f}."
    )


def _snippet(found: Result) -> Iterator[str]:
    yield f"## The seed's snippet beside ours, {found['references']} references"
    yield ""
    yield "| | documents/s | ms a document |"
    yield "|---|---|---|"
    for name, rates in found["documents_per_second"].items():
        yield f"| {name} | {_rates(rates, 1)} | {found['milliseconds'][name]:.1f} |"
    yield f"| **ours / seed** | **{_rates(found['times'], 1)}** | |"


def _service(found: Result) -> Iterator[str]:
    yield "## The whole service, and what people would use instead"
    yield ""
    yield "| | documents/s | worker CPU ms | Redis | PostgreSQL | S3 | cores busy |"
    yield "|---|---|---|---|---|---|---|"
    rows = [
        *((f"sigctl, {n} worker{'s' * (n > 1)}", _of(found["saturated"], n)) for n in (1, 2)),
        ("sigctl, A4 pages", found["pages"]),
    ]
    for name, runs in rows:
        rates = {"rounds": [run["documents_per_second"] for run in runs]}
        cpu = [
            f"{median(run['cpu_ms'][part] for run in runs):.1f}"
            for part in ("workers", "redis", "postgres", "s3")
        ]
        busy = 100 * median(run["busy_share"] for run in runs)
        yield f"| {name} | {_rates(rates, 1)} | {' | '.join(cpu)} | {busy:.0f} % |"
    for peer in dict.fromkeys(run["peer"] for run in found["peers"]):
        rates = {"rounds": _peer(found, peer)}
        yield f"| {peer} | {_rates(rates, 1)} | | | | | |"
    yield ""
    best = found["best_workers"]
    alone = ", ".join(f"{name} {ms:.1f}" for name, ms in found["stages"].items())
    yield f"Processor time of each stage by itself, ms a document: {alone}."
    yield ""
    stages = found["saturated"][-1]["stage_ms"]
    named = ", ".join(f"{name.removesuffix('_ms')} {ms:.0f}" for name, ms in stages.items())
    yield f"Medians of the stages at saturation, waiting included, in ms: {named}."
    yield ""
    yield f"Latency with {best} worker{'s' * (best > 1)}, documents at random moments, ms:"
    yield ""
    yield "| load | documents/s | p50 | p95 | p99 |"
    yield "|---|---|---|---|---|"
    for row in found["latency"]:
        times = " | ".join(f"{row[name]:.0f}" for name in ("p50", "p95", "p99"))
        yield f"| {100 * row['share']:.0f} % | {row['rate']:.0f} | {times} |"
    yield ""
    memory = found["memory"]
    yield (
        f"Memory of one worker: {memory['megabytes'][0]:.0f} MB at rest, "
        f"{memory['megabytes'][1]:.0f} MB after {memory['every']} documents, "
        f"{memory['megabytes'][-1]:.0f} MB after {memory['documents']}."
    )


def _enrolment(found: Result) -> Iterator[str]:
    yield f"## Enrolment of {found['signers']} signers with {found['images']} images each"
    yield ""
    yield "Overhead over decoding and embedding alone, in the same batches, medians of rounds; the"
    yield "same in processor time of the enrolling process, without that of the servers. Each"
    yield f"signer's images embedded by themselves: {100 * found['apart']['median']:+.0f} %."
    yield ""
    yield "| store | | s | images/s | overhead | in processor time |"
    yield "|---|---|---|---|---|---|"
    for store, enrolled in found["stores"].items():
        for what, row in (("enrolled", enrolled), ("embedded anew", enrolled["re_embedding"])):
            shares = " | ".join(
                f"{100 * row[name]['median']:.0f} %" for name in ("overhead", "own")
            )
            yield (
                f"| {store} | {what} | {row['seconds']:.0f} | {row['images_per_second']:.0f} "
                f"| {shares} |"
            )


def _shares(result: Result) -> Iterator[str]:
    """The figures that put the parts in relation."""
    found = result["service"]
    best = found["best_workers"]
    ours = saturation(found["saturated"], best)
    embedder = max(row["images_per_second"]["median"] for row in result["embedder"]["rows"])
    peers = {peer: median(_peer(found, peer)) for peer in {run["peer"] for run in found["peers"]}}
    plain = {peer: rate for peer, rate in peers.items() if "our engine" not in peer}
    batch = _time_of_a_batch(result["embedder"])
    half = next(row for row in found["latency"] if row["share"] == 0.5)
    yield "## In relation"
    yield ""
    yield "| | |"
    yield "|---|---|"
    yield f"| whole service / embedder alone | {ours / embedder:.2f} |"
    for what, rates in (("best peer", plain), ("best peer with our engine", peers)):
        name = max(rates, key=rates.__getitem__)
        yield f"| whole service / {what} ({name}) | {ours / rates[name]:.2f} |"
    late = half["p99"] / batch
    yield f"| p99 at half load / time of one batch of 8 ({batch:.0f} ms) | {late:.1f} |"


def _time_of_a_batch(found: Result) -> float:
    """Milliseconds of a batch of eight on one core of those that embed."""
    row = next(r for r in found["rows"] if r["engine"] == found["chosen"] and r["batch"] == 8)
    return 1000 * 8 * found["cores"] / float(row["images_per_second"]["median"])


def _of(saturated: Sequence[Result], workers: int) -> list[Result]:
    return [run for run in saturated if run["workers"] == workers]


def _peer(found: Result, peer: str) -> list[float]:
    return [run["documents_per_second"] for run in found["peers"] if run["peer"] == peer]


def _rates(rates: Result, digits: int = 0) -> str:
    """Median and extremes of the rounds."""
    rounds = rates["rounds"]
    middle = f"{median(rounds):.{digits}f}"
    if len(rounds) == 1:
        return middle
    return f"{middle} ({min(rounds):.{digits}f} to {max(rounds):.{digits}f})"


def draw(result: Result, path: Path) -> None:
    """Images a second by engine and batch; documents a second beside the peers; latency."""
    figure, axes = plt.subplots(1, 3, figsize=(15, 4.5), layout="constrained")
    _draw_embedder(axes[0], result.get("embedder"))
    _draw_service(axes[1], result.get("service"))
    _draw_latency(axes[2], result.get("service"))
    figure.savefig(path, dpi=120)
    plt.close(figure)


def _draw_embedder(axis: Any, found: Result | None) -> None:
    axis.set_title("Embedder, images/s by batch")
    for engine in dict.fromkeys(row["engine"] for row in found["rows"]) if found else ():
        rows = [row for row in found["rows"] if row["engine"] == engine] if found else []
        rates = [row["images_per_second"]["median"] for row in rows]
        axis.plot([row["batch"] for row in rows], rates, marker="o", label=engine)
    if found:
        axis.set_xscale("log", base=2)
        axis.set_ylim(bottom=0)
        axis.legend(fontsize=8)


def _draw_service(axis: Any, found: Result | None) -> None:
    axis.set_title("Whole service, documents/s")
    if not found:
        return
    bars = {f"sigctl, {n}": saturation(found["saturated"], n) for n in (1, 2)}
    bars |= {run["peer"]: median(_peer(found, run["peer"])) for run in found["peers"]}
    axis.barh(list(bars), list(bars.values()))
    axis.invert_yaxis()


def _draw_latency(axis: Any, found: Result | None) -> None:
    axis.set_title("Latency, ms by load")
    if not found:
        return
    loads = [f"{100 * row['share']:.0f} %" for row in found["latency"]]
    for name in ("p50", "p95", "p99"):
        axis.plot(loads, [row[name] for row in found["latency"]], marker="o", label=name)
    axis.set_ylim(bottom=0)
    axis.legend()
