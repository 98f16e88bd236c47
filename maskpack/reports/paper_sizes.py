"""How large a backbone and its tasks are together, counted as each paper counts it.

| scope     | unit      | of the backbone             | of a task                                |
| --------- | --------- | --------------------------- | ---------------------------------------- |
| piggyback | MB, 10^6  | all but the last layer      | mask bits, norms                         |
| ksm       | MiB, 2^20 | all                         | mask bits, norms, head                   |
| bat       | backbones | parameters, no last layer   | mask bits, weights and biases of norms   |
| all       | bytes     | all                         | its bytes in the file, with the header   |

Coefficients (KSM's scales, the affine k) count in each. Papers count what a method needs and not
what a file holds: the first three take shapes from the pack's tables, a bit for a mask bit and four
bytes for any other number, however the pack codes or rounds it. The pretraining task is one of the
tasks that papers count, and the backbone its network: five tasks in a pack are the papers' six.
Where the tasks share a network of their own, which PackNet and others make of the backbone, that is
counted once, and the backbone not at all: nothing needs it any more.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from maskpack.common.errors import UnknownName
from maskpack.packs import bits
from maskpack.packs.contents import BITS, Pack, PackedTask
from maskpack.reports.describe import (
    PARTS,
    Row,
    header_shares,
    shown_bytes,
    stream_part,
    task_bytes,
)

ALL = "all"
FLOAT = 4  # bytes of a float32, in which papers keep everything but mask bits
SHARED = ("weights", "norms")  # a network that several tasks learnt one after another
STATISTICS = (".running_mean", ".running_var")


@dataclass(frozen=True)
class Scope:
    """What a paper counts, and how it prints the sum."""

    unit: str
    divisor: int | None  # bytes of a unit; None: those of the backbone
    heads: bool  # last layers, the backbone's own among them
    statistics: bool  # running means and variances of norms
    headline: str
    paper: str = ""


SCOPES = {
    # 621 MB for VGG-16 and five masks, 3222 for six networks. The paper's norms are frozen; where
    # tasks have their own, they are counted whole.
    "piggyback": Scope(
        "MB", 10**6, False, True, "{:,.0f} MB", "Mallya et al., 2018, arXiv:1801.06519"
    ),
    # Prints MB and means MiB: 121 for ResNet-50, Piggyback, six tasks; 554 for six networks.
    "ksm": Scope("MiB", 2**20, True, True, "{:,.0f} MiB", "Yang et al., 2021, arXiv:2009.05668"),
    # 1 + A_p (T - 1) / (32 N_p): N_p parameters of the backbone, A_p bits a task, T tasks. 1.16
    # for ResNet-50, Piggyback, six tasks; 1.17 with norms of their own.
    "bat": Scope(
        "backbones", None, False, False, "{:,.2f}", "Mancini et al., 2018, arXiv:1805.11119"
    ),
    ALL: Scope("bytes", 1, True, True, "{:,.0f} bytes"),
}


def find_scope(name: str) -> Scope:
    """A scope by name.

    Raises:
        UnknownName: there is none of this name.
    """
    if name not in SCOPES:
        raise UnknownName("scope", name, SCOPES)
    return SCOPES[name]


def account(pack: Pack, scope: str) -> dict[str, Any]:
    """Size of the backbone and all tasks in a scope's unit: parts, total, the paper's headline.

    A part that the scope leaves out is None. `separate` is what a network for each task would
    take instead, the pretraining task's among them.

    Raises:
        UnknownName: no such scope.
        PackFormatError: the file is damaged.
    """
    counts = find_scope(scope)
    tasks = list(pack.tasks.values())
    base = backbone_bytes(pack, scope)
    replaced = replaces_backbone(pack)
    parts: dict[str, float | None] = {"backbone": None if replaced else base}
    parts["original head"] = _head_bytes(pack) if counts.heads and not replaced else None
    counted = [counted_bytes(task, scope) for task in tasks]
    for part in PARTS:
        sizes = [size[part] for size in counted if part in size]
        if part != "weights" or any(sizes):  # which few methods have
            excluded = part == "head" and not counts.heads
            parts["heads" if part == "head" else part] = None if excluded else sum(sizes)
    if scope == ALL:
        parts["header"] = sum(header_shares(pack).values())
    total = sum(size for size in parts.values() if size is not None)
    separate = sum(separate_bytes(pack, task, scope) for task in tasks)
    if not replaced:
        separate += base + (_head_bytes(pack) if counts.heads else 0)
    unit = counts.divisor or max(base, 1)
    return {
        "file": str(pack.path) if pack.path else None,
        "scope": scope,
        "paper": counts.paper,
        "tasks": len(tasks) + (not replaced),
        "unit": counts.unit,
        "headline": counts.headline.format(total / unit),
        "parts": {part: None if size is None else _in(unit, size) for part, size in parts.items()},
        "total": _in(unit, total),
        "separate": _in(unit, separate),
    }


def account_rows(about: Mapping[str, Any]) -> list[Row]:
    """What `account` found as rows of a table; bytes also as MB, MiB and backbones."""
    sizes = about["parts"] | {"total": about["total"], "separate networks": about["separate"]}
    rows: list[Row] = [{"part": part, about["unit"]: size} for part, size in sizes.items()]
    if about["unit"] == "bytes":
        base = about["parts"]["backbone"] or about["parts"].get("weights") or 1
        for row in rows:
            size = row["bytes"]
            row |= {"MB": size / 1e6, "MiB": size / 2**20, "backbones": size / base}
    return rows


def backbone_bytes(pack: Pack, scope: str) -> int:
    """Bytes of the backbone without its last layer, in float32.

    "bat" leaves running statistics out. How many there are only norms that a task keeps can tell;
    where none does, they stay in, and ResNet-50's 1.1559 becomes 1.1555.
    """
    if find_scope(scope).statistics:
        return pack.backbone.size_bytes
    statistics = {
        name: math.prod(shape)
        for task in pack.tasks.values()
        for key, stream in task.streams.items()
        if stream_part(key, stream) == "norms"
        for name, shape in stream.table
        if name.endswith(STATISTICS)
    }
    return max(0, pack.backbone.size_bytes - FLOAT * sum(statistics.values()))


def counted_bytes(task: PackedTask, scope: str) -> dict[str, float]:
    """Bytes of a task by those of `report.PARTS` that a scope counts; nine mask bits are 9 / 8.

    The file's header is in none.

    Raises:
        UnknownName: no such scope.
        PackFormatError: the file is damaged.
    """
    counts = find_scope(scope)
    if scope == ALL:
        return dict[str, float](task_bytes(task))
    parts = {part: 0.0 for part in PARTS if counts.heads or part != "head"}
    # PackNet's bits say whose each weight is, to all tasks; elsewhere a mask is its task's own
    divided = "weights" in task.streams and task.streams["weights"].users > 1
    for key, stream in task.streams.items():
        part = stream_part(key, stream)
        if part in parts:
            each = 1 / 8 if stream.dtype == BITS else FLOAT
            sharing = stream.users if part in SHARED or (divided and part == "masks") else 1
            parts[part] += each * _count(task, key, counts.statistics) / sharing
    return parts


def replaces_backbone(pack: Pack) -> bool:
    """Whether the tasks share whole weights of their own that take the backbone's place."""
    tasks = list(pack.tasks.values())
    kept = [task.streams.get("weights") for task in tasks]
    if len(tasks) < 2 or any(s is None or s.delta or s.users < len(tasks) for s in kept):
        return False
    numbers = sum(_count(tasks[0], part) for part in SHARED if part in tasks[0].streams)
    return FLOAT * numbers >= pack.backbone.size_bytes


def shown_parts(pack: Pack, task: str, scope: str) -> dict[str, int | None]:
    """What `eval` shows of a task's bytes: by part, None where the scope leaves one out.

    Only "all" has the task's share of the file's header.

    Raises:
        UnknownName: no such task or scope.
        PackFormatError: the file is damaged.
    """
    packed = pack.task(task)
    if scope == ALL:
        return dict[str, int | None](shown_bytes(packed, header_shares(pack)[task]))
    counted = counted_bytes(packed, scope)
    sizes = {part: math.ceil(counted[part]) if part in counted else None for part in PARTS}
    return {part: size for part, size in sizes.items() if part != "weights" or size}


def separate_bytes(pack: Pack, task: PackedTask, scope: str) -> int:
    """Bytes of a network of the task's own in float32, as a scope counts them."""
    head = _count(task, "head") if find_scope(scope).heads and "head" in task.streams else 0
    return backbone_bytes(pack, scope) + FLOAT * head


def _count(task: PackedTask, key: str, statistics: bool = True) -> int:
    """Bits or numbers of a stream, however they are stored."""
    stream = task.streams[key]
    if stream.zeros_of:  # one for each zero of a mask: the only case that takes more than shapes
        rows = task.rows(stream.zeros_of)
        return sum(math.prod(shape) - bits.count_ones(values) for _, shape, values in rows)
    return sum(
        math.prod(shape)
        for name, shape in stream.table
        if statistics or not name.endswith(STATISTICS)
    )


def _head_bytes(pack: Pack) -> int:
    return pack.backbone.head_bytes


def _in(unit: int, size: float) -> float:
    return size if unit == 1 else size / unit
