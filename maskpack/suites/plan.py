"""A suite -> its cells: one training each, and what it starts from. No torch."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from maskpack.common.errors import UnknownName
from maskpack.suites.definition import ALL, BASE, Suite


@dataclass(frozen=True)
class Cell:
    """One training. `start` is the cell whose network it starts from; None: the backbone's.

    `teacher` is the cell whose network teaches it, if any.
    """

    task: str
    label: str
    seed: int
    start: Cell | None = None
    teacher: Cell | None = None

    @property
    def folder(self) -> Path:
        """Its run's folder, below that of the suite."""
        return Path("runs", self.task, self.label, f"seed{self.seed}")

    def __str__(self) -> str:
        return f"{self.task}, {self.label}, seed {self.seed}"

    @property
    def needs(self) -> tuple[Cell, ...]:
        """The cells that must be finished before it can begin."""
        return tuple(cell for cell in (self.start, self.teacher) if cell is not None)

    def upwards(self) -> Iterator[Cell]:
        """What it starts from, and what that starts from, and so on."""
        if self.start is not None:
            yield self.start
            yield from self.start.upwards()

    def before(self) -> Iterator[Cell]:
        """Every cell that it needs, and that those need."""
        for cell in self.needs:
            yield cell
            yield from cell.before()


def base_cell(suite: Suite) -> Cell | None:
    """The training of the base; the seeds are those of what starts from it."""
    return None if suite.base is None else Cell(suite.base.task, BASE, 0)


def every_cell(suite: Suite, seeds: Collection[int] | None = None) -> list[Cell]:
    """All cells of a suite, each after those that it needs."""
    base = base_cell(suite)
    cells = [] if base is None else [base]
    by_label: dict[tuple[str, str | None, int], Cell] = {}
    for seed in suite.seeds if seeds is None else seeds:
        last = dict.fromkeys(suite.methods, base)  # the network that a sequence overwrites
        for task in suite.tasks:
            for label, entry in suite.methods.items():
                if entry.joint or (base and task == base.task and not entry.with_base):
                    continue
                start = None if entry.method == "scratch" else base
                if entry.sequence:
                    start = last[label]
                teacher = by_label.get((task, entry.teacher, seed))
                cell = Cell(task, label, seed, start, teacher)
                last[label] = by_label[task, label, seed] = cell
                cells.append(cell)
        for label, entry in suite.methods.items():
            if entry.joint:
                cells.append(Cell(ALL, label, seed, None if entry.method == "scratch" else base))
    return cells


def chosen_cells(
    suite: Suite,
    tasks: Sequence[str] | None = None,
    labels: Sequence[str] | None = None,
    seeds: Sequence[int] | None = None,
) -> list[Cell]:
    """The cells of some tasks, methods and seeds, and those that they need, in order.

    Raises:
        UnknownName: the suite has no such task or method.
    """
    for names, known, what in ((tasks, suite.tasks, "task"), (labels, suite.methods, "method")):
        for name in names or ():
            if name not in known:
                raise UnknownName(f"{what} of {suite.where}", name, known)
    cells = every_cell(suite, seeds)
    wanted = {
        cell
        for cell in cells
        if (tasks is None or cell.task in tasks or (cell.task == ALL and labels is not None))
        and (labels is None or cell.label in labels or cell.label == BASE)
    }
    wanted |= {before for cell in wanted for before in cell.before()}
    return [cell for cell in cells if cell in wanted]
