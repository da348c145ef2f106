"""Many threads ask for one thing each; few threads answer them in batches."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Generic, TypeVar

from storage.errors import Transient
from worker import metrics
from worker.logs import get_logger

Item = TypeVar("Item")
Result = TypeVar("Result")

log = get_logger(__name__)


class ShuttingDown(Transient):
    """The worker is stopping; the job goes back to the queue."""

    code = "shutting_down"


class Batcher(Generic[Item, Result]):
    """Calls `run` with what is waiting, from `threads` threads, at most `size` items at a time.

    A thread that is free takes what waits. It lets the batch grow for up to `wait` seconds, but
    not beyond what `expected` says can come: a lone item never waits. At most `capacity` items
    queue up; whoever comes then is held at the door.

    `run` returns one result for each item, in order; one that is an exception is raised where its
    item came from. If it raises, all of the batch's callers see the error, except that after a
    MemoryError halves are tried, and no later batch is larger than what went through.
    """

    def __init__(
        self,
        run: Callable[[Sequence[Item]], Sequence[Result | Exception]],
        *,
        name: str,
        size: int,
        capacity: int,
        wait: float = 0.0,
        expected: Callable[[], int] = lambda: 1,
        threads: int = 1,
        patience: float | None = None,
    ) -> None:
        self._run, self._name = run, name
        self._wait, self._expected = wait, expected
        self._size = size
        self._patience = patience
        self._running: dict[int, float] = {}  # since when, by thread
        self._waiting: queue.Queue[tuple[Item, Future[Result]] | None] = queue.Queue(capacity)
        self._door = threading.Lock()
        self._closed = False
        self._threads = [
            threading.Thread(target=self._work, name=f"{name}-{number}", daemon=True)
            for number in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    def __call__(self, item: Item) -> Result:
        """The result for one item; blocks. Raises what `run` did, or ShuttingDown."""
        return self._asked(item).result()

    def all(self, items: Sequence[Item]) -> list[Result]:
        """The results for several, which need not share a batch; blocks, and raises the same."""
        asked = [self._asked(item) for item in items]
        return [future.result() for future in asked]

    def _asked(self, item: Item) -> Future[Result]:
        future: Future[Result] = Future()
        with self._door:
            if self._closed:
                raise ShuttingDown("the worker is stopping")
            self._waiting.put((item, future))
        return future

    def close(self) -> None:
        """Answer what was asked before, refuse what comes after, and let the threads go."""
        with self._door:
            if self._closed:
                return
            self._closed = True
            for _ in self._threads:
                self._waiting.put(None)
        for thread in self._threads:
            thread.join()

    def fault(self) -> str | None:
        """What keeps it from answering again, in a sentence: a dead thread, or a `run` that hangs.

        A run hangs when it takes longer than `patience` seconds; None is for as long as it likes.
        """
        if not self._closed and not all(thread.is_alive() for thread in self._threads):
            return f"A thread of the batches `{self._name}` has died."
        longest = time.monotonic() - min(list(self._running.values()), default=time.monotonic())
        if self._patience is not None and longest > self._patience:
            return f"A batch of `{self._name}` has been running for {longest:.0f} s."
        return None

    def _work(self) -> None:
        while (first := self._waiting.get()) is not None:
            batch, last = self._collect(first)
            self._answer(batch)
            if last:
                return

    def _collect(
        self, first: tuple[Item, Future[Result]]
    ) -> tuple[list[tuple[Item, Future[Result]]], bool]:
        """A batch that begins with `first`, and whether it is this thread's last."""
        batch = [first]
        until = time.monotonic() + self._wait
        while len(batch) < self._size:
            left = until - time.monotonic() if len(batch) < self._expected() else 0.0
            try:
                item = self._waiting.get(timeout=left) if left > 0 else self._waiting.get_nowait()
            except queue.Empty:
                break
            if item is None:
                return batch, True
            batch.append(item)
        return batch, False

    def _answer(self, batch: Sequence[tuple[Item, Future[Result]]]) -> None:
        try:
            results = self._measured([item for item, _ in batch])
        except MemoryError as error:
            if len(batch) == 1:
                batch[0][1].set_exception(error)
                return
            self._shrink(len(batch) // 2)
            self._answer(batch[: len(batch) // 2])
            self._answer(batch[len(batch) // 2 :])
        except BaseException as error:
            for _, future in batch:
                future.set_exception(error)
        else:
            for (_, future), result in zip(batch, results, strict=True):
                if isinstance(result, Exception):
                    future.set_exception(result)
                else:
                    future.set_result(result)

    def _measured(self, items: Sequence[Item]) -> Sequence[Result | Exception]:
        thread = threading.get_ident()
        self._running[thread] = time.monotonic()
        try:
            with metrics.batch(self._name, len(items)):
                return self._run(items)
        finally:
            del self._running[thread]

    def _shrink(self, size: int) -> None:
        if size < self._size:
            log.warning("batches_halved", batcher=self._name, size=size)
            self._size = size
