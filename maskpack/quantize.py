"""Float arrays <-> few bits a value: a small integer each, and a scale a row; or two thin factors.

`docs/format.md` gives the layout. The integers of 4 bits and fewer are split into planes of bits
(is it 0? is it 1? ...), which `maskpack.codec` codes as it does masks, so that an integer costs
what its share of all integers is worth.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from maskpack import bits, codec
from maskpack.bits import Bytes

Floats = npt.NDArray[np.float32]
Integers = npt.NDArray[np.int16]
Shape = tuple[int, ...]

# name -> smallest and largest integer
RANGES = {
    "int8": (-127, 127),
    "int4": (-7, 7),
    "int3": (-3, 3),
    "int2": (-1, 1),
    "uint8": (0, 255),
    "uint4": (0, 15),
}
PLAIN_FROM = 100  # a larger range is stored as bytes, a smaller one as planes of bits
LARGEST = 1 << 27  # values in planes: a file can claim any number of zeros in a few bytes
SHRINK = np.linspace(0.25, 1.0, 31, dtype=np.float32)  # of the scale that leaves nothing clipped
LARGEST_SCALE = float(np.finfo(np.float16).max)


def encode(arrays: Sequence[Floats], kind: str, rank: int = 0) -> Bytes:
    """Arrays -> bytes; lossy. With `rank`, an array of two or more dimensions becomes a product.

    Each row (along the first axis; an array of one dimension is one row) has a float16 scale: of
    31 candidates the one with the smallest squared error.

    Raises:
        ValueError: a value is too large for float16 scales.
    """
    rows = [row for array in arrays for row in _rows(_factors(array, rank))]
    scales = np.empty(len(rows), "<f2")
    integers: list[Integers] = []
    for place, row in enumerate(rows):
        scales[place], found = _nearest(row, *RANGES[kind])
        integers.append(found)
    flat = np.concatenate(integers) if integers else np.zeros(0, np.int16)
    return np.concatenate([scales.view(np.uint8), _pack(flat, *RANGES[kind])])


def decode(data: Bytes, shapes: Sequence[Shape], kind: str, rank: int = 0) -> list[Floats]:
    """Inverse of `encode`, to the nearest integers.

    Raises:
        ValueError: the bytes do not fit the shapes.
    """
    lengths = [length for shape in shapes for length in _lengths(shape, rank)]
    if sum(lengths) > max(LARGEST, data.size):
        raise ValueError(f"{sum(lengths)} values, expected at most {LARGEST}")
    reader = codec.Reader(data)
    scales = reader.take(2 * len(lengths)).view("<f2").astype(np.float32)
    if not (np.isfinite(scales).all() and (scales >= 0).all()):
        raise ValueError("a scale is negative, NaN or infinite")
    flat = _unpack(reader, sum(lengths), *RANGES[kind])
    reader.end()
    values = flat * np.repeat(scales, lengths)
    arrays: list[Floats] = []
    offset = 0
    for shape in shapes:
        size = sum(_lengths(shape, rank))
        arrays.append(_product(values[offset : offset + size], shape, rank))
        offset += size
    return arrays


def _nearest(row: Floats, low: int, high: int) -> tuple[float, Integers]:
    """The scale and the integers that are nearest to a row, scale times integer, in squares."""
    largest = float(np.abs(row).max()) if row.size else 0.0
    if not largest / high <= LARGEST_SCALE:
        raise ValueError(f"{largest:g} is beyond what a float16 scale reaches")
    candidates = np.unique((SHRINK * np.float32(largest / high)).astype(np.float16))
    best, error = (0.0, np.zeros(row.size, np.int16)), float(np.square(row).sum(dtype=np.float64))
    for scale in candidates[candidates > 0].astype(np.float32):
        integers = np.clip(np.rint(row / scale), low, high)
        missed = float(np.square(row - integers * scale).sum(dtype=np.float64))
        if missed < error:
            best, error = (float(scale), integers.astype(np.int16)), missed
    return best


# ---- integers <-> bytes


def _pack(values: Integers, low: int, high: int) -> Bytes:
    if high >= PLAIN_FROM:
        return values.astype(np.uint8)  # the lowest 8 bits, two's complement
    size = np.abs(values)
    parts: list[Bytes] = []
    for level in range(high):  # of those not yet settled: is it more than this?
        parts += _pack_plane(size > level)
        size = size[size > level]
    if low < 0:
        parts += _pack_plane(values[values != 0] < 0)
    return np.concatenate(parts)


def _unpack(reader: codec.Reader, count: int, low: int, high: int) -> npt.NDArray[np.float32]:
    if high >= PLAIN_FROM:
        plain = reader.take(count)
        return plain.view(np.int8 if low < 0 else np.uint8).astype(np.float32)
    left = np.flatnonzero(_unpack_plane(reader, count))
    values = np.zeros(count, np.float32)
    values[left] = 1
    for _ in range(1, high):
        left = left[_unpack_plane(reader, left.size)]
        values[left] += 1
    if low < 0:
        set_ = np.flatnonzero(values)
        values[set_[_unpack_plane(reader, set_.size)]] *= -1
    return values


def _pack_plane(plane: bits.Bools) -> list[Bytes]:
    coded = codec.encode(bits.pack_bits(plane), [plane.size])
    return [np.frombuffer(codec.varint(coded.size), np.uint8), coded]


def _unpack_plane(reader: codec.Reader, count: int) -> bits.Bools:
    packed = codec.decode(reader.take(reader.varint()), [count])
    return bits.unpack_bits(packed, (count,))


# ---- arrays <-> rows


def _matrix(shape: Shape) -> tuple[int, int]:
    return shape[0], math.prod(shape[1:])


def _thin(shape: Shape, rank: int) -> bool:
    """Whether two factors of this rank are what is stored of an array."""
    return rank > 0 and len(shape) > 1 and rank < min(_matrix(shape))


def _factors(array: Floats, rank: int) -> list[Any]:
    """The array itself; or, by its largest singular values, (rank, rows) and (rank, columns)."""
    if not _thin(array.shape, rank):
        return [array]
    u, s, v = np.linalg.svd(array.reshape(_matrix(array.shape)), full_matrices=False)
    root = np.sqrt(s[:rank])[:, None]
    return [u.T[:rank] * root, v[:rank] * root]


def _product(values: Floats, shape: Shape, rank: int) -> Floats:
    if not _thin(shape, rank):
        return values.reshape(shape)
    rows, columns = _matrix(shape)
    left, right = values[: rank * rows], values[rank * rows :]
    total = np.zeros((rows, columns), np.float32)
    for one, other in zip(left.reshape(rank, rows), right.reshape(rank, columns), strict=True):
        total += np.outer(one, other)  # in this order everywhere: a matrix product has none
    return total.reshape(shape)


def _rows(arrays: Sequence[Any]) -> list[Floats]:
    return [
        np.ascontiguousarray(row, np.float32).reshape(-1)
        for array in arrays
        for row in (array if array.ndim > 1 else [array])
    ]


def _lengths(shape: Shape, rank: int) -> list[int]:
    """Values of every row of what is stored of an array."""
    if len(shape) < 2:
        return [math.prod(shape)]
    rows, columns = _matrix(shape)
    return [rows] * rank + [columns] * rank if _thin(shape, rank) else [columns] * rows
