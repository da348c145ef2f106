"""`sigctl worker` in which every document named `deadly` ends the process, as a fault in native
code or the kernel's memory killer would. Run by the tests as a process of its own.
"""

from __future__ import annotations

import os
import signal
import sys

from storage.images import Images
from worker.cli.main import main

fetch = Images.fetch


def deadly(self: Images, uri: str) -> bytes:
    if "deadly" in uri:
        os.kill(os.getpid(), signal.SIGKILL)
    return fetch(self, uri)


if __name__ == "__main__":
    Images.fetch = deadly  # type: ignore[method-assign]
    sys.exit(main(["worker"]))
