"""`sigctl` in a process that is killed: a moment after so many steps of a retraining.

python -m tests.killed_sigctl STEPS SECONDS retrain ...
"""

import os
import signal
import sys
import threading

from worker.cli.main import main
from worker.retrain_run import Watch


def kill_after(steps: int, seconds: float) -> None:
    """Let the kernel end this process, as it would for want of memory: nothing is tidied up."""
    step, left = Watch.step, [steps]

    def counted(watch: Watch, doing: str, done: int, total: int) -> None:
        left[0] -= 1
        if left[0] == 0:
            threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGKILL)).start()
        step(watch, doing, done, total)

    Watch.step = counted  # type: ignore[method-assign]


if __name__ == "__main__":
    kill_after(int(sys.argv[1]), float(sys.argv[2]))
    sys.exit(main(sys.argv[3:]))
