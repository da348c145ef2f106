from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from storage.errors import InvalidVector
from storage.vectors import MANY, pack, unpack

FINITE = st.floats(width=32, allow_nan=False, allow_infinity=False)


@given(hnp.arrays(np.float32, st.integers(1, 600), elements=FINITE))
def test_a_vector_comes_back_bit_for_bit(vector):
    back = unpack(pack(vector), len(vector))
    assert back.dtype == np.float32
    assert back.tobytes() == vector.tobytes()


@given(
    hnp.arrays(np.float32, st.integers(0, 5), elements=FINITE),
    hnp.arrays(np.int8, st.integers(1000, 1100), elements=st.integers(-127, 127)),
)
def test_what_ends_in_many_small_steps_takes_a_byte_for_each(vector, steps):
    whole = np.concatenate([vector, steps / np.float32(128)]).astype(np.float32)
    packed = pack(whole)
    assert unpack(packed, len(whole)).tobytes() == whole.tobytes()
    if len(steps) >= MANY:
        assert len(packed) <= 4 * len(vector) + len(steps)


def test_a_negative_zero_among_them_is_kept():
    vector = np.full(3000, 0.5, np.float32)
    vector[1000] = -0.0
    packed = pack(vector)
    assert len(packed) == 4 * 1001 + 1999
    assert unpack(packed, 3000).tobytes() == vector.tobytes()


def test_the_bytes_are_little_endian_whatever_the_array_was():
    expected = struct.pack("<3f", 1.0, -2.5, 3.0)
    for dtype in (">f4", "<f4", "f8"):
        assert pack(np.array([1.0, -2.5, 3.0], dtype=dtype)) == expected


def test_an_unpacked_vector_can_be_written_to():
    unpack(pack(np.ones(3)), 3)[0] = 5


@pytest.mark.parametrize(
    "vector",
    [np.ones((2, 2)), np.array(1.0), np.array([])],
    ids=["matrix", "scalar", "empty"],
)
def test_only_a_row_of_numbers_is_packed(vector):
    with pytest.raises(InvalidVector, match="one row of numbers"):
        pack(vector)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e39])
def test_a_number_that_float32_cannot_hold_is_refused(bad):
    with pytest.raises(InvalidVector, match="not finite"):
        pack(np.array([0.0, bad]))


@pytest.mark.parametrize("dimensions", [0, -1, 2, 4])
def test_bytes_of_another_length_are_refused(dimensions):
    with pytest.raises(InvalidVector):
        unpack(pack(np.ones(3)), dimensions)
