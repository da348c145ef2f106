"""Broken and hostile files, thousands of them, through the decoders into decisions.

    python -m bench.fuzz [--count 20000] [--seed 1] [--checkpoint FILE] [--data CORPUS]

Each file ends in a decision or in a failure with a code, within the limits of memory and time, and
none that holds no signature is accepted. What breaks a promise is kept in OUTPUT/fuzz, and the
exit code is 1. The same seed gives the same files.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from random import Random

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from bench.documents import REFERENCES, corpus
from bench.mutants import mutate
from bench.seeds import Seed, enrolled, seeds
from model.arrays import Canvas, Vector
from model.errors import ModelError
from model.files import write_atomically
from model.inference import Embedder, load_embedder
from model.scoring import OPERATING_POINTS, Verdict, judge
from storage.errors import StorageError
from worker.ledger import too_close
from worker.sandbox import MEMORY, Sandbox
from worker.settings import Settings

TOGETHER = 64  # files decoded before those that show ink are embedded together
POINTS = (*OPERATING_POINTS, None)  # None is the balanced threshold
CRASHES = ("decoder_crashed", "internal_error")


@dataclass(frozen=True, kw_only=True)
class Mutant:
    """A broken file. `signature` says whether any part of it comes from one that shows one."""

    number: int
    signature: bool
    data: bytes


@dataclass(frozen=True, kw_only=True, eq=False)
class Decoded:
    """What decoding came to: a canvas (1, H, W), or a code."""

    mutant: Mutant
    seconds: float
    canvas: Canvas | None = None
    code: str | None = None


@dataclass(kw_only=True)
class Tally:
    """Counts so far. `outcomes` by code or "decided"; `accepted` by operating point."""

    files: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    slowest: dict[str, float] = field(default_factory=dict)
    accepted: Counter[str] = field(default_factory=Counter)
    accepted_without_signature: Counter[str] = field(default_factory=Counter)
    decided_without_signature: int = 0
    peak_megabytes: float = 0.0


class Claims:
    """Signers that are enrolled: each picture that shows ink is claimed to be by every one."""

    def __init__(self, embedder: Embedder, specimens: Sequence[Sequence[bytes]]) -> None:
        self._embedder = embedder
        self.preprocessing = embedder.preprocessing
        self._references = [
            embedder.embed([embedder.prepare(data) for data in some], exact=True)
            for some in specimens
        ]

    def accepted(self, canvases: Sequence[Canvas]) -> list[list[str]]:
        """For each canvas the operating points at which some signer's claim is accepted."""
        vectors = self._embedder.embed(canvases) if canvases else []
        return [
            [far or "balanced" for far in POINTS if self._any(canvas, vector, far)]
            for canvas, vector in zip(canvases, vectors, strict=True)
        ]

    def _any(self, canvas: Canvas, vector: Vector, far: str | None) -> bool:
        scoring = self._embedder.scoring
        for references in self._references:
            found = judge(vector, references, scoring, far=far)
            if too_close(found, self._embedder.tolerance):
                exact = self._embedder.embed([canvas], exact=True)[0]
                found = judge(exact, references, scoring, far=far)
            if found.verdict is Verdict.ACCEPT:
                return True
        return False


def mutants(seed: int, count: int) -> Iterator[Mutant]:
    """The sound files themselves, then broken ones."""
    sound = seeds(seed)
    for number in range(count):
        if number < len(sound):
            one = sound[number]
            yield Mutant(number=number, signature=one.signature, data=one.data)
        else:
            yield _broken(number, sound, Random(f"{seed}-{number}"))


def _broken(number: int, sound: Sequence[Seed], rng: Random) -> Mutant:
    """What shows no signature is never mixed with what shows one."""
    one = rng.choice(sound)
    donors = [other.data for other in sound if other.signature == one.signature]
    data = mutate(one.data, rng, donors)
    return Mutant(number=number, signature=one.signature, data=data)


def run(
    files: Iterator[Mutant],
    tally: Tally,
    sandbox: Sandbox,
    claims: Claims,
    *,
    threads: int,
    keep: Path | None = None,
) -> Iterator[int]:
    """Fill the tally, file after file, and say after each batch how many there were.

    `keep` is where files go that break a promise.
    """

    def decode(mutant: Mutant) -> Decoded:
        began = time.monotonic()
        try:
            canvas = sandbox.look(mutant.data, claims.preprocessing).canvas
        except (ModelError, StorageError) as error:
            seconds = time.monotonic() - began
            return Decoded(mutant=mutant, seconds=seconds, code=error.code)
        return Decoded(mutant=mutant, seconds=time.monotonic() - began, canvas=canvas)

    with ThreadPoolExecutor(threads) as pool:
        while some := list(islice(files, TOGETHER)):
            _count(tally, list(pool.map(decode, some)), claims, keep)
            yield tally.files


def _count(tally: Tally, decoded: Sequence[Decoded], claims: Claims, keep: Path | None) -> None:
    shown = [one for one in decoded if one.canvas is not None]
    accepted = claims.accepted([one.canvas for one in shown if one.canvas is not None])
    points = {one.mutant.number: some for one, some in zip(shown, accepted, strict=True)}
    for one in decoded:
        outcome, some = one.code or "decided", points.get(one.mutant.number, [])
        tally.files += 1
        tally.outcomes[outcome] += 1
        tally.slowest[outcome] = max(tally.slowest.get(outcome, 0.0), one.seconds)
        tally.accepted.update(some)
        if not one.mutant.signature:
            tally.decided_without_signature += one.code is None
            tally.accepted_without_signature.update(some)
        if keep is not None and (outcome in CRASHES or (some and not one.mutant.signature)):
            keep.mkdir(parents=True, exist_ok=True)
            (keep / f"{one.mutant.number}-{outcome}.bin").write_bytes(one.mutant.data)


def broken_promises(tally: Tally, *, seconds: float, memory: int) -> list[str]:
    """One sentence for each promise that did not hold."""
    found = [
        f"{count} files without a signature were accepted at {point}."
        for point, count in tally.accepted_without_signature.items()
    ]
    found += [f"{tally.outcomes[code]} files: {code}." for code in CRASHES if tally.outcomes[code]]
    slowest = max(tally.slowest.values(), default=0.0)
    if slowest > 1.1 * seconds + 1:  # a child that is killed takes a moment to go
        found.append(f"A file took {slowest:.1f} s; the limit is {seconds:g}.")
    if tally.peak_megabytes * 2**20 > memory:
        found.append(f"A decoder took {tally.peak_megabytes:.0f} MB.")
    return found


def main() -> None:
    """Break, decode, decide, count; write fuzz.json."""
    options = _options()
    tally, stopped, began = Tally(), False, time.monotonic()
    try:
        _fuzz(options, tally)
    except KeyboardInterrupt:
        stopped = True
    tally.peak_megabytes = peak_megabytes()
    broken = broken_promises(tally, seconds=options.seconds, memory=options.memory)
    _tell(tally, broken, time.monotonic() - began)
    options.output.mkdir(parents=True, exist_ok=True)
    found = {"seed": options.seed, "stopped": stopped, "broken": broken, **vars(tally)}
    write_atomically(options.output / "fuzz.json", (json.dumps(found, indent=2) + "\n").encode())
    sys.exit(130 if stopped else bool(broken))


def _fuzz(options: argparse.Namespace, tally: Tally) -> None:
    embedder = load_embedder(options.checkpoint, lanes=1)
    with tempfile.TemporaryDirectory() as made:
        signers = corpus(options.data, Path(made)).signers
        others = [[path.read_bytes() for path in s.genuine[:REFERENCES]] for s in signers]
    claims = Claims(embedder, [*enrolled(options.seed, REFERENCES), *others])
    threads = Settings().decoders
    sandbox = Sandbox(children=threads, seconds=options.seconds, memory=options.memory)
    with closing(sandbox):
        files, keep = mutants(options.seed, options.count), options.output / "fuzz"
        watched(run(files, tally, sandbox, claims, threads=threads, keep=keep), options.count)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.fuzz", description=__doc__)
    default = Path("checkpoints/siamese_vision_mamba_tiny.pt")
    parser.add_argument("--count", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--data", type=Path, help="a corpus in the CEDAR layout, to be enrolled")
    parser.add_argument("--checkpoint", type=Path, default=default)
    parser.add_argument("--seconds", type=float, default=20.0, help="for one file")
    parser.add_argument("--memory", type=int, default=MEMORY, help="bytes for one decoder")
    parser.add_argument("--output", type=Path, default=Path("bench-output"))
    return parser.parse_args()


def watched(steps: Iterator[int], total: int) -> None:
    """Go through the steps and show how many are done and how long the rest takes."""
    columns = (TextColumn("Fuzzing"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, transient=True) as progress:
        task = progress.add_task("", total=total)
        for done in steps:
            progress.update(task, completed=done)


def peak_megabytes() -> float:
    """Resident memory of the largest child that has ended."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * unit / 2**20


def _tell(tally: Tally, broken: Sequence[str], seconds: float) -> None:
    print("| outcome | files | share | slowest |\n|---|---|---|---|")
    for outcome, count in tally.outcomes.most_common():
        share, slowest = 100 * count / tally.files, tally.slowest[outcome]
        print(f"| {outcome} | {count:,} | {share:.1f} % | {slowest:.2f} s |")
    peak = f"{tally.peak_megabytes:.0f} MB"
    print(f"\n{tally.files:,} files in {seconds:.0f} s, largest decoder {peak}.")
    for far in POINTS:
        point = far or "balanced"
        wrong = tally.accepted_without_signature[point]
        print(
            f"Accepted at {point}: {tally.accepted[point] - wrong:,} that show a signature, {wrong}"
            f" of {tally.decided_without_signature:,} others that show ink."
        )
    for sentence in broken:
        print(sentence)


if __name__ == "__main__":
    main()
