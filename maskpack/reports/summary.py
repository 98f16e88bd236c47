"""Many packs -> one plain dictionary, all that `maskpack report` shows. No torch."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePath
from typing import Any

import numpy as np

from maskpack.common.errors import printable
from maskpack.packs.contents import MASK, BackboneInfo, Pack, PackedTask
from maskpack.reports import describe as report
from maskpack.reports.describe import MEASURES, PARTS, Row

SCALE = "scale"  # KSM's stream of coefficients
LARGE = 1e15  # a number beyond it in a header is no score and no count


def summarize(packs: Iterable[Pack], pictures: Sequence[Row] = ()) -> dict[str, Any]:
    """What many packs hold, side by side; JSON types only, the same for the same packs.

    - `packs`: file, bytes, backbone, and the labels of its tasks.
    - `tasks`: a row a task: `label` (its name, with what tells its file from the others' where
      the name alone does not), sizes by part, scores with their 95 % interval (`low`, `high`),
      and `layers`: zeros, entropy and coefficients of each.
    - `originals`: by what was learnt (`info["task"]["name"]`) and metric, whether of that a lower
      value is better, the labels of its tasks by size, of those on the Pareto `front` of bytes
      against score, of the `best`, and of the `smallest` whose score lies within the best one's
      interval.
    - `similarity`: by backbone, for all its tasks with masks, matrices of `describe.compare`.
    - `pictures`: what was given, rows of `strips.read_strips`.

    A pack's values are looked at as it comes and let go; only masks are kept for comparison.

    Raises:
        PackFormatError: a file is damaged.
    """
    abouts: list[Row] = []
    tasks: list[Row] = []
    masked: dict[str, tuple[BackboneInfo, dict[int, PackedTask]]] = {}
    for pack in packs:
        about = report.describe(pack, similarity=False)
        base = about["backbone"] | {"name": printable(pack.backbone.name)}
        abouts.append(
            {
                "file": _file(pack),
                "bytes": about["bytes"],
                "header_bytes": about["header_bytes"],
                "backbone": base,
                "tasks": len(pack.tasks),
            }
        )
        for task, row in zip(pack.tasks.values(), report.by_task(about), strict=True):
            if MASK in task.streams:
                mine = masked.setdefault(pack.backbone.fingerprint, (pack.backbone, {}))
                mine[1][len(tasks)] = dataclasses.replace(task, streams=_masks_alone(task))
            tasks.append(_task_row(pack, task, row))
    _label(tasks)
    place = 0
    for about in abouts:
        count = about["tasks"]
        about["tasks"] = [row["label"] for row in tasks[place : place + count]]
        place += count
    return {
        "packs": abouts,
        "tasks": tasks,
        "originals": _originals(tasks),
        "similarity": [
            _similarity(base, {tasks[n]["label"]: task for n, task in found.items()})
            for base, found in masked.values()
        ],
        "pictures": list(pictures),
    }


def _file(pack: Pack) -> str:
    return printable(str(pack.path)) if pack.path is not None else ""


def _masks_alone(task: PackedTask) -> dict[str, Any]:
    return {MASK: task.streams[MASK]}


# ---- one task


def _task_row(pack: Pack, task: PackedTask, row: Row) -> Row:
    found: Row = {
        "label": "",
        "where": "",
        "file": _file(pack),
        "backbone": printable(pack.backbone.name),
        "fingerprint": pack.backbone.fingerprint,
        "task": task.name,
        "original": original_name(task),
        "method": printable(task.method),
        "norms mode": printable(task.norms),
        "bytes": {part: row[part] for part in (*PARTS, "header") if part in row},
        "total": row["total"],
        "fine-tuned bytes": report.fine_tuned_bytes(pack, task),
        "of fine-tuned": row["of fine-tuned"],
        "ones": row["ones"],
        "entropy bytes": row["entropy bytes"],
    }
    return found | scores(task) | {"on front": False, "layers": layers_of(task, row["layers"])}


def original_name(task: PackedTask) -> str:
    """What was learnt, whatever the task is called in its pack."""
    about = task.info.get("task")
    name = about.get("name") if isinstance(about, Mapping) else None
    return name if isinstance(name, str) and name and name.isprintable() else task.name


def scores(task: PackedTask) -> Row:
    """Metric, whether a lower one is better, test score, its 95 % interval where it is a share,
    count, and val score.

    None for whatever the header does not say, or says in a way that makes no sense.
    """
    recorded = report.recorded_scores(task)
    metric = next((key.partition(" ")[2] for key in recorded), None)
    test, val = (_number(recorded.get(f"{split} {metric}")) for split in ("test", "val"))
    about, result = task.info.get("task"), task.info.get("test")
    count = _number(result.get("count")) if isinstance(result, Mapping) else None
    count = int(count) if count is not None and count > 0 else None
    kind = about.get("kind") if isinstance(about, Mapping) else None
    share = kind == "classification" or (kind is None and metric == "accuracy")
    low = high = None
    if share and test is not None and count is not None and 0 <= test <= 1:
        low, high = report.wilson(test * count, count)
    lower = isinstance(about, Mapping) and about.get("lower is better") is True
    return {
        "metric": metric,
        "lower is better": lower,
        "test": test,
        "low": low,
        "high": high,
        "count": count,
        "val": val,
    }


def _number(value: object) -> float | None:
    """A header's number, unless it is absurd; 1e999 is infinite, and integers have no bound."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return float(value) if -LARGE < value < LARGE else None


def layers_of(task: PackedTask, rows: Sequence[Row]) -> list[Row]:
    """`describe`'s rows of a task's layers, with the mean of each coefficient.

    `scaled` is KSM's share of bits that are 0 and have a coefficient other than 0: the weights it
    scales and does not remove.
    """
    means: dict[str, dict[str, tuple[float, int]]] = {}
    alone = dataclasses.replace(task)  # a copy, so that what it decodes is let go with it
    kept = {key for row in rows for key in row["coefficients"]}
    for key in (key for key in task.streams if key in kept):
        thinned = task.streams[key].zeros_of is not None
        for (name, values), (_, _, stored) in zip(
            alone.arrays(key).items(), alone.rows(key), strict=True
        ):
            count = stored.size if thinned else values.size
            total = float(np.sum(values, dtype=np.float64))
            found = (total / count if count else 0.0, int(np.count_nonzero(values)))
            means.setdefault(name, {})[key] = found
    layers = []
    for row in rows:
        mine = means.get(row["layer"], {})
        layer = row | {
            "coefficients": {
                key: value | {"mean": mine[key][0]} for key, value in row["coefficients"].items()
            }
        }
        if SCALE in task.streams:
            scaled = mine[SCALE][1] if SCALE in mine else 0
            layer["scaled"] = scaled / row["bits"] if row["bits"] else 0.0
        layers.append(layer)
    return layers


# ---- all tasks


def _label(tasks: Sequence[Row]) -> None:
    """Give every task a name of its own: that of the task, and where it needs it, its place."""
    by_name: dict[str, list[Row]] = {}
    for row in tasks:
        by_name.setdefault(row["task"], []).append(row)
    for name, alike in by_name.items():
        for row, where in zip(alike, distinct([row["file"] for row in alike]), strict=True):
            row["where"] = where
            row["label"] = f"{name} ({where})" if where else name
    seen: set[str] = set()
    for row in tasks:  # one file given twice, or a task called as another's label
        plain, count = row["label"], 1
        while row["label"] in seen:
            count += 1
            row["label"] = f"{plain} #{count}"
        seen.add(row["label"])


def distinct(paths: Sequence[str]) -> list[str]:
    """The parts of each path that are not the same in all: runs/a/x, runs/b/x -> a, b.

    Compared from the end, so that paths of several depths line up at their names.
    """
    split = [_parts(path) for path in paths]
    depth = max((len(parts) for parts in split), default=0)
    padded = [[""] * (depth - len(parts)) + parts for parts in split]
    varies = [len({parts[n] for parts in padded}) > 1 for n in range(depth)]
    return [
        "/".join(part for part, keep in zip(parts, varies, strict=True) if keep and part)
        for parts in padded
    ]


def _parts(path: str) -> list[str]:
    found = PurePath(path)
    return [*found.parts[:-1], found.name.removesuffix(".safetensors")]


def _originals(tasks: Sequence[Row]) -> list[Row]:
    """Tasks by what was learnt; marks those on a front in `tasks`."""
    known: dict[str, tuple[str, bool]] = {}
    for row in tasks:
        if row["metric"]:
            known.setdefault(row["original"], _measure(row))
    groups: dict[tuple[str, str | None, bool], list[Row]] = {}
    for row in tasks:
        # an untested task stands among those that learnt the same
        told = _measure(row) if row["metric"] else known.get(row["original"])
        metric, lower = told or (None, False)
        groups.setdefault((row["original"], metric, lower), []).append(row)
    found = []
    for (name, metric, lower), rows in groups.items():
        rows = sorted(rows, key=lambda row: (row["total"], row["label"]))
        scored = [row for row in rows if row["test"] is not None]
        front = pareto_front([(row["total"], row["test"]) for row in scored], lower=lower)
        for place in front:
            scored[place]["on front"] = len(scored) > 1  # alone, it has beaten nothing
        best = scored[front[-1]] if front else None
        within = [row for row in scored if best and _within(row["test"], best, lower)]
        found.append(
            {
                "task": name,
                "metric": metric,
                "lower is better": lower,
                "tasks": [row["label"] for row in rows],
                "front": [scored[place]["label"] for place in front],
                "best": best["label"] if best else None,
                "smallest": within[0]["label"] if within else None,
            }
        )
    return found


def _measure(row: Row) -> tuple[str, bool]:
    return row["metric"], row["lower is better"]


def _within(score: float, best: Row, lower: bool) -> bool:
    """Whether a score reaches the interval of the best one, where that has one."""
    if best["low"] is None:
        return False
    return bool(score <= best["high"] if lower else score >= best["low"])


def pareto_front(points: Sequence[tuple[float, float]], *, lower: bool = False) -> list[int]:
    """Places of (bytes, score) that no other beats: none has fewer bytes and as good a score, or
    a better one in as many bytes. By size; equal points are all kept. `lower` scores are better.
    """
    sign = -1 if lower else 1
    order = sorted(range(len(points)), key=lambda n: (points[n][0], -sign * points[n][1]))
    front: list[int] = []
    for place in order:
        best = points[front[-1]] if front else (math.nan, -sign * math.inf)
        if sign * points[place][1] > sign * best[1] or points[place] == best:
            front.append(place)
    return front


def _similarity(backbone: BackboneInfo, tasks: Mapping[str, PackedTask]) -> Row:
    """Matrices of `describe.compare`, rows and columns in the order of `tasks`."""
    named = {label: dataclasses.replace(task, name=label) for label, task in tasks.items()}
    rows = report.similarity_rows(Pack(backbone, named))
    return {
        "backbone": printable(backbone.name),
        "fingerprint": backbone.fingerprint,
        "tasks": list(tasks),
    } | {key: [[row[key][label] for label in tasks] for row in rows] for key in MEASURES}
