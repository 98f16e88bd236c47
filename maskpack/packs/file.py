"""A pack on disk: one safetensors file, written, and read with every claim of its header checked.

Tables and streams that are equal are stored once and the header is deflated, so a hundred tasks
keep a small one. `docs/format.md` is the contract.
"""

from __future__ import annotations

import dataclasses
import json
import math
import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from maskpack.common.errors import MaskpackError, PackFormatError, one_line
from maskpack.common.files import replacing
from maskpack.packs import bits
from maskpack.packs import number_codec as quantize
from maskpack.packs.contents import (
    BITS,
    DTYPES,
    LARGEST,
    MASK,
    NUMPY,
    OWN,
    UNITS,
    Array,
    BackboneInfo,
    Pack,
    PackedTask,
    Stream,
    Table,
    stream_hash,
)

FORMAT = 1
# what a header may ask of its reader
FEATURES = frozenset(("coded", "delta", "quantized", "zeros_of"))
# no task's name begins with a slash
HEADER = "/header"  # the header's JSON, deflated
BACKBONE_HASHES = "/backbone"  # 2 bytes of the sha256 of each of its tensors, sorted by name
STREAM_HASHES = "/streams"  # sha256 of every task's every stream, sorted by task, then stream
LARGEST_HEADER = 1 << 26  # bytes of JSON: deflated zeros claim a thousand times their size
KEY = "maskpack"  # the one metadata key: safetensors writes several in random order


# ---- writing


def write(path: Path | str, pack: Pack) -> None:
    """Write a pack; equal packs give equal bytes.

    Raises:
        MaskpackError: the file cannot be written; what stood there is untouched.
    """
    path = Path(path)
    tables: list[Table] = []
    tasks: dict[str, Any] = {}
    tensors: dict[str, Array] = {}
    features: set[str] = set()
    hashes: list[str] = []
    stored: dict[tuple[str, str], str] = {}  # what is equal is written once
    for name, task in sorted(pack.tasks.items()):  # sorted: the order of a mapping is no content
        check_task_name(name)
        streams: dict[str, Any] = {}
        for key, stream in sorted(task.streams.items()):
            if stream.table not in tables:
                tables.append(stream.table)
            streams[key] = {"table": tables.index(stream.table), "dtype": stream.dtype}
            for what in ("coded", "zeros_of", "rank", "group", "delta"):
                if value := getattr(stream, what):
                    streams[key][what] = value
            features |= {what for what in FEATURES if getattr(stream, what)}
            digest = stream_hash(stream.data)
            hashes.append(digest)
            if (kept := stored.get((digest, stream.data.dtype.str))) is not None:
                streams[key]["tensor"] = kept
                continue
            stored[digest, stream.data.dtype.str] = f"{name}/{key}"
            tensors[f"{name}/{key}"] = np.ascontiguousarray(stream.data)
        tasks[name] = {
            "method": task.method,
            "options": dict(task.options),
            "norms": task.norms,
            "info": dict(task.info),
            "streams": streams,
        }
    backbone = dict(vars(pack.backbone))
    tensors[BACKBONE_HASHES] = _digests(backbone.pop("hashes"))
    tensors[STREAM_HASHES] = _digests(hashes)
    try:
        shared = _share(tasks)
        header = {
            "format": FORMAT,
            "features": sorted(features),
            "backbone": backbone,
            "tables": tables,
            "shared": shared,
            "tasks": tasks,
        }
        text = canonical_json(header).encode()
    except (ValueError, TypeError) as error:  # NaN, or what is no JSON
        raise MaskpackError(f"{path}: cannot be written: a task's info: {error}") from error
    tensors[HEADER] = np.frombuffer(zlib.compress(text, 9), np.uint8)
    with replacing(path) as written:
        try:
            save_file(tensors, written, metadata={KEY: canonical_json({"format": FORMAT})})
        except SafetensorError as error:
            raise MaskpackError(f"{path}: cannot be written: {error}") from error


def _digests(texts: Sequence[str]) -> Array:
    return np.frombuffer(bytes.fromhex("".join(texts)), np.uint8)


def _share(tasks: dict[str, Any]) -> list[Any]:
    """Objects that stand in several tasks or their info, taken out of them: {"=": n} is left.

    A hundred tasks learnt alike say so once.
    """
    places = [
        (about, key)
        for task in tasks.values()
        for about in (task, task["info"])
        for key, value in about.items()
        if isinstance(value, Mapping) and key != "info"
    ]
    counts = Counter(canonical_json(about[key]) for about, key in places)
    texts = sorted(text for text, count in counts.items() if count > 1)
    for about, key in places:
        text = canonical_json(about[key])
        if counts[text] > 1:
            about[key] = {"=": texts.index(text)}
    return [json.loads(text) for text in texts]


def canonical_json(value: object) -> str:
    """The one JSON text of a value: sorted keys, no spaces, no NaN."""
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )


def check_task_name(name: str) -> None:
    """Raise MaskpackError unless `name` can name a task in a file and on a command line."""
    if not name or "/" in name or "=" in name or not name.isprintable() or name != name.strip():
        raise MaskpackError(
            f"task name {name!r}: expected printable characters without '/' and '='"
        )


# ---- reading


def read(path: Path | str) -> Pack:
    """Read a pack; the streams are memory-mapped, so only what is used is loaded.

    Raises:
        PackFormatError: not a pack, damaged, or its header and its content disagree.
    """
    path = Path(path)
    if path.is_dir():
        raise PackFormatError(f"{path} is a folder; expected a pack")
    try:
        size = path.stat().st_size
        with safe_open(path, framework="numpy") as file:  # validates the container
            metadata = file.metadata() or {}
        with path.open("rb") as raw:
            length = int.from_bytes(raw.read(8), "little")
            entries = json.loads(raw.read(length))
    except OSError as error:
        raise PackFormatError(f"{path}: cannot be read: {error.strerror or error}") from error
    except SafetensorError as error:
        if not size:
            raise PackFormatError(f"{path} is empty; expected a pack") from error
        why = one_line(str(error))
        raise PackFormatError(f"{path} is not a pack or is damaged: {why}") from error
    if KEY not in metadata:
        raise PackFormatError(
            f"{path} is a safetensors file but not a pack (no {KEY!r} in its metadata); "
            "packs are made by `maskpack pack`"
        )
    entries.pop("__metadata__", None)
    whole = np.asarray(np.memmap(path, np.uint8, "r"))  # a slice of a memmap costs ten times more
    reader = _Reader(path, whole, 8 + length, entries)
    pack = reader.pack(_parse(path, metadata[KEY]))
    streams = (stream for task in pack.tasks.values() for stream in task.streams.values())
    return Pack(pack.backbone, pack.tasks, path, size - sum(s.own_bytes for s in streams))


def _parse(path: Path, text: str | bytes) -> Any:
    def refuse(constant: str) -> NoReturn:
        raise ValueError(f"{constant} is not JSON")

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            raise ValueError("a name stands twice")
        return found

    try:
        return json.loads(text, parse_constant=refuse, object_pairs_hook=unique)
    except (ValueError, RecursionError) as error:
        why = one_line(str(error))
        raise PackFormatError(f"{path}: header is not JSON: {why}; the file is damaged") from None


class _Reader:
    """Checks a header against the bytes it describes, and says where they disagree."""

    def __init__(self, path: Path, whole: Array, start: int, entries: dict[str, Any]) -> None:
        self.path = path
        self.whole, self.start, self.entries = whole, start, entries
        self.unclaimed = dict(entries)
        self.needs: dict[tuple[int, bool], int] = {}

    def pack(self, metadata: Any) -> Pack:
        version = self._get(self._typed(metadata, dict, "metadata"), "format", int, "metadata")
        if version != FORMAT:
            hint = "update maskpack" if version > FORMAT else "the file is damaged"
            self._fail(f"format {version}, this maskpack reads {FORMAT}; {hint}")
        self.header = self._typed(_parse(self.path, self._inflated()), dict, "header")
        features = self._get(self.header, "features", list, "header")
        names = [self._typed(feature, str, "features") for feature in features]
        unknown = [name for name in names if name not in FEATURES]
        if unknown:
            self._fail(f"needs {', '.join(unknown)}, which this maskpack cannot read; update it")
        about = self._get(self.header, "backbone", dict, "header")
        size_bytes = self._get(about, "size_bytes", int, "backbone")
        head_bytes = self._get(about, "head_bytes", int, "backbone")
        for key, count in (("size_bytes", size_bytes), ("head_bytes", head_bytes)):
            if not 0 <= count <= LARGEST:
                self._fail(f"backbone: {key} is {count}, expected 0 to {LARGEST}")
        backbone = BackboneInfo(
            self._get(about, "name", str, "backbone"),
            self._get(about, "fingerprint", str, "backbone"),
            size_bytes,
            self._get(about, "head", str, "backbone"),
            self._get(about, "preprocess", dict, "backbone"),
            self._get(about, "source", str, "backbone"),
            head_bytes,
            tuple(self._digests(BACKBONE_HASHES, 2)),
        )
        self.shared = self._get(self.header, "shared", list, "header")
        tables = self._get(self.header, "tables", list, "header")
        self.tables = [self._table(table, i) for i, table in enumerate(tables)]
        tasks = self._get(self.header, "tasks", dict, "header")
        self.stream_hashes = iter(self._digests(STREAM_HASHES, 32))
        self.users: Counter[str] = Counter()  # of each tensor
        self.tensors: dict[tuple[str, str], str] = {}  # by task and stream
        packed = {name: self._task(name, tasks[name]) for name in sorted(tasks)}
        for (name, key), tensor in self.tensors.items():
            streams = dict(packed[name].streams)
            if (users := self.users[tensor]) > 1:
                streams[key] = dataclasses.replace(streams[key], users=users)
                packed[name] = dataclasses.replace(packed[name], streams=streams)
        if self.unclaimed:
            self._fail(f"tensor {next(iter(self.unclaimed))!r} belongs to no task")
        if next(self.stream_hashes, None) is not None:
            self._fail(f"{STREAM_HASHES}: more hashes than streams")
        return Pack(backbone, packed)

    def _task(self, name: str, about: Any) -> PackedTask:
        try:
            check_task_name(name)
        except MaskpackError as error:
            self._fail(str(error))
        about = self._unshared(self._typed(about, dict, name), name)
        info = self._unshared(self._get(about, "info", dict, name), f"{name}, info")
        kept = self._get(about, "streams", dict, name)
        streams = {key: self._stream(name, key, kept[key]) for key in sorted(kept)}
        task = PackedTask(
            name,
            self._get(about, "method", str, name),
            self._get(about, "options", dict, name),
            self._get(about, "norms", str, name),
            info,
            streams,
            str(self.path),
        )
        for key in streams:
            self._check_stream(task, key)
        return task

    def _unshared(self, about: dict[str, Any], where: str) -> dict[str, Any]:
        """The object with {"=": n} replaced by what the header's "shared" has at n."""
        out = dict(about)
        for key, value in about.items():
            if isinstance(value, dict) and value.keys() == {"="}:
                number = self._typed(value["="], int, f"{where}, {key}")
                if not 0 <= number < len(self.shared):
                    self._fail(f"{where}, {key}: shared object {number} of {len(self.shared)}")
                out[key] = self._typed(self.shared[number], dict, f"shared object {number}")
        return out

    def _inflated(self) -> bytes:
        """The header's text."""
        inflater = zlib.decompressobj()
        try:
            text = inflater.decompress(self._bytes(HEADER).tobytes(), LARGEST_HEADER)
        except zlib.error as error:
            self._fail(f"{HEADER}: {error}; the file is damaged")
        if not inflater.eof or inflater.unused_data:
            self._fail(f"{HEADER}: longer than {LARGEST_HEADER} bytes, or cut; the file is damaged")
        return text

    def _digests(self, name: str, size: int) -> list[str]:
        """The digests of a tensor, `size` bytes each, in hex."""
        data = self._bytes(name)
        if data.size % size:
            self._fail(f"{name}: {data.size} bytes, expected {size} a hash")
        digests, step = data.tobytes().hex(), 2 * size
        return [digests[i : i + step] for i in range(0, len(digests), step)]

    def _bytes(self, name: str) -> Array:
        entry = self.unclaimed.pop(name, None)
        if entry is None:
            self._fail(f"no tensor {name!r} in the file")
        if entry["dtype"] != "U8":
            self._fail(f"{name}: {entry['dtype']}, expected U8")
        begin, end = entry["data_offsets"]
        return self.whole[self.start + begin : self.start + end]

    def _stream(self, task: str, key: str, about: Any) -> Stream:
        where = f"{task}, {key}"
        about = self._typed(about, dict, where)
        number = self._get(about, "table", int, where)
        if not 0 <= number < len(self.tables):
            self._fail(f"{where}: table {number} of {len(self.tables)}")
        dtype = self._get(about, "dtype", str, where)
        if dtype not in DTYPES:
            self._fail(f"{where}: unknown dtype {dtype!r}; known: {', '.join(DTYPES)}")
        if key == MASK and dtype != BITS:
            self._fail(f"{where}: is stored as {dtype}, expected {BITS}")
        tensor = self._typed(about.get("tensor", f"{task}/{key}"), str, f"{where}, tensor")
        entry = self.entries.get(tensor) if not tensor.startswith("/") else None
        if entry is None:
            self._fail(f"{where}: no tensor {tensor!r} in the file")
        self.unclaimed.pop(tensor, None)
        self.users[tensor] += 1
        self.tensors[task, key] = tensor
        if entry["dtype"] != DTYPES[dtype] or len(entry["shape"]) != 1:
            found = f"{entry['dtype']} of shape {entry['shape']}"
            self._fail(f"{where}: {found}, expected one dimension of {DTYPES[dtype]}")
        begin, end = entry["data_offsets"]
        data = self.whole[self.start + begin : self.start + end].view(NUMPY[DTYPES[dtype]])
        zeros_of = about.get("zeros_of")
        if zeros_of is not None:
            self._typed(zeros_of, str, where)
            if dtype == BITS:
                self._fail(f"{where}: bits have no zeros_of")
        coded = self._typed(about.get("coded", False), bool, f"{where}, coded")
        if coded and dtype != BITS:
            self._fail(f"{where}: only bits can be coded")
        rank, group = (
            self._typed(about.get(what, 0), int, f"{where}, {what}") for what in ("rank", "group")
        )
        for what, value in (("rank", rank), ("group", group)):
            if value and not (dtype in quantize.RANGES and 0 < value <= LARGEST):
                self._fail(f"{where}: {dtype}, {what} {value}; only quantized values have a {what}")
        delta = self._typed(about.get("delta", False), bool, f"{where}, delta")
        if delta and (dtype == BITS or key not in OWN or key == "head"):
            self._fail(f"{where}: cannot be a difference to the backbone's values")
        sha256 = next(self.stream_hashes, None)
        if sha256 is None:
            self._fail(f"{STREAM_HASHES}: fewer hashes than streams")
        return Stream(self.tables[number], dtype, data, zeros_of, coded, rank, group, delta, sha256)

    def _check_stream(self, task: PackedTask, key: str) -> None:
        stream = task.streams[key]
        if stream.zeros_of is not None:
            mask = task.streams.get(stream.zeros_of)
            if mask is None or mask.dtype != BITS or mask.table != stream.table:
                self._fail(
                    f"{task.name}, {key}: kept at the zeros of {stream.zeros_of!r}, "
                    "which is no bit stream with the same table"
                )
            return  # how many values that makes is known once the mask is read
        if stream.coded or stream.quantized:
            return  # checked when it is decoded
        if stream.data.size != (need := self._need(stream)):
            self._fail(
                f"{task.name}, {key}: {stream.data.size} {UNITS.get(stream.dtype, 'values')}, "
                f"its table needs {need}; the file is damaged"
            )

    def _need(self, stream: Stream) -> int:
        """Values (packed bytes of bits) that a stream's table asks for; summed once a table."""
        key = id(stream.table), stream.dtype == BITS
        if key not in self.needs:
            sizes = [math.prod(shape) for _, shape in stream.table]
            self.needs[key] = sum(map(bits.byte_count, sizes) if stream.dtype == BITS else sizes)
        return self.needs[key]

    def _table(self, table: Any, number: int) -> Table:
        rows: list[tuple[str, tuple[int, ...]]] = []
        for row in self._typed(table, list, f"table {number}"):
            if not (isinstance(row, list) and len(row) == 2 and isinstance(row[0], str)):
                self._fail(f"table {number}: a row is not a name and a shape")
            name, shape = self._typed(row[0], str, f"table {number}"), row[1]
            whole = isinstance(shape, list) and all(type(n) is int and n >= 0 for n in shape)
            # sides of 0 aside: numpy refuses (0, 2 ** 63) though it has no elements
            if not whole or len(shape) > 8 or math.prod(n or 1 for n in shape) > LARGEST:
                self._fail(f"table {number}, {name}: {str(shape)[:80]} is not a shape")
            rows.append((name, tuple(shape)))
        if len({name for name, _ in rows}) != len(rows):
            self._fail(f"table {number}: a name stands twice")
        return tuple(rows)

    def _get(self, mapping: dict[str, Any], key: str, kind: type, where: str) -> Any:
        if key not in mapping:
            self._fail(f"{where}: {key!r} is missing")
        return self._typed(mapping[key], kind, f"{where}, {key}")

    def _typed(self, value: Any, kind: type, where: str) -> Any:
        if type(value) is not kind:
            self._fail(f"{where}: {type(value).__name__}, expected {kind.__name__}")
        if isinstance(value, str) and not value.isprintable():
            self._fail(f"{where}: {value!r} is not printable")
        return value

    def _fail(self, message: str) -> NoReturn:
        raise PackFormatError(f"{self.path}: {one_line(message)}")
