"""Reads the files that a person names, within the limit that documents have, too."""

from __future__ import annotations

from pathlib import Path

from worker.cli.exits import CommandError


def read(path: Path, max_bytes: int) -> bytes:
    """The content of a file. Raises CommandError, with the reason, when it cannot be used."""
    try:
        with path.open("rb") as file:
            data = file.read(max_bytes + 1)
    except FileNotFoundError as error:
        raise CommandError(f"There is no file {path}.") from error
    except OSError as error:
        raise CommandError(f"{path} cannot be read: {error.strerror}.") from error
    if len(data) > max_bytes:
        raise CommandError(
            f"{path} has more than {max_bytes} bytes, the limit that SIGCTL_MAX_BYTES sets."
        )
    return data
