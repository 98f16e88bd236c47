"""Headers and bits -> rows: sizes, sparsity by layer, similarity between tasks. No torch."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from maskpack import bits
from maskpack.packfile import BITS, Pack, PackedTask, Stream

Row = dict[str, Any]
PARTS = ("masks", "coefficients", "norms", "head", "weights")


def stream_part(name: str, stream: Stream) -> str:
    """Which part of a task's bytes a stream is."""
    if name in PARTS:
        return name
    return "masks" if stream.dtype == BITS else "coefficients"


def task_bytes(task: PackedTask) -> dict[str, int]:
    """Bytes of a task by part; the file's header is not in it."""
    parts = dict.fromkeys(PARTS, 0)
    for name, stream in task.streams.items():
        parts[stream_part(name, stream)] += stream.data.nbytes
    return parts


def fine_tuned_bytes(pack: Pack, task: PackedTask) -> int:
    """What a fine-tuned copy of the network costs: every weight and the head, in float32."""
    head = task.streams.get("head")
    return pack.backbone.size_bytes + (4 * head.data.size if head else 0)


def size_rows(pack: Pack) -> list[Row]:
    """One row a task: bytes by part, their total, and how often that fits a fine-tuned copy."""
    rows = []
    for task in pack.tasks.values():
        parts = task_bytes(task)
        total = sum(parts.values())
        rows.append(
            {"task": task.name, "method": task.method, "norms mode": task.norms}
            | {f"{part}": size for part, size in parts.items() if part != "weights" or size}
            | {
                "total": total,
                "of fine-tuned": total / max(fine_tuned_bytes(pack, task), 1),
                "ones": share_of_ones(task),
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


def share_of_ones(task: PackedTask) -> float | None:
    """Share of mask bits that are 1; None for a task without masks."""
    rows = layer_rows(task)
    total = sum(row["bits"] for row in rows)
    return sum(row["ones"] for row in rows) / total if total else None


def layer_rows(task: PackedTask, stream: str = "mask") -> list[Row]:
    """One row a masked layer: its shape, bits, how many are 1, and the share that is 0."""
    if stream not in task.streams:
        return []
    rows = []
    for name, shape, values in task.rows(stream):
        count, ones = math.prod(shape), bits.count_ones(values)
        zeros = (count - ones) / count if count else 0.0
        rows.append({"layer": name, "shape": shape, "bits": count, "ones": ones, "zeros": zeros})
    return rows


def sparsity_rows(pack: Pack) -> list[Row]:
    """One row a layer: the share of zeros in every task's mask, for those that mask it."""
    by_task = {
        task.name: {row["layer"]: row for row in layer_rows(task)} for task in pack.tasks.values()
    }
    masked = {name: rows for name, rows in by_task.items() if rows}
    layers = {layer: row["bits"] for rows in masked.values() for layer, row in rows.items()}
    return [
        {
            "layer": layer,
            "bits": count,
            "zeros": {name: rows[layer]["zeros"] for name, rows in masked.items() if layer in rows},
        }
        for layer, count in layers.items()
    ]


def similarity_rows(pack: Pack) -> list[Row]:
    """Share of equal mask bits between every two tasks, over layers with bits of one shape.

    None where two tasks have no such layer.
    """
    masked = [task for task in pack.tasks.values() if "mask" in task.streams]
    return [
        {
            "task": a.name,
            "similarity": {b.name: similarity(a, b) if a is not b else 1.0 for b in masked},
        }
        for a in masked
    ]


def similarity(a: PackedTask, b: PackedTask) -> float | None:
    """Share of equal bits of two masks, over layers with bits of one shape."""
    left, right = a.streams["mask"], b.streams["mask"]
    if left.table == right.table:
        # layers are padded with zeros to whole bytes, equal on both sides
        count = sum(math.prod(shape) for _, shape in left.table)
        different = bits.count_ones(np.bitwise_xor(a.values("mask"), b.values("mask")))
        return (count - different) / count if count else None
    rows = {name: (shape, values) for name, shape, values in b.rows("mask")}
    equal = count = 0
    for name, shape, values in a.rows("mask"):
        if name in rows and rows[name][0] == shape:
            size = math.prod(shape)
            count += size
            equal += bits.count_equal(values, rows[name][1], size)
    return equal / count if count else None


def describe(pack: Pack) -> dict[str, Any]:
    """Everything `inspect --json` prints."""
    payload = sum(sum(task_bytes(task).values()) for task in pack.tasks.values())
    return {
        "file": str(pack.path),
        "bytes": pack.header_bytes + payload,
        "header_bytes": pack.header_bytes,
        "backbone": {
            "name": pack.backbone.name,
            "fingerprint": pack.backbone.fingerprint,
            "bytes": pack.backbone.size_bytes,
        },
        "tasks": size_rows(pack),
        "similarity": similarity_rows(pack),
        "layers": sparsity_rows(pack),
    }
