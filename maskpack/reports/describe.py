"""Headers and bits -> rows: sizes, sparsity by layer, similarity between tasks. No torch."""

from __future__ import annotations

import dataclasses
import math
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from maskpack.packs import bits
from maskpack.packs import file as packfile
from maskpack.packs.bits import Bytes
from maskpack.packs.contents import BITS, MASK, Pack, PackedTask, Stream, Table
from maskpack.packs.mask_codec import entropy_bits

Row = dict[str, Any]
PARTS = ("masks", "coefficients", "norms", "head", "weights")
MEASURES = ("similarity", "jaccard", "chance")
Z95 = 1.959963984540054  # of a normal distribution, 95 % lies within so many standard deviations
HELD = 16  # masks in memory at once while all pairs are compared


# ---- sizes


def stream_part(name: str, stream: Stream) -> str:
    """Which part of a task's bytes a stream is."""
    if name in PARTS:
        return name
    return "masks" if stream.dtype == BITS else "coefficients"


def task_bytes(task: PackedTask) -> dict[str, int]:
    """Bytes of a task by part; the file's header is not in it."""
    parts = dict.fromkeys(PARTS, 0)
    for name, stream in task.streams.items():
        parts[stream_part(name, stream)] += stream.own_bytes
    return parts


def header_shares(pack: Pack) -> dict[str, int]:
    """The header's bytes, shared equally by the tasks: with their parts, the whole file.

    A pack that is no file yet is written to a temporary one to know them.
    """
    total = pack.header_bytes
    if not total and pack.tasks:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "pack"
            packfile.write(path, pack)
            total = packfile.read(path).header_bytes
    share, rest = divmod(total, max(len(pack.tasks), 1))
    return {name: share + (place < rest) for place, name in enumerate(pack.tasks)}


def payload_bytes(pack: Pack) -> int:
    """Bytes of all tasks' streams."""
    return sum(sum(task_bytes(task).values()) for task in pack.tasks.values())


def shown_bytes(task: PackedTask, header: int) -> dict[str, int]:
    """Bytes by part with the header's share; whole weights only where there are any."""
    parts = task_bytes(task)
    return {part: n for part, n in parts.items() if part != "weights" or n} | {"header": header}


def fine_tuned_bytes(pack: Pack, task: PackedTask) -> int:
    """What a fine-tuned copy of the network costs: every weight and the head, in float32."""
    head = task.streams.get("head")
    values = sum(math.prod(shape) for _, shape in head.table) if head else 0
    return pack.backbone.size_bytes + 4 * values


def size_rows(pack: Pack, contents: Mapping[str, Content] | None = None) -> list[Row]:
    """One row a task: bytes by part, their total, and how often that fits a fine-tuned copy.

    "entropy bytes" is what the best code of independent bits would make of the masks.
    """
    contents = contents or {task.name: content(task) for task in pack.tasks.values()}
    headers = header_shares(pack)
    rows = []
    for name, task in pack.tasks.items():
        parts = shown_bytes(task, headers[name])
        total = sum(parts.values())
        found = contents[task.name]
        rows.append(
            {"task": task.name, "method": task.method, "norms mode": task.norms}
            | parts
            | {
                "total": total,
                "of fine-tuned": total / max(fine_tuned_bytes(pack, task), 1),
                "ones": share_of_ones(found.layers),
                "entropy bytes": found.entropy_bytes,
            }
            | recorded_scores(task)
        )
    return rows


def recorded_scores(task: PackedTask) -> Row:
    """The scores written when the task was learnt: numbers, whatever else `info` holds."""
    about = task.info.get("task")
    metric = about.get("metric", "accuracy") if isinstance(about, dict) else "accuracy"
    best, test = task.info.get("best"), task.info.get("test")
    found = {
        f"val {metric}": best.get(f"val_{metric}") if isinstance(best, dict) else None,
        f"test {metric}": test.get(str(metric)) if isinstance(test, dict) else None,
    }
    known = isinstance(metric, str) and metric.isprintable()
    return {key: v for key, v in found.items() if known and type(v) in (int, float)}


def wilson(correct: float, count: int) -> tuple[float | None, float | None]:
    """95 % interval of a share from `correct` of `count` samples (Wilson 1927); None of none."""
    if not count:
        return None, None
    p, n, z = correct / count, count, Z95
    middle = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return max(0.0, middle - half), min(1.0, middle + half)


# ---- ones, zeros, coefficients


@dataclass(frozen=True)
class Content:
    """What the bits and coefficients of a task say, its streams decoded and let go again."""

    layers: list[Row]
    entropy_bytes: float


def content(task: PackedTask) -> Content:
    """Look at every mask bit and coefficient of a task.

    Raises:
        PackFormatError: the file is damaged.
    """
    task = _unread(task)
    return Content(layer_rows(task), entropy_bytes(task))


def entropy_bytes(task: PackedTask) -> float:
    """n H(p) of every layer of every bit stream, in bytes."""
    return math.fsum(
        entropy_bits(math.prod(shape), bits.count_ones(values)) / 8
        for key, stream in task.streams.items()
        if stream.dtype == BITS
        for _, shape, values in task.rows(key)
    )


def layer_rows(task: PackedTask) -> list[Row]:
    """One row a masked layer: shape, bits, ones, share of zeros, entropy, coefficients' range.

    `ones` is a count, `entropy` in bits a bit; `coefficients` has {"min": .., "max": ..} by
    stream, for those that keep a value of this layer.
    """
    if MASK not in task.streams:
        return []
    ranges = coefficient_ranges(task)
    rows = []
    for name, shape, values in task.rows(MASK):
        count, ones = math.prod(shape), bits.count_ones(values)
        rows.append(
            {
                "layer": name,
                "shape": shape,
                "bits": count,
                "ones": ones,
                "zeros": (count - ones) / count if count else 0.0,
                "entropy": entropy_bits(count, ones) / count if count else 0.0,
                "coefficients": ranges.get(name, {}),
            }
        )
    return rows


def coefficient_ranges(task: PackedTask) -> dict[str, dict[str, Row]]:
    """Smallest and largest value of each coefficient stream, by layer and stream."""
    ranges: dict[str, dict[str, Row]] = {}
    for key, stream in task.streams.items():
        if stream_part(key, stream) == "coefficients":
            for name, _, values in task.rows(key):
                if values.size:
                    low, high = values.min().item(), values.max().item()
                    ranges.setdefault(name, {})[key] = {"min": low, "max": high}
    return ranges


def share_of_ones(layers: Sequence[Row]) -> float | None:
    """Share of mask bits that are 1, from `layer_rows`; None for a task without masks."""
    total = sum(row["bits"] for row in layers)
    return sum(row["ones"] for row in layers) / total if total else None


def sparsity_rows(contents: Mapping[str, Content]) -> list[Row]:
    """One row a layer and shape: ones, zeros (shares), entropy, coefficients, each by task."""
    rows: dict[tuple[str, tuple[int, ...]], Row] = {}
    for task, found in contents.items():
        for row in found.layers:
            key = (row["layer"], row["shape"])
            if key not in rows:  # tasks may mask the same layer by weight, kernel or channel
                rows[key] = {"layer": row["layer"], "shape": list(row["shape"])}
                rows[key] |= {"bits": row["bits"], "ones": {}, "zeros": {}, "entropy": {}}
                rows[key] |= {"coefficients": {}}
            rows[key]["ones"][task] = row["ones"] / row["bits"] if row["bits"] else 0.0
            rows[key]["zeros"][task] = row["zeros"]
            rows[key]["entropy"][task] = row["entropy"]
            if row["coefficients"]:
                rows[key]["coefficients"][task] = row["coefficients"]
    return list(rows.values())


def coefficient_rows(layers: Sequence[Row]) -> list[Row]:
    """One row a task, layer and coefficient, from `sparsity_rows`."""
    return [
        {"task": task, "layer": row["layer"], "coefficient": key, **found}
        for row in layers
        for task, streams in row["coefficients"].items()
        for key, found in streams.items()
    ]


# ---- similarity


@dataclass(frozen=True)
class _Mask:
    """A task's mask, ready to be compared with others."""

    task: str
    table: Table
    ones: tuple[int, ...]  # by layer
    data: Bytes  # all layers, one after another

    def layers(self) -> Iterator[tuple[str, tuple[int, ...], int, Bytes]]:
        offset = 0
        for (name, shape), ones in zip(self.table, self.ones, strict=True):
            size = bits.byte_count(math.prod(shape))
            yield name, shape, ones, self.data[offset : offset + size]
            offset += size


def _mask(task: PackedTask) -> _Mask:
    task = _unread(task)
    ones = tuple(bits.count_ones(values) for _, _, values in task.rows(MASK))
    return _Mask(task.name, task.streams[MASK].table, ones, task.values(MASK))


def compare(a: PackedTask, b: PackedTask) -> dict[str, float | None]:
    """How alike two tasks' masks are, over the layers with bits of one shape.

    `similarity` is the share of equal bits; `jaccard`, of the bits that are 0 in either, the
    share that is 0 in both (1 where none is); `chance` the similarity that two independent masks
    with these shares of ones would have, layer by layer. None where they share no bit.
    """
    return _compare(_mask(a), _mask(b))


def _compare(a: _Mask, b: _Mask) -> dict[str, float | None]:
    if a.table == b.table:
        shared = [
            (math.prod(shape), *ones)
            for (_, shape), *ones in zip(a.table, a.ones, b.ones, strict=True)
        ]
        # layers are padded with zeros to whole bytes, so padding is never 1 in both
        both = bits.count_ones(np.bitwise_and(a.data, b.data))
    else:
        shared, both = [], 0
        others = {name: (shape, ones, data) for name, shape, ones, data in b.layers()}
        for name, shape, ones, data in a.layers():
            if name in others and others[name][0] == shape:
                _, more, other = others[name]
                shared.append((math.prod(shape), ones, more))
                both += bits.count_ones(np.bitwise_and(data, other))
    count = sum(n for n, _, _ in shared)
    if not count:
        return dict.fromkeys(MEASURES)
    either = sum(ones + more for _, ones, more in shared) - both  # bits that are 1 in either
    chance = sum((x * y + (n - x) * (n - y)) / n for n, x, y in shared if n)
    return {
        "similarity": (count - either + both) / count,
        "jaccard": (count - either) / (count - both) if count > both else 1.0,
        "chance": chance / count,
    }


def similarity_rows(pack: Pack) -> list[Row]:
    """`compare` of every two tasks with masks: a row a task, each measure by the other task."""
    masked = [task for task in pack.tasks.values() if MASK in task.streams]
    found: dict[tuple[str, str], dict[str, float | None]] = {}
    # a few masks at a time, each then against all later ones: many tasks need not fit in memory
    for start in range(0, len(masked), HELD):
        held = [_mask(task) for task in masked[start : start + HELD]]
        for place, a in enumerate(held):
            for b in held[place:]:
                found[a.task, b.task] = found[b.task, a.task] = _compare(a, b)
        for later in masked[start + HELD :]:
            b = _mask(later)
            for a in held:
                found[a.task, b.task] = found[b.task, a.task] = _compare(a, b)
    return [
        {"task": a.name}
        | {key: {b.name: found[a.name, b.name][key] for b in masked} for key in MEASURES}
        for a in masked
    ]


def _unread(task: PackedTask) -> PackedTask:
    """The same task without what it has decoded, which goes with this copy."""
    return dataclasses.replace(task)


# ---- all of it


def describe(pack: Pack, *, layers: bool = True, similarity: bool = True) -> dict[str, Any]:
    """Everything `inspect --json` prints; without `layers` or `similarity`, not these keys.

    Raises:
        PackFormatError: the file is damaged.
    """
    contents = {task.name: content(task) for task in pack.tasks.values()}
    tasks = size_rows(pack, contents)
    header = pack.header_bytes or sum(row["header"] for row in tasks)
    about: dict[str, Any] = {
        "file": str(pack.path),
        "bytes": header + payload_bytes(pack),
        "header_bytes": header,
        "backbone": {
            "name": pack.backbone.name,
            "fingerprint": pack.backbone.fingerprint,
            "bytes": pack.backbone.size_bytes,
        },
        "tasks": tasks,
    }
    if similarity:
        about["similarity"] = similarity_rows(pack)
    if layers:
        about["layers"] = sparsity_rows(contents)
    return about


def by_task(about: Mapping[str, Any]) -> list[Row]:
    """What `describe` found, turned round: everything of one task in each row."""
    rows = []
    for sizes in about["tasks"]:
        name = sizes["task"]
        row: Row = {"file": about["file"], "backbone": about["backbone"]["name"]} | sizes
        for other in about.get("similarity", ()):
            if other["task"] == name:
                row |= {key: other[key] for key in MEASURES}
        if "layers" in about:
            row["layers"] = [
                {key: layer[key] for key in ("layer", "shape", "bits")}
                | {key: layer[key][name] for key in ("ones", "zeros", "entropy")}
                | {"coefficients": layer["coefficients"].get(name, {})}
                for layer in about["layers"]
                if name in layer["zeros"]
            ]
        rows.append(row)
    return rows
