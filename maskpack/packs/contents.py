"""What a pack holds, in memory: streams of bits and numbers, tasks, a backbone's name and hashes.

Every kind of value a task keeps (mask bits, coefficients, norms, head, whole weights) is one
*stream*: a table of (name, shape) and the values of all its rows, one after another.
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt
from bitarray import bitarray

from maskpack.common.errors import OptionError, PackFormatError, UnknownName, one_line
from maskpack.packs import bits
from maskpack.packs import mask_codec as codec
from maskpack.packs import number_codec as quantize

BITS = "bits"
OWN = ("head", "norms", "weights")  # streams that are whole tensors of the network's state
MASK = "mask"  # a stream of this name is the mask itself, and always bits
DTYPES = {BITS: "U8", "u8": "U8", "f16": "F16", "f32": "F32"}
DTYPES |= dict.fromkeys(quantize.RANGES, "U8")
NUMPY: dict[str, np.dtype[Any]] = {
    "U8": np.dtype("u1"),
    "F16": np.dtype("<f2"),
    "F32": np.dtype("<f4"),
}
UNITS = {BITS: "bytes"}  # what a stream counts, where it is not values
LARGEST = 1 << 48  # elements of one tensor: more is a lie, whatever the file says
Array = npt.NDArray[Any]
Table = tuple[tuple[str, tuple[int, ...]], ...]


@dataclass(frozen=True)
class Stream:
    """The values of one kind for all rows of a table.

    `dtype` is "bits", "u8", "f16", "f32" or one of `maskpack.packs.number_codec`, which then made
    `data`, with a `rank` of two thin factors and a scale for a `group` of values, where these are
    not 0. With `zeros_of`, a row keeps values only where that
    stream's bit is 0, in C order; its shape is still the full one, and the rest reads as 0.
    With `coded`, `data` is what `maskpack.packs.mask_codec` makes of the bits. With `delta`, values
    are to be added to the backbone's tensors of the same names.
    """

    table: Table
    dtype: str
    data: Array
    zeros_of: str | None = None
    coded: bool = False
    rank: int = 0
    group: int = 0
    delta: bool = False
    sha256: str = field(default="", compare=False)  # of the bytes, as the file says; see verify
    users: int = field(default=1, compare=False)  # streams of the file that these bytes are for

    @property
    def own_bytes(self) -> int:
        """Bytes in the file, those for several streams divided by them (rounded down)."""
        return self.data.nbytes // self.users

    @property
    def quantized(self) -> bool:
        """Whether `data` is what `maskpack.packs.number_codec` makes of float32 values."""
        return self.dtype in quantize.RANGES

    @property
    def values_dtype(self) -> np.dtype[Any]:
        """Of the values, once decoded (of packed bytes for bits)."""
        return NUMPY["F32" if self.quantized else DTYPES[self.dtype]]


@dataclass(frozen=True)
class PackedTask:
    """One task of a pack. `info` is JSON: what was learnt, how, and how well."""

    name: str
    method: str
    options: Mapping[str, Any]
    norms: str
    info: Mapping[str, Any]
    streams: Mapping[str, Stream]
    source: str = field(default="", compare=False)  # the file it was read from, for messages
    _checked: set[str] = field(default_factory=set, init=False, compare=False, repr=False)
    _decoded: dict[str, Array] = field(default_factory=dict, init=False, compare=False, repr=False)

    def rows(self, stream: str) -> Iterator[tuple[str, tuple[int, ...], Array]]:
        """Name, shape and stored values of each row: packed bytes for bits, flat values else.

        Raises:
            PackFormatError: the values are not what the table or the stream's type allows.
        """
        if stream not in self._checked:
            self._check(stream)
            self._checked.add(stream)
        yield from self._split(stream)

    def values(self, stream: str) -> Array:
        """All rows' stored values, one after another; coded and quantised ones are decoded, once.

        Raises:
            PackFormatError: they cannot be decoded.
        """
        kept = self.streams[stream]
        if not (kept.coded or kept.quantized):
            return kept.data
        if stream not in self._decoded:
            try:
                self._decoded[stream] = self._decode(stream)
            except ValueError as error:
                self._fail(stream, str(error))
        return self._decoded[stream]

    def _decode(self, stream: str) -> Array:
        kept = self.streams[stream]
        if kept.coded:
            return codec.decode(kept.data, [math.prod(shape) for _, shape in kept.table])
        # where only some of a row's values are kept they are a row of their own
        shapes = [(n,) for n in self._counts(stream)] if kept.zeros_of else None
        arrays = quantize.decode(
            kept.data,
            shapes or [shape for _, shape in kept.table],
            kept.dtype,
            kept.rank,
            kept.group,
        )
        return np.concatenate([np.zeros(0, np.float32), *(a.reshape(-1) for a in arrays)])

    def verify(self) -> None:
        """Compare every stream's bytes with the hash that the file keeps of them.

        Raises:
            PackFormatError: they differ.
        """
        for key, stream in self.streams.items():
            if stream.sha256 and stream.sha256 != stream_hash(stream.data):
                self._fail(key, "its bytes do not match their sha256")

    def arrays(self, stream: str) -> dict[str, Array]:
        """Every row of a stream as an array of its full shape (bool for bits).

        Raises:
            PackFormatError: stored bytes do not fit the table.
        """
        kept = self.streams[stream]
        masks = self.arrays(kept.zeros_of) if kept.zeros_of else {}
        out: dict[str, Array] = {}
        for name, shape, values in self.rows(stream):
            if kept.dtype == BITS:
                out[name] = bits.unpack_bits(values, shape)
            elif kept.zeros_of:
                out[name] = np.zeros(shape, kept.values_dtype)
                out[name][~masks[name]] = values
            else:
                out[name] = values.reshape(shape)
        return out

    def mask(self, layer: str, stream: str = MASK) -> bitarray:
        """One layer's bits, in C order of its shape, as a bitarray over the file's bytes.

        No copy is made when the layer's bits fill its last byte.

        Raises:
            UnknownName: the task has no such stream or layer.
        """
        if stream not in self.streams or self.streams[stream].dtype != BITS:
            known = [name for name, kept in self.streams.items() if kept.dtype == BITS]
            raise UnknownName(f"bit stream of task {self.name}", stream, known)
        for name, shape, values in self.rows(stream):
            if name == layer:
                return bits.as_bitarray(values, math.prod(shape))
        known = [name for name, _ in self.streams[stream].table]
        raise UnknownName(f"masked layer of task {self.name}", layer, known)

    @property
    def masks(self) -> dict[str, bitarray]:
        """All layers' bits of the stream "mask", in the table's order."""
        if MASK not in self.streams:
            return {}
        return {
            name: bits.as_bitarray(values, math.prod(shape))
            for name, shape, values in self.rows(MASK)
        }

    def _split(self, stream: str) -> Iterator[tuple[str, tuple[int, ...], Array]]:
        table, values = self.streams[stream].table, self.values(stream)
        offset = 0
        for (name, shape), count in zip(table, self._counts(stream), strict=True):
            yield name, shape, values[offset : offset + count]
            offset += count

    def _counts(self, stream: str) -> list[int]:
        kept = self.streams[stream]
        sizes = [math.prod(shape) for _, shape in kept.table]
        if kept.dtype == BITS:
            return [bits.byte_count(size) for size in sizes]
        if kept.zeros_of:
            ones = (bits.count_ones(values) for _, _, values in self.rows(kept.zeros_of))
            return [size - on for size, on in zip(sizes, ones, strict=True)]
        return sizes

    def _check(self, stream: str) -> None:
        kept, stored = self.streams[stream], self.values(stream)
        need = sum(self._counts(stream))
        if stored.size != need:
            found = f"{stored.size} {UNITS.get(kept.dtype, 'values')}, its table needs {need}"
            self._fail(stream, found)
        if kept.dtype == BITS:
            for name, shape, values in self._split(stream):
                try:
                    bits.check_bits(values, math.prod(shape))
                except ValueError as error:
                    self._fail(name, str(error))
        elif kept.dtype != "u8" and not np.isfinite(stored).all():
            self._fail(stream, "a value is NaN or infinite")

    def _fail(self, where: str, found: str) -> NoReturn:
        source = f"{self.source}: " if self.source else ""
        about = one_line(f"{self.name}, {where}: {found}")
        raise PackFormatError(f"{source}{about}; the file is damaged")


@dataclass(frozen=True)
class BackboneInfo:
    """What a pack says of its backbone: enough to open it again and to know it is the same."""

    name: str
    fingerprint: str
    size_bytes: int  # of its weights without the last layer, as a float32 checkpoint
    head: str
    preprocess: Mapping[str, Any]
    source: str = ""  # where its weights came from, for people
    head_bytes: int = 0  # of its own last layer, as a float32 checkpoint
    hashes: tuple[str, ...] = ()  # first 4 hex digits of each tensor's sha256, sorted by name


@dataclass(frozen=True)
class Pack:
    """A whole file. `header_bytes` is what the file spends on everything but the streams."""

    backbone: BackboneInfo
    tasks: Mapping[str, PackedTask] = field(default_factory=dict)
    path: Path | None = None
    header_bytes: int = 0

    def task(self, name: str | None = None) -> PackedTask:
        """The named task; without a name, the only one.

        Raises:
            UnknownName: no such task.
            OptionError: no name given, and there is not just one task.
        """
        where = str(self.path or "the pack")
        if name is None:
            if len(self.tasks) != 1:
                known = ", ".join(self.tasks) or "none"
                raise OptionError(f"{where}: say which task; it has {known}")
            return next(iter(self.tasks.values()))
        if name not in self.tasks:
            raise UnknownName(f"task in {where}", name, self.tasks)
        return self.tasks[name]


def encode(
    values: Mapping[str, Array], dtype: str, masks: Mapping[str, Array] | None = None, of: str = ""
) -> Stream:
    """Arrays by name -> one stream. With `masks`, only values where the mask is 0 are kept."""
    table = tuple((name, tuple(int(n) for n in value.shape)) for name, value in values.items())
    if dtype == BITS:
        parts = [bits.pack_bits(value) for value in values.values()]
    elif masks is not None:
        parts = [value[~masks[name]].reshape(-1) for name, value in values.items()]
    else:
        parts = [value.reshape(-1) for value in values.values()]
    kind = NUMPY[DTYPES[dtype]]
    data = np.concatenate(parts).astype(kind, copy=False) if parts else np.zeros(0, kind)
    return Stream(table, dtype, data, of if masks is not None else None)


def quantized(task: PackedTask, stream: str, dtype: str, rank: int = 0, group: int = 0) -> Stream:
    """A task's stream of floats with few bits a value, or as float16 or float32 again.

    Raises:
        ValueError: a value is too large for float16.
    """
    kept = task.streams[stream]
    rows = [(shape, values) for _, shape, values in task.rows(stream)]
    if dtype in quantize.RANGES:
        parts = [v if kept.zeros_of else v.reshape(shape) for shape, v in rows]
        data: Array = quantize.encode(parts, dtype, rank, group)
    else:
        with np.errstate(over="ignore"):
            data = task.values(stream).astype(NUMPY[DTYPES[dtype]])
        if not np.isfinite(data).all():
            raise ValueError("a value is beyond float16")
    if dtype not in quantize.RANGES:
        rank = group = 0
    return dataclasses.replace(
        kept, dtype=dtype, data=data, rank=rank, group=group, sha256="", users=1
    )


def stream_hash(data: Array) -> str:
    """sha256 of a stream's bytes, hex."""
    return hashlib.sha256(np.ascontiguousarray(data).tobytes()).hexdigest()
