"""Mask bits <-> fewer bytes: every layer raw, rANS- or Rice-coded, whichever is smallest.

A trained mask is a coin thrown once a weight, with one share of zeros a layer, so a layer is coded
by how many of its bits are the rarer value and where they are. Only integers are used: the same
bytes on every machine. `docs/format.md` gives the layout.

rANS (Duda 2013, arXiv:1311.2540) codes whole packed bytes; the frequency of a byte follows from
the layer's count of rare bits, so no table is stored. Many lanes are interleaved, and one numpy
call advances all. Rice codes (Rice and Plunkett 1971) give the distances between rare bits where
these are few.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from maskpack.packs import bits
from maskpack.packs.bits import Bytes

RAW, RANS, RICE = 0, 1, 2
ONES_ARE_RARE = 4  # added to a layer's code
LARGEST = 1 << 31  # bits of one stream; a file can claim any number in a few bytes

PRECISION = 14  # a layer's byte frequencies sum to 2**14
TOTAL = 1 << PRECISION
LOW = 1 << 16  # a lane's state stays in [LOW, 2**32) and moves 16 bits at a time
CHOOSE = [math.comb(8, rare) for rare in range(9)]
RARE_IN = np.array([8 - byte.bit_count() for byte in range(256)], np.uint8)  # zeros of a byte

Ints = npt.NDArray[np.int64]
Words = npt.NDArray[np.uint16]


@dataclass(frozen=True)
class _Layer:
    """What the decoder knows of a layer before it reads any of its bits."""

    code: int
    count: int  # bits
    rare: int  # how many of them are the rarer value; 0 for raw layers
    flip: bool  # whether the rarer value is 1

    @property
    def bytes(self) -> int:
        return bits.byte_count(self.count)


def encode(data: Bytes, counts: Sequence[int]) -> Bytes:
    """Packed bits of many layers, each starting on a byte -> one coded stream.

    `counts` are the layers' numbers of bits. Inverse of `decode`.
    """
    layers: list[_Layer] = []
    parts: list[Bytes] = []
    for part, count in zip(_split(data, counts), counts, strict=True):
        ones = bits.count_ones(part)
        flip = ones < count - ones
        rare = min(ones, count - ones)
        parts.append(_with_rare_zeros(part, count, flip))
        layers.append(_Layer(_cheapest(count, rare), count, rare, flip))
    head = bytearray()
    for layer in layers:
        head.append(layer.code + ONES_ARE_RARE * layer.flip)
        if layer.code != RAW:
            head += varint(layer.rare)
    chosen: dict[int, list[int]] = {RAW: [], RANS: [], RICE: []}
    for place, layer in enumerate(layers):
        chosen[layer.code].append(place)
    raw = [part for part, layer in zip(_split(data, counts), layers, strict=True) if not layer.code]
    body = [np.frombuffer(bytes(head), np.uint8), *raw]
    for code, write in ((RICE, _write_rice), (RANS, _write_rans)):
        places = chosen[code]
        if places:
            body.append(write([parts[i] for i in places], [layers[i] for i in places]))
    return np.concatenate(body) if body else np.zeros(0, np.uint8)


def decode(coded: Bytes, counts: Sequence[int]) -> Bytes:
    """Inverse of `encode`.

    Raises:
        ValueError: the stream is damaged; raised before anything large is allocated.
    """
    if sum(counts) > LARGEST:
        raise ValueError(f"{sum(counts)} mask bits, expected at most {LARGEST}")
    reader = Reader(coded)
    layers = []
    for count in counts:
        code = reader.byte()
        flip, code = bool(code & ONES_ARE_RARE), code & ~ONES_ARE_RARE
        if code not in (RAW, RANS, RICE):
            raise ValueError(f"unknown code {code} of a layer")
        rare = reader.varint() if code != RAW else 0
        if 2 * rare > count or (code != RAW and not count):
            raise ValueError(f"{rare} rare bits of {count}")
        layers.append(_Layer(code, count, rare, flip))
    need = sum(layer.bytes for layer in layers if layer.code == RAW)
    plain = iter(_split(reader.take(need), [la.count for la in layers if la.code == RAW]))
    rice = iter(_read_rice(reader, [layer for layer in layers if layer.code == RICE]))
    rans = iter(_read_rans(reader, [layer for layer in layers if layer.code == RANS]))
    reader.end()
    sources: dict[int, Iterator[Bytes]] = {RAW: plain, RANS: rans, RICE: rice}
    parts = []
    for layer in layers:
        part = next(sources[layer.code])
        if layer.code == RAW:
            bits.check_bits(part, layer.count)
        else:
            part = _with_zero_padding(part ^ np.uint8(255 * layer.flip), layer.count)
        parts.append(part)
    return np.concatenate(parts) if parts else np.zeros(0, np.uint8)


def entropy_bits(count: int, ones: int) -> float:
    """n H(p): the fewest bits that `count` throws of a coin with `ones` ones can take."""
    if ones in (0, count):
        return 0.0
    p = ones / count
    return -count * (p * math.log2(p) + (1 - p) * math.log2(1 - p))


# ---- which code


def _cheapest(count: int, rare: int) -> int:
    """The code with the smallest estimate; estimates are integers, in 1/1000 bit."""
    raw = 8000 * bits.byte_count(count)
    costs = {RAW: raw, RICE: _rice_cost(count, rare)}
    if rare:
        costs[RANS] = _rans_cost(count, rare) * 1007 // 1000 + 40_000  # with the lanes' states
    return min(costs, key=lambda code: (costs[code], code))


def _rice_cost(count: int, rare: int) -> int:
    if not rare:
        return 0
    k = _rice_parameter(count, rare)
    # a quotient is count / (rare * 2**k) less a half on average, and a twelfth of the inverse
    quotients = 1000 * count // 2**k - 500 * rare + 1000 * rare * rare * 2**k // (12 * count)
    return 1000 * rare * (1 + k) + quotients


def _rans_cost(count: int, rare: int) -> int:
    frequencies = _class_frequencies(count, rare)
    whole = bits.byte_count(count)
    total = 0
    for zeros, frequency in enumerate(frequencies):
        # share of bytes with so many rare bits, times what each costs
        share = CHOOSE[zeros] * (count - rare) ** (8 - zeros) * rare**zeros
        total += whole * share * _millibits(frequency) // count**8
    return total


def _millibits(frequency: int) -> int:
    """1000 log2(TOTAL / frequency) to the nearest, without floats: table steps by squaring."""
    value, out = (TOTAL << 32) // frequency, 0
    while value >= 2 << 32:
        value >>= 1
        out += 1 << 10
    for place in range(9, -1, -1):
        value = value * value >> 32
        if value >= 2 << 32:
            value >>= 1
            out += 1 << place
    return out * 1000 >> 10


# ---- rANS


def _class_frequencies(count: int, rare: int) -> list[int]:
    """Frequency of one byte by how many of its bits are rare; all 256 sum to TOTAL."""
    whole = count**8
    out = [
        max(1, TOTAL * (count - rare) ** (8 - zeros) * rare**zeros // whole) for zeros in range(9)
    ]
    # what rounding left over goes where it changes the least: to the likeliest class
    left = TOTAL - sum(f * n for f, n in zip(out, CHOOSE, strict=True))
    heavy = max(range(9), key=lambda zeros: out[zeros] * CHOOSE[zeros])
    out[heavy] += left // CHOOSE[heavy]
    out[0] += left % CHOOSE[heavy]
    return out


def _tables(layer: _Layer) -> tuple[Ints, Ints]:
    """Frequency and cumulative frequency of each of the 256 bytes."""
    frequency = np.array(_class_frequencies(layer.count, layer.rare), np.int64)[RARE_IN]
    return frequency, np.cumsum(frequency) - frequency


def _lanes(size: int, cost: int) -> int:
    """log2 of the number of lanes for `size` bytes that cost `cost`.

    As many as cost 0.7 % of the stream by their states, but no fewer than make 4096 steps.
    """
    many = (cost // (150 * 32 * 1000)).bit_length() - 1
    few = ((size - 1) // 4096).bit_length()
    return max(0, min(12, max(many, few)))


def _write_rans(parts: list[Bytes], layers: list[_Layer]) -> Bytes:
    symbols = np.concatenate(parts)
    power = _lanes(symbols.size, sum(_rans_cost(layer.count, layer.rare) for layer in layers))
    lanes = 1 << power
    tables = [_tables(layer) for layer in layers]
    owner = np.repeat(np.arange(len(parts)), [part.size for part in parts])
    index = owner * 256 + symbols
    frequency = np.concatenate([f for f, _ in tables]).astype(np.uint64)[index]
    start = np.concatenate([c for _, c in tables]).astype(np.uint64)[index]
    state = np.full(lanes, LOW, np.uint64)
    words: list[Words] = []
    steps = -(-symbols.size // lanes)
    for step in range(steps - 1, -1, -1):
        here = slice(step * lanes, min((step + 1) * lanes, symbols.size))
        f, c = frequency[here], start[here]
        x = state[: f.size]
        full = x >= f << np.uint64(32 - PRECISION)
        words.append(x[full].astype(np.uint16))
        x = np.where(full, x >> np.uint64(16), x)
        state[: f.size] = (x // f << np.uint64(PRECISION)) + x % f + c
    stream = np.concatenate(words[::-1]) if words else np.zeros(0, np.uint16)
    return np.concatenate(
        [
            np.array([power], np.uint8),
            state.astype("<u4").view(np.uint8),
            stream.astype("<u2").view(np.uint8),
        ]
    )


def _read_rans(reader: Reader, layers: list[_Layer]) -> list[Bytes]:
    if not layers:
        return []
    power = reader.byte()
    if power > 12:
        raise ValueError(f"2**{power} lanes, expected at most 2**12")
    lanes = 1 << power
    state: Any = reader.take(4 * lanes).copy().view("<u4").astype(np.uint32)
    words = reader.rest()
    if words.size % 2:
        raise ValueError("the coded mask ends within a word")
    stream: Any = words.copy().view("<u2").astype(np.uint32)
    size = sum(layer.bytes for layer in layers)
    # a byte costs at least log2(TOTAL / (TOTAL - 255)) bits, 0.022: fewer words cannot hold them
    if size > (stream.size * 16 + lanes * 32 + 64) * 64:
        raise ValueError("the coded mask is too short for its layers")
    out = np.empty(size, np.uint8)
    place = position = 0
    limit = np.uint32(LOW)
    mask, shift = np.uint32(TOTAL - 1), np.uint32(PRECISION)
    sixteen = np.uint32(16)
    for layer in layers:
        frequency, start = _tables(layer)
        symbol_at = np.repeat(np.arange(256, dtype=np.uint8), frequency)
        frequency_at = np.repeat(frequency, frequency).astype(np.uint32)
        bias_at = (np.arange(TOTAL) - np.repeat(start, frequency)).astype(np.uint32)
        end = place + layer.bytes
        while place < end:
            lane = place % lanes
            width = min(lanes - lane, end - place)
            x = state[lane : lane + width]
            slot = x & mask
            out[place : place + width] = symbol_at[slot]
            x >>= shift
            x *= frequency_at[slot]
            x += bias_at[slot]
            empty = np.flatnonzero(x < limit)
            if empty.size:
                fresh = stream[position : position + empty.size]
                if fresh.size != empty.size:
                    raise ValueError("the coded mask ends early")
                x[empty] = x[empty] << sixteen | fresh
                position += empty.size
            place += width
    parts = list(_split(out, [layer.count for layer in layers]))
    zeros = (8 * part.size - bits.count_ones(part) for part in parts)  # padding is 1
    ends = position == stream.size and not (state != LOW).any()
    if not ends or any(n != layer.rare for n, layer in zip(zeros, layers, strict=True)):
        raise ValueError("the coded mask is damaged")
    return parts


# ---- Rice


def _rice_parameter(count: int, rare: int) -> int:
    """k of the Rice code: about log2(ln 2 * mean distance), from integers alone."""
    if not rare:
        return 0
    return max(0, (count * 355 // (512 * rare)).bit_length() - 1)


def _write_rice(parts: list[Bytes], layers: list[_Layer]) -> Bytes:
    unary: list[Bytes] = []
    rests: list[Bytes] = []
    for part, layer in zip(parts, layers, strict=True):
        flags = np.unpackbits(part, count=layer.count, bitorder="little")
        where = np.flatnonzero(flags == 0)
        gaps = np.diff(where, prepend=-1) - 1
        k = _rice_parameter(layer.count, layer.rare)
        ends = np.cumsum((gaps >> k) + 1)
        line = np.zeros(int(ends[-1]) if ends.size else 0, np.uint8)
        line[ends - 1] = 1
        unary.append(line)
        digits = gaps[:, None] >> np.arange(k) & 1  # (rare, k), lowest first
        rests.append(digits.astype(np.uint8).reshape(-1))
    line = np.concatenate(unary)
    return np.concatenate(
        [
            np.frombuffer(varint(line.size), np.uint8),
            np.packbits(line, bitorder="little"),
            np.packbits(np.concatenate(rests), bitorder="little"),
        ]
    )


def _read_rice(reader: Reader, layers: list[_Layer]) -> list[Bytes]:
    if not layers:
        return []
    size = reader.varint()
    packed = reader.take(bits.byte_count(size))
    bits.check_bits(packed, size)
    ends = np.flatnonzero(np.unpackbits(packed, count=size, bitorder="little"))
    rare = sum(layer.rare for layer in layers)
    if ends.size != rare or (size and ends[-1] != size - 1 if rare else size):
        raise ValueError(f"{ends.size} distances between rare bits, expected {rare}")
    quotients = np.diff(ends, prepend=-1) - 1
    parameters = [_rice_parameter(layer.count, layer.rare) for layer in layers]
    digits_size = sum(layer.rare * k for layer, k in zip(layers, parameters, strict=True))
    packed = reader.take(bits.byte_count(digits_size))
    bits.check_bits(packed, digits_size)
    digits = np.unpackbits(packed, count=digits_size, bitorder="little")
    out, first, digit = [], 0, 0
    for layer, k in zip(layers, parameters, strict=True):
        gaps = quotients[first : first + layer.rare] << k
        own = digits[digit : digit + layer.rare * k].reshape(layer.rare, k)
        for place in range(k):
            gaps += own[:, place].astype(np.int64) << place
        where = np.cumsum(gaps + 1) - 1
        if where.size and int(where[-1]) >= layer.count:
            raise ValueError(f"a rare bit at {int(where[-1])} of {layer.count}")
        out.append(_with_zeros_at(where, layer.bytes))
        first, digit = first + layer.rare, digit + layer.rare * k
    return out


def _with_zeros_at(where: Ints, size: int) -> Bytes:
    """`size` bytes of ones but for the bits `where`, which ascend."""
    part = np.full(size, 255, np.uint8)
    if where.size:
        owner = where >> 3
        first = np.flatnonzero(np.diff(owner, prepend=-1))  # of each byte that has a zero
        part[owner[first]] -= np.add.reduceat(1 << (where & 7), first).astype(np.uint8)
    return part


# ---- bytes


def _split(data: Bytes, counts: Sequence[int]) -> Iterator[Bytes]:
    place = 0
    for count in counts:
        yield data[place : place + bits.byte_count(count)]
        place += bits.byte_count(count)


def _with_rare_zeros(part: Bytes, count: int, flip: bool) -> Bytes:
    """A layer's bytes with the rarer value as 0, and padding as 1, which costs less to code."""
    part = part ^ np.uint8(255 * flip)
    if count % 8:
        part[-1] |= 255 << count % 8 & 255
    return part


def _with_zero_padding(part: Bytes, count: int) -> Bytes:
    if count % 8:
        part[-1] &= (1 << count % 8) - 1
    return part


def varint(value: int) -> bytes:
    """Seven bits a byte, lowest first, the high bit on all but the last (LEB128)."""
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


class Reader:
    """Takes bytes from the front; ValueError where there are not enough."""

    def __init__(self, data: Bytes) -> None:
        self.data = data
        self.place = 0

    def take(self, size: int) -> Bytes:
        if size > self.data.size - self.place:
            raise ValueError(f"{size} bytes wanted, {self.data.size - self.place} left")
        self.place += size
        return self.data[self.place - size : self.place]

    def rest(self) -> Bytes:
        return self.take(self.data.size - self.place)

    def byte(self) -> int:
        return int(self.take(1)[0])

    def varint(self) -> int:
        value = 0
        for shift in range(0, 63, 7):
            byte = self.byte()
            value |= (byte & 127) << shift
            if byte < 128:
                return value
        raise ValueError("a number of more than 63 bits")

    def end(self) -> None:
        if self.place != self.data.size:
            raise ValueError(f"{self.data.size - self.place} bytes too many")
