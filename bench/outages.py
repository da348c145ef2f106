"""What can happen to the servers of a service and to its disk, one function each."""

from __future__ import annotations

import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from tests.services import Server

AWAY_SECONDS = 1.0
DISK_BYTES = 16 * 2**20


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


@contextmanager
def small_disk() -> Iterator[Path | None]:
    """A file system of DISK_BYTES of its own; None where nobody may mount one."""
    with tempfile.TemporaryDirectory() as folder:
        mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", folder]
        mounted = subprocess.run(mount, capture_output=True, check=False).returncode == 0
        try:
            yield Path(folder) if mounted else None
        finally:
            if mounted:
                subprocess.run(["umount", "--lazy", folder], check=True)


def fill(disk: Path, seconds: float) -> None:
    """Leave no byte free for so long."""
    ballast = disk / "ballast"
    try:
        with ballast.open("wb", buffering=0) as file:
            for size in (2**20, 2**12, 1):
                with suppress(OSError):
                    while True:
                        file.write(bytes(size))
        time.sleep(seconds)
    finally:
        ballast.unlink()
