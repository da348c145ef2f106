"""Files below allowed folders: opened only after every link is followed, written all or nothing."""

from __future__ import annotations

import errno
import os
import secrets
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from storage.errors import (
    ImageForbidden,
    ImageNotFound,
    ImageTooBig,
    StoreRefused,
    StoreUnavailable,
)

ABSENT = {errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP, errno.EISDIR, errno.ENXIO}
DENIED = {errno.EACCES, errno.EPERM, errno.EROFS}


def read(path: Path, roots: Sequence[Path], uri: str, max_bytes: int) -> bytes:
    """The bytes of a regular file below one of the roots.

    Raises ImageForbidden for a path that leads out of them, ImageNotFound, ImageTooBig, and
    StoreUnavailable when the root itself has gone (an unmounted disk).
    """
    real = Path(os.path.realpath(path))
    root = _root_of(real, roots)
    if root is None:
        raise ImageForbidden(f"{uri} lies outside the folders that may be read")
    if not root.is_dir():
        raise StoreUnavailable(f"the folder of {uri}, {root}, is not there")
    with _file_errors(uri), os.fdopen(_open_below(root, real), "rb", buffering=0) as file:
        return _read_regular(file.fileno(), uri, max_bytes)


def write(path: Path, data: bytes, uri: str) -> None:
    """Puts the bytes at the path so that no reader ever sees a part of them, even after a crash."""
    with _file_errors(uri):
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_file() and path.stat().st_size == len(data):
            return
        temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
        try:
            _write_through(temporary, data)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
        _flush_folder(path.parent)


def delete(path: Path, root: Path, uri: str) -> None:
    """Removes a file below the root; harmless when it is gone already.

    Raises ImageForbidden for a path that leads out of the root, StoreUnavailable when the root
    itself has gone.
    """
    # Links on the way are followed, but not a link at the end: that is what would be removed.
    real = Path(os.path.realpath(path.parent)) / path.name
    if _root_of(real, [root]) is None:
        raise ImageForbidden(f"{uri} lies outside the store")
    if not root.is_dir():
        raise StoreUnavailable(f"the folder of {uri}, {root}, is not there")
    with _file_errors(uri):
        real.unlink(missing_ok=True)
        if real.parent.is_dir():
            _flush_folder(real.parent)


def check(folder: Path, uri: str) -> None:
    """Makes the folder if need be and proves that it can be written to."""
    with _file_errors(uri):
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".probe.{secrets.token_hex(8)}"
        probe.touch(exist_ok=False)
        probe.unlink()


def _root_of(real: Path, roots: Sequence[Path]) -> Path | None:
    for root in roots:
        real_root = Path(os.path.realpath(root))
        if real.is_relative_to(real_root):
            return real_root
    return None


def _open_below(root: Path, real: Path) -> int:
    """Opens a path without links, one part after the other, so that none put there since counts."""
    # NONBLOCK: a pipe must not hang us.
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    descriptor = os.open(root, flags)
    for part in real.relative_to(root).parts:
        folder = descriptor
        try:
            descriptor = os.open(part, flags, dir_fd=folder)
        finally:
            os.close(folder)
    return descriptor


def _read_regular(descriptor: int, uri: str, max_bytes: int) -> bytes:
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode):
        raise ImageNotFound(f"{uri} is not a regular file")
    data = bytearray()
    # The size is checked while reading as well: a file can grow.
    if found.st_size <= max_bytes:
        while chunk := os.read(descriptor, min(1 << 20, max_bytes + 1 - len(data))):
            data += chunk
            if len(data) > max_bytes:
                break
    if found.st_size > max_bytes or len(data) > max_bytes:
        raise ImageTooBig(f"{uri} holds more than {max_bytes} bytes")
    return bytes(data)


def _write_through(path: Path, data: bytes) -> None:
    with path.open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _flush_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # some network file systems cannot flush a folder
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _file_errors(uri: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in ABSENT:
            raise ImageNotFound(f"there is no file {uri}") from error
        if error.errno in DENIED:
            raise StoreRefused(f"the permissions of {uri} deny access") from error
        reason = error.strerror or type(error).__name__
        raise StoreUnavailable(f"{uri} cannot be used now: {reason}") from error
