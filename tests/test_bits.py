"""Booleans <-> bytes: the order of bits, padding, counting, and the view given to users."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from maskpack.packs.bits import (
    Bools,
    as_bitarray,
    byte_count,
    check_bits,
    count_ones,
    pack_bits,
    unpack_bits,
)

SHAPES = array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=6)
BOOLS = arrays(np.bool_, SHAPES)


def slow_pack(array: Bools) -> bytes:
    """The definition, written as a loop: element i is bit i % 8 of byte i // 8."""
    flat = array.flatten(order="C").tolist()
    out = [0] * math.ceil(len(flat) / 8)
    for i, bit in enumerate(flat):
        out[i // 8] += int(bit) * 2 ** (i % 8)
    return bytes(out)


@pytest.mark.parametrize(
    ("bits", "packed"),
    [
        ([], b""),
        ([1], b"\x01"),
        ([0, 1], b"\x02"),
        ([0, 0, 0, 0, 0, 0, 0, 1], b"\x80"),
        ([1, 0, 0, 0, 0, 0, 0, 0, 1], b"\x01\x01"),
        ([1, 1, 0, 1, 0, 0, 1, 0, 0, 1, 1], b"\x4b\x06"),
    ],
)
def test_the_first_element_is_the_lowest_bit(bits: list[int], packed: bytes) -> None:
    array = np.array(bits, np.bool_)
    assert pack_bits(array).tobytes() == packed
    data = np.frombuffer(packed, np.uint8)
    np.testing.assert_array_equal(unpack_bits(data, (len(bits),)), array)


def test_rows_of_a_matrix_follow_one_another() -> None:
    matrix = np.array([[1, 0, 0], [0, 1, 1], [0, 0, 1]], np.bool_)
    assert pack_bits(matrix).tobytes() == bytes([0b00110001, 0b1])
    assert pack_bits(matrix.T).tobytes() == bytes([0b10010001, 0b1]), "C order, not memory order"


@given(BOOLS)
@settings(deadline=None)
def test_bits_come_back_in_any_shape(array: Bools) -> None:
    packed = pack_bits(array)
    assert packed.dtype == np.uint8
    assert packed.shape == (byte_count(array.size),)
    assert packed.tobytes() == slow_pack(array)
    back = unpack_bits(packed, array.shape)
    assert back.dtype == np.bool_
    assert back.shape == array.shape
    np.testing.assert_array_equal(back, array)


@given(BOOLS)
@settings(deadline=None)
def test_ones_are_counted(array: Bools) -> None:
    assert count_ones(pack_bits(array)) == sum(array.flatten().tolist())


@pytest.mark.parametrize("size", [0, 1, 7, 8, 9, 63, 64, 65, 1000])
def test_counting_does_not_hang_on_length_or_alignment(size: int) -> None:
    array = np.random.default_rng(size).random(size) < 0.4
    packed = pack_bits(array)
    shifted = np.concatenate([np.zeros(1, np.uint8), packed])[1:]  # starts at an odd address
    assert count_ones(packed) == count_ones(shifted) == int(array.sum())


@given(arrays(np.bool_, st.integers(0, 40)))
@settings(deadline=None)
def test_a_bitarray_has_the_elements_in_order(array: Bools) -> None:
    packed = pack_bits(array)
    view = as_bitarray(packed, array.size)
    assert view.tolist() == array.astype(int).tolist()
    assert view.count() == count_ones(packed)
    assert (~view).count() == array.size - view.count(), "padding must not count as zeros"


def test_a_bitarray_of_whole_bytes_is_a_view() -> None:
    packed = pack_bits(np.zeros(16, np.bool_))
    view = as_bitarray(packed, 16)
    packed[1] = 0b10
    assert view.tolist() == [0] * 9 + [1] + [0] * 6
    assert view.endian == "little"


def test_a_bitarray_over_protected_bytes_cannot_be_written() -> None:
    packed = pack_bits(np.zeros(16, np.bool_))
    packed.flags.writeable = False
    with pytest.raises(TypeError, match="read-only"):
        as_bitarray(packed, 16)[0] = 1


@pytest.mark.parametrize("count", [1, 3, 7, 9, 15])
def test_a_padding_bit_that_is_set_is_refused(count: int) -> None:
    for bit in range(count % 8, 8):
        packed = pack_bits(np.ones(count, np.bool_))
        packed[-1] |= 1 << bit
        with pytest.raises(ValueError, match="padding bits after the last mask bit are not zero"):
            check_bits(packed, count)
        with pytest.raises(ValueError, match="padding"):
            unpack_bits(packed, (count,))


@pytest.mark.parametrize(("size", "count"), [(0, 1), (1, 0), (1, 9), (2, 8), (3, 16), (2, 17)])
def test_a_wrong_number_of_bytes_is_refused(size: int, count: int) -> None:
    with pytest.raises(ValueError, match=rf"mask has {size} bytes, {count} bits need"):
        check_bits(np.zeros(size, np.uint8), count)


def test_bytes_of_the_largest_networks_are_counted_exactly() -> None:
    assert [byte_count(n) for n in (0, 1, 8, 9, 10**15 + 1)] == [0, 1, 1, 2, 125 * 10**12 + 1]
