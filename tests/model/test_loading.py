"""Batches come in order whatever the threads do, and nothing runs on after the last is taken."""

import threading
import time

import pytest

from model.loading import prefetch


def test_results_keep_the_order_of_their_items():
    def slow_at_first(item):
        time.sleep(0.02 if item == 0 else 0)
        return item

    assert list(prefetch(slow_at_first, range(10), workers=4, ahead=3)) == list(range(10))


def test_no_more_is_prepared_ahead_than_asked():
    begun = []
    results = prefetch(lambda item: begun.append(item) or item, range(100), workers=2, ahead=3)
    assert next(results) == 0
    results.close()
    assert len(begun) <= 5


def test_an_error_reaches_whoever_asks_and_stops_the_threads():
    def fail(item):
        raise ValueError(f"item {item}")

    with pytest.raises(ValueError, match="item 0"):
        list(prefetch(fail, range(100), workers=2, ahead=2))
    assert not [t for t in threading.enumerate() if t.name.startswith("loading")]
