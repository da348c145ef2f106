"""Images by URI: read from allowed buckets and folders only, kept under their hash."""

from __future__ import annotations

import hashlib
import os
import re
import unicodedata
from pathlib import Path
from urllib.parse import unquote, unquote_to_bytes, urlsplit

from storage import files
from storage.errors import ImageAltered, ImageForbidden, ImageTooBig, InvalidUri
from storage.s3 import S3, S3Config

__all__ = ["Images", "S3Config"]

BUCKET = re.compile(r"[a-z0-9][a-z0-9._-]{1,61}[a-z0-9]")
SUFFIX = re.compile(r"\.[a-z0-9]{1,8}")
SHOWN = 200
MOST_LISTED = 100_000
"""Objects of one prefix."""


class Images:
    """Where documents come from and where enrolled images are kept.

    `roots` and `buckets` (`bucket` or `bucket/prefix`) are what `fetch` may read; the store
    (`file:///folder` or `s3://bucket/prefix`) is always readable. Touches nothing until it is used.
    """

    def __init__(
        self,
        *,
        roots: tuple[Path, ...],
        buckets: tuple[str, ...],
        store: str,
        s3: S3Config,
        max_bytes: int,
    ) -> None:
        self._s3 = S3(s3)
        self._max_bytes = max_bytes
        self._folder: Path | None = None
        self._bucket, self._prefix = "", ""
        if store.startswith("file:"):
            self._folder = _path(store)
        else:
            self._bucket, key = _bucket_and_key(store)
            self._prefix = f"{key.strip('/')}/" if key.strip("/") else ""
        self._roots = (*roots, self._folder) if self._folder else roots
        store_place = f"{self._bucket}/{self._prefix}"
        self._places = tuple(f"{place.strip('/')}/" for place in (*buckets, store_place) if place)

    def fetch(self, uri: str, *, sha256: str | None = None, max_bytes: int | None = None) -> bytes:
        """The bytes at `s3://bucket/key` (a raw key) or `file:///path` (percent-encoded).

        With `sha256`, in hex, they must be the ones that this was made of: whoever may write to
        the store must not choose what a signer is compared with. `max_bytes` stands in for the
        limit of images. Raises InvalidUri, ImageForbidden, ImageNotFound, ImageTooBig,
        ImageAltered, StoreRefused; and StoreUnavailable, which is worth another try.
        """
        data = self._fetch(uri, max_bytes or self._max_bytes)
        if sha256 not in (None, hashlib.sha256(data).hexdigest()):
            raise ImageAltered(f"{shown(uri)} is no longer the image that it was")
        return data

    def _fetch(self, uri: str, most: int) -> bytes:
        if uri.startswith("file:"):
            return files.read(_path(uri), self._roots, shown(uri), most)
        bucket, key = self._allowed(uri)
        if not key:
            raise InvalidUri(f"{shown(uri)} names no object in the bucket")
        return self._s3.read(bucket, key, most)

    def list(self, prefix: str) -> list[str]:
        """The URIs of the objects below `s3://bucket/prefix/`, at most `MOST_LISTED`, sorted.

        Raises InvalidUri, ImageForbidden, ImageNotFound, StoreRefused, StoreUnavailable.
        """
        bucket, key = self._allowed(prefix)
        return sorted(f"s3://{bucket}/{key}" for key in self._s3.list(bucket, key, MOST_LISTED))

    def _allowed(self, uri: str) -> tuple[str, str]:
        """Bucket and key of a URI that may be read."""
        bucket, key = _bucket_and_key(uri)
        # With the closing slash, so that `scans/2026` does not open `scans/2026-private`.
        if not f"{bucket}/{key}".startswith(self._places):
            raise ImageForbidden(f"{shown(uri)} lies outside the buckets that may be read")
        return bucket, key

    def put(
        self,
        data: bytes,
        *,
        sha256: str | None = None,
        suffix: str = "",
        max_bytes: int | None = None,
    ) -> str:
        """Keeps the bytes under their sha256 and returns the URI; the same bytes, the same URI.

        Who knows the hash already, in hex, gives it. A suffix such as `.png` is a help for people;
        one that looks unlike a suffix is left out. `max_bytes` stands in for the limit of images.
        Raises ImageTooBig, StoreRefused, StoreUnavailable.
        """
        most = max_bytes or self._max_bytes
        if len(data) > most:
            raise ImageTooBig(f"the image holds more than {most} bytes")
        digest = sha256 or hashlib.sha256(data).hexdigest()
        name = digest + (suffix.lower() if SUFFIX.fullmatch(suffix.lower()) else "")
        if self._folder is not None:
            path = self._folder / digest[:2] / name
            files.write(path, data, path.as_uri())
            return path.as_uri()
        key = f"{self._prefix}{digest[:2]}/{name}"
        self._s3.write(self._bucket, key, data)
        return f"s3://{self._bucket}/{key}"

    def keeps(self, uri: str) -> bool:
        """Whether this is where `put` would have kept something; it may be gone."""
        if self._folder is not None:
            return uri.startswith(f"{self._folder.as_uri()}/")
        return uri.startswith(f"s3://{self._bucket}/{self._prefix}")

    def delete(self, uri: str) -> None:
        """Removes an image that `put` has kept; harmless when it is gone already.

        Raises InvalidUri, StoreUnavailable, StoreRefused, and ImageForbidden for anything that
        lies outside the store.
        """
        if uri.startswith("file:"):
            if self._folder is None:
                raise ImageForbidden(f"{shown(uri)} lies outside the store")
            files.delete(_path(uri), self._folder, shown(uri))
            return
        bucket, key = _bucket_and_key(uri)
        if bucket != self._bucket or not key.startswith(self._prefix) or not key:
            raise ImageForbidden(f"{shown(uri)} lies outside the store")
        self._s3.delete(bucket, key)

    def check(self) -> None:
        """Proves that the store can be reached; raises what `put` would."""
        if self._folder is not None:
            files.check(self._folder, self._folder.as_uri())
        else:
            self._s3.check(self._bucket)


def shown(uri: str) -> str:
    """The URI as an error may show it: no credentials, no query, no control characters, not long.

    >>> shown("s3://AKIA:secret@scans/a.png")
    's3://***@scans/a.png'
    """
    scheme, separator, rest = uri.partition("://")
    if separator and "@" in rest.partition("/")[0]:
        rest = "***@" + rest.rpartition("@")[2]
    if scheme.lower() not in ("s3", "file"):
        rest = rest.partition("?")[0]  # a presigned address carries its signature there
    text = "".join(c if c.isprintable() else "\ufffd" for c in scheme + separator + rest)
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 1]}…"


def _bucket_and_key(uri: str) -> tuple[str, str]:
    if not uri.startswith("s3://"):
        raise InvalidUri(f"{shown(uri)} is not a URI of the form s3://bucket/key or file:///path")
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    if not BUCKET.fullmatch(bucket):
        raise InvalidUri(f"{shown(uri)} does not begin with the name of a bucket")
    # HTTP clients resolve dot segments, and `allowed/../secret` would leave the prefix. A server
    # behind them may decode once more, or hold look-alikes for dots.
    plain = unicodedata.normalize("NFKC", unquote(key))
    if any(part in (".", "..") for part in (*key.split("/"), *plain.split("/"))):
        raise InvalidUri(f"the key of {shown(uri)} holds `.` or `..`")
    if len(key.encode("utf-8", "replace")) > 1024 or not key.isprintable():
        raise InvalidUri(f"{shown(uri)} does not hold a valid key")
    return bucket, key


def _path(uri: str) -> Path:
    try:
        parts = urlsplit(uri)
    except ValueError as error:
        raise InvalidUri(f"{shown(uri)} cannot be read as a URI") from error
    if parts.netloc not in ("", "localhost"):
        raise InvalidUri(f"{shown(uri)} names a host; a local file is file:///path")
    if parts.query or parts.fragment or uri.endswith(("?", "#")):
        raise InvalidUri(f"{shown(uri)} holds ? or #, which a path writes as %3F and %23")
    path = os.fsdecode(unquote_to_bytes(parts.path.encode("utf-8", "replace")))
    if not path.startswith("/") or "\0" in path:
        raise InvalidUri(f"{shown(uri)} does not hold an absolute path")
    return Path(path)
