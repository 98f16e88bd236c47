"""Finished cells -> packs, their sizes, and earlier tasks scored again after later ones."""

from __future__ import annotations

import dataclasses
import itertools
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

from torch import nn

from maskpack.backbones import RUN_PREFIX
from maskpack.networks.serialize import unpack_task
from maskpack.packs import file as packfile
from maskpack.packs.contents import Pack, PackedTask
from maskpack.reports.describe import task_bytes
from maskpack.runs.folder import Run
from maskpack.runs.open import merge, pack_run, recoded
from maskpack.runs.sequence import pack_sequence
from maskpack.suites.answer import answer, has_answers, score_again
from maskpack.suites.definition import BASE
from maskpack.suites.folder import MEASURED
from maskpack.suites.open import Opener
from maskpack.suites.plan import Cell, base_cell, every_cell
from maskpack.suites.tables.paper_sizes import network_parts

Row = dict[str, Any]
BASE_FILE = f"{BASE}.safetensors"


@dataclass
class Measurer:
    """Measures what has been trained in a suite's folder. `seeds` are those found there."""

    opener: Opener
    seeds: Sequence[int]
    _scores: dict[str, Row] = field(default_factory=dict, repr=False)
    _whole: dict[str, bool] = field(default_factory=dict, repr=False)
    _tested: dict[str, str] = field(default_factory=dict, repr=False)  # the split, by task

    def __post_init__(self) -> None:
        suite, folder = self.opener.suite, self.opener.folder
        self.base = base_cell(suite)
        self.cells = {
            (cell.task, cell.label, cell.seed): cell
            for cell in every_cell(suite, self.seeds)
            if folder.result(cell) is not None
        }

    def pending(self) -> list[Cell]:
        """Cells whose task is still to be scored again."""
        unanswered = [c for c in self.cells.values() if not has_answers(self.opener, c, c)]
        return unanswered + [cell for cell, _, before in self._again() if before is None]

    def measure(self, tick: Callable[[], None]) -> None:
        """Write the packs, and sizes and scores into MEASURED; `tick` as in training."""
        folder = self.opener.folder
        metrics: dict[str, str] = {}
        sizes = self._packs(metrics, tick)
        for cell in self.cells.values():
            if not has_answers(self.opener, cell, cell):
                tick()
                answer(self.opener, cell, tick)
        rows: list[Row] = []
        for cell, after, before in self._again():
            if before is None:
                tick()
                results = [folder.result(cell), folder.result(after)]
                about = {"task": cell.task, "after": after.task, "method": after.label}
                score = self._score_again(cell, after, tick)
                before = {**about, "seed": after.seed, "values": score, "of": results}
                # as soon as it is known: scoring may take longer than training did
                kept = folder.read(MEASURED) or {}
                folder.write(MEASURED, {**kept, "again": [*kept.get("again", []), before]})
            rows.append(before)
        found = {"metrics": metrics, "tested on": self._tested, "sizes": sizes}
        folder.write(MEASURED, {**found, "again": rows})

    # ---- packs and sizes

    def _packs(self, metrics: dict[str, str], tick: Callable[[], None]) -> Row:
        """Write a pack for each method whose tasks share a backbone; sizes by method and seed."""
        suite, folder = self.opener.suite, self.opener.folder
        base_bytes = 0
        if self.base is not None and self.base.task in {cell.task for cell in self.cells.values()}:
            pack = pack_run(Run(folder.run(self.base)))
            packfile.write(folder.path / BASE_FILE, pack)
            base_bytes = (folder.path / BASE_FILE).stat().st_size
            metrics[self.base.task] = self._metric(self.base.task, pack.task())
        sizes: Row = {}
        for label, entry in suite.methods.items():
            for seed in self.seeds:
                cells = [c for c in self.cells.values() if (c.label, c.seed) == (label, seed)]
                if not cells:
                    continue
                found: Row = {"base": base_bytes, "sequence": entry.sequence}
                sizes.setdefault(label, {})[str(seed)] = found
                found["tasks"] = self._pack(label, seed, cells, metrics, found, tick)
        return sizes

    def _pack(
        self,
        label: str,
        seed: int,
        cells: Sequence[Cell],
        metrics: dict[str, str],
        found: Row,
        tick: Callable[[], None],
    ) -> Row:
        folder = self.opener.folder
        path = folder.pack(label, seed, self.opener.suite.seeds[0])
        networks = self._networks(cells)
        if networks:
            return self._write_networks(path, networks, metrics, found)
        shared: list[Pack] = []
        tasks: Row = {}
        for cell in cells:
            tick()
            pack = pack_run(Run(folder.run(cell)))
            metrics[cell.task] = self._metric(cell.task, pack.task())
            found["whole"] = _is_whole(pack)
            if not found["base"]:
                found["base"] = pack.backbone.size_bytes + pack.backbone.head_bytes
            raw, coded = (_payload(recoded(pack, coded=on)) for on in (False, True))
            tasks[cell.task] = {"raw": raw, "coded": coded}
            if found["whole"]:
                tasks[cell.task] |= network_parts(pack)
            if not found["whole"] and not found["sequence"]:
                shared.append(pack)
        if shared:
            if self.base is not None:
                name = f"{RUN_PREFIX}{folder.path / BASE_FILE}"
                about = dataclasses.replace(shared[0].backbone, name=name)
                shared = [dataclasses.replace(pack, backbone=about) for pack in shared]
            packfile.write(path, merge([recoded(pack, coded=True) for pack in shared]))
            _add_header(tasks, path.stat().st_size)
        return tasks

    def _networks(self, cells: Sequence[Cell]) -> list[Pack]:
        """The networks that a sequence is left with: one, and a wider one each time it grew."""
        networks: list[Pack] = []
        for cell in cells:
            pack = self._sequence(cell)
            if pack is None:
                continue
            if networks and not Run(self.opener.folder.run(cell)).narrower():
                networks.pop()  # the later one answers all of its tasks
            networks.append(pack)
        return networks

    def _write_networks(
        self, path: Path, networks: Sequence[Pack], metrics: dict[str, str], found: Row
    ) -> Row:
        """Write a pack for each, the last one to `path`; sizes are those of all together."""
        tasks: Row = {}
        shared = 0
        for number, pack in enumerate(networks, 1):
            for name, task in pack.tasks.items():
                metrics[name] = self._metric(name, task)
            is_last = number == len(networks)
            narrow = path.with_name(f"{path.stem}-narrow{number}{path.suffix}")
            tasks |= _write_shared(path if is_last else narrow, pack, found)
            shared += found["base"]
        found["base"] = shared
        return tasks

    def _metric(self, name: str, task: PackedTask) -> str:
        about = task.info["task"]
        self._tested[name] = str(about.get("tested on", "test"))
        return str(about["metric"])

    def _sequence(self, cell: Cell) -> Pack | None:
        """A run that answers several tasks, as the pack of all of them."""
        run = Run(self.opener.folder.run(cell))
        return pack_sequence(run, pack_run(run).task())

    # ---- after later tasks

    def _again(self) -> Iterator[tuple[Cell, Cell, Row | None]]:
        """Cell, a later one, and what is known of that task after it.

        Of a sequence every later one; of tasks that share a backbone the next alone, as nothing
        can have changed.
        """
        suite, folder = self.opener.suite, self.opener.folder
        kept = folder.read(MEASURED) or {}
        known = {
            (row["task"], row["after"], row["method"], row["seed"]): row
            for row in kept.get("again", [])
        }
        order = list(suite.tasks)
        for label, entry in suite.methods.items():
            for seed in self.seeds:
                every, next_ones = itertools.combinations(order, 2), itertools.pairwise(order)
                for task, after in every if entry.sequence else next_ones:
                    is_base = self.base is not None and task == self.base.task
                    own = self.cells.get((task, label, seed))
                    cell = self.base if is_base and not entry.with_base else own
                    later = self.cells.get((after, label, seed))
                    if cell is None or later is None or folder.result(cell) in (None, {}):
                        continue
                    if not entry.sequence and self._is_whole(later):
                        continue  # a network each: nothing is shared that could change
                    row = known.get((task, after, label, seed))
                    of = [folder.result(cell), folder.result(later)]
                    is_known = row is not None and row["of"] == of
                    if is_known and entry.sequence:
                        is_known = has_answers(self.opener, later, cell)
                    yield cell, later, row if is_known else None

    def _is_whole(self, cell: Cell) -> bool:
        if cell.label not in self._whole:  # tells a method, whatever the task
            self._whole[cell.label] = _is_whole(pack_run(Run(self.opener.folder.run(cell))))
        return self._whole[cell.label]

    def _score_again(self, cell: Cell, after: Cell, tick: Callable[[], None]) -> Row:
        opener, folder = self.opener, self.opener.folder
        if opener.suite.methods[after.label].sequence:
            holder, kept = self._holder(cell, after)
            if kept is not None and cell.task in kept.tasks:
                task = kept.tasks[cell.task]
            else:  # the network as the later task left it, with the earlier one's own head
                earlier = pack_run(Run(folder.run(cell))).task()
                later = pack_run(Run(folder.run(holder))).task()
                own = {**later.streams, "head": earlier.streams["head"]}
                task = dataclasses.replace(later, name=cell.task, info=earlier.info, streams=own)
            return self._score(cell, task, unpack_task(task, opener.under(holder)), tick, after)
        if cell == self.base:  # the same network for every method
            task = packfile.read(folder.path / BASE_FILE).task()
            if BASE not in self._scores:
                network = unpack_task(task, opener.start(cell))
                self._scores[BASE] = self._score(cell, task, network, tick)
            return self._scores[BASE]
        path = folder.pack(after.label, after.seed, opener.suite.seeds[0])
        task = packfile.read(path).task(cell.task)
        return self._score(cell, task, unpack_task(task, opener.start(cell)), tick)

    def _holder(self, cell: Cell, after: Cell) -> tuple[Cell, Pack | None]:
        """The last network that a task can be answered with, and the pack of its sequence.

        That is the later cell's, or one before it had to grow.
        """
        holder, kept = after, self._sequence(after)
        while kept is not None and cell.task not in kept.tasks:
            before = (holder, *holder.upwards())
            grown = next((c for c in before if Run(self.opener.folder.run(c)).narrower()), None)
            if grown is None or grown.start is None:
                break
            holder, kept = grown.start, self._sequence(grown.start)
        return holder, kept

    def _score(
        self,
        cell: Cell,
        packed: PackedTask,
        network: nn.Module,
        tick: Callable[[], None],
        keeping: Cell | None = None,
    ) -> Row:
        return score_again(self.opener, cell, packed, network, keeping, tick).record()


def _write_shared(path: Path, pack: Pack, found: Row) -> Row:
    """Write tasks that share weights; `found` gets the bytes of those, tasks get their own's."""
    tasks: Row = {name: {} for name in pack.tasks}
    for kind, on in (("raw", False), ("coded", True)):
        kept = recoded(pack, coded=on)
        streams = {
            name: {sha256(s.data.data).digest(): s.data.nbytes for s in task.streams.values()}
            for name, task in kept.tasks.items()
        }
        users = Counter(key for own in streams.values() for key in own)
        for name, own in streams.items():
            tasks[name][kind] = sum(size for key, size in own.items() if users[key] == 1)
        sizes = {key: size for own in streams.values() for key, size in own.items()}
        shared = sum(size for key, size in sizes.items() if users[key] > 1)
    packfile.write(path, kept)
    _add_header(tasks, path.stat().st_size - shared)
    found |= {"base": shared, "whole": False}
    return tasks


def _add_header(tasks: Row, size: int) -> None:
    """Share out among the tasks what a file of `size` bytes has beyond their coded streams."""
    header = size - sum(own["coded"] for own in tasks.values())
    for place, own in enumerate(tasks.values()):
        share = header // len(tasks) + (place < header % len(tasks))
        own["raw"] += share
        own["coded"] += share


def _payload(pack: Pack) -> int:
    return sum(task_bytes(pack.task()).values())


def _is_whole(pack: Pack) -> bool:
    """Whether a run keeps every weight of the network, and so needs no backbone."""
    parts = task_bytes(pack.task())
    return parts["weights"] + parts["norms"] >= pack.backbone.size_bytes
