"""What holds for a folder and for an object store alike, and then what is particular to each."""

from __future__ import annotations

import hashlib
import os
import secrets
import socket
import stat
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from storage import files
from storage.errors import (
    ImageForbidden,
    ImageNotFound,
    ImageTooBig,
    InvalidUri,
    StorageError,
    StoreRefused,
    StoreUnavailable,
    Transient,
)
from storage.images import Images, S3Config, shown

MAX_BYTES = 10_000


def make_images(**changes) -> Images:
    fields = {
        "roots": (),
        "buckets": (),
        "store": "s3://nowhere",
        "s3": S3Config(endpoint="http://127.0.0.1:1"),
        "max_bytes": MAX_BYTES,
    }
    return Images(**(fields | changes))


@dataclass(frozen=True, kw_only=True)
class Place:
    """A store with a place beside it that may be read, and one that may not."""

    images: Images
    store: str
    allowed: Callable[[str, bytes], str]  # name, bytes -> URI
    forbidden: Callable[[str, bytes], str]
    missing: str


@pytest.fixture
def folder_place(tmp_path):
    def writer(folder: Path):
        def write(name: str, data: bytes) -> str:
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
            return path.as_uri()

        return write

    store = tmp_path / "store"
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    return Place(
        images=make_images(roots=(inbox,), store=store.as_uri()),
        store=store.as_uri(),
        allowed=writer(inbox),
        forbidden=writer(tmp_path / "private"),
        missing=(inbox / "missing.png").as_uri(),
    )


@pytest.fixture
def s3_place(s3):
    def writer(bucket: str):
        def write(name: str, data: bytes) -> str:
            client.put_object(Bucket=bucket, Key=name, Body=data)
            return f"s3://{bucket}/{name}"

        return write

    client = s3.client()
    inbox, private = (f"{s3.bucket}-{name}" for name in ("inbox", "private"))
    client.create_bucket(Bucket=inbox)
    client.create_bucket(Bucket=private)
    store = f"s3://{s3.bucket}/enrolled"
    return Place(
        images=make_images(buckets=(inbox,), store=store, s3=s3.config),
        store=store,
        allowed=writer(inbox),
        forbidden=writer(private),
        missing=f"s3://{inbox}/missing.png",
    )


@pytest.fixture(params=["folder", "s3"])
def place(request) -> Place:
    return request.getfixturevalue(f"{request.param}_place")


# Both kinds of store


@pytest.mark.parametrize("size", [0, 1, 9_999, MAX_BYTES])
def test_bytes_come_back_as_they_are(place, size):
    data = secrets.token_bytes(size)
    assert place.images.fetch(place.allowed("a.png", data)) == data


@pytest.mark.parametrize("size", [MAX_BYTES + 1, 3_000_000])
def test_too_many_bytes_are_refused(place, size):
    uri = place.allowed("a.png", bytes(size))
    with pytest.raises(ImageTooBig, match="more than 10000 bytes") as caught:
        place.images.fetch(uri)
    assert caught.value.code == "document_too_large"
    assert uri in str(caught.value)


def test_a_missing_image_is_named(place):
    with pytest.raises(ImageNotFound) as caught:
        place.images.fetch(place.missing)
    assert caught.value.code == "image_not_found"
    assert place.missing in str(caught.value)
    assert not isinstance(caught.value, Transient)


def test_what_lies_elsewhere_is_refused_whether_it_exists_or_not(place):
    there = place.forbidden("a.png", b"secret")
    for uri in (there, there.replace("a.png", "no-such.png")):
        with pytest.raises(ImageForbidden) as caught:
            place.images.fetch(uri)
        assert caught.value.code == "uri_not_allowed"


def test_an_enrolled_image_is_kept_under_its_hash_and_can_be_read(place):
    digest = hashlib.sha256(b"ink").hexdigest()
    uri = place.images.put(b"ink", suffix=".png")
    assert uri == f"{place.store}/{digest[:2]}/{digest}.png"
    assert place.images.fetch(uri) == b"ink"


def test_storing_the_same_again_gives_the_same_uri(place):
    assert place.images.put(b"ink") == place.images.put(b"ink")
    assert place.images.put(b"ink") != place.images.put(b"other ink")


@pytest.mark.parametrize(
    ("suffix", "kept"),
    [(".PNG", ".png"), ("", ""), ("png", ""), (".p/../g", ""), (".tar gz", ""), (".é", "")],
)
def test_a_suffix_that_is_none_is_left_out(place, suffix, kept):
    digest = hashlib.sha256(b"ink").hexdigest()
    assert place.images.put(b"ink", suffix=suffix).endswith(digest + kept)


def test_what_could_not_be_fetched_is_not_stored(place):
    with pytest.raises(ImageTooBig):
        place.images.put(bytes(MAX_BYTES + 1))


def test_many_threads_store_and_fetch_at_once(place):
    def work(number: int) -> None:
        data = bytes([number % 3]) * 5000
        barrier.wait()
        try:
            results.append(place.images.fetch(place.images.put(data)) == data)
        except Exception as error:
            results.append(error)

    results: list[object] = []
    barrier = threading.Barrier(9)
    threads = [threading.Thread(target=work, args=(i,)) for i in range(9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [True] * 9


def test_a_store_that_works_passes_its_check(place):
    place.images.check()


@pytest.mark.parametrize("name", ["with blank.png", "ünï.png", "a+b&c.png", "deep/er/a.png"])
def test_names_with_odd_characters_are_read(place, name):
    assert place.images.fetch(place.allowed(name, b"ink")) == b"ink"


@pytest.mark.parametrize("name", ["50%25.png", "a?b.png", "a#b.png"])
def test_signs_with_a_meaning_in_uris_can_be_part_of_a_name(place, name):
    assert place.images.fetch(place.allowed(name, b"ink")) == b"ink"


@pytest.mark.parametrize(
    "uri",
    [
        "",
        "a.png",
        "/etc/passwd",
        "http://host/a.png",
        "https://host/a.png",
        "ftp://host/a",
        "data:image/png;base64,AAAA",
        "S3:/bucket/key",
        "s3:/bucket/key",
        "s3://",
        "s3:///key",
        "s3://Bucket/key",
        "s3://a/key",
        "s3://buc ket/key",
        "s3://bucket",
        "s3://bucket/",
        "s3://bucket/../other/key",
        "s3://bucket/a/./b",
        "s3://bucket/a/..",
        "s3://bucket/a/%2e%2E/b",
        "s3://bucket/a%2f..%2fb",
        "s3://bucket/a/\uff0e\uff0e/b",
        "s3://bucket/a/\u2025/b",
        "s3://bucket/a\uff0f\uff0e\uff0e\uff0fb",
        "s3://bucket/a\0b",
        "s3://bucket/a\nb",
        "s3://bucket/\ud800",
        "s3://bucket/" + "k" * 1025,
        "s3://key:secret@bucket/a.png",
        "file:",
        "file://",
        "file:a.png",
        "file://host/a.png",
        "file://user:secret@localhost/a.png",
        "file:///a%00b",
        "file:///a?query",
        "file:///a#part",
        "file://[bad/a",
    ],
    ids=ascii,
)
def test_what_is_no_uri_is_one_sentence_without_secrets(uri):
    images = make_images(roots=(Path("/"),), buckets=("bucket",))
    with pytest.raises(InvalidUri) as caught:
        images.fetch(uri)
    assert caught.value.code == "invalid_uri"
    assert "secret" not in str(caught.value)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    "store", ["", "store", "/store", "http://host/store", "file:store", "s3://", "s3://B/x"]
)
def test_a_store_that_is_no_uri_is_refused_at_once(store):
    with pytest.raises(InvalidUri):
        make_images(store=store)


@pytest.mark.parametrize(
    ("uri", "as_shown"),
    [
        ("s3://k:s@bucket/a", "s3://***@bucket/a"),
        ("s3://bucket/a@b", "s3://bucket/a@b"),
        ("https://h/a?X-Amz-Signature=s", "https://h/a"),
        ("s3://bucket/a?b", "s3://bucket/a?b"),
        ("a\x1b[31m", "a\ufffd[31m"),
        ("x" * 300, "x" * 199 + "…"),
    ],
)
def test_a_uri_is_shown_without_what_must_not_be(uri, as_shown):
    assert shown(uri) == as_shown


# Prefixes


@pytest.fixture
def shelf(s3):
    """Images that may be read below one prefix of a bucket, and a function that lays more there."""
    images = make_images(
        buckets=(f"{s3.bucket}/scans/2026",), store=f"s3://{s3.bucket}/enrolled", s3=s3.config
    )
    return images, s3.put


@pytest.mark.parametrize("key", ["scans/2026/a.png", "scans/2026/deep/er.png", "enrolled/a.png"])
def test_what_lies_below_a_prefix_or_in_the_store_is_read(shelf, key):
    images, put = shelf
    assert images.fetch(put(key, b"ink")) == b"ink"


@pytest.mark.parametrize(
    "key",
    [
        *("a.png", "scans/a.png", "scans/2026.png", "scans/2026-private/a.png"),
        *("Scans/2026/a.png", "enrolled-elsewhere/a.png"),
    ],
)
def test_what_lies_beside_a_prefix_is_refused_though_it_exists(shelf, key):
    images, put = shelf
    with pytest.raises(ImageForbidden):
        images.fetch(put(key, b"secret"))


@pytest.mark.parametrize(
    "key", ["/scans/2026/a.png", "scans//2026/a.png", "scans%2F2026/a.png", "x/scans/2026/a.png"]
)
def test_another_spelling_of_a_prefix_is_another_place(shelf, s3, key):
    images, _ = shelf
    with pytest.raises(ImageForbidden):
        images.fetch(f"s3://{s3.bucket}/{key}")


def test_a_prefix_of_one_bucket_opens_no_other():
    images = make_images(buckets=("scans/2026",), store="s3://nowhere/x")
    for uri in ("s3://scans-2026/a.png", "s3://2026/scans/a.png", "s3://nowhere/a.png"):
        with pytest.raises(ImageForbidden):
            images.fetch(uri)


# Folders


@pytest.fixture
def inbox(tmp_path) -> Path:
    folder = tmp_path / "inbox"
    folder.mkdir()
    (tmp_path / "private.png").write_bytes(b"secret")
    return folder


@pytest.fixture
def local(inbox, tmp_path) -> Images:
    return make_images(roots=(inbox,), store=(tmp_path / "store").as_uri())


@pytest.mark.parametrize("detour", ["../private.png", "%2e%2e/private.png", "x/../../private.png"])
def test_dots_do_not_lead_out_of_the_folder(inbox, local, detour):
    with pytest.raises(ImageForbidden):
        local.fetch(f"{inbox.as_uri()}/{detour}")


def test_dots_within_the_folder_are_harmless(inbox, local):
    (inbox / "a.png").write_bytes(b"ink")
    assert local.fetch(f"{inbox.as_uri()}/sub/../a.png") == b"ink"


def test_links_do_not_lead_out_of_the_folder(inbox, local, tmp_path):
    (inbox / "link.png").symlink_to(tmp_path / "private.png")
    (inbox / "up").symlink_to(tmp_path)
    for name in ("link.png", "up/private.png"):
        with pytest.raises(ImageForbidden):
            local.fetch(f"{inbox.as_uri()}/{name}")


@pytest.mark.parametrize("target", ["/proc/self/environ", "/proc/self/cwd/x", "/dev/stdin"])
def test_links_into_the_system_are_refused(inbox, local, target):
    (inbox / "link.png").symlink_to(target)
    with pytest.raises(ImageForbidden):
        local.fetch((inbox / "link.png").as_uri())


@pytest.mark.parametrize("swapped", ["file", "folder"])
def test_a_link_that_is_swapped_in_after_the_look_leads_nowhere(
    inbox, local, tmp_path, monkeypatch, swapped
):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "a.png").write_bytes(b"secret")
    folder = inbox / "sub"
    folder.mkdir()
    (folder / "a.png").write_bytes(b"ink")
    is_dir = Path.is_dir

    def swap(path: Path) -> bool:  # called between the look and the opening
        if swapped == "file":
            (folder / "a.png").unlink()
            (folder / "a.png").symlink_to(tmp_path / "elsewhere" / "a.png")
        else:
            folder.rename(inbox / "old")
            folder.symlink_to(tmp_path / "elsewhere")
        return is_dir(path)

    uri = (folder / "a.png").as_uri()
    monkeypatch.setattr(Path, "is_dir", swap)
    with pytest.raises(ImageNotFound):
        local.fetch(uri)


@pytest.mark.parametrize("name", ["\uff0e\uff0e", "\u2025", "%252e%252e", "..%00"])
def test_look_alikes_of_dots_lead_nowhere(inbox, local, name):
    with pytest.raises((ImageNotFound, InvalidUri)):
        local.fetch(f"{inbox.as_uri()}/{name}/private.png")


def test_links_within_the_folder_are_followed(inbox, local):
    (inbox / "a.png").write_bytes(b"ink")
    (inbox / "b.png").symlink_to("a.png")
    assert local.fetch((inbox / "b.png").as_uri()) == b"ink"


def test_a_folder_that_is_a_link_itself_is_allowed(inbox, tmp_path):
    (inbox / "a.png").write_bytes(b"ink")
    link = tmp_path / "link"
    link.symlink_to(inbox)
    images = make_images(roots=(link,))
    assert images.fetch((link / "a.png").as_uri()) == b"ink"
    assert images.fetch((inbox / "a.png").as_uri()) == b"ink"


def test_a_folder_whose_name_only_begins_the_same_is_another(inbox, local, tmp_path):
    other = tmp_path / "inbox-of-others"
    other.mkdir()
    (other / "a.png").write_bytes(b"secret")
    with pytest.raises(ImageForbidden):
        local.fetch((other / "a.png").as_uri())


def test_links_in_a_circle_are_not_followed_for_ever(inbox, local):
    (inbox / "a").symlink_to("b")
    (inbox / "b").symlink_to("a")
    with pytest.raises(ImageNotFound):
        local.fetch((inbox / "a").as_uri())


def test_a_folder_is_no_image(inbox, local):
    (inbox / "folder.png").mkdir()
    for uri in ((inbox / "folder.png").as_uri(), inbox.as_uri()):
        with pytest.raises(ImageNotFound):
            local.fetch(uri)


def test_a_pipe_is_refused_without_waiting_for_a_writer(inbox, local):
    os.mkfifo(inbox / "pipe.png")
    with pytest.raises(ImageNotFound, match="not a regular file"):
        local.fetch((inbox / "pipe.png").as_uri())


def test_a_socket_is_refused(inbox, local, monkeypatch):
    monkeypatch.chdir(inbox)  # a socket's path must be short
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("s.png")
        with pytest.raises(ImageNotFound):
            local.fetch((inbox / "s.png").as_uri())


@pytest.mark.parametrize("name", ["a.png/b.png", "n" * 300])
def test_a_path_that_cannot_exist_is_missing(inbox, local, name):
    (inbox / "a.png").write_bytes(b"ink")
    with pytest.raises(ImageNotFound):
        local.fetch(f"{inbox.as_uri()}/{name}")


def test_a_file_without_permission_is_refused(inbox, local, monkeypatch):
    (inbox / "a.png").write_bytes(b"ink")

    def deny(*_args: object, **_named: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(files.os, "open", deny)  # for root, chmod forbids nothing
    with pytest.raises(StoreRefused, match="permissions"):
        local.fetch((inbox / "a.png").as_uri())


def test_a_failing_disk_is_transient(inbox, local, monkeypatch):
    (inbox / "a.png").write_bytes(b"ink")

    def fail(*_args: object) -> bytes:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(files.os, "read", fail)
    with pytest.raises(StoreUnavailable, match="Input/output error"):
        local.fetch((inbox / "a.png").as_uri())


def test_an_unmounted_folder_is_transient_and_not_a_missing_document(inbox, local):
    inbox.rmdir()
    with pytest.raises(StoreUnavailable) as caught:
        local.fetch((inbox / "a.png").as_uri())
    assert isinstance(caught.value, Transient)


def test_a_file_that_grows_while_it_is_read_is_still_limited(inbox, local, monkeypatch):
    path = inbox / "a.png"
    path.write_bytes(b"x")
    read = os.read

    def growing(descriptor: int, size: int) -> bytes:
        with path.open("ab") as file:
            file.write(bytes(8_000))
        return read(descriptor, size)

    monkeypatch.setattr(files.os, "read", growing)
    with pytest.raises(ImageTooBig):
        local.fetch(path.as_uri())


def test_localhost_and_one_slash_are_other_spellings(inbox, local):
    (inbox / "a.png").write_bytes(b"ink")
    for prefix in ("file://localhost", "file:"):
        assert local.fetch(f"{prefix}{inbox}/a.png") == b"ink"


def test_the_store_is_made_when_it_is_first_written_to(local, tmp_path):
    assert not (tmp_path / "store").exists()
    local.put(b"ink")
    assert (tmp_path / "store").is_dir()


def test_an_image_in_the_store_is_readable_for_a_worker_of_another_user(local, tmp_path):
    umask = os.umask(0o022)
    try:
        uri = local.put(b"ink")
    finally:
        os.umask(umask)
    mode = Path(uri.removeprefix("file://")).stat().st_mode
    assert stat.S_IMODE(mode) == 0o644


def test_a_crash_while_storing_leaves_no_image_and_no_rubbish(local, tmp_path, monkeypatch):
    def fail(*_args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", fail)
    with pytest.raises(StoreUnavailable, match="No space left"):
        local.put(b"ink")
    assert [p for p in (tmp_path / "store").rglob("*") if p.is_file()] == []


def test_a_standing_image_is_not_written_again(local, monkeypatch):
    uri = local.put(b"ink")
    monkeypatch.setattr(files, "_write_through", None)
    assert local.put(b"ink") == uri


def test_a_store_that_is_a_file_is_one_sentence(tmp_path):
    (tmp_path / "store").write_bytes(b"")
    images = make_images(store=(tmp_path / "store").as_uri())
    for act in (lambda: images.put(b"ink"), images.check):
        with pytest.raises(StorageError, match="store"):
            act()


def test_the_objects_below_an_allowed_prefix_are_listed_and_no_others(s3_place):
    inside = [s3_place.allowed(f"ada/{name}.png", b"x") for name in ("b", "a")]
    s3_place.allowed("adam/c.png", b"x")
    bucket = inside[0].rpartition("/ada/")[0]
    assert s3_place.images.list(f"{bucket}/ada/") == sorted(inside)
    assert s3_place.images.list(f"{bucket}/nobody/") == []
    secret = s3_place.forbidden("ada/a.png", b"x")
    with pytest.raises(ImageForbidden):
        s3_place.images.list(secret.removesuffix("a.png"))
