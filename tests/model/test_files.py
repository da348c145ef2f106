"""A file is written whole or not at all, whatever the disk says."""

import errno
import os
import resource
from contextlib import contextmanager

import pytest

from model.errors import FileNotWritten, ModelError
from model.files import write_atomically


@contextmanager
def largest_file(size):
    """The operating system refuses every write beyond `size` bytes, as a full disk would."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_file_and_its_folders_are_made_and_replaced(tmp_path):
    path = tmp_path / "new" / "folder" / "file"
    write_atomically(path, b"old")
    write_atomically(path, b"new")
    assert path.read_bytes() == b"new"
    assert list(path.parent.iterdir()) == [path]
    assert path.stat().st_mode & 0o777 == 0o644


def test_a_disk_that_takes_half_a_file_leaves_the_old_one_and_no_part(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with largest_file(100_000), pytest.raises(ModelError, match="file cannot be written: File too"):
        write_atomically(path, bytes(200_000))
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_is_said_in_a_sentence_and_keeps_its_number(tmp_path, monkeypatch):
    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("model.files.os.fsync", full)  # where a network file system reports it
    with pytest.raises(FileNotWritten) as refused:
        write_atomically(tmp_path / "file", b"new")
    assert str(refused.value) == f"{tmp_path / 'file'} cannot be written: No space left on device."
    assert refused.value.errno == errno.ENOSPC
    assert list(tmp_path.iterdir()) == []


def test_a_path_below_a_file_is_refused_in_a_sentence(tmp_path):
    (tmp_path / "taken").write_text("")
    with pytest.raises(FileNotWritten, match=r"taken/file cannot be written: "):
        write_atomically(tmp_path / "taken" / "file", b"new")


def test_an_interrupted_write_leaves_no_part(tmp_path, monkeypatch):
    def interrupt(descriptor):
        raise KeyboardInterrupt

    monkeypatch.setattr("model.files.os.fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_atomically(tmp_path / "file", b"new")
    assert list(tmp_path.iterdir()) == []
