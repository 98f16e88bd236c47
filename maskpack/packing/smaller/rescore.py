"""Tasks with their numbers stored otherwise, and what that did to the test score."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from maskpack.evaluation.evaluate import evaluate
from maskpack.evaluation.task_row import Bases, Exam, open_exam
from maskpack.networks.serialize import unpack_task
from maskpack.packing.smaller.kinds import KINDS, Storage, shrunk
from maskpack.packs.contents import Pack, PackedTask, Stream
from maskpack.reports.describe import stream_part

if TYPE_CHECKING:
    import torch

    from maskpack.backbones.base import Backbone

Say = Callable[[str], None]


def stored(pack: Pack, storage: Storage, bases: Bases) -> Pack:
    """A pack whose tasks are all stored so; nothing is scored. `bases` opens the backbones.

    Raises:
        OptionError: a value is too large for float16.
    """
    tasks = {
        name: shrunk(task, storage, bases.open(pack, task)) for name, task in pack.tasks.items()
    }
    return dataclasses.replace(pack, tasks=tasks)


def stored_and_scored(
    pack: Pack,
    storage: Storage,
    bases: Bases,
    *,
    data: Mapping[str, str] | None = None,
    device: torch.device | str = "cpu",
    say: Say = lambda line: None,
) -> Pack:
    """`stored`, with the test score before and after written into each task that changed.

    `info["test"]` becomes the score of what is stored, `info["storage"]` says how it is stored and
    what the score was. `data` are folders of pictures by task name.

    Raises:
        OptionError: a value is too large for float16.
        MaskpackError: a task cannot be scored: its pictures or its backbone are not here.
    """
    tasks = dict(pack.tasks)
    for name, task in pack.tasks.items():
        base = bases.open(pack, task)
        after = shrunk(task, storage, base)
        parts = changed_parts(task, after)
        if not parts:
            continue
        about = {part: getattr(storage, part) for part in parts}
        told = ", ".join(f"{part} {kind}" for part, kind in about.items())
        exam = open_exam(pack, name, (data or {}).get(name)) if "task" in task.info else None
        scores = [test_score(one, base, exam, device) for one in (task, after)]
        tasks[name] = with_record(after, about, *scores)
        say(f"{name}, {told}: {tell_scores(exam, *scores)}")
    return dataclasses.replace(pack, tasks=tasks)


def changed_parts(before: PackedTask, after: PackedTask) -> list[str]:
    """The parts of a task that are stored otherwise than before."""
    parts = {
        stream_part(key, stream)
        for key, stream in before.streams.items()
        if not _same(stream, after.streams[key])
    }
    return [part for part in KINDS if part in parts]


def _same(a: Stream, b: Stream) -> bool:
    return a is b or ((a.dtype, a.delta) == (b.dtype, b.delta) and np.array_equal(a.data, b.data))


def test_score(
    task: PackedTask, base: Backbone, exam: Exam | None, device: torch.device | str = "cpu"
) -> dict[str, Any] | None:
    """Metric, loss and count on the test split; None where the task has none."""
    if exam is None or "test" not in exam.task.splits():
        return None
    score = evaluate(
        unpack_task(task, base),
        exam.task,
        exam.pictures("test"),
        exam.preprocess,
        exam.augment,
        device=device,
    )
    return score.record()


def with_record(
    task: PackedTask,
    about: Mapping[str, Any],
    before: Mapping[str, Any] | None,
    after: Mapping[str, Any] | None,
) -> PackedTask:
    """A task whose info says how it is stored, and its test scores before and after that."""
    info = dict(task.info)
    earlier = info.get("storage")  # of a pack that was made smaller before
    kept = earlier if isinstance(earlier, Mapping) else {}
    info["storage"] = {key: kept[key] for key in KINDS if key in kept} | dict(about)
    if before is not None and after is not None:
        info["storage"]["before"] = {key: v for key, v in before.items() if key != "loss"}
        info["test"] = dict(after)
    return dataclasses.replace(task, info=info)


def tell_scores(
    exam: Exam | None, before: Mapping[str, Any] | None, after: Mapping[str, Any] | None
) -> str:
    """For a person: the test score before and after, or why there is none."""
    if exam is None:
        return "not scored, since it does not say what it was taught"
    if before is None or after is None:
        return "not scored, since its pictures have no test split"
    metric = exam.task.metric
    return f"test {metric} {before[metric]:.4f} -> {after[metric]:.4f}"
