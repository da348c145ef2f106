"""An embedding as bytes: little-endian float32, so that a row reads the same on every machine.

The numbers at its end that are multiples of 1/128 below 1 take a byte each where they are many: a
model whose embedding ends in cells gives them so. How many follows from the length of the bytes.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from storage.errors import InvalidVector

WIRE = np.dtype("<f4")
STEP = 1 / 128
BYTE = np.dtype("i1")
MANY = 1024
"""Fewer are not worth a row that the release before cannot read."""


def pack(vector: NDArray[np.floating]) -> bytes:
    """Bytes of a vector of shape (D,): four for each number, one for those that fit at its end.

    Raises InvalidVector for another shape, an empty vector, or a number that is not finite once
    it is rounded to float32.

    >>> pack(np.array([1.0, -2.0])).hex()
    '0000803f000000c0'
    >>> len(pack(np.append(0.3, np.full(2000, 0.5))))
    2004
    """
    with np.errstate(over="ignore"):
        wire = np.asarray(vector).astype(WIRE)
    if wire.ndim != 1 or wire.size == 0:
        raise InvalidVector(f"an embedding is one row of numbers; this has shape {wire.shape}")
    if not np.isfinite(wire).all():
        raise InvalidVector("the embedding holds a number that is not finite")
    whole = _in_float32(wire)
    return wire[:whole].tobytes() + (wire[whole:] / STEP).astype(BYTE).tobytes()


def _in_float32(wire: NDArray[np.floating]) -> int:
    """How many numbers are kept as they are; those after them fit into a byte, bit for bit."""
    steps = wire.astype(np.float64) / STEP
    fits = (steps == np.rint(steps)) & (np.abs(steps) <= np.iinfo(BYTE).max)
    fits &= ~((wire == 0) & np.signbit(wire))
    whole = 0 if fits.all() else len(wire) - int(np.argmin(fits[::-1]))
    return whole if len(wire) - whole >= MANY else len(wire)


def unpack(data: bytes, dimensions: int) -> NDArray[np.float32]:
    """The vector of shape (dimensions,) that `pack` wrote; raises InvalidVector if it does not fit.

    >>> unpack(bytes.fromhex("0000803f000000c0"), 2).tolist()
    [1.0, -2.0]
    """
    whole, rest = divmod(len(data) - dimensions, WIRE.itemsize - BYTE.itemsize)
    if dimensions < 1 or rest or not 0 <= whole <= dimensions:
        raise InvalidVector(
            f"the stored embedding holds {len(data)} bytes, which is not {dimensions} numbers"
        )
    vector = np.empty(dimensions, np.float32)
    vector[:whole] = np.frombuffer(data, WIRE, count=whole)
    vector[whole:] = np.frombuffer(data, BYTE, offset=whole * WIRE.itemsize)
    vector[whole:] *= STEP
    return vector
