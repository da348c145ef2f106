"""A process that has imported what takes a worker seconds, and waits to be told what to do.

To start a worker costs four seconds of a core, three of them for libraries. One process imports
them while the test before runs, and becomes the next worker: a process of its own as any other,
with its settings read only then.
"""

from __future__ import annotations

import atexit
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib import import_module
from pathlib import Path

ROOT = Path(__file__).parents[1]
LIBRARIES = (
    *("alembic.command", "boto3", "celery.bin.worker", "psycopg"),
    *("model.inference", "model.openvino_engine"),
)


class Standby:
    """At most one process that waits; it ends when the tests end."""

    def __init__(self) -> None:
        self._waiting: subprocess.Popen[bytes] | None = None
        atexit.register(self._end)

    def begin(self) -> None:
        """Let a process wait, if none does."""
        if self._waiting is None or self._waiting.poll() is not None:
            self._waiting = subprocess.Popen(
                [sys.executable, "-m", "tests.standby"],
                cwd=ROOT,
                env=surroundings(),
                stdin=subprocess.PIPE,
            )

    def sigctl(
        self, arguments: Sequence[str], env: Mapping[str, str], *, out: Path, log: Path
    ) -> subprocess.Popen[bytes]:
        """A process that is `sigctl` with these arguments; another one begins to wait."""
        self.begin()
        process, self._waiting = self._waiting, None
        assert process is not None
        told = {"arguments": [*arguments], "env": {**env}, "out": str(out), "log": str(log)}
        assert process.stdin is not None
        with process.stdin as line:
            line.write(json.dumps(told).encode())
        self.begin()
        return process

    def _end(self) -> None:
        if self._waiting is not None:
            with self._waiting as process, suppress(OSError):
                process.kill()


def surroundings() -> dict[str, str]:
    """The environment of a worker, but for its settings."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith("SIGCTL_")}
    return ours | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}


def main() -> int:
    """Import the libraries, read what to do, and do it."""
    for name in LIBRARIES:
        import_module(name)
    from model.backbone import import_timm

    import_timm()
    told = sys.stdin.read()
    if not told:
        return 0
    wanted = json.loads(told)
    os.environ.update(wanted["env"])
    for number, path in ((1, wanted["out"]), (2, wanted["log"])):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND), number)
    from worker.cli.main import main as sigctl

    return sigctl(wanted["arguments"])


if __name__ == "__main__":
    sys.exit(main())
