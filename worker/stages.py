"""How a job is begun, embedded and decided: by itself, or together with the jobs beside it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

from model.arrays import Canvas, Vector
from worker import metrics
from worker.batching import Batcher
from worker.ledger import Begun, Case, Ledger
from worker.messages import VerifyRequest
from worker.outcome import Outcome

if TYPE_CHECKING:
    from model.inference import Embedder

Item = TypeVar("Item")
Result = TypeVar("Result")

JOBS = 32
"""Most jobs in one transaction."""

WAIT = 0.005
"""Seconds that a transaction or a batch waits for the other jobs at work. A transaction with eight
decisions costs a third of eight with one; waiting longer leaves a core idle."""


HUNG = 120.0
"""Seconds after which a run of the network has hung; one takes a second on the slowest machine.
Transactions have no such limit: a database that is away must not get its workers killed."""


@dataclass(frozen=True, kw_only=True)
class Stages:
    """The steps of a job that can be shared; each takes one job's part and blocks.

    `embed` takes a canvas (1, H, W) to an embedding (D,), in the reference arithmetic if `exact`.
    `begin` and `decide` raise what `Ledger` has for the job. A job is held `at_work` throughout,
    so that nobody waits for jobs that are not there. `fault` says what keeps the stages from ever
    answering again, if anything does.
    """

    begin: Callable[[VerifyRequest], Begun]
    embed: Callable[[Canvas], Vector]
    decide: Callable[[Case], Outcome]
    exact: bool
    at_work: AbstractContextManager[object] = field(default_factory=nullcontext)
    close: Callable[[], None] = lambda: None
    fault: Callable[[], str | None] = lambda: None


@dataclass(kw_only=True, eq=False)
class Serving:
    """A model and the stages that embed and decide with it; `users` are the jobs at work there.

    A job has one of these from its beginning to its decision, so none is decided by two models.
    """

    embedder: Embedder
    stages: Stages | None
    users: int = 0

    def fault(self) -> str | None:
        """What keeps the stages from ever answering again."""
        return None if self.stages is None else self.stages.fault()

    def close(self) -> None:
        """Finish what waits in the stages."""
        if self.stages is not None:
            self.stages.close()


def alone(ledger: Ledger, embedder: Embedder, far: str | None) -> Stages:
    """Each job by itself, in the reference arithmetic: for one document, here and now."""
    return Stages(
        begin=lambda request: _only(ledger.begin([request])),
        embed=lambda canvas: embedder.embed([canvas], exact=True)[0],
        decide=lambda case: _only(ledger.decide([case], embedder, far)),
        exact=True,
    )


class _Crowd:
    """Counts who is inside."""

    def __init__(self) -> None:
        self._inside = 0
        self._lock = threading.Lock()

    def __enter__(self) -> None:
        with self._lock:
            self._inside += 1
        metrics.JOBS_AT_WORK.inc()

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
        metrics.JOBS_AT_WORK.dec()

    def count(self) -> int:
        return self._inside


def together(
    ledger: Ledger,
    embedder: Embedder,
    far: str | None,
    *,
    threads: int,
    batch: int | None = None,
) -> Stages:
    """Jobs from `threads` threads in batches, embedded as fast as the device can.

    At most `batch` are embedded at once, or as many as the engine likes.
    """
    crowd, engine = _Crowd(), embedder.engine

    def batched(
        run: Callable[[Sequence[Item]], Sequence[Result | Exception]],
        name: str,
        *,
        size: int = JOBS,
        lanes: int = 1,
        patience: float | None = None,
    ) -> Batcher[Item, Result]:
        return Batcher(
            run,
            name=name,
            size=size,
            capacity=threads,
            wait=WAIT,
            expected=crowd.count,
            threads=lanes,
            patience=patience,
        )

    begin: Batcher[VerifyRequest, Begun] = batched(ledger.begin, "begin")
    embed: Batcher[Canvas, Vector] = batched(
        lambda canvases: list(embedder.embed(canvases)),
        "embed",
        size=batch or engine.batch,
        lanes=engine.lanes,
        patience=HUNG,
    )
    decide: Batcher[Case, Outcome] = batched(
        lambda cases: ledger.decide(cases, embedder, far), "decide"
    )

    def close() -> None:
        for batcher in (begin, embed, decide):
            batcher.close()

    def fault() -> str | None:
        return begin.fault() or embed.fault() or decide.fault()

    return Stages(
        begin=begin,
        embed=embed,
        decide=decide,
        exact=False,
        at_work=crowd,
        close=close,
        fault=fault,
    )


def _only(results: Sequence[Result | Exception]) -> Result:
    (result,) = results
    if isinstance(result, Exception):
        raise result
    return result
