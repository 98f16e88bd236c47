"""What a suite's file says: methods, tasks, the base, published figures. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from maskpack.common.errors import OptionError
from maskpack.suites.options import layered

BASE = "base"  # stands for a method in the name of the base's run
ALL = "all"  # stands for a task in the name of a joint training's run


@dataclass(frozen=True)
class MethodEntry:
    """A column of the tables: a method with options of its own, under a label.

    In a `sequence` each task starts from the network that the one before left, `with_base` from
    that of the base's own task, trained on. In a `joint` training one network learns all at once.
    A `teacher` is another label, whose network for the same task and seed teaches this one's.
    """

    label: str
    method: str
    sequence: bool = False
    with_base: bool = False
    joint: bool = False
    teacher: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class TaskEntry:
    """A row of the tables. `data` is below the folder that the user gives."""

    name: str
    task: str
    data: str | None = None
    metric: str | None = None  # None: the task's own
    source: str = ""  # where the data are to be had
    options: Mapping[str, Any] = field(default_factory=dict)
    by_method: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True)
class BaseEntry:
    """The task whose network, trained first, all others start from."""

    task: str
    method: str = "scratch"
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Published:
    """Figures of a paper, by task and label, in the units of our own."""

    source: str = ""
    scores: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    after: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    sizes: Mapping[str, float] = field(default_factory=dict)  # MB
    counted: Mapping[str, str] = field(default_factory=dict)
    similarity: Mapping[str, Mapping[str, Mapping[str, float]]] = field(default_factory=dict)
    points: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    total: Mapping[str, float] = field(default_factory=dict)  # of the points
    # by task and label, or by label for all tasks
    seconds: Mapping[str, Mapping[str, float] | float] = field(default_factory=dict)


@dataclass(frozen=True)
class Suite:
    """What a suite's file says. `raw` is all of it, `text` the file itself."""

    where: str
    name: str
    text: str
    raw: Mapping[str, Any]
    title: str
    paper: str
    backbone: str
    base: BaseEntry | None
    options: Mapping[str, Any]
    methods: Mapping[str, MethodEntry]
    tasks: Mapping[str, TaskEntry]  # the base's first
    seeds: tuple[int, ...]
    published: Published
    score: str | None = None  # of a challenge, which makes points of scores

    def options_of(self, task: str, label: str) -> dict[str, Any]:
        """Options of a cell, under their names in the file; `label` may be BASE."""
        if task == ALL:
            return layered(self.options, self.methods[label].options)
        entry = self.tasks[task]
        if label == BASE and self.base is not None:
            like = self.methods.get(self.base.method)
            places = [like.options if like else {}, entry.options]
            places += [entry.by_method.get(self.base.method, {}), self.base.options]
        else:
            places = [self.methods[label].options, entry.options, entry.by_method.get(label, {})]
        return layered(self.options, *places)

    def method_of(self, label: str) -> str:
        """The method that a label stands for."""
        if label == BASE and self.base is not None:
            return self.base.method
        return self.methods[label].method

    def value(self, task: str, metric: str, score: Mapping[str, Any]) -> float:
        """A metric of a test score.

        Raises:
            OptionError: the task does not measure it.
        """
        if metric not in score:
            known = ", ".join(sorted(score.keys() - {"count"})) or "nothing (no test split)"
            raise OptionError(
                f"{self.where}: tasks.{task}: metric = {metric!r}, but it measures {known}"
            )
        return float(score[metric])

    @property
    def names_code(self) -> str:
        """A name that stands for Python code (module:function); empty where none does."""
        from maskpack.backbones import names_code

        labels = [*self.methods, *([BASE] if self.base else [])]
        used = [self.method_of(label) for label in labels]
        code = [name for name in used if ":" in name]
        return next(iter([*([self.backbone] if names_code(self.backbone) else []), *code]), "")
