"""How long each stage of a job took."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from worker import metrics


class Stopwatch:
    """Milliseconds by stage, and in all since it was made."""

    def __init__(self) -> None:
        self._began = time.perf_counter()
        self._stages: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time what runs inside; a stage that fails counts as well."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self._stages[f"{name}_ms"] = spent = _milliseconds_since(began)
            metrics.STAGE_SECONDS.labels(name).observe(spent / 1000)

    def columns(self) -> dict[str, float]:
        """`fetch_ms`, ... of the stages so far, and `total_ms` until now."""
        return {**self._stages, "total_ms": _milliseconds_since(self._began)}


def _milliseconds_since(moment: float) -> float:
    return round((time.perf_counter() - moment) * 1000, 3)
