"""A task: its data, what its head's numbers mean, its loss and its metric."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Protocol

from maskpack.common.errors import DataError
from maskpack.common.preprocess import Augment, Preprocess
from maskpack.tasks.transforms import eval_transform, train_transform

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


Transform = Callable[["Image", Any], "tuple[Tensor, Any]"]


class Meter(Protocol):
    """Metrics of a split, batch by batch."""

    def update(self, output: Tensor, target: Any, loss: float) -> None:
        """Take a batch: what the network gave, what it should have, the batch's mean loss."""

    def compute(self) -> dict[str, float]:
        """Every metric by name, the task's own first."""


class Task(ABC):
    """What is learnt: pictures and targets, how they go in, the loss, the metric.

    `augment` is what suits the task's pictures, and `preprocess` what of Preprocess they want
    otherwise than the backbone does, by field; the user may override both. With `adversarial` a
    critic learns beside the network, and sees `judged` of what it gives and `real` of the targets.
    """

    name: str
    metric: str
    lower_is_better: bool = False
    augment: Augment = Augment()
    preprocess: Mapping[str, Any] = MappingProxyType({})
    adversarial: bool = False

    def __init__(
        self,
        name: str,
        datasets: Mapping[str, LabelledImages],
        augment: Augment | None = None,
    ) -> None:
        self.name = name
        if augment is not None:
            self.augment = augment
        self._datasets = {split: datasets[split] for split in SPLITS if split in datasets}

    @abstractmethod
    def outputs(self) -> int:
        """Width of the head."""

    def output_shape(self, size: int) -> tuple[int, ...] | None:
        """What a network is to give for one picture of size x size; None where that is open."""
        return None

    def splits(self) -> tuple[str, ...]:
        """Which of train, val, test exist, in this order."""
        return tuple(self._datasets)

    def dataset(self, split: str) -> LabelledImages:
        """The pictures of a split; DataError where the task has no such split."""
        try:
            return self._datasets[split]
        except KeyError:
            found = ", ".join(self._datasets)
            raise DataError(f"task {self.name!r} has no {split} split, only {found}") from None

    @abstractmethod
    def transform(self, preprocess: Preprocess, augment: Augment, training: bool) -> Transform:
        """From a sample as the data set has it to what the network and the loss take.

        Of `augment` only the crop mode is used when not `training`. What is random is drawn with
        torch's global generator. Can be sent to another process.
        """

    @abstractmethod
    def loss(self, output: Tensor, target: Any) -> Tensor:
        """Mean loss of a batch, a scalar. output: (batch, outputs) or (batch, outputs, h, w)."""

    @abstractmethod
    def meter(self) -> Meter:
        """Counts from nothing."""

    def score(self, output: Tensor, target: Any) -> Tensor | None:
        """Each sample's share of the metric, float32 (batch,); None where it has no such."""
        return None

    def judged(self, output: Tensor, target: Any) -> Tensor:
        """What a critic sees of an output, (batch, channels, h, w); by default all of it."""
        return output

    def real(self, target: Any) -> Tensor:
        """What a critic sees of a target, as `judged`."""
        seen: Tensor = target
        return seen

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
        super().__init__(name, datasets, augment)
        self.classes: tuple[str, ...] = tuple(classes)
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

    def output_shape(self, size: int) -> tuple[int, ...]:
        return (self.outputs(),)

    def transform(self, preprocess: Preprocess, augment: Augment, training: bool) -> Transform:
        made = train_transform if training else eval_transform
        return PictureOnly(made(preprocess, augment))

    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        from torch.nn.functional import cross_entropy

        return cross_entropy(output, target)

    def found(self, output: Tensor, target: Tensor) -> Tensor:
        """The class that each output stands for, (batch,).

        Of a target only which task it is of may count, where there are several.
        """
        return output.argmax(dim=1)

    def score(self, output: Tensor, target: Tensor) -> Tensor:
        return (self.found(output, target) == target).float()

    def meter(self) -> Meter:
        return Accuracy(self.score)

    def describe(self) -> dict[str, object]:
        return {
            "name": self.name,
            "kind": "classification",
            "metric": self.metric,
            "classes": list(self.classes),
        }


@dataclass(frozen=True)
class PictureOnly:
    """A transform that leaves the target alone."""

    picture: Callable[[Image], Tensor]

    def __call__(self, picture: Image, target: Any) -> tuple[Tensor, Any]:
        return self.picture(picture), target


class Accuracy:
    """Share of the samples whose class was found."""

    def __init__(self, score: Callable[[Tensor, Tensor], Tensor]) -> None:
        self._score = score
        self._correct = 0.0
        self._count = 0

    def update(self, output: Tensor, target: Tensor, loss: float) -> None:
        self._correct += float(self._score(output, target).sum())
        self._count += len(target)

    def compute(self) -> dict[str, float]:
        return {"accuracy": self._correct / max(self._count, 1)}
