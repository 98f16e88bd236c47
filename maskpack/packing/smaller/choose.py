"""How few bits a task's numbers may take: combinations scored on the validation split, one chosen.

What `pack --budget` and `--max-drop` do. The test split chooses nothing; it is scored at the end.
"""

from __future__ import annotations

import copy
import dataclasses
import functools
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from maskpack.common.errors import OptionError
from maskpack.evaluation.task_row import Bases, Exam, open_exam
from maskpack.packing.smaller.kinds import KINDS, Storage
from maskpack.packing.smaller.ladder import Ladder, Row
from maskpack.packing.smaller.limits import Limits, smallest, within_budget
from maskpack.packing.smaller.rescore import Say, tell_scores, with_record
from maskpack.packing.smaller.trial import Measured
from maskpack.packs import file as packfile
from maskpack.packs.contents import Pack, PackedTask
from maskpack.runs.open import merge
from maskpack.tasks.splits import is_carved

if TYPE_CHECKING:
    import torch
    from torch import nn

HELD_BYTES = 1 << 30  # of prepared validation pictures, all tasks together
TOLD_ROWS = 12  # that a pack's header keeps of those measured
DIGITS = (0.8134592756108437, 0.7268390415720658)  # which deflate no better than a score's


@dataclass(frozen=True)
class Choice:
    """What was measured of a task, and which row was taken."""

    name: str
    measured: Measured
    ladder: Ladder
    chosen: Row

    @property
    def metric(self) -> str:
        """Its name."""
        return self.measured.exam.task.metric

    @property
    def told(self) -> str:
        """How the task is stored, for a person."""
        return ", ".join(
            f"{part} {getattr(self.chosen.storage, part)}" for part in self.measured.parts
        )

    def table(self) -> list[dict[str, Any]]:
        """A line a row, the largest first; `drop` in points of the metric."""
        return [
            {part: getattr(row.storage, part) for part in self.measured.parts}
            | {"bytes": row.bytes, f"val {self.metric}": row.metric, "val loss": row.loss}
            | {"drop": self.ladder.drop(row), "chosen": "*" if row == self.chosen else ""}
            for row in self.ladder.rows
        ]

    def record(self) -> list[list[Any]]:
        """What the file's header keeps: the path and the chosen row, thinned where they are many.

        A row is how head, norms, coefficients and weights are stored, the bytes, the metric, and
        of the chosen one a true.
        """
        told = [row for row in self.ladder.rows if row in self.ladder.path or row == self.chosen]
        step = -(-len(told) // (TOLD_ROWS - 2))
        ends = (told[0], told[-1], self.chosen)
        return [
            [
                *(getattr(row.storage, part) for part in KINDS),
                row.bytes,
                round(row.metric, 4),
                *[True] * (row == self.chosen),
            ]
            for place, row in enumerate(told)
            if place % step == 0 or row in ends
        ]

    def scores(self) -> list[dict[str, Any] | None]:
        """On the test split, before and after."""
        return [self.measured.test(Storage()), self.measured.test(self.chosen.storage)]

    def finished(self, limits: Limits, scored: bool = True) -> PackedTask:
        """The task as the file keeps it; not `scored`, it is of about the size it will have."""
        about: dict[str, Any] = {**self.chosen.storage.changed, "table": self.record()}
        about |= {key: value for key, value in vars(limits).items() if value is not None}
        scores = self.scores() if scored else _stand_in(self.measured.exam)
        return with_record(self.measured.packed(self.chosen.storage), about, *scores)


def choose(
    packs: Sequence[Pack],
    storage: Storage,
    limits: Limits,
    bases: Bases,
    *,
    beside: Pack | None = None,
    data: Mapping[str, str] | None = None,
    device: torch.device | str = "cpu",
    watch: Callable[[str, Row], None] = lambda name, row: None,
    show: Callable[[Choice], None] = lambda choice: None,
    say: Say = lambda line: None,
) -> list[Pack]:
    """The packs with every task stored as `limits` ask, and a record of it in its info.

    Parts that are not fp32 in `storage` are stored so whatever the limits; the others are chosen.
    The budget is for the file of all packs and `beside`, whose tasks stay as they are. `bases`
    opens backbones, `data` are folders of pictures by task name; `watch` sees every combination
    measured, `show` what was chosen of what for each task, `say` takes lines worth reading.

    Raises:
        OptionError: the limits cannot be kept.
        MaskpackError: a task cannot be scored: its pictures or its backbone are not here.
    """
    merge([*packs])  # names that stand twice, or two backbones, before anything is measured
    taken: dict[str, Row] = {}
    measured: dict[str, Measured] = {}
    ladders: dict[str, Ladder] = {}
    for name, one in _opened(packs, bases, data or {}, device, say):
        watch_it = functools.partial(watch, name)
        ladder = Ladder(one, storage.changed, limits.max_drop, watch_it)
        if not ladder.choices():
            raise OptionError(_too_lossy(name, ladder))
        if limits.budget is None:
            taken[name] = smallest(ladder)
            one.forget()
        measured[name], ladders[name] = one, ladder

    def finished(rows: Mapping[str, Row], scored: bool = True) -> list[Pack]:
        tasks = {
            name: Choice(name, measured[name], ladders[name], row).finished(limits, scored)
            for name, row in rows.items()
        }
        return [
            dataclasses.replace(pack, tasks={name: tasks[name] for name in pack.tasks})
            for pack in packs
        ]

    def file_size(rows: Mapping[str, Row], scored: bool = False) -> int:
        return _file_size([*([beside] if beside else []), *finished(rows, scored)])

    more = 0  # bytes by which the scores deflated worse than what stood in for them

    def likely_size(rows: Mapping[str, Row]) -> int:
        return file_size(rows) + more

    if limits.budget is not None:
        taken = within_budget(ladders, likely_size, limits.budget)
        while (over := file_size(taken, scored=True) - limits.budget) > 0:
            more += over
            taken = within_budget(ladders, likely_size, limits.budget)
    for name, row in taken.items():
        choice = Choice(name, measured[name], ladders[name], row)
        show(choice)
        say(f"{name}, {choice.told}: {tell_scores(choice.measured.exam, *choice.scores())}")
    return finished(taken)


def _opened(
    packs: Sequence[Pack],
    bases: Bases,
    data: Mapping[str, str],
    device: torch.device | str,
    say: Say,
) -> list[tuple[str, Measured]]:
    """Every task with its backbone and its pictures."""
    room = HELD_BYTES // max(1, sum(len(pack.tasks) for pack in packs))
    networks: dict[int, nn.Module] = {}
    opened = []
    for pack in packs:
        for name, task in pack.tasks.items():
            exam = open_exam(pack, name, data.get(name))
            if exam.task.lower_is_better:
                raise OptionError(
                    f"{name}: is scored by {exam.task.metric}, of which less is better; --budget "
                    "and --max-drop count points of a share: use --head-dtype and the like"
                )
            base = bases.open(pack, task)
            if id(base) not in networks:
                networks[id(base)] = copy.deepcopy(base.module)
            if line := _trained_on(name, task, exam):
                say(line)
            opened.append((name, Measured(task, base, exam, networks[id(base)], device, room)))
    return opened


def _trained_on(name: str, task: PackedTask, exam: Exam) -> str:
    """A warning where the network knows its validation pictures from training."""
    select = task.info.get("select")
    if not is_carved(exam.task) or select in ("val", "last"):
        return ""
    which = "was" if select == "test" else "may have been"
    why = " (--select test)" if select == "test" else ""
    return (
        f"warning: {name} {which} trained on its validation pictures{why}; "
        "drops may be larger than those measured"
    )


def _stand_in(exam: Exam) -> list[dict[str, Any] | None]:
    """Test scores of which nothing is known but about how many bytes they take."""
    if "test" not in exam.task.splits():
        return [None, None]
    count = len(exam.pictures("test"))
    metrics = exam.task.meter().compute()
    return [{**dict.fromkeys(metrics, x), "loss": x / 1.7, "count": count} for x in DIGITS]


def _file_size(packs: Sequence[Pack]) -> int:
    """Bytes of the file of these packs."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "pack"
        packfile.write(path, merge([*packs]))
        return path.stat().st_size


def _too_lossy(name: str, ladder: Ladder) -> str:
    fixed = ", ".join(f"{part} {kind}" for part, kind in ladder.fixed.items())
    return (
        f"{name}: {fixed} alone loses {ladder.drop(ladder.path[0]):.2f} points on validation, "
        f"--max-drop is {ladder.max_drop:g}; allow more, or leave that part free"
    )
