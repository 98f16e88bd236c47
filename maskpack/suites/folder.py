"""What stands in a suite's folder, and whether a suite may go on in it. No torch.

suite.toml            the suite's file, as it was
runs/TASK/METHOD/seedN/   a run each
METHOD.safetensors    the tasks of a method that share a backbone (METHOD-seedN for other seeds)
METHOD-narrow1.safetensors  those that a sequence learnt before its network grew, and so on
base.safetensors      the base, which those packs name as their backbone
measured.json         sizes, and scores measured again
tables.json, tables.md, tables.csv
lock                  held while a process works here
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from maskpack.common.errors import RunError
from maskpack.common.files import write_text
from maskpack.suites.definition import Suite
from maskpack.suites.plan import Cell
from maskpack.suites.read import parse_suite

MEASURED = "measured.json"
WORDS = ("title", "about", "paper", "published", "score", "seeds")  # keys that change no training
TASK_WORDS = ("metric", "source")


class SuiteFolder:
    """The folder of one suite."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    @property
    def kept(self) -> Path:
        return self.path / "suite.toml"

    def check(self, suite: Suite) -> None:
        """Raise RunError where the folder holds another suite, or one with other options.

        Tasks may have come behind those that were there, and methods and seeds.
        """
        if not self.kept.is_file():
            if (self.path / "runs").exists() or (self.path / "options.json").exists():
                raise RunError(f"{self.path} holds runs but no suite; choose another with -o")
            return
        before = parse_suite(self.kept.read_text(encoding="utf-8"), str(self.kept))
        change = _change(before, suite)
        if change:
            raise RunError(
                f"{self.path} holds a suite {change}; choose another folder with -o, or go on "
                f"with the one it holds: {self.kept}"
            )

    def keep(self, suite: Suite) -> None:
        """Write down the suite that is trained here."""
        write_text(self.kept, suite.text)

    def run(self, cell: Cell) -> Path:
        return self.path / cell.folder

    def pack(self, label: str, seed: int, first: int) -> Path:
        """The file of a method's tasks; that of the first seed has the plain name."""
        return self.path / f"{label}{f'-seed{seed}' if seed != first else ''}.safetensors"

    def narrow_packs(self, label: str, seed: int, first: int) -> Iterator[Path]:
        """The files of those tasks that a sequence learnt before its network grew, in order."""
        path = self.pack(label, seed, first)
        for number in itertools.count(1):
            narrow = path.with_name(f"{path.stem}-narrow{number}{path.suffix}")
            if not narrow.is_file():
                return
            yield narrow

    def result(self, cell: Cell) -> dict[str, Any] | None:
        """The test score of a finished cell, by metric; None where it is not finished.

        Raises:
            RunError: its result.json is damaged.
        """
        found = self.read(cell.folder / "result.json")
        if found is None:
            return None
        test = found.get("test")
        if not isinstance(test, dict):
            raise RunError(f"{self.run(cell) / 'result.json'}: damaged: it has no test score")
        return test

    def metric(self, cell: Cell) -> str | None:
        """The task's own metric, as a finished cell's result tells it."""
        found = self.read(cell.folder / "result.json") or {}
        others = [name for name in found.get("test", {}) if name not in ("loss", "count")]
        return found.get("metric") or (others[0] if len(others) == 1 else None)

    def seconds(self, cell: Cell) -> float:
        """Seconds of training and validation so far."""
        path = self.run(cell) / "timing.jsonl"
        lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
        return sum(_seconds(line) for line in lines)

    def state(self, cell: Cell) -> str:
        """How far a cell is: finished, begun or to do."""
        if self.result(cell) is not None:
            return "finished"
        begun = (self.run(cell) / "last.safetensors", self.run(cell) / "narrow")
        return "begun" if any(path.exists() for path in begun) else "to do"

    def read(self, name: str | Path) -> dict[str, Any] | None:
        """A JSON object of the folder; None where there is no such file.

        Raises:
            RunError: damaged.
        """
        path = self.path / name
        try:
            value = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, RecursionError) as error:
            raise RunError(
                f"{path}: cannot be read: {error}; remove it: the suite's command writes it again"
            ) from None
        if not isinstance(value, dict):
            raise RunError(f"{path}: {type(value).__name__}, expected a JSON object")
        return value

    def write(self, name: str, value: Mapping[str, Any]) -> None:
        write_text(self.path / name, json.dumps(value, indent=2) + "\n")


def _seconds(line: str) -> float:
    try:
        return float(json.loads(line)["seconds"])
    except (ValueError, KeyError, TypeError):  # half a line, of a killed process
        return 0.0


def _change(before: Suite, now: Suite) -> str:
    """What of a suite is not as it was, in words; empty where all goes on."""
    if before.base and now.base and before.base.task != now.base.task:
        return f"whose first task is {before.base.task}, now {now.base.task}"
    was, is_ = dict(_flat(before.raw)), dict(_flat(now.raw))
    for key in [*was, *(key for key in is_ if key not in was)]:
        if _new(key, before) or was.get(key) == is_.get(key):
            continue
        name = ".".join(key)
        if key not in is_:
            return f"with {name} = {was[key]!r}, which {now.where} has not"
        return f"with {name} = {was.get(key)!r}, now {is_[key]!r}"
    for table in ("methods", "tasks"):
        for name in before.raw[table]:
            if name not in now.raw[table]:
                return f"with {table}.{name}, which {now.where} has not"
    order = [name for name in now.tasks if name in before.tasks]
    if any(entry.sequence for entry in before.methods.values()) and (
        list(now.tasks)[: len(before.tasks)] != list(before.tasks)
    ):
        return f"whose sequence is {', '.join(before.tasks)}, now {', '.join(now.tasks)}"
    assert sorted(order) == sorted(before.tasks)
    return ""


def _flat(values: Mapping[str, Any], above: tuple[str, ...] = ()) -> Iterator[tuple[Any, Any]]:
    """Every value that decides a training, by the path of its keys."""
    for key, value in values.items():
        path = (*above, key)
        if len(path) == 1 and key in WORDS:
            continue
        if len(path) == 3 and path[0] == "tasks" and key in TASK_WORDS:
            continue
        if isinstance(value, dict):
            yield from _flat(value, path)
        else:
            yield path, value


def _new(key: tuple[str, ...], before: Suite) -> bool:
    """Whether a key belongs to a task or method that was not there before."""
    if key[0] in ("methods", "tasks") and key[1] not in before.raw[key[0]]:
        return True
    at_method = key[0] == "tasks" and key[2] == "methods"
    return at_method and key[3] not in before.methods
