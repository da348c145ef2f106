"""Preparing the next batches on other threads while the network works on this one."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def prefetch(
    prepare: Callable[[Item], Result], items: Iterable[Item], *, workers: int, ahead: int
) -> Iterator[Result]:
    """`map(prepare, items)`, in order, with up to `ahead` results prepared before they are asked.

    Threads suffice, for OpenCV lets go of the interpreter's lock. The order of results does not
    depend on the threads; what is random must come with the item.

    >>> list(prefetch(abs, [-1, -2, 3], workers=2, ahead=2))
    [1, 2, 3]
    """
    pool = ThreadPoolExecutor(workers, thread_name_prefix="loading")
    waiting: deque[Future[Result]] = deque()
    try:
        for item in items:
            waiting.append(pool.submit(prepare, item))
            if len(waiting) > ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:  # also when nobody asks for the rest
        pool.shutdown(cancel_futures=True)
