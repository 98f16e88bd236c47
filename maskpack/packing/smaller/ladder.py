"""Ways to store one task's numbers, from as they are to ever fewer bytes, each measured once."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

from maskpack.packing.smaller.kinds import KINDS, SIGNED, Storage, rank_and_kind

WORTH_A_LOOK = 1 / 1000  # of a task's bytes: what saves less is not measured
FAR_GONE = (2.0, 1.0)  # times the drop allowed, plus points: beyond, nothing is looked for


@dataclass(frozen=True)
class Row:
    """One way to store a task, measured."""

    storage: Storage
    bytes: int  # of all the task's streams; the file's header is not in it
    metric: float
    loss: float

    @property
    def accuracy(self) -> tuple[float, float]:
        """What is more accurate compares larger."""
        return self.metric, -self.loss


class Subject(Protocol):
    """A task that can be measured."""

    @property
    def parts(self) -> tuple[str, ...]:
        """The parts of `Storage` that the task has."""

    @property
    def head_rank(self) -> int:
        """The smaller side of its head's weight."""

    def size(self, storage: Storage) -> int | None:
        """Bytes of its streams; None where its values cannot be stored so."""

    def score(self, storage: Storage) -> tuple[float, float]:
        """Metric and loss on the validation split."""


class Ladder:
    """A greedy path from full precision down; `rows` is all that was measured on the way.

    At every step each part is tried in the next coarser kind, and the one kept that loses least
    validation loss a byte saved. `fixed` parts stay as they are given. With `max_drop`, in points
    (percent) of the metric, other rows are not to be chosen, and the path ends where it is far
    beyond. `watch` is called with every row measured.
    """

    def __init__(
        self,
        subject: Subject,
        fixed: Mapping[str, str] | None = None,
        max_drop: float | None = None,
        watch: Callable[[Row], None] = lambda row: None,
    ) -> None:
        self.subject = subject
        self.fixed = {part: kind for part, kind in (fixed or {}).items() if part in subject.parts}
        self.max_drop = max_drop
        self._watch = watch
        self._measured: dict[Storage, Row] = {}
        self.whole = self._measure(Storage())  # what drops are counted from
        self.path = [self._measure(Storage(**self.fixed))]

    @property
    def rows(self) -> list[Row]:
        """Everything measured, the largest first."""
        return sorted(self._measured.values(), key=lambda row: (-row.bytes, row.loss))

    def drop(self, row: Row) -> float:
        """Points of the metric that are lost."""
        return 100 * (self.whole.metric - row.metric)

    def choices(self) -> list[Row]:
        """The rows that may be chosen."""
        return [row for row in self.rows if self._may(row)]

    def extend(self) -> bool:
        """Measure one more step of the path; False where it ends."""
        here = self.path[-1]
        if self.max_drop is not None:
            times, more = FAR_GONE
            if self.drop(here) > times * self.max_drop + more:
                return False
        found = [self._measure(storage) for storage in self._coarser(here)]
        if not found:
            return False

        def price(row: Row) -> tuple[float, int]:
            return (row.loss - here.loss) / (here.bytes - row.bytes), row.bytes

        self.path.append(min(found, key=price))
        return True

    def _may(self, row: Row) -> bool:
        fits = all(getattr(row.storage, part) == kind for part, kind in self.fixed.items())
        # 0.3 points are 3 of 1000 pictures: no rounding error is to say otherwise
        return fits and (self.max_drop is None or self.drop(row) <= self.max_drop + 1e-9)

    def _measure(self, storage: Storage) -> Row:
        if storage not in self._measured:
            size = self.subject.size(storage)
            assert size is not None, f"{storage} cannot be stored"
            metric, loss = self.subject.score(storage)
            # a network that a rounded weight broke may give NaN
            row = Row(storage, size, metric, loss if math.isfinite(loss) else math.inf)
            self._measured[storage] = row
            self._watch(row)
        return self._measured[storage]

    def _coarser(self, here: Row) -> list[Storage]:
        """What is tried next: float16 everywhere at once, then one part a step."""
        free = [part for part in self.subject.parts if part not in self.fixed]
        if len(self.path) == 1:
            # one measurement for all of them, so that every byte is worth it
            halves = {part: "fp16" for part in free if self._saves(here, {part: "fp16"}, 0)}
            if halves:
                return [dataclasses.replace(here.storage, **halves)]
        return [
            dataclasses.replace(here.storage, **{part: kind})
            for part in free
            for kind in self._next_kinds(here, part)
        ]

    def _next_kinds(self, here: Row, part: str) -> Iterator[str]:
        """The next coarser kind that saves bytes; of a head also a product of half the rank."""
        rank, kind = rank_and_kind(getattr(here.storage, part))
        kinds = KINDS[part]
        for coarser in kinds[kinds.index(kind) + 1 :]:
            name = _named(rank, coarser)
            if self._saves(here, {part: name}):
                yield name
                break
        if part == "head" and kind in SIGNED:
            half = (rank or self.subject.head_rank) // 2
            if half and self._saves(here, {part: _named(half, kind)}):
                yield _named(half, kind)

    def _saves(self, here: Row, change: Mapping[str, str], share: float = WORTH_A_LOOK) -> bool:
        size = self.subject.size(dataclasses.replace(here.storage, **change))
        return size is not None and here.bytes - size > share * here.bytes


def _named(rank: int, kind: str) -> str:
    if not rank:
        return kind
    return f"rank{rank}" if kind == "int8" else f"rank{rank}-{kind}"
