"""A cell -> everything its training needs, opened; and what can be wrong, said before any."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from maskpack.backbones import RUN_PREFIX
from maskpack.backbones.base import Backbone, make_backbone
from maskpack.common.errors import BackboneError, DataError, MaskpackError, OptionError
from maskpack.common.preprocess import Augment, Preprocess
from maskpack.evaluation.evaluate import evaluate
from maskpack.networks.serialize import unpack_task
from maskpack.runs.folder import Run
from maskpack.runs.open import check_base, open_backbone, pack_run
from maskpack.suites.definition import ALL, BASE, Suite, TaskEntry
from maskpack.suites.folder import SuiteFolder
from maskpack.suites.options import FILES, fields_of
from maskpack.suites.plan import Cell
from maskpack.tasks import open_task
from maskpack.tasks.base import Task
from maskpack.tasks.joint import joint_task
from maskpack.tasks.splits import Subset
from maskpack.training.named_recipes import with_recipe
from maskpack.training.setup import Options, Session, chosen_augment, open_session


@dataclass
class Opener:
    """Opens the cells of a suite; tasks are opened once, the network they start from is kept."""

    suite: Suite
    folder: SuiteFolder
    data: Path
    device: str = "auto"
    workers: int = 0
    _tasks: dict[str, Task] = field(default_factory=dict, repr=False)
    _start: tuple[object, Backbone] | None = field(default=None, repr=False)

    def session(self, cell: Cell) -> Session:
        """What `learn` takes.

        Raises:
            MaskpackError: something does not fit.
        """
        start = None if cell.start is None else Run(self.folder.run(cell.start))
        return open_session(self.options(cell), self.start(cell), self.task(cell), start)

    def options(self, cell: Cell) -> Options:
        """The options of a cell, as `train-mask` would have them."""
        entry = self.suite.tasks.get(cell.task, TaskEntry(ALL, ALL))
        fields = fields_of(self.suite.options_of(cell.task, cell.label), self.data)
        named = fields.pop("named", None)
        options = Options(
            self.suite.backbone,
            entry.task,
            self.suite.method_of(cell.label),
            name=entry.name,
            data=None if entry.data is None else str(self.data / entry.data),
            seed=cell.seed,
            device=self.device,
            workers=self.workers,
            teacher=self._teacher(cell),
            **fields,
        )
        return options if named is None else with_recipe(options, named)

    def task(self, cell: Cell) -> Task:
        """The task of a cell; those that differ only in what is no option of the task are one."""
        options = self.options(cell)
        if cell.task == ALL:
            parts = {
                part.task: (self.task(part), self._augment(part), self.options(part).data)
                for part in self._parts(cell)
            }
            return joint_task(ALL, parts, options.val_fraction)
        key = repr((options.task, options.data, options.download, sorted(options.task_set.items())))
        if key not in self._tasks:
            self._tasks[key] = open_task(
                options.task, options.data, options.download, options.task_set
            )
        return self._tasks[key]

    def _teacher(self, cell: Cell) -> str | None:
        """The folder of the network that teaches a cell."""
        if cell.teacher is None:
            return None
        run = Run(self.folder.run(cell))  # begun when the folder lay elsewhere, it says where
        known = run.options.get("teacher") if run.begun() else None
        return str(known or self.folder.run(cell.teacher))

    def _augment(self, cell: Cell) -> Augment:
        """How the pictures of a task are changed while it is trained."""
        return chosen_augment(self.options(cell), self.task(cell))

    def _parts(self, cell: Cell) -> list[Cell]:
        """A cell for each task that one trains: of a joint training, all of the suite."""
        if cell.task != ALL:
            return [cell]
        return [dataclasses.replace(cell, task=task) for task in self.suite.tasks]

    # ---- what a cell starts from

    def start(self, cell: Cell) -> Backbone:
        """The backbone that a cell's own weights are put on."""
        key: object = cell.start or self._source(cell)
        if self._start is None or self._start[0] != key:
            found = self.network(cell.start) if cell.start else self._plain(cell)
            self._start = key, found
        found = self._start[1]
        run = Run(self.folder.run(cell))
        if cell.start and run.begun():  # in a folder that lay elsewhere then
            found = dataclasses.replace(found, name=str(run.options.get("backbone", found.name)))
        return found

    def under(self, cell: Cell) -> Backbone:
        """The backbone that what a finished cell learnt is put on: it may have grown."""
        run = Run(self.folder.run(cell))
        if not run.narrower():
            return self.start(cell)
        return open_backbone(pack_run(run).backbone.name)

    def network(self, cell: Cell) -> Backbone:
        """What a finished cell has learnt, as the backbone of others."""
        path = self.folder.run(cell)
        pack = pack_run(Run(path))
        task, base = pack.task(), self.under(cell)
        check_base(pack, task, base)
        preprocess = Preprocess(**task.info["preprocess"])
        module, source = unpack_task(task, base), f"task {task.name}"
        return make_backbone(
            f"{RUN_PREFIX}{path}", module, preprocess, base.head, source, base.parts
        )

    def _source(self, cell: Cell) -> tuple[str, str | None, int, str | None]:
        options = self.options(cell)
        random = options.method == "scratch" and not options.backbone.startswith(RUN_PREFIX)
        weights = options.weights or ("none" if random else None)
        return options.backbone, weights, options.seed, options.head

    def _plain(self, cell: Cell) -> Backbone:
        name, weights, seed, head = self._source(cell)
        return open_backbone(name, weights=weights, seed=seed, head=head)

    # ---- before anything is trained

    def check(self, cells: Sequence[Cell]) -> None:
        """Raise, in one line with file and key, where a cell cannot be trained as it is written.

        Data and options of all cells are looked at, and a network of each method, and one of each
        task, which scores a picture: no pair of the two brings anything new.
        """
        for cell in cells:
            with self._told(BASE if cell.label == BASE else f"methods.{cell.label}"):
                self.options(cell)
        self._check_places(cells)
        for cell in cells:
            with self._told(f"tasks.{cell.task}"):
                self.task(cell)
        seen: set[str] = set()
        opened: dict[object, Backbone] = {}
        for cell in cells:
            keys = [f"methods.{cell.label}", f"tasks.{cell.task}"]
            new = [key for key in keys if key not in seen]
            if not new:
                continue
            with self._told(BASE if cell.label == BASE else " with ".join(new)):
                # as good as what it will start from, which may not be trained yet
                root = [cell, *cell.upwards()][-1]
                key = self._source(root)
                if key not in opened:
                    opened = {key: self._plain(root)}
                options = dataclasses.replace(self.options(cell), teacher=None)
                session = open_session(options, opened[key], self.task(cell))
                score = _tried(session) if keys[1] in new else {}
            metric = self.suite.tasks[cell.task].metric if cell.task != ALL else None
            if score and metric is not None:
                self.suite.value(cell.task, metric, score)
            seen |= set(new)

    def _check_places(self, cells: Sequence[Cell]) -> None:
        """Raise DataError where data are missing, all of them in one line."""
        tasks: dict[str, list[str]] = {}
        sources: dict[str, str] = {}
        for cell in itertools.chain.from_iterable(map(self._parts, cells)):
            options, entry = self.options(cell), self.suite.tasks[cell.task]
            places = [] if options.download or options.data is None else [options.data]
            places += [str(options.task_set[key]) for key in FILES if options.task_set.get(key)]
            for place in places:
                if not Path(place).exists() and cell.task not in tasks.setdefault(place, []):
                    tasks[place].append(cell.task)
                if place == options.data:
                    sources[place] = max(sources.get(place, ""), entry.source, key=len)
        missing = [
            f"{place} for {', '.join(names)}"
            + (f" (from {sources[place]})" if sources.get(place) else "")
            for place, names in tasks.items()
            if names
        ]
        if missing:
            raise DataError(
                f"{self.suite.where}: data missing: {'; '.join(missing)}; --data says which folder "
                "they are in"
            )

    @contextmanager
    def _told(self, key: str) -> Iterator[None]:
        where = f"{self.suite.where}: {key}"
        try:
            yield
        except (DataError, BackboneError) as error:
            raise type(error)(f"{where}: {error}") from error
        except MaskpackError as error:
            raise OptionError(f"{where}: {error}") from error


def _tried(session: Session) -> dict[str, Any]:
    """The score of one picture: what is not opened before are a loss's own files, and packages."""
    return evaluate(
        session.network.baked(),
        session.task,
        Subset(session.task.dataset("train"), [0]),
        session.preprocess,
        session.augment,
    ).record()
