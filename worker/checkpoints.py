"""Where the files of models lie: each is kept in the object store, so that any worker can have it.

A file is believed by its sha256 alone, which is the model's name in the registry: whoever can
write to the store can take a model away, but cannot put another in its place.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from model.checkpoint import Checkpoint, parse_checkpoint
from model.errors import CheckpointError, CheckpointNotFound, CheckpointNotPinned
from storage.errors import StorageError, Transient
from storage.images import Images

MAX_BYTES = 2**30
SUFFIX = ".pt"


def keep(images: Images, data: bytes, sha256: str) -> str:
    """Put a checkpoint's bytes, of this hash, into the store; returns its URI, always the same.

    Raises StoreRefused, StoreUnavailable, ImageTooBig.
    """
    return images.put(data, sha256=sha256, suffix=SUFFIX, max_bytes=MAX_BYTES)


def _local(model_id: str, uri: str) -> bytes | None:
    """A model that was used before it was ever in the store lies in a file of some machine."""
    return None if "://" in uri else found(model_id, [uri])


def found(model_id: str, places: Iterable[str]) -> bytes | None:
    """The bytes of the model's file in the first of these files that holds it."""
    for place in places:
        with suppress(OSError):
            data = Path(place.removeprefix("file://")).read_bytes()
            if hashlib.sha256(data).hexdigest() == model_id:
                return data
    return None


def gone(model_id: str, uri: str) -> CheckpointError:
    """That the file of a registered model is nowhere to be found."""
    return CheckpointNotFound(
        f"The file of model {model_id[:12]} is not in the store, and {uri} does not hold it."
    )


def fetch(images: Images, model_id: str, uri: str) -> Checkpoint:
    """The checkpoint of a registered model, from the store.

    Raises CheckpointError when the file is gone, is another's or cannot be read, and
    StoreUnavailable, which is worth another try.
    """
    name = f"model {model_id[:12]} ({uri})"
    try:
        data = _local(model_id, uri) or images.fetch(uri, max_bytes=MAX_BYTES)
    except Transient:
        raise
    except StorageError as error:
        raise CheckpointNotFound(f"The file of {name} cannot be had: {error}.") from error
    try:
        return parse_checkpoint(data, uri, sha256=model_id)
    except CheckpointNotPinned as error:
        raise CheckpointNotPinned(
            f"The file of {name} is not the one that was registered: it was altered or replaced."
        ) from error
