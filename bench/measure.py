"""Timings that can be compared on a machine that is not quiet: interleaved, with their spread."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from rich.progress import track


@dataclass(frozen=True, kw_only=True)
class Rates:
    """Units a second, one number for each round."""

    rounds: tuple[float, ...]

    @property
    def median(self) -> float:
        """The middle one, which a busy moment does not move."""
        return float(np.median(self.rounds))

    @property
    def spread(self) -> tuple[float, float]:
        """The slowest and the fastest round."""
        return min(self.rounds), max(self.rounds)

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        return {"median": self.median, "rounds": list(self.rounds)}


def interleaved(
    candidates: Mapping[str, Callable[[], int]],
    *,
    rounds: int = 5,
    seconds: float = 1.0,
    title: str = "Measuring",
) -> dict[str, Rates]:
    """How many units a second each candidate does; a call returns how many it did.

    Each is called once to warm up. Then, round after round, each is called for `seconds`: what
    slows the machine down for a while slows all of them.
    """
    for candidate in candidates.values():
        candidate()
    found: dict[str, list[float]] = {name: [] for name in candidates}
    for _ in track(range(rounds), title, transient=True):
        for name, candidate in candidates.items():
            found[name].append(_rate(candidate, seconds))
    return {name: Rates(rounds=tuple(rates)) for name, rates in found.items()}


def ratio(above: Rates, below: Rates) -> Rates:
    """One as a multiple of another, round by round."""
    pairs = zip(above.rounds, below.rounds, strict=True)
    return Rates(rounds=tuple(first / second for first, second in pairs))


def _rate(candidate: Callable[[], int], seconds: float) -> float:
    began = time.perf_counter()
    units = 0
    while (passed := time.perf_counter() - began) < seconds:
        units += candidate()
    return units / passed
