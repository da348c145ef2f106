"""An embedding as bytes: little-endian float32, so that a row reads the same on every machine."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from storage.errors import InvalidVector

WIRE = np.dtype("<f4")


def pack(vector: NDArray[np.floating]) -> bytes:
    """Bytes of a vector of shape (D,), four per dimension.

    Raises InvalidVector for another shape, an empty vector, or a number that is not finite once
    it is rounded to float32.

    >>> pack(np.array([1.0, -2.0])).hex()
    '0000803f000000c0'
    """
    with np.errstate(over="ignore"):
        wire = np.asarray(vector).astype(WIRE)
    if wire.ndim != 1 or wire.size == 0:
        raise InvalidVector(f"an embedding is one row of numbers; this has shape {wire.shape}")
    if not np.isfinite(wire).all():
        raise InvalidVector("the embedding holds a number that is not finite")
    return wire.tobytes()


def unpack(data: bytes, dimensions: int) -> NDArray[np.float32]:
    """The vector of shape (dimensions,) that `pack` wrote; raises InvalidVector if it does not fit.

    >>> unpack(bytes.fromhex("0000803f000000c0"), 2).tolist()
    [1.0, -2.0]
    """
    if dimensions < 1 or len(data) != dimensions * WIRE.itemsize:
        raise InvalidVector(
            f"the stored embedding holds {len(data)} bytes, which is not {dimensions} float32"
        )
    # A copy in native order: frombuffer alone is read-only and would tie the row to the bytes.
    return np.frombuffer(data, dtype=WIRE).astype(np.float32)
