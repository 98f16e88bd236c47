"""Seconds of training, by task and method, and of all tasks; published ones below. No torch."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from maskpack.suites.definition import BASE, Suite
from maskpack.suites.plan import Cell, every_cell

Row = dict[str, Any]
TOTAL = "total"
OURS, PUBLISHED = "ours", "published"


def seconds_rows(suite: Suite, spent: Mapping[Cell, float]) -> list[Row]:
    """Means over the seeds; the base's own in a column of its own.

    The total is that of all trainings of a method, where all are finished; the base is not in it,
    as many methods share that. A joint training is one: only its total is known.
    """
    has_base = any(cell.label == BASE for cell in spent)
    labels = [*([BASE] if has_base else []), *dict.fromkeys([*suite.methods, *_timed(suite)])]
    wanted: dict[str, dict[str, None]] = {}  # tasks that are trained, by method
    for cell in every_cell(suite):
        wanted.setdefault(cell.label, {})[cell.task] = None
    means: dict[tuple[str, str], float] = {}
    for key in dict.fromkeys((cell.label, cell.task) for cell in spent):
        values = [s for cell, s in spent.items() if (cell.label, cell.task) == key]
        means[key] = round(statistics.fmean(values), 3)
    rows: list[Row] = []
    for task in suite.tasks:
        found = {label: means.get((label, task)) for label in labels}
        rows += _rows(task, found, _published(suite, task), labels)
    whole = {
        label: round(sum(means[label, task] for task in tasks), 3)
        for label, tasks in wanted.items()
        if all((label, task) in means for task in tasks)
    }
    return rows + _rows(TOTAL, whole, _published_totals(suite), labels)


def _rows(
    task: str, ours: Mapping[str, float | None], theirs: Mapping[str, Any], labels: Sequence[str]
) -> list[Row]:
    rows: list[Row] = [{"task": task, "figures": OURS} | {key: ours.get(key) for key in labels}]
    if theirs:
        about = {"task": task, "figures": PUBLISHED}
        rows.append(about | {key: theirs.get(key) for key in labels})
    return rows


def _published(suite: Suite, task: str) -> Mapping[str, float]:
    found = suite.published.seconds.get(task, {})
    return found if isinstance(found, Mapping) else {}


def _published_totals(suite: Suite) -> dict[str, float]:
    """By method, what was published of all tasks together, or of each."""
    by_task = [_published(suite, task) for task in suite.tasks]
    sums = {
        label: sum(row[label] for row in by_task)
        for label in by_task[0]
        if all(label in row for row in by_task)
    }
    given = suite.published.seconds.items()
    return sums | {label: value for label, value in given if not isinstance(value, Mapping)}


def _timed(suite: Suite) -> list[str]:
    """Methods with published seconds."""
    found: dict[str, None] = {}
    for key, value in suite.published.seconds.items():
        found |= dict.fromkeys(value if isinstance(value, Mapping) else (key,))
    return list(found)
