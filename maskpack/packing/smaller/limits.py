"""How small: sizes as people write them, and which measured rows to take."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from maskpack.common.errors import OptionError
from maskpack.packing.smaller.ladder import Ladder, Row

UNITS = {"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9}
UNITS |= {"kib": 2**10, "mib": 2**20, "gib": 2**30}
HEADER_SLACK = 512  # bytes by which two files' headers may differ beyond what their rows say


@dataclass(frozen=True)
class Limits:
    """What the chosen ways to store must keep to; None is no limit."""

    budget: int | None = None  # bytes of the whole file
    max_drop: float | None = None  # points (percent) of each task's validation metric

    def __post_init__(self) -> None:
        if self.budget is not None and self.budget < 1:
            raise OptionError(f"--budget {self.budget}: expected a size like 500KB")
        if self.max_drop is not None and not 0 <= self.max_drop <= 100:
            raise OptionError(f"--max-drop {self.max_drop:g}: expected points, 0 to 100")

    def __bool__(self) -> bool:
        return self.budget is not None or self.max_drop is not None


def parse_size(text: str) -> int:
    """500KB, 1.5MB, 38KiB or plain bytes -> bytes; KB is 1000, KiB 1024.

    Raises:
        OptionError: it is no size.
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*([a-z]*)\s*", text.lower(), re.ASCII)
    unit = UNITS.get(found[2]) if found else None
    if not found or unit is None or len(text) > 30:
        raise OptionError(
            f"--budget {text[:40]!r}: expected a size like 500KB, 1.5MB, 38KiB or 40000"
        )
    return int(float(found[1]) * unit)


def smallest(ladder: Ladder) -> Row:
    """The row with the fewest bytes that may be chosen; the whole path is measured for it."""
    while ladder.extend():
        pass
    return min(ladder.choices(), key=lambda row: (row.bytes, row.loss))


def within_budget(
    ladders: Mapping[str, Ladder], file_size: Callable[[Mapping[str, Row]], int], budget: int
) -> dict[str, Row]:
    """A row for every task, so that the file of all is at most `budget` bytes.

    From the most accurate rows, the step is taken that loses least of the metric (then of the
    loss) a byte saved, until the file fits; then whatever is more accurate and still fits. Paths
    are measured no further than they are asked for.

    Raises:
        OptionError: not even the smallest rows fit.
    """
    chosen = {name: max(ladder.choices(), key=_best) for name, ladder in ladders.items()}
    while (size := file_size(chosen)) > budget:
        steps: list[tuple[float, float, str, Row]] = []
        for name, ladder in ladders.items():
            here = chosen[name]
            while not (smaller := [r for r in ladder.choices() if r.bytes < here.bytes]):
                if not ladder.extend():
                    break
            steps += [(*_price(here, row), name, row) for row in smaller]
        if not steps:
            raise OptionError(
                f"--budget {budget:,} bytes: the smallest file is {size:,} bytes; "
                "raise the budget, allow a larger drop or leave tasks out"
            )
        *_, name, row = min(steps, key=lambda step: step[:3])
        chosen[name] = row
    while better := _better(ladders, chosen, file_size, budget):
        chosen |= better
    return chosen


def _best(row: Row) -> tuple[float, float, int]:
    return (*row.accuracy, -row.bytes)


def _price(here: Row, row: Row) -> tuple[float, float]:
    """Metric and loss lost a byte saved."""
    saved = here.bytes - row.bytes
    return (here.metric - row.metric) / saved, (row.loss - here.loss) / saved


def _better(
    ladders: Mapping[str, Ladder],
    chosen: Mapping[str, Row],
    file_size: Callable[[Mapping[str, Row]], int],
    budget: int,
) -> dict[str, Row]:
    """The one change that gains most and still fits; empty where there is none."""
    room = budget - file_size(chosen)
    gains: list[tuple[float, float, str, Row]] = []
    for name, ladder in ladders.items():
        here = chosen[name]
        for row in ladder.choices():
            more = row.bytes - here.bytes
            if row.accuracy > here.accuracy and more <= room + HEADER_SLACK:
                gain = row.metric - here.metric, here.loss - row.loss
                gains.append((*gain, name, row))
    for *_, name, row in sorted(gains, key=lambda gain: gain[:3], reverse=True):
        if file_size({**chosen, name: row}) <= budget:
            return {name: row}
    return {}
