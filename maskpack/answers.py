"""What a network answered to each picture of a test split, kept beside its score. No torch."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from maskpack.bits import Bools
from maskpack.errors import RunError
from maskpack.files import write_text

if TYPE_CHECKING:
    from torch import Tensor

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


@dataclass
class Marking:
    """Takes answers batch by batch, as `evaluate` hands them to its `watch`."""

    predicted: list[int] = field(default_factory=list)
    target: list[int] = field(default_factory=list)

    def __call__(self, output: Tensor, target: Tensor) -> None:
        """output: (batch, classes); target: (batch,)."""
        self.predicted += output.argmax(dim=1).tolist()
        self.target += target.tolist()

    def answers(self) -> Answers:
        return Answers(tuple(self.predicted), tuple(self.target))


def write_answers(path: Path, answers: Answers) -> None:
    """Write answers as JSON: {"predicted": [3, 0, ...], "target": [3, 1, ...]}."""
    kept = {"predicted": answers.predicted, "target": answers.target}
    write_text(path, json.dumps(kept, separators=(",", ":")) + "\n")


def read_answers(path: Path) -> Answers | None:
    """Inverse of `write_answers`; None where there is no such file.

    Raises:
        RunError: damaged.
    """
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise RunError(f"{path}: cannot be read: {error}") from None
    about = kept if isinstance(kept, dict) else {}
    predicted, target = _classes(about.get("predicted")), _classes(about.get("target"))
    if predicted is None or target is None or len(predicted) != len(target):
        raise RunError(
            f"{path}: damaged: expected a class for each picture under predicted and target; "
            "remove it, and it is made again"
        )
    return Answers(predicted, target)


def _classes(value: Any) -> tuple[int, ...] | None:
    fits = isinstance(value, list) and all(type(item) is int for item in value)
    return tuple(value) if fits else None
