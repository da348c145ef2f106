"""What can happen to the servers of a service, one function each."""

from __future__ import annotations

import shutil
import signal
import time

import psutil

from tests.services import Server

AWAY_SECONDS = 1.0


def restart(server: Server) -> None:
    """Stop it, and start it again a second later with what it kept."""
    server.stop()
    time.sleep(AWAY_SECONDS)
    server.start()


def lose_memory(redis: Server) -> None:
    """Restart Redis without what it had."""
    redis.stop()
    shutil.rmtree(redis.folder / "appendonlydir")
    redis.start()


def cut(server: Server, seconds: float) -> None:
    """Let it hang: connections stand, and nothing answers on them."""
    assert server.process is not None
    parent = psutil.Process(server.process.pid)
    processes = [parent, *parent.children(recursive=True)]
    _signal(processes, signal.SIGSTOP)
    time.sleep(seconds)
    _signal(processes, signal.SIGCONT)


def _signal(processes: list[psutil.Process], number: signal.Signals) -> None:
    for process in processes:
        try:
            process.send_signal(number)
        except psutil.NoSuchProcess:
            continue
