"""Names of tasks, the tasks shipped with the package, and classification's loss and score."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import maskpack.tasks
from maskpack.common.errors import DataError, UnknownName
from maskpack.common.preprocess import Augment
from maskpack.tasks import (
    BUILTIN,
    DECATHLON,
    IMAGE_TO_IMAGE,
    IMAGENET_TO_SKETCH,
    KNOWN,
    TORCHVISION,
    Classification,
    open_task,
)


@pytest.mark.parametrize(
    ("name", "classes", "train", "test"),
    [("fashion", 10, 2000, 1000), ("sketches", 40, 3000, 1000)],
)
def test_builtin_task_has_its_published_size(
    name: str, classes: int, train: int, test: int
) -> None:
    task = open_task(name)
    assert (task.outputs(), task.splits()) == (classes, ("train", "test"))
    for split, size in (("train", train), ("test", test)):
        data = task.dataset(split)
        assert len(data) == size
        assert set(Counter(data.labels).values()) == {size // classes}
        picture, label = data[size - 1]
        assert (picture.mode, picture.size, label) == ("RGB", (28, 28), classes - 1)
    assert task.augment == Augment(crop_mode="resize", hflip=0.5)


def test_builtin_classes_are_in_order_and_licensed() -> None:
    for name in BUILTIN:
        classes = open_task(name).describe()["classes"]
        assert isinstance(classes, list)
        assert classes == sorted(classes)
        folder = Path(maskpack.tasks.__file__).parent / "classes" / "builtin" / name
        assert "Permission is hereby granted" in (folder / "LICENSE").read_text()


def test_builtin_sketches_are_dark_on_white_and_fashion_light_on_black() -> None:
    for name, bright in (("sketches", True), ("fashion", False)):
        mean = np.asarray(open_task(name).dataset("test")[0][0]).mean()
        assert bool(mean > 128) is bright


def test_builtin_tasks_are_small() -> None:
    folder = Path(maskpack.tasks.__file__).parent / "classes" / "builtin"
    assert sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) < 4_000_000


def test_known_names_are_all_the_names() -> None:
    tables = (BUILTIN, IMAGE_TO_IMAGE, IMAGENET_TO_SKETCH, TORCHVISION, DECATHLON)
    assert set(KNOWN) == {"cifar100-SUPERCLASS"}.union(*tables)


def test_unknown_name_lists_the_known_ones_and_the_nearest() -> None:
    with pytest.raises(UnknownName) as caught:
        open_task("Flower102")
    text = str(caught.value)
    assert text.startswith(
        "unknown task 'Flower102'; did you mean 'flowers102'?; known: autoencode, "
    )
    assert text.endswith("; or give --data DIR")


def tree(root: Path) -> Path:
    for name in ("train/a/1.png", "train/b/1.png", "test/a/1.png"):
        path = root / name
        path.parent.mkdir(parents=True)
        Image.new("L", (3, 3)).save(path)
    return root


@pytest.mark.parametrize(
    ("name", "augment"),
    [
        ("birds", Augment()),
        ("sketches", Augment(crop_mode="resize")),
        ("cifar10", Augment(crop_mode="resize")),
        ("svhn", Augment(crop_mode="resize", hflip=0.0)),
    ],
)
def test_any_name_can_be_given_a_folder(tmp_path: Path, name: str, augment: Augment) -> None:
    task = open_task(name, str(tree(tmp_path)))
    assert (task.name, task.outputs(), task.augment) == (name, 2, augment)


def test_names_need_no_torch() -> None:
    code = "import sys, maskpack.tasks; sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


class Three:
    """Three pictures in memory: what a user's own data set needs."""

    labels = [0, 1, 1]

    def __len__(self) -> int:
        return 3

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        return Image.new("RGB", (2, 2)), self.labels[index]


def test_loss_and_score_by_hand() -> None:
    task = Classification("mine", ["no", "yes"], {"train": Three()})
    output = torch.tensor([[2.0, 0.0], [0.0, 2.0], [1.0, 3.0]])
    target = torch.tensor([0, 1, 0])
    scores = task.score(output, target)
    assert scores.dtype == torch.float32
    assert scores.tolist() == [1.0, 1.0, 0.0]
    right, wrong = np.log(1 + np.exp(-2)), np.log(1 + np.exp(2))
    assert task.loss(output, target).item() == pytest.approx((2 * right + wrong) / 3)


@pytest.mark.parametrize(
    ("classes", "splits", "message"),
    [
        (["a"], ("train",), "needs two classes or more, found 'a'"),
        ([], ("train",), "found none"),
        (["a", "b"], ("test",), "no train split, found test"),
        (["a", "b"], (), "no train split, found nothing"),
    ],
)
def test_classification_refuses(classes: list[str], splits: tuple[str, ...], message: str) -> None:
    with pytest.raises(DataError, match=message):
        Classification("mine", classes, {split: Three() for split in splits})


def test_classification_refuses_labels_without_a_class_and_empty_splits() -> None:
    data = Three()
    data.labels = [0, 1, 2]
    with pytest.raises(DataError, match="label 2 in train, but there are 2 classes"):
        Classification("mine", ["a", "b"], {"train": data})
    data.labels = []
    with pytest.raises(DataError, match="test split has no pictures"):
        Classification("mine", ["a", "b"], {"train": Three(), "test": data})
