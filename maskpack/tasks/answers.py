"""What a network answered to each picture of a test split, kept beside its score. No torch."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from maskpack.common.errors import RunError
from maskpack.common.files import write_text
from maskpack.packs.bits import Bools

FILE = "answers.json"  # in a run's folder


@dataclass(frozen=True)
class Answers:
    """The class that was found and the right one, by picture, in the data set's order."""

    predicted: tuple[int, ...]
    target: tuple[int, ...]

    @property
    def correct(self) -> Bools:
        """Whether each picture was answered rightly, (pictures,)."""
        return np.equal(self.predicted, self.target)

    def pairs(self) -> list[tuple[int, int]]:
        """What was found in each picture, and what is in it."""
        return list(zip(self.predicted, self.target, strict=True))


@dataclass
class Marking:
    """Takes answers batch by batch, as `evaluate` hands them to its `watch`.

    `found` gives the class that each output stands for, and is told the right one.
    """

    found: Callable[[Any, Any], Any]
    predicted: list[int] = field(default_factory=list)
    target: list[int] = field(default_factory=list)

    def __call__(self, output: Any, target: Any) -> None:
        """Tensors: output (batch, classes), target (batch,)."""
        self.predicted += self.found(output, target).tolist()
        self.target += target.tolist()

    def answers(self) -> Answers:
        return Answers(tuple(self.predicted), tuple(self.target))


def write_answers(path: Path, answers: Mapping[str, Answers]) -> None:
    """Write answers by task as JSON: {"birds": {"predicted": [3, 0, ...], "target": [3, 1, ...]}}.

    A network of several tasks has several.
    """
    kept = {name: {"predicted": a.predicted, "target": a.target} for name, a in answers.items()}
    write_text(path, json.dumps(kept, separators=(",", ":")) + "\n")


def read_answers(path: Path) -> dict[str, Answers]:
    """Inverse of `write_answers`; empty where there is no such file.

    Raises:
        RunError: damaged.
    """
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        raise RunError(f"{path}: cannot be read: {error}") from None
    found: dict[str, Answers] = {}
    for name, about in kept.items() if isinstance(kept, dict) else [("", kept)]:
        answers = about if isinstance(about, dict) else {}
        predicted, target = (_classes(answers.get(key)) for key in ("predicted", "target"))
        if predicted is None or target is None or len(predicted) != len(target):
            raise RunError(
                f"{path}: damaged: expected by task a class for each picture under predicted and "
                "target; remove it, and the suite makes it again"
            )
        found[name] = Answers(predicted, target)
    return found


def _classes(value: Any) -> tuple[int, ...] | None:
    fits = isinstance(value, list) and all(type(item) is int for item in value)
    return tuple(value) if fits else None
