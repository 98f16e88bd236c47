"""Boolean arrays <-> bytes.

First element in the lowest bit of the first byte, C order, last byte padded with zeros.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
from bitarray import bitarray

Bytes = npt.NDArray[np.uint8]
Bools = npt.NDArray[np.bool_]


def byte_count(bits: int) -> int:
    """Bytes that hold `bits` bits."""
    return -(-bits // 8)


def pack_bits(array: Bools) -> Bytes:
    """Booleans of any shape -> bytes, shape (byte_count(array.size),)."""
    return np.packbits(array.reshape(-1), bitorder="little")


def unpack_bits(data: Bytes, shape: tuple[int, ...]) -> Bools:
    """Inverse of `pack_bits`.

    Raises:
        ValueError: the number of bytes does not fit `shape`, or a padding bit is set.
    """
    count = math.prod(shape)
    check_bits(data, count)
    return np.unpackbits(data, count=count, bitorder="little").view(np.bool_).reshape(shape)


def check_bits(data: Bytes, count: int) -> None:
    """Raise ValueError unless `data` is `count` bits and zero padding."""
    if data.size != byte_count(count):
        raise ValueError(f"mask has {data.size} bytes, {count} bits need {byte_count(count)}")
    if count % 8 and int(data[-1]) >> (count % 8):
        raise ValueError("padding bits after the last mask bit are not zero")


def count_ones(data: Bytes) -> int:
    """Number of set bits (padding is zero, so it never counts)."""
    whole = data.size // 8 * 8
    head = np.bitwise_count(np.ascontiguousarray(data[:whole]).view(np.uint64)).sum(dtype=np.int64)
    return int(head) + int(np.bitwise_count(data[whole:]).sum(dtype=np.int64))


def as_bitarray(data: Bytes, count: int) -> bitarray:
    """A bitarray of `count` bits; a view of `data` when they fill its last byte, else a copy."""
    buffer: Any = data  # an array is a buffer; numpy 2.x's annotations do not say so
    whole = bitarray(buffer=memoryview(buffer), endian="little")
    return whole if count % 8 == 0 else whole[:count]
