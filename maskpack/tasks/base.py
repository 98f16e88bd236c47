"""A task: its data, what its head's numbers mean, its loss and its metric."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from maskpack.errors import DataError
from maskpack.preprocess import Augment

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

SPLITS = ("train", "val", "test")


class LabelledImages(Protocol):
    """Pictures by index; `labels` gives every target at once, without opening a picture."""

    @property
    def labels(self) -> Sequence[int]: ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> tuple[Image, Any]:
        """RGB picture and target."""


class Task(ABC):
    """What is learnt. One that is not classification brings its own loss and score."""

    name: str
    metric: str
    augment: Augment = Augment()  # what suits the task's pictures; the user may override it

    @abstractmethod
    def outputs(self) -> int:
        """Width of the head."""

    @abstractmethod
    def splits(self) -> tuple[str, ...]:
        """Which of train, val, test exist, in this order."""

    @abstractmethod
    def dataset(self, split: str) -> LabelledImages:
        """The pictures of a split; DataError where the task has no such split."""

    @abstractmethod
    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        """Mean loss of a batch, a scalar. output: (batch, outputs)."""

    @abstractmethod
    def score(self, output: Tensor, target: Tensor) -> Tensor:
        """Each sample's share of the metric, float32 (batch,); the metric is their mean."""

    @abstractmethod
    def describe(self) -> dict[str, object]:
        """What a pack's header keeps; JSON types only."""


class Classification(Task):
    """One of several classes; cross entropy and accuracy.

    Raises DataError for a split without pictures, a label that names no class, and a class
    that only val or test has: its row of the head could never be learnt.
    """

    metric = "accuracy"

    def __init__(
        self,
        name: str,
        classes: Sequence[str],
        datasets: Mapping[str, LabelledImages],
        augment: Augment | None = None,
    ) -> None:
        self.name = name
        self.classes: tuple[str, ...] = tuple(classes)
        self.augment = Augment() if augment is None else augment
        self._datasets = {split: datasets[split] for split in SPLITS if split in datasets}
        self._check()

    def _check(self) -> None:
        where = f"task {self.name!r}"
        if "train" not in self._datasets:
            found = ", ".join(self._datasets) or "nothing"
            raise DataError(f"{where}: no train split, found {found}")
        if len(self.classes) < 2:
            found = ", ".join(map(repr, self.classes)) or "none"
            raise DataError(f"{where}: needs two classes or more, found {found}")
        learnt = set(self._datasets["train"].labels)
        for split, data in self._datasets.items():
            labels = set(data.labels)
            if not labels:
                raise DataError(f"{where}: the {split} split has no pictures")
            if min(labels) < 0 or max(labels) >= len(self.classes):
                wrong = next(x for x in sorted(labels) if not 0 <= x < len(self.classes))
                raise DataError(
                    f"{where}: label {wrong} in {split}, but there are {len(self.classes)} "
                    f"classes, counted from 0"
                )
            if labels - learnt:
                only = self.classes[min(labels - learnt)]
                raise DataError(f"{where}: class {only!r} is in {split} but not in train")

    def outputs(self) -> int:
        return len(self.classes)

    def splits(self) -> tuple[str, ...]:
        return tuple(self._datasets)

    def dataset(self, split: str) -> LabelledImages:
        try:
            return self._datasets[split]
        except KeyError:
            found = ", ".join(self._datasets)
            raise DataError(f"task {self.name!r} has no {split} split, only {found}") from None

    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        from torch.nn.functional import cross_entropy

        return cross_entropy(output, target)

    def score(self, output: Tensor, target: Tensor) -> Tensor:
        return (output.argmax(dim=1) == target).float()

    def describe(self) -> dict[str, object]:
        return {
            "name": self.name,
            "kind": "classification",
            "metric": self.metric,
            "classes": list(self.classes),
        }
