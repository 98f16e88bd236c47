"""Heads, norms and whole weights as float16: half their bytes, and what that does to the score."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection
from typing import Any

import numpy as np

from maskpack.errors import OptionError
from maskpack.packed import Pack, PackedTask
from maskpack.score import Bases, score_task


def rounded(pack: Pack, roles: Collection[str]) -> Pack:
    """A pack whose streams of these roles (head, norms, weights) are float16.

    Raises:
        OptionError: a value is too large for float16.
    """
    tasks = {}
    for name, task in pack.tasks.items():
        streams = dict(task.streams)
        for role in sorted(streams.keys() & set(roles)):
            with np.errstate(over="ignore"):
                data = streams[role].data.astype(np.float16)
            if not np.isfinite(data).all():
                raise OptionError(f"{name}, {role}: a value is beyond float16; keep it fp32")
            streams[role] = dataclasses.replace(streams[role], dtype="f16", data=data)
        tasks[name] = dataclasses.replace(task, streams=streams)
    return dataclasses.replace(pack, tasks=tasks)


def rounded_and_scored(pack: Pack, roles: Collection[str], bases: Bases) -> Pack:
    """`rounded`, with the test score before and after written into each task it changed.

    `info["test"]` becomes the score of what is stored, `info["rounding"]` says what was rounded
    and the score before. `bases` opens the backbones.

    Raises:
        OptionError: a value is too large for float16.
        MaskpackError: a task cannot be scored: its pictures or its backbone are not here.
    """
    after = rounded(pack, roles)
    tasks = dict(after.tasks)
    for name, task in pack.tasks.items():
        changed = [role for role in sorted(task.streams.keys() & set(roles)) if _full(task, role)]
        if changed:
            scores = [_score(one, name, bases) for one in (pack, after)]
            info = dict(task.info)
            info["rounding"] = {"fp16": changed, "before": scores[0]}
            info["test"] = scores[1]
            tasks[name] = dataclasses.replace(tasks[name], info=info)
    return dataclasses.replace(after, tasks=tasks)


def _full(task: PackedTask, role: str) -> bool:
    return task.streams[role].dtype == "f32"


def _score(pack: Pack, name: str, bases: Bases) -> dict[str, Any]:
    row = score_task(pack, name, bases=bases)
    metric = pack.tasks[name].info["task"]["metric"]
    return {metric: row[metric], "count": row["count"]}
