"""What a method's tasks take under every accounting scope, against a network each. No torch.

As in papers, the network that all began with is that of one task more, unless a method has changed
it for good. "of separate" compares with the same for every method: that network and another one,
fine-tuned, for each task.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from maskpack.packs.contents import Pack
from maskpack.reports.describe import task_bytes
from maskpack.reports.paper_sizes import (
    FLOAT,
    SCOPES,
    SHARED,
    STATISTICS,
    account,
    backbone_bytes,
    replaces_backbone,
    separate_bytes,
)

Row = dict[str, Any]


@dataclass(frozen=True)
class _Counted:
    """Bytes of a method as a scope counts them."""

    tasks: int
    each: float  # that a task adds
    total: float
    separate: float
    backbone: float  # without its last layer


def network_parts(pack: Pack) -> dict[str, int]:
    """Of a run that is a whole network, the bytes that not every scope counts; and the backbone's.

    They stand beside "raw", all of its bytes, in what `suites.measure` writes.
    """
    task = pack.task()
    tables = [task.streams[key].table for key in SHARED if key in task.streams]
    statistics = {
        name: math.prod(shape)
        for table in tables
        for name, shape in table
        if name.endswith(STATISTICS)
    }
    return {
        "head": task_bytes(task)["head"],
        "statistics": FLOAT * sum(statistics.values()),
        "backbone": pack.backbone.size_bytes,
        "original head": pack.backbone.head_bytes,
    }


def scope_rows(
    packs: Mapping[str, Sequence[Pack]], sizes: Mapping[str, Mapping[str, Any]], base: str | None
) -> Iterator[Row]:
    """A row for each method and scope, from its packs, or from the sizes of its whole networks.

    There are several packs where a sequence has grown, the narrowest first.
    `sizes` are those of `suites.measure`, by method. `base` is the task of the base, where that is
    one of the suite's.
    """
    # only tasks that keep norms tell how many statistics the backbone has
    every = [pack for of in packs.values() for pack in of]
    least = min((pack.backbone.size_bytes for pack in every), default=0)
    narrow = [pack for pack in every if pack.backbone.size_bytes == least]
    told = [least - backbone_bytes(pack, "bat") for pack in narrow]
    told += [own.get("statistics", 0) for of in sizes.values() for own in of["tasks"].values()]
    statistics = max(told, default=0)
    for method, about in sizes.items():
        whole = all("statistics" in own for own in about["tasks"].values())
        for name, scope in SCOPES.items():
            if method in packs:
                first = packs[method][0]
                told_of = statistics if first.backbone.size_bytes == least else 0
                found = _of_packs(packs[method], name, base, told_of)
            elif whole:
                found = _of_networks(about, name, base)
            else:
                break
            yield {
                "method": method,
                "scope": name,
                "tasks": found.tasks,
                "bytes a task": round(found.each),
                "bytes": round(found.total),
                "as printed": scope.headline.format(
                    found.total / (scope.divisor or max(found.backbone, 1))
                ),
                "of separate": found.total / max(found.separate, 1),
            }


def _of_packs(packs: Sequence[Pack], scope: str, base: str | None, statistics: int) -> _Counted:
    """Networks of several widths together; in their place stands one of the first width a task."""
    first, *wider = packs
    found = _of_pack(first, scope, base, statistics, grows=bool(wider))
    count = len(first.tasks)
    for pack in wider:
        more = _of_pack(pack, scope, None, 0, grows=True)
        total = count + len(pack.tasks)
        found = _Counted(
            found.tasks + more.tasks,
            (found.each * count + more.each * len(pack.tasks)) / total,
            found.total + more.total,
            found.separate + len(pack.tasks) * found.backbone + _heads(pack, scope),
            found.backbone,
        )
        count = total
    return found


def _heads(pack: Pack, scope: str) -> int:
    own = backbone_bytes(pack, scope)
    return sum(separate_bytes(pack, task, scope) - own for task in pack.tasks.values())


def _of_pack(
    pack: Pack, scope: str, base: str | None, statistics: int, *, grows: bool = False
) -> _Counted:
    """Bytes of one pack; of a sequence that `grows`, nothing needs the backbone any more."""
    about = account(pack, scope)
    counts = SCOPES[scope]
    backbone = backbone_bytes(pack, scope)
    unit = counts.divisor or max(backbone, 1)
    replaced = grows or replaces_backbone(pack)
    in_vain = ("backbone", "original head") if replaced else ()
    not_needed = sum((about["parts"].get(part) or 0) * unit for part in in_vain)
    shared = ("backbone", "original head", *(part for part in SHARED if _is_shared(pack, part)))
    added = sum(size or 0 for part, size in about["parts"].items() if part not in shared)
    total = about["total"] * unit - not_needed
    others = [task for task in pack.tasks.values() if task.name != base]
    separate = backbone + (pack.backbone.head_bytes if counts.heads else 0)
    separate += sum(separate_bytes(pack, task, scope) for task in others)
    if statistics and not counts.statistics:  # those that this pack does not tell of
        more = statistics - (pack.backbone.size_bytes - backbone)
        backbone -= more
        total -= 0 if replaced else more
        separate -= more * (1 + len(others))
    return _Counted(
        about["tasks"] - bool(not_needed),
        added * unit / max(len(pack.tasks), 1),
        total,
        separate,
        backbone,
    )


def _is_shared(pack: Pack, part: str) -> bool:
    """Whether all tasks have the same of it: of PackNet the weights, and norms that are frozen."""
    streams = [task.streams[part] for task in pack.tasks.values() if part in task.streams]
    return replaces_backbone(pack) and all(s.users == len(pack.tasks) for s in streams)


def _of_networks(sizes: Mapping[str, Any], scope: str, base: str | None) -> _Counted:
    """Of whole networks, one a task; in a sequence only the last of them is left."""
    counts = SCOPES[scope]
    own = list(sizes["tasks"].values())
    left_out = (() if counts.heads else ("head",)) + (() if counts.statistics else ("statistics",))
    each = [network["raw"] - sum(network[key] for key in left_out) for network in own]
    first = own[0]
    backbone = first["backbone"] - (0 if counts.statistics else first["statistics"])
    original = first["original head"] if counts.heads else 0
    separate = backbone + original + sum(each)
    if not sizes["sequence"]:
        return _Counted(len(own) + 1, sum(each) / len(own), separate, separate, backbone)
    heads = [network["head"] if counts.heads else 0 for network in own]
    total = each[-1] + sum(heads[:-1]) + (original if base else 0)
    count = len(own) + (base is not None)
    return _Counted(count, sum(heads) / len(own), total, separate, backbone)
