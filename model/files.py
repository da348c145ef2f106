"""Writing a file whole or not at all."""

import os
import tempfile
from pathlib import Path

from .errors import FileNotWritten


def write_atomically(path: Path, data: bytes) -> None:
    """Write beside `path`, then rename: a reader sees the old file or the new one, never a part.

    Raises FileNotWritten, as when the disk is full. Then, and when it is interrupted, nothing is
    left of the new file.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _write_and_rename(path, data)
    except OSError as error:
        raise FileNotWritten(error.errno, error.strerror or str(error), str(path)) from error


def _write_and_rename(path: Path, data: bytes) -> None:
    descriptor, name = tempfile.mkstemp(dir=path.parent, suffix=".part")
    part = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        part.chmod(0o644)
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
