"""What the batcher promises; nothing here sleeps, threads meet at barriers and events."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest

from worker.batching import Batcher, ShuttingDown

PATIENCE = 30.0


class Held:
    """A `run` that begins when the test lets it, and remembers its batches."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.entered = threading.Semaphore(0)
        self.go = threading.Semaphore(0)

    def __call__(self, items: Sequence[int]) -> list[int]:
        self.entered.release()
        assert self.go.acquire(timeout=PATIENCE)
        self.batches.append(list(items))
        return [10 * item for item in items]


@contextmanager
def batcher(run: Callable[..., Any], **options: Any) -> Iterator[Batcher[Any, Any]]:
    usual = {"name": "test", "size": 4, "capacity": 16}
    made: Batcher[Any, Any] = Batcher(run, **usual | options)
    try:
        yield made
    finally:
        made.close()


def waiting(made: Batcher[Any, Any], count: int) -> None:
    """Return once so many items are queued up."""
    for _ in range(10_000_000):
        if made._waiting.qsize() >= count:
            return
    raise AssertionError(f"only {made._waiting.qsize()} of {count} items came")


def ask(pool: ThreadPoolExecutor, made: Batcher[Any, Any], *items: Any) -> list[Future[Any]]:
    """Ask in this order: the next caller comes when the one before is in the queue."""
    futures = []
    for item in items:
        before = made._waiting.qsize()
        futures.append(pool.submit(made, item))
        waiting(made, before + 1)
    return futures


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(32) as made:
        yield made


def test_a_lone_item_goes_at_once_and_what_comes_meanwhile_goes_together(
    pool: ThreadPoolExecutor,
) -> None:
    run = Held()
    with batcher(run) as made:
        first = pool.submit(made, 1)
        assert run.entered.acquire(timeout=PATIENCE)
        rest = ask(pool, made, 2, 3, 4, 5, 6)
        run.go.release(3)
        assert [future.result(PATIENCE) for future in (first, *rest)] == [10, 20, 30, 40, 50, 60]
    assert run.batches == [[1], [2, 3, 4, 5], [6]]


def test_a_batch_waits_only_for_as_many_as_can_come(pool: ThreadPoolExecutor) -> None:
    run = Held()
    run.go.release(9)
    with batcher(run, wait=3600.0, expected=lambda: 3) as made:
        futures = [pool.submit(made, item) for item in (1, 2, 3)]
        assert sorted(future.result(PATIENCE) for future in futures) == [10, 20, 30]
    assert [sorted(batch) for batch in run.batches] == [[1, 2, 3]]


def test_each_thread_works_on_a_batch_of_its_own(pool: ThreadPoolExecutor) -> None:
    run = Held()
    with batcher(run, size=1, threads=2) as made:
        futures = [pool.submit(made, item) for item in (1, 2)]
        assert run.entered.acquire(timeout=PATIENCE)
        assert run.entered.acquire(timeout=PATIENCE)
        run.go.release(2)
        assert [future.result(PATIENCE) for future in futures] == [10, 20]


def test_an_error_of_one_item_is_its_callers_alone(pool: ThreadPoolExecutor) -> None:
    def run(items: Sequence[int]) -> list[int | Exception]:
        return [ValueError("odd") if item % 2 else item for item in items]

    with batcher(run, wait=3600.0, expected=lambda: 4) as made:
        futures = [pool.submit(made, item) for item in range(4)]
        assert [futures[item].result(PATIENCE) for item in (0, 2)] == [0, 2]
        for item in (1, 3):
            with pytest.raises(ValueError, match="odd"):
                futures[item].result(PATIENCE)


def test_an_error_of_the_batch_reaches_all_callers_and_the_next_batch_is_served(
    pool: ThreadPoolExecutor,
) -> None:
    errors: list[Exception] = [RuntimeError("away")]

    def run(items: Sequence[int]) -> Sequence[int]:
        if errors:
            raise errors.pop()
        return items

    with batcher(run, wait=3600.0, expected=lambda: 3) as made:
        futures = [pool.submit(made, item) for item in range(3)]
        for future in futures:
            with pytest.raises(RuntimeError, match="away"):
                future.result(PATIENCE)
        futures = [pool.submit(made, item) for item in range(3)]
        assert [future.result(PATIENCE) for future in futures] == [0, 1, 2]


def test_out_of_memory_halves_the_batch_and_later_batches_stay_small(
    pool: ThreadPoolExecutor,
) -> None:
    tried: list[int] = []

    def run(items: Sequence[int]) -> Sequence[int]:
        tried.append(len(items))
        if len(items) > 2:
            raise MemoryError
        return items

    with batcher(run, size=8, wait=3600.0, expected=lambda: 8) as made:
        futures = [pool.submit(made, item) for item in range(8)]
        assert [future.result(PATIENCE) for future in futures] == list(range(8))
        assert tried == [8, 4, 2, 2, 4, 2, 2]
        tried.clear()
        futures = [pool.submit(made, item) for item in range(8)]
        assert [future.result(PATIENCE) for future in futures] == list(range(8))
        assert max(tried) == 2


def test_one_item_that_does_not_fit_fails_alone(pool: ThreadPoolExecutor) -> None:
    def run(items: Sequence[int]) -> Sequence[int]:
        if 2 in items:
            raise MemoryError
        return items

    with batcher(run, wait=3600.0, expected=lambda: 4) as made:
        futures = [pool.submit(made, item) for item in range(4)]
        assert [futures[item].result(PATIENCE) for item in (0, 1, 3)] == [0, 1, 3]
        with pytest.raises(MemoryError):
            futures[2].result(PATIENCE)


def test_a_full_queue_holds_callers_at_the_door(pool: ThreadPoolExecutor) -> None:
    run = Held()
    with batcher(run, size=1, capacity=2) as made:
        first = pool.submit(made, 0)
        assert run.entered.acquire(timeout=PATIENCE)
        rest = ask(pool, made, 1, 2)
        late = pool.submit(made, 3)
        assert made._waiting.qsize() == 2
        run.go.release(4)
        assert [future.result(PATIENCE) for future in (first, *rest, late)] == [0, 10, 20, 30]


def test_closing_answers_what_was_asked_and_refuses_what_comes_after(
    pool: ThreadPoolExecutor,
) -> None:
    run = Held()
    with batcher(run) as made:
        first = pool.submit(made, 1)
        assert run.entered.acquire(timeout=PATIENCE)
        rest = ask(pool, made, 2, 3)
        closing = pool.submit(made.close)
        waiting(made, 3)  # the two and the sign to stop
        run.go.release(2)
        assert [future.result(PATIENCE) for future in (first, *rest)] == [10, 20, 30]
        closing.result(PATIENCE)
        with pytest.raises(ShuttingDown, match="stopping"):
            made(4)
    assert not any(thread.is_alive() for thread in made._threads)


def test_hundreds_of_callers_get_their_own_results(pool: ThreadPoolExecutor) -> None:
    def run(items: Sequence[int]) -> list[int]:
        return [item * item for item in items]

    with batcher(run, size=8, capacity=4, threads=3) as made:
        assert list(pool.map(made, range(500))) == [item * item for item in range(500)]


def test_a_run_that_takes_too_long_is_a_fault_only_where_there_is_a_limit() -> None:
    run = Held()
    with (
        batcher(run, patience=0.0, name="embed") as impatient,
        batcher(run, name="decide") as patient,
        ThreadPoolExecutor() as pool,
    ):
        assert impatient.fault() is None
        asked = [pool.submit(made, 1) for made in (impatient, patient)]
        for _ in asked:
            assert run.entered.acquire(timeout=PATIENCE)
        assert "A batch of `embed` has been running for" in (impatient.fault() or "")
        assert patient.fault() is None
        run.go.release(2)
        assert [future.result(PATIENCE) for future in asked] == [10, 10]
        assert impatient.fault() is None


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_thread_that_has_died_is_a_fault() -> None:
    def fail() -> int:
        raise RuntimeError("a bug")

    made: Batcher[int, int] = Batcher(list, name="begin", size=4, capacity=4, wait=1, expected=fail)
    threading.Thread(target=made, args=(1,), daemon=True).start()  # waits for ever
    made._threads[0].join(PATIENCE)
    assert made.fault() == "A thread of the batches `begin` has died."


def test_several_items_of_one_caller_are_answered_in_order_over_as_many_batches_as_they_take() -> (
    None
):
    run = Held()
    with batcher(run, size=2) as made, ThreadPoolExecutor(1) as pool:
        future = pool.submit(made.all, [1, 2, 3, 4, 5])
        run.go.release(5)
        assert future.result(PATIENCE) == [10, 20, 30, 40, 50]
    assert [item for batch in run.batches for item in batch] == [1, 2, 3, 4, 5]
    assert max(map(len, run.batches)) == 2


def test_one_of_several_that_fails_is_raised_where_they_came_from() -> None:
    wrong = ValueError("three")
    with batcher(lambda items: [wrong if item == 3 else item for item in items]) as made:
        assert made.all([1, 2]) == [1, 2]
        with pytest.raises(ValueError, match="three"):
            made.all([1, 2, 3])
