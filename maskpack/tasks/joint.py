"""Several classification tasks learnt at once by one network: joint training.

Caruana 1997, "Multitask learning", Machine Learning 28: what networks that learn their tasks one
after another are measured against.
"""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from maskpack.common.errors import OptionError
from maskpack.common.preprocess import Augment, Preprocess
from maskpack.tasks.answers import Answers
from maskpack.tasks.base import Classification, LabelledImages, Task, Transform

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor


@dataclass(frozen=True)
class Part:
    """One of the tasks: its pictures, to learn from and to choose by, and how they are changed."""

    name: str
    task: Classification
    train: LabelledImages
    val: LabelledImages
    augment: Augment
    data: str | None = None  # the folder it was opened from


class Joint(Classification):
    """Tasks side by side: their heads' outputs one after another, every picture for its own task's.

    The metric is the mean of the tasks' accuracies; "accuracy/NAME" is each task's own.
    """

    def __init__(self, name: str, parts: Sequence[Part]) -> None:
        self.parts = tuple(parts)
        sizes = [part.task.outputs() for part in parts]
        self.starts = list(itertools.accumulate(sizes, initial=0))
        classes = [f"{part.name}/{label}" for part in parts for label in part.task.classes]
        splits: dict[str, LabelledImages] = {
            "train": Joined([part.train for part in parts], self.starts),
            "val": Joined([part.val for part in parts], self.starts),
        }
        if all("test" in part.task.splits() for part in parts):
            splits["test"] = Joined([part.task.dataset("test") for part in parts], self.starts)
        super().__init__(name, classes, splits)

    def rows_of(self, place: int) -> slice:
        """Which rows of the head are a task's."""
        return slice(self.starts[place], self.starts[place + 1])

    def transform(self, preprocess: Preprocess, augment: Augment, training: bool) -> Transform:
        """Each picture as its own task has it; `augment` is nobody's."""
        each = [part.task.transform(preprocess, part.augment, training) for part in self.parts]
        return OfPart(each, self.starts)

    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        return super().loss(self._own(output, target), target)

    def found(self, output: Tensor, target: Tensor) -> Tensor:
        """The class of the picture's own task: which task it belongs to is known."""
        return super().found(self._own(output, target), target)

    def _own(self, output: Tensor, target: Tensor) -> Tensor:
        """Outputs, (batch, classes), with those of tasks that are not a picture's own at -inf."""
        import torch

        ends = torch.tensor(self.starts[1:], device=output.device)
        classes = torch.arange(output.shape[1], device=output.device)
        of_class = torch.bucketize(classes, ends, right=True)
        mine = of_class[None, :] == of_class[target][:, None]
        return output.masked_fill(~mine, -torch.inf)

    def meter(self) -> ByTask:
        return ByTask(self)

    def apart(self, answers: Answers) -> dict[str, Answers]:
        """Answers to pictures of all tasks, by task, its classes counted from 0 again."""
        found: dict[str, Answers] = {}
        for place, part in enumerate(self.parts):
            start = self.starts[place]
            mine = [pair for pair in answers.pairs() if part_of(pair[1], self.starts) == place]
            predicted = tuple(label - start for label, _ in mine)
            found[part.name] = Answers(predicted, tuple(label - start for _, label in mine))
        return found

    def describe(self) -> dict[str, object]:
        names = [part.name for part in self.parts]
        return {**super().describe(), "tasks": names}


class ByTask:
    """Accuracy of each task, and their mean."""

    def __init__(self, joint: Joint) -> None:
        self._joint = joint
        self._correct = [0.0] * len(joint.parts)
        self._count = [0] * len(joint.parts)

    def update(self, output: Tensor, target: Tensor, loss: float) -> None:
        right = self._joint.score(output, target).tolist()
        for label, share in zip(target.tolist(), right, strict=True):
            place = part_of(label, self._joint.starts)
            self._correct[place] += share
            self._count[place] += 1

    def compute(self) -> dict[str, float]:
        pairs = zip(self._correct, self._count, strict=True)
        each = [correct / max(count, 1) for correct, count in pairs]
        names = (f"accuracy/{part.name}" for part in self._joint.parts)
        return {"accuracy": sum(each) / len(each), **dict(zip(names, each, strict=True))}


class Joined:
    """Pictures of several tasks, one task after another, with labels that tell the tasks apart."""

    def __init__(self, datasets: Sequence[LabelledImages], starts: Sequence[int]) -> None:
        self._datasets = tuple(datasets)
        self._starts = tuple(starts)
        self._ends = list(itertools.accumulate(map(len, datasets)))
        pairs = zip(datasets, starts, strict=False)
        self.labels = [start + label for data, start in pairs for label in data.labels]

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Image, int]:
        place = bisect.bisect_right(self._ends, index)
        first = self._ends[place - 1] if place else 0
        picture, label = self._datasets[place][index - first]
        return picture, self._starts[place] + label


@dataclass(frozen=True)
class OfPart:
    """The transform of each picture's own task."""

    each: Sequence[Transform]
    starts: Sequence[int]

    def __call__(self, picture: Image, target: Any) -> tuple[Tensor, Any]:
        return self.each[part_of(target, self.starts)](picture, target)


def part_of(label: int, starts: Sequence[int]) -> int:
    """The place of the task that a joint label belongs to."""
    return bisect.bisect_right(starts, label) - 1


def joint_task(
    name: str, tasks: Mapping[str, tuple[Task, Augment, str | None]], val_fraction: float
) -> Joint:
    """Tasks by name, each with how its pictures are changed and its folder, as one.

    Validation pictures are each task's own, or a share of its training pictures.

    Raises:
        OptionError: one of them is no classification.
    """
    from maskpack.tasks.splits import train_and_val

    parts = []
    for label, (task, augment, data) in tasks.items():
        if not isinstance(task, Classification):
            raise OptionError(f"{label} is no classification; joint training takes no other")
        parts.append(Part(label, task, *train_and_val(task, val_fraction), augment, data))
    return Joint(name, parts)
