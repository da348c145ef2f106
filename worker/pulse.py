"""Whether the loop that takes messages from the broker still turns.

The loop's own timer touches the pulse. While the broker is away the loop rests, and that is not a
fault: killing the worker would not bring the broker back.
"""

from __future__ import annotations

import threading
import time
from typing import Any

from celery import bootsteps

BEAT = 1.0
STILL = 30.0
"""Seconds without a beat after which the loop has stopped. Between two turns it waits for Redis at
most as long as `worker.app` lets a socket be silent, which is a third of this."""


class Pulse:
    """Touched by the loop, felt by the probes."""

    def __init__(self) -> None:
        self._touched: float | None = None
        self._resting = False
        self._lock = threading.Lock()

    def beat(self) -> None:
        """The loop turns."""
        with self._lock:
            self._touched, self._resting = time.monotonic(), False

    def rest(self) -> None:
        """The loop stands still on purpose: it is looking for the broker, or stopping."""
        with self._lock:
            self._resting = True

    def fault(self) -> str | None:
        """What is wrong with the loop, in a sentence."""
        with self._lock:
            touched, resting = self._touched, self._resting
        if touched is None:
            return "The worker has not begun to take messages."
        still = time.monotonic() - touched
        if not resting and still > STILL:
            return f"The loop that takes messages has stood still for {still:.0f} s."
        return None

    def absence(self) -> str | None:
        """Why no message is taken now although nothing is wrong with the loop, in a sentence."""
        return "The worker is not connected to its broker." if self._resting else None


PULSE = Pulse()


class PulseStep(bootsteps.StartStopStep):  # type: ignore[misc]
    """Part of Celery's consumer: started with each connection, stopped when it is lost."""

    requires = ("celery.worker.consumer:Connection",)

    def __init__(self, consumer: Any, **options: Any) -> None:
        super().__init__(consumer, **options)
        self._timer: Any = None

    def start(self, consumer: Any) -> None:
        """Let the loop's timer touch the pulse."""
        PULSE.beat()
        self._timer = consumer.timer.call_repeatedly(BEAT, PULSE.beat)

    def stop(self, _consumer: Any) -> None:
        """Expect no more beats."""
        if self._timer is not None:
            self._timer.cancel()
        PULSE.rest()
