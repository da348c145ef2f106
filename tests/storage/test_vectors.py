from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from storage.errors import InvalidVector
from storage.vectors import pack, unpack

FINITE = st.floats(width=32, allow_nan=False, allow_infinity=False)


@given(hnp.arrays(np.float32, st.integers(1, 600), elements=FINITE))
def test_a_vector_comes_back_bit_for_bit(vector):
    back = unpack(pack(vector), len(vector))
    assert back.dtype == np.float32
    assert back.tobytes() == vector.tobytes()


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
