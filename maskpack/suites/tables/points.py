"""The Visual Decathlon's points in a suite's tables: `[score] kind = "decathlon"`. No torch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from maskpack.datasets.decathlon import TASKS, decathlon_points
from maskpack.suites.definition import Suite
from maskpack.tasks import DECATHLON

Row = dict[str, Any]
Figures = Callable[[Row, Mapping[str, list[float]], Mapping[str, float]], Iterator[Row]]

KINDS = ("decathlon",)
TOTAL = "S-score"


def points_rows(
    suite: Suite, scored: Callable[[str, str], list[float]], figures: Figures, metric: str
) -> list[Row]:
    """Points of each task and method, and their sum where a method has all ten tasks.

    `scored` gives accuracies by seed of a task and label, `figures` makes rows of ours and of the
    published ones. Tasks of the suite that are none of the decathlon's have no points.
    """
    rows: list[Row] = []
    names = {task: DECATHLON.get(entry.task.lower()) for task, entry in suite.tasks.items()}
    points: dict[str, dict[str, list[float]]] = {label: {} for label in suite.methods}
    for task, name in names.items():
        if name is None:
            continue
        for label, of in points.items():
            of[name] = [decathlon_points(name, 1 - share) for share in scored(task, label)]
        ours = {label: of[name] for label, of in points.items()}
        theirs = suite.published.points.get(task, {})
        rows += figures({"task": task, "metric": metric}, ours, theirs)
    totals = {label: _sums(of) for label, of in points.items()}
    return [*rows, *figures({"task": TOTAL, "metric": metric}, totals, suite.published.total)]


def _sums(points: Mapping[str, list[float]]) -> list[float]:
    """Sums over the ten tasks, by seed; a task with one score, the base's, has it for each seed."""
    if not all(points.get(task) for task in TASKS):
        return []
    seeds = min((len(found) for found in points.values() if len(found) > 1), default=1)
    return [
        sum(found[seed if len(found) > 1 else 0] for found in points.values())
        for seed in range(seeds)
    ]
