"""Which pictures train and which choose the best epoch."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from maskpack.common.errors import OptionError

if TYPE_CHECKING:
    from PIL.Image import Image

    from maskpack.tasks.base import LabelledImages, Task

SPLIT_SEED = 0  # the carved validation split is the task's, not the run's: seeds stay comparable
VAL_FRACTION = 0.1  # of the training pictures, where nobody says otherwise

# Names that people give the splits, in folders and files
SPLIT_OF = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
    "t10k": "test",
}


def carve_validation(
    labels: Sequence[int], fraction: float, seed: int = 0
) -> tuple[list[int], list[int]]:
    """(train indices, val indices), both ascending; every class gives the same share.

    A class of two or more pictures gives at least one to each side, a class of one keeps it
    for training. The choice hangs on the labels' order, fraction and seed alone, on any
    machine: pass the task's own seed, not the run's, so that runs can be compared.
    """
    if not 0 <= fraction < 1:
        raise OptionError(f"validation fraction is {fraction!r}; expected 0 <= fraction < 1")
    if fraction == 0:
        return list(range(len(labels))), []
    members: dict[int, list[int]] = defaultdict(list)
    for index, label in enumerate(labels):
        members[label].append(index)
    val: list[int] = []
    for indices in members.values():
        wanted = max(1, int(fraction * len(indices) + 0.5))
        count = min(wanted, len(indices) - 1)
        # a hash, not a random generator: no library promises its shuffle for ever
        val.extend(sorted(indices, key=lambda index: _rank(seed, index))[:count])
    chosen = set(val)
    return [index for index in range(len(labels)) if index not in chosen], sorted(val)


def is_carved(task: Task) -> bool:
    """Whether validation pictures are taken from train: the task has no val split of its own."""
    return "val" not in task.splits()


def train_and_val(
    task: Task, fraction: float = VAL_FRACTION
) -> tuple[LabelledImages, LabelledImages]:
    """The pictures to train on and those to choose by: the val split, or a share of train.

    Raises:
        OptionError: the share is no picture.
    """
    train = task.dataset("train")
    if not is_carved(task):
        return train, task.dataset("val")
    kept, held = carve_validation(train.labels, fraction, SPLIT_SEED)
    if not held:
        raise OptionError(
            f"--val-fraction {fraction}: no picture is left for validation; "
            "raise it, or use --select test as the papers do"
        )
    return Subset(train, kept), Subset(train, held)


def _rank(seed: int, index: int) -> bytes:
    return hashlib.sha256(f"{seed}/{index}".encode()).digest()


class Subset:
    """Some pictures of a data set, in the order given."""

    def __init__(self, dataset: LabelledImages, indices: Sequence[int]) -> None:
        self.dataset = dataset
        self.indices = list(indices)
        labels = dataset.labels
        self.labels = [labels[index] for index in self.indices]

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> tuple[Image, Any]:
        return self.dataset[self.indices[index]]
