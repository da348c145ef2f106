"""Worker processes that are kept alive whatever happens to them."""

from __future__ import annotations

import os
import random
import signal
import sysconfig
import threading
import time
from collections import Counter
from pathlib import Path

from bench.service import Service, Worker

STOP_SECONDS = 60.0
LIBFAKETIME = Path(sysconfig.get_path("purelib"), "libfaketime/vendor/libfaketime/src")
PRELOAD = LIBFAKETIME / "libfaketime.so.1"


class Crew:
    """So many places, each with a worker; one that ends is replaced at once.

    The clock of each place can be moved, where libfaketime is installed.
    """

    def __init__(self, service: Service, places: int, rng: random.Random) -> None:
        self._service, self._rng = service, rng
        self._lock = threading.Lock()
        self._started: Counter[int] = Counter()
        self.logs: list[Path] = []
        for place in range(places):
            self._clock(place).write_text("+0")
        self._workers = [self._start(place) for place in range(places)]

    def await_ready(self) -> float:
        """Wait until all take jobs; returns how many seconds that took."""
        begun = time.monotonic()
        for worker in self._workers:
            worker.await_ready()
        return time.monotonic() - begun

    def kill(self) -> None:
        """SIGKILL a worker, whatever it is doing."""
        self._end(signal.SIGKILL)

    def stop_one(self) -> None:
        """SIGTERM a worker, which finishes or returns what it holds. Raises if it does not go."""
        self._end(signal.SIGTERM)

    def move_clock(self, by: int, seconds: float) -> None:
        """Set the clock of one place off by so much, for so many seconds."""
        clock = self._clock(self._rng.randrange(len(self._workers)))
        clock.write_text(f"{by:+d}")
        time.sleep(seconds)
        clock.write_text("+0")

    def keep(self) -> None:
        """Replace workers that have ended by themselves."""
        with self._lock:
            for place, worker in enumerate(self._workers):
                if worker.process.poll() is not None:
                    self._workers[place] = self._start(place)

    def close(self) -> None:
        """Stop all."""
        with self._lock:
            for worker in self._workers:
                worker.stop()

    def log_lines(self, event: str) -> int:
        """How many lines of all logs tell of that event."""
        return sum(f'"event": "{event}"' in line for log in self.logs for line in log.open())

    def _end(self, number: signal.Signals) -> None:
        with self._lock:
            place = self._rng.randrange(len(self._workers))
            process = self._workers[place].process
            process.send_signal(number)
            process.wait(STOP_SECONDS)
            self._workers[place] = self._start(place)

    def _start(self, place: int) -> Worker:
        number = self._started[place]
        self._started[place] += 1
        log = self._service.folder / f"worker-{place}-{number}.log"
        self.logs.append(log)
        env = {**self._service.env, **self._faketime(place)}
        # One of them looks for forgotten jobs.
        return Worker(env, log, *(["--beat"] if place == 0 else []))

    def _clock(self, place: int) -> Path:
        return self._service.folder / f"clock-{place}"

    def _faketime(self, place: int) -> dict[str, str]:
        if not PRELOAD.is_file():
            return {}
        return {
            "LD_PRELOAD": f"{PRELOAD}{os.pathsep}{os.environ.get('LD_PRELOAD', '')}".rstrip(":"),
            "FAKETIME_TIMESTAMP_FILE": str(self._clock(place)),
            "FAKETIME_CACHE_DURATION": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }
