"""Float arrays <-> few bits a value: a small integer each, and a scale a row; or two thin factors.

`docs/format.md` gives the layout. The integers of 4 bits and fewer are split into planes of bits
(is it 0? is it 1? ...), which `maskpack.packs.mask_codec` codes as it does masks, so that an
integer costs what its share of all integers is worth.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from maskpack.packs import bits
from maskpack.packs import mask_codec as codec
from maskpack.packs.bits import Bytes

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
# a file can claim any number of zeros in a few bytes: this many values are believed of any stream,
# and of a long one so many a byte
BELIEVED = 1 << 25
BELIEVED_A_BYTE = 64
SHRINK = np.geomspace(0.1, 1.0, 31, dtype=np.float32)  # of the scale that leaves nothing clipped
LARGEST_SCALE = float(np.finfo(np.float16).max)


def encode(arrays: Sequence[Floats], kind: str, rank: int = 0, group: int = 0) -> Bytes:
    """Arrays -> bytes; lossy. With `rank`, an array of two or more dimensions becomes a product.

    Each row along the first axis has a float16 scale: of 31 candidates the one with the smallest
    squared error. An array of one dimension is one row; with a `group` every so many of its values
    are one, and each value where it has no more than that.

    Raises:
        ValueError: a value is too large for float16 scales, or they are more zeros than `decode`
            believes.
    """
    matrices = [matrix for array in arrays for matrix in _split(array, rank, group)]
    found = [_nearest(matrix, *RANGES[kind]) for matrix in matrices]
    scales = np.concatenate([np.zeros(0, "<f2"), *(scale for scale, _ in found)])
    flat = np.concatenate([np.zeros(0, np.int16), *(whole.reshape(-1) for _, whole in found)])
    data = np.concatenate([scales.astype("<f2").view(np.uint8), _pack(flat, *RANGES[kind])])
    _check_believable([array.shape for array in arrays], rank, group, data.size)
    return data


def decode(
    data: Bytes, shapes: Sequence[Shape], kind: str, rank: int = 0, group: int = 0
) -> list[Floats]:
    """Inverse of `encode`, to the nearest integers.

    Raises:
        ValueError: the bytes do not fit the shapes; raised before anything large is allocated.
    """
    _check_believable(shapes, rank, group, data.size)
    counts = [_stored(shape, rank, group) for shape in shapes]  # rows and columns of each matrix
    stored = [matrix for matrices in counts for matrix in matrices]
    reader = codec.Reader(data)
    scales = reader.take(2 * sum(rows for rows, _ in stored)).view("<f2").astype(np.float32)
    if not (np.isfinite(scales).all() and (scales >= 0).all()):
        raise ValueError("a scale is negative, NaN or infinite")
    flat = _unpack(reader, sum(rows * columns for rows, columns in stored), *RANGES[kind])
    reader.end()
    parts: list[Floats] = []
    row = place = 0
    for rows, columns in stored:
        whole = flat[place : place + rows * columns].reshape(rows, columns)
        parts.append(whole * scales[row : row + rows, None])
        row, place = row + rows, place + rows * columns
    left = iter(parts)
    return [
        _join([next(left) for _ in matrices], shape, rank)
        for shape, matrices in zip(shapes, counts, strict=True)
    ]


def _check_believable(shapes: Sequence[Shape], rank: int, group: int, size: int) -> None:
    """Raise ValueError where `size` bytes cannot hold the scales, or would hold mostly zeros."""
    rows = sum(count for shape in shapes for count, _ in _stored(shape, rank, group))
    if 2 * rows > size:
        raise ValueError(f"{size} bytes, the scales of {rows} rows alone need {2 * rows}")
    values, most = sum(math.prod(shape) for shape in shapes), BELIEVED_A_BYTE * size
    if values > max(BELIEVED, most):
        raise ValueError(f"{values} values in {size} bytes, expected at most {max(BELIEVED, most)}")


def _nearest(matrix: Floats, low: int, high: int) -> tuple[npt.NDArray[np.float16], Integers]:
    """The scale and the integers nearest to each row, scale times integer, in squares."""
    largest = np.abs(matrix).max(axis=1, initial=0.0) / np.float32(high)
    if not (largest <= LARGEST_SCALE).all():
        raise ValueError(f"{largest.max() * high:g} is beyond what a float16 scale reaches")
    scales = np.zeros(len(matrix), np.float16)
    integers = np.zeros(matrix.shape, np.int16)
    error = np.square(matrix).sum(axis=1, dtype=np.float64)
    for share in SHRINK:
        tried = (share * largest).astype(np.float16)
        step = np.where(tried > 0, tried, 1).astype(np.float32)[:, None]
        found = np.clip(np.rint(matrix / step), low, high)
        missed = np.square(matrix - found * step).sum(axis=1, dtype=np.float64)
        better = (missed < error) & (tried > 0)
        scales[better], error[better] = tried[better], missed[better]
        integers[better] = found[better]
    return scales, integers


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


def _unpack(reader: codec.Reader, count: int, low: int, high: int) -> npt.NDArray[np.integer[Any]]:
    if high >= PLAIN_FROM:
        plain = reader.take(count)
        return plain.view(np.int8) if low < 0 else plain
    larger = _unpack_plane(reader, count)
    values = larger.astype(np.int8)
    for _ in range(1, high):
        larger[larger] = _unpack_plane(reader, int(np.count_nonzero(larger)))
        values += larger
    if low < 0:
        negative = values != 0
        negative[negative] = _unpack_plane(reader, int(np.count_nonzero(negative)))
        np.negative(values, where=negative, out=values)
    return values


def _pack_plane(plane: bits.Bools) -> list[Bytes]:
    coded = codec.encode(bits.pack_bits(plane), [plane.size])
    return [np.frombuffer(codec.varint(coded.size), np.uint8), coded]


def _unpack_plane(reader: codec.Reader, count: int) -> bits.Bools:
    packed = codec.decode(reader.take(reader.varint()), [count])
    return bits.unpack_bits(packed, (count,))


# ---- arrays <-> rows


def _stored(shape: Shape, rank: int, group: int) -> list[tuple[int, int]]:
    """Rows and columns of the matrices that are stored of an array."""
    if len(shape) > 1:
        rows, columns = _matrix(shape)
        return [(rank, rows), (rank, columns)] if _thin(shape, rank) else [(rows, columns)]
    count = math.prod(shape)
    if not group:
        return [(1, count)]
    if count <= group:
        return [(count, 1)]
    return [(count // group, group), (int(count % group > 0), count % group)]


def _split(array: Floats, rank: int, group: int) -> list[Floats]:
    """The matrices that are stored of an array, still in floats."""
    if _thin(array.shape, rank):
        return _factors(array.reshape(_matrix(array.shape)), rank)
    flat = np.ascontiguousarray(array, np.float32).reshape(-1)
    parts: list[Floats] = []
    place = 0
    for rows, columns in _stored(array.shape, rank, group):
        parts.append(flat[place : place + rows * columns].reshape(rows, columns))
        place += rows * columns
    return parts


def _join(parts: Sequence[Floats], shape: Shape, rank: int) -> Floats:
    """Inverse of `_split`."""
    if _thin(shape, rank):
        return _product(parts[0], parts[1]).reshape(shape)
    return np.concatenate([part.reshape(-1) for part in parts]).reshape(shape)


def _matrix(shape: Shape) -> tuple[int, int]:
    return shape[0], math.prod(shape[1:])


def _thin(shape: Shape, rank: int) -> bool:
    """Whether two factors of this rank are what is stored of an array."""
    return rank > 0 and len(shape) > 1 and rank < min(_matrix(shape))


def _factors(matrix: Floats, rank: int) -> list[Floats]:
    """(rank, rows) and (rank, columns), by the largest singular values."""
    u, s, v = np.linalg.svd(matrix.astype(np.float32), full_matrices=False)
    root = np.sqrt(s[:rank])[:, None]
    return [u.T[:rank] * root, v[:rank] * root]


def _product(left: Floats, right: Floats) -> Floats:
    """Inverse of `_factors`."""
    total = np.zeros((left.shape[1], right.shape[1]), np.float32)
    for one, other in zip(left, right, strict=True):
        total += np.outer(one, other)  # in this order everywhere: a matrix product has none
    return total
