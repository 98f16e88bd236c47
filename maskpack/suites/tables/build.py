"""What is on disk -> rows of a suite's tables, published figures beside ours. No torch."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

from maskpack.common.errors import UnknownName
from maskpack.packs import file as packfile
from maskpack.packs.contents import Pack
from maskpack.reports.describe import similarity_rows
from maskpack.suites.definition import ALL, BASE, Suite
from maskpack.suites.folder import SuiteFolder
from maskpack.suites.plan import Cell, base_cell, every_cell
from maskpack.suites.tables.by_layer import TITLES as LAYER_TITLES
from maskpack.suites.tables.by_layer import layer_tables
from maskpack.suites.tables.collect import answers_of, options_of, reference_of
from maskpack.suites.tables.paired import paired_rows
from maskpack.suites.tables.paper_sizes import scope_rows
from maskpack.suites.tables.points import points_rows
from maskpack.suites.tables.protocol import protocol_notes, protocol_rows
from maskpack.suites.tables.seconds import seconds_rows

Row = dict[str, Any]
MB = 10**6
OURS, SPREAD, PUBLISHED = "ours", "spread", "published"
LAST = "at the end"  # of a sequence, after its last task


def suite_tables(
    suite: Suite,
    folder: SuiteFolder,
    seeds: Sequence[int],
    measured: Mapping[str, Any],
    against: str | None = None,
) -> dict[str, Any]:
    """All tables of a suite's folder, each with its title and rows, and every cell by itself.

    `measured` is what `maskpack.suites.measure` wrote. Figures are means over the seeds, with
    their standard deviation ("spread") where there are several. Methods are tested `against` one
    of them.

    Raises:
        OptionError: a task has no such metric.
        UnknownName: there is no such method.
    """
    check_against(suite, against)
    found = _Found(suite, folder, seeds, measured)
    source = suite.published.source or suite.paper
    layers = layer_tables(found.packs(), list(suite.tasks))
    protocol = protocol_rows(options_of(suite, folder, found.results))
    tables = {
        "scores": ("score of each task and method", _scores(found)),
        **({"points": ("points of each task and method", _points(found))} if suite.score else {}),
        "forgetting": ("each task after the next was learnt", _forgetting(found)),
        "sequences": ("each task of a sequence after each later one", _sequences(found)),
        "paired": ("methods on the same pictures, by McNemar's test", _paired(found, against)),
        "protocol": ("how each method was trained", protocol),
        "sizes": ("sizes in MB (10^6 bytes)", _sizes(found)),
        "bytes": ("bytes as each paper counts them", _bytes(found)),
        "similarity": ("share of equal bits of two masks", _similarity(found)),
        **{key: (title, layers[key]) for key, title in LAYER_TITLES.items()},
        "seconds": ("seconds of training", seconds_rows(suite, found.spent())),
    }
    return {
        "suite": suite.name,
        "title": suite.title,
        "paper": suite.paper,
        "published": source,
        "notes": list(protocol_notes(protocol)),
        "tables": {key: {"title": t, "rows": rows} for key, (t, rows) in tables.items()},
        "cells": _cells(found),
    }


def check_against(suite: Suite, against: str | None) -> None:
    """Raise UnknownName unless it is a method of the suite, or None."""
    if against is not None and against not in suite.methods:
        raise UnknownName(f"method of {suite.where}", against, suite.methods)


class _Found:
    """A suite's finished cells and what was measured of them."""

    def __init__(
        self,
        suite: Suite,
        folder: SuiteFolder,
        seeds: Sequence[int],
        measured: Mapping[str, Any],
    ) -> None:
        self.suite, self.folder, self.measured = suite, folder, measured
        self.seeds = tuple(seeds)
        self.results: dict[Cell, dict[str, Any]] = {}
        for cell in every_cell(suite, seeds):
            result = folder.result(cell)
            if result is not None:
                self.results[cell] = result
        base = base_cell(suite)
        self.base = base if base in self.results else None
        published = [*suite.published.scores.values(), *suite.published.after.values()]
        self.published = list(dict.fromkeys(key for row in published for key in row if key != BASE))

    def metric(self, task: str) -> str | None:
        known = self.suite.tasks[task].metric or self.measured.get("metrics", {}).get(task)
        if known is None:  # measured once a command has come to its end
            cell = next((cell for cell in self.results if cell.task == task), None)
            known = None if cell is None else self.folder.metric(cell)
        return None if known is None else str(known)

    def shown(self, task: str) -> str | None:
        """The metric, and of which split it is where that is not the test split."""
        metric, split = self.metric(task), self.measured.get("tested on", {}).get(task, "test")
        return metric if metric is None or split == "test" else f"{metric} on {split}"

    def scored(self, task: str, label: str) -> list[float]:
        """A task's scores by seed; the base's own stands for every method that starts from it."""
        if self.suite.methods[label].joint:
            key = f"{self.metric(task)}/{task}"
            results = [r for c, r in self.results.items() if (c.task, c.label) == (ALL, label)]
            return [float(result[key]) for result in results if key in result]
        own = [c for c in self.results if (c.task, c.label) == (task, label)]
        base = [c for c in self.results if (c.task, c.label) == (task, BASE)]
        return [self.value(task, self.results[c]) for c in own or base if self.results[c]]

    def averages(self, label: str) -> Iterator[float]:
        """Means over all tasks by seed; nothing where a seed lacks a task that another has."""
        seeds = sorted({cell.seed for cell in self.results if cell.label == label})
        alone = [self.by_seed[seed] for seed in seeds]
        scored = [[one.scored(task, label) for task in self.suite.tasks] for one in alone]
        if all(map(all, scored)):
            yield from (statistics.fmean(map(statistics.fmean, values)) for values in scored)

    @cached_property
    def by_seed(self) -> dict[int, _Found]:
        """The same of each seed alone."""
        return {seed: _Found(self.suite, self.folder, [seed], self.measured) for seed in self.seeds}

    def after(self, task: str, later: str, label: str) -> list[float]:
        """A task's scores, by seed, once a later one was learnt."""
        return [
            self.value(task, row["values"])
            for row in self.measured.get("again", [])
            if (row["task"], row["after"], row["method"]) == (task, later, label)
        ]

    def at_the_end(self, task: str, label: str) -> list[float]:
        """A task's scores, by seed, after the last task that every seed of the method learnt."""
        if not self.suite.methods[label].sequence:
            return self.scored(task, label)
        order = list(self.suite.tasks)
        for later in reversed(order[order.index(task) + 1 :]):
            if self.scored(later, label):
                return self.after(task, later, label)
        return self.scored(task, label)

    def value(self, task: str, score: Mapping[str, Any]) -> float:
        return self.suite.value(task, str(self.metric(task)), score)

    def spent(self) -> dict[Cell, float]:
        """Seconds of training."""
        return {cell: self.folder.seconds(cell) for cell in self.results}

    def packs(self) -> Iterator[tuple[str, Pack]]:
        """By method, the pack of the first seed; several where its network has grown."""
        first = self.suite.seeds[0]
        for label in self.suite.methods:
            path = self.folder.pack(label, first, first)
            if path.is_file():
                for narrow in self.folder.narrow_packs(label, first, first):
                    yield label, packfile.read(narrow)
                yield label, packfile.read(path)

    def last_figures(self, about: Row, ours: Mapping[str, list[float]]) -> Iterator[Row]:
        """The row of what sequences score after their last task, if there are any."""
        if any(ours.values()):
            labels = dict.fromkeys([*self.suite.methods, *self.published])
            means = {label: statistics.fmean(found) for label, found in ours.items() if found}
            yield {**about, "figures": LAST} | {label: means.get(label) for label in labels}

    def figures(
        self, about: Row, ours: Mapping[str, list[float]], theirs: Mapping[str, float]
    ) -> Iterator[Row]:
        """Rows of one thing: our means, their spread, what was published; methods as columns."""
        labels = list(dict.fromkeys([*self.suite.methods, *self.published]))
        many = any(len(values) > 1 for values in ours.values())
        yield {**about, "figures": OURS} | {
            label: statistics.fmean(ours[label]) if ours.get(label) else None for label in labels
        }
        if many:
            yield {**about, "figures": SPREAD} | {
                label: statistics.stdev(ours[label]) if len(ours.get(label, [])) > 1 else None
                for label in labels
            }
        if theirs:
            whole = theirs.get(BASE)
            yield {**about, "figures": PUBLISHED} | {
                label: theirs.get(label, whole if label in self.published else None)
                for label in labels
            }


def _scores(found: _Found) -> list[Row]:
    suite = found.suite
    sequences = [label for label, entry in suite.methods.items() if entry.sequence]
    rows: list[Row] = []
    for task in suite.tasks:
        ours = {label: found.scored(task, label) for label in suite.methods}
        about = {"task": task, "metric": found.shown(task)}
        rows += found.figures(about, ours, suite.published.scores.get(task, {}))
        last = {label: found.at_the_end(task, label) for label in sequences}
        rows += found.last_figures(about, last)
    return rows + list(_averages(found))


def _points(found: _Found) -> list[Row]:
    splits = set(found.measured.get("tested on", {}).values()) - {"test"}
    metric = "points" + (f" on {', '.join(sorted(splits))}" if splits else "")
    return points_rows(found.suite, found.scored, found.figures, metric)


def _averages(found: _Found) -> Iterator[Row]:
    """Means over all tasks, where they have one metric and a method has a score of each."""
    suite = found.suite
    metrics = {found.shown(task) for task in suite.tasks}
    if len(suite.tasks) < 2 or len(metrics) != 1:
        return
    ours: dict[str, list[float]] = {}
    for label in suite.methods:
        scored = [found.scored(task, label) for task in suite.tasks]
        if all(scored):
            each = list(found.averages(label))
            ours[label] = each or [statistics.fmean(map(statistics.fmean, scored))]
    theirs = {}
    for label in dict.fromkeys([*suite.methods, *found.published]):
        rows = [suite.published.scores.get(task, {}) for task in suite.tasks]
        if any(label in row for row in rows) and all({label, BASE} & row.keys() for row in rows):
            theirs[label] = statistics.fmean(row.get(label, row.get(BASE, 0.0)) for row in rows)
    about = {"task": "average", "metric": next(iter(metrics))}
    yield from found.figures(about, ours, theirs)
    last: dict[str, list[float]] = {}
    for label in (label for label in ours if suite.methods[label].sequence):
        scored = [found.at_the_end(task, label) for task in suite.tasks]
        if all(scored):
            last[label] = [statistics.fmean(map(statistics.fmean, scored))]
    yield from found.last_figures(about, last)


def _forgetting(found: _Found) -> list[Row]:
    suite = found.suite
    rows: list[Row] = []
    order = list(suite.tasks)
    for task, after in itertools.pairwise(order):
        ours = {label: found.after(task, after, label) for label in suite.methods}
        about = {"task": task, "after": after, "metric": found.metric(task)}
        rows += found.figures(about, ours, suite.published.after.get(task, {}))
    return rows


def _sequences(found: _Found) -> list[Row]:
    """A row for each task of each sequence: its score when learnt, then after each later task."""
    suite = found.suite
    order = list(suite.tasks)
    rows: list[Row] = []
    for label, entry in suite.methods.items():
        if not entry.sequence:
            continue
        for place, task in enumerate(order):
            first = found.scored(task, label)
            if not first:
                continue
            scores = {task: first}
            scores |= {later: found.after(task, later, label) for later in order[place + 1 :]}
            means = {name: statistics.fmean(found_) for name, found_ in scores.items() if found_}
            last = list(means.values())[-1]
            about = {"method": label, "task": task, "metric": found.metric(task)}
            lost = means[task] - last
            after = {f"after {name}": means.get(name) for name in order[1:]}
            rows.append({**about, "when learnt": means[task], "lost": lost, **after})
    return rows


def _sizes(found: _Found) -> list[Row]:
    published = found.suite.published
    labels = list(dict.fromkeys([*found.suite.methods, *published.sizes]))
    rows = []
    for label in labels:
        seeds = found.measured.get("sizes", {}).get(label, {})
        row: Row = {"method": label}
        row |= dict.fromkeys(("base", "tasks", "a task", "total", "counted"))
        row |= dict.fromkeys(("a task, coded", "total, coded"))
        if seeds:
            row |= _size(next(iter(seeds.values())), found.base is not None)
        row |= {PUBLISHED: published.sizes.get(label), "as": published.counted.get(label)}
        rows.append(row)
    return rows


def _size(sizes: Mapping[str, Any], has_base: bool) -> Row:
    """Sizes of a method: the base and each task's own, or networks that are each whole."""
    raw, coded = ([task[key] for task in sizes["tasks"].values()] for key in ("raw", "coded"))
    count, base = len(raw), sizes["base"]
    if sizes["sequence"] and sizes["whole"]:  # overwritten: only the last is left
        raw, coded = raw[-1:], coded[-1:]
        last = raw[0] / MB
        row = {"base": None, "tasks": count + has_base, "a task": None, "total": last}
        return row | {"counted": f"{last:.4g}", "a task, coded": None, "total, coded": last}
    if sizes["whole"]:
        if has_base:  # which is a network of its own too
            raw, coded = [base, *raw], [base, *coded]
        count, base = len(raw), 0
    each, each_coded = statistics.fmean(raw) / MB, statistics.fmean(coded) / MB
    return {
        "base": base / MB if base else None,
        "tasks": count,
        "a task": each,
        "total": (base + sum(raw)) / MB,
        "counted": f"{base / MB:.4g} + {each:.4g} x {count}" if base else f"{each:.4g} x {count}",
        "a task, coded": each_coded,
        "total, coded": (base + sum(coded)) / MB,
    }


def _similarity(found: _Found) -> list[Row]:
    rows: list[Row] = []
    published = dict(found.suite.published.similarity)
    for label, pack in found.packs():
        matrix = similarity_rows(pack)
        theirs = published.pop(label, {}) if matrix else {}  # once, of several packs
        compared = {*pack.tasks, *theirs, *(task for row in theirs.values() for task in row)}
        names = [task for task in found.suite.tasks if task in compared]
        for row in sorted(matrix, key=lambda row: names.index(row["task"])):
            shares = {name: row["similarity"].get(name) for name in names}
            about = {"method": label, "task": row["task"], "figures": OURS}
            rows.append({**about, "similarity": shares})
        for task, published_row in theirs.items():
            about = {"method": label, "task": task, "figures": PUBLISHED}
            rows.append({**about, "similarity": {name: published_row.get(name) for name in names}})
    return rows


def _paired(found: _Found, against: str | None) -> list[Row]:
    answers = answers_of(found.suite, found.folder, found.results)
    reference = against or reference_of(found.suite, answers)
    return paired_rows(answers, reference) if reference else []


def _bytes(found: _Found) -> list[Row]:
    """Of the first seed, as other sizes."""
    measured = found.measured.get("sizes", {})
    sizes = {
        label: next(iter(measured[label].values()))
        for label in found.suite.methods
        if measured.get(label)
    }
    base = found.base.task if found.base else None
    packs: dict[str, list[Pack]] = {}
    for label, pack in found.packs():
        packs.setdefault(label, []).append(pack)
    return list(scope_rows(packs, sizes, base))


def _cells(found: _Found) -> list[Row]:
    return [
        {
            "task": cell.task,
            "method": cell.label,
            "seed": cell.seed,
            "run": str(found.folder.run(cell)),
            "starts from": None if cell.start is None else str(found.folder.run(cell.start)),
            "seconds": found.folder.seconds(cell),
            "test": result,
        }
        for cell, result in found.results.items()
    ]
