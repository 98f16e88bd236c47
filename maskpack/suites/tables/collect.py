"""What finished cells answered and how they were trained, by task and method. No torch."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping
from typing import Any

from maskpack.suites.definition import ALL, BASE, Suite
from maskpack.suites.folder import SuiteFolder
from maskpack.suites.plan import Cell
from maskpack.tasks.answers import FILE, Answers, read_answers

RUN = "run:"  # begins the name of a backbone that is a run's network


def answers_of(
    suite: Suite, folder: SuiteFolder, cells: Iterable[Cell]
) -> dict[str, dict[str, dict[int, Answers]]]:
    """Answers by task, method and seed, of the networks that a user of the method is left with.

    Of a sequence that is the last one's. The base's own task is left out, as all methods answer it
    with one network, unless a method has changed that.
    """
    by_cell = {cell: read_answers(folder.run(cell) / FILE) for cell in cells}
    found: dict[str, dict[str, dict[int, Answers]]] = {}
    for task in suite.tasks:
        own: dict[str, dict[int, Answers]] = {}
        for label, entry in suite.methods.items():
            for cell, answers in by_cell.items():  # in order, so the last of a sequence wins
                here = cell.task in (task, ALL) or entry.sequence
                if cell.label == label and here and task in answers:
                    own.setdefault(label, {})[cell.seed] = answers[task]
        base = [a[task] for cell, a in by_cell.items() if cell.label == BASE and task in a]
        if own and base:
            seeds = {seed for by_seed in own.values() for seed in by_seed}
            own = {label: dict.fromkeys(seeds, base[0]) for label in suite.methods} | own
        if own:
            found[task] = {label: own[label] for label in suite.methods if label in own}
    return found


def reference_of(suite: Suite, answers: Mapping[str, Mapping[str, Any]]) -> str | None:
    """What methods are compared with: fine-tuning a network a task, or else the first that was
    trained.
    """
    there = [label for label in suite.methods if any(label in of for of in answers.values())]
    tuned = [
        label
        for label in there
        if suite.methods[label].method == "fine-tune"
        and not (suite.methods[label].sequence or suite.methods[label].joint)
    ]
    return next(iter([*tuned, *there]), None)


def options_of(
    suite: Suite, folder: SuiteFolder, cells: Iterable[Cell]
) -> dict[str, dict[str, dict[str, Any]]]:
    """Options of the runs, flat, by method and task; "start" and "seconds" (means over the seeds)
    with them. A joint training's stand for each of its tasks.
    """
    spent: dict[tuple[str, str], list[float]] = {}
    first: dict[tuple[str, str], dict[str, Any]] = {}
    for cell in cells:
        if cell.label == BASE:
            continue
        key = cell.label, cell.task
        spent.setdefault(key, []).append(folder.seconds(cell))
        if key not in first:
            first[key] = _flat(folder.read(cell.folder / "options.json") or {})
            first[key] |= {"backbone": _backbone(suite, folder, cell), "start": _start(suite, cell)}
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for label in suite.methods:
        for (name, task), options in first.items():
            if name != label:
                continue
            seconds = statistics.fmean(spent[name, task])
            tasks = list(suite.tasks) if task == ALL else [task]
            for place, each in enumerate(tasks):
                about = {**options, "seconds": 0.0 if place else seconds}
                found.setdefault(label, {})[each] = about
    return found


def _flat(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options of a group beside the others: "recipe.epochs"."""
    flat: dict[str, Any] = {}
    for key, value in options.items():
        if isinstance(value, dict):
            flat |= {f"{key}.{name}": item for name, item in value.items()}
        else:
            flat[key] = value
    return flat


def _backbone(suite: Suite, folder: SuiteFolder, cell: Cell) -> str:
    """The network that all began with, without the seed of random weights."""
    root = [cell, *cell.upwards()][-1]
    options = folder.read(root.folder / "options.json") or {}
    name = str(options.get("backbone", suite.backbone))
    return name.partition("/none")[0] if suite.method_of(cell.label) == "scratch" else name


def _start(suite: Suite, cell: Cell) -> str:
    entry = suite.methods[cell.label]
    if entry.method == "scratch":
        return "random weights"
    if entry.sequence:
        return "the task before"
    return "the base" if cell.start is not None else "the backbone"
