"""Several tasks learnt at once: targets, loss and metric of each picture's own task."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import tinydense
import torch
from PIL import Image
from torch.nn.functional import cross_entropy

from maskpack.common.errors import OptionError
from maskpack.common.preprocess import Augment, Preprocess
from maskpack.tasks import Classification, open_task
from maskpack.tasks.joint import Joint, joint_task

PLAIN = Augment("resize", hflip=0.0)


class Grey:
    """Pictures of one grey each; label and grey are the same number."""

    def __init__(self, labels: list[int]) -> None:
        self.labels = labels

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        label = self.labels[index]
        return Image.new("RGB", (4, 4), (label, label, label)), label


def two_and_three() -> Joint:
    def classes(name: str, count: int) -> Classification:
        labels = list(range(count)) * 2
        return Classification(
            name,
            [f"c{n}" for n in range(count)],
            {"train": Grey(labels), "val": Grey(labels), "test": Grey(labels)},
        )

    parts = {"two": (classes("a", 2), PLAIN, None), "three": (classes("b", 3), PLAIN, None)}
    return joint_task("all", parts, 0.1)


def test_classes_and_pictures_stand_one_task_after_another() -> None:
    joint = two_and_three()
    assert joint.outputs() == 5
    assert joint.classes == ("two/c0", "two/c1", "three/c0", "three/c1", "three/c2")
    assert list(joint.dataset("train").labels) == [0, 1, 0, 1, 2, 3, 4, 2, 3, 4]
    picture, label = joint.dataset("train")[6]
    assert label == 4 and picture.getpixel((0, 0)) == (2, 2, 2)
    assert (joint.rows_of(0), joint.rows_of(1)) == (slice(0, 2), slice(2, 5))
    assert joint.describe()["tasks"] == ["two", "three"]


def test_loss_is_cross_entropy_among_a_pictures_own_classes() -> None:
    output = torch.tensor([[1.0, 2.0, 9.0, 9.0, 9.0], [9.0, 9.0, 1.0, 0.0, 2.0]])
    target = torch.tensor([0, 4])
    own = [cross_entropy(output[:1, :2], target[:1]), cross_entropy(output[1:, 2:], target[1:] - 2)]
    assert torch.equal(two_and_three().loss(output, target), (own[0] + own[1]) / 2)
    assert float(own[0]) == pytest.approx(math.log(1 + math.e))


def test_no_gradient_reaches_the_heads_of_other_tasks() -> None:
    output = torch.zeros(1, 5, requires_grad=True)
    two_and_three().loss(output, torch.tensor([1])).backward()
    assert output.grad is not None
    assert output.grad[0].tolist() == pytest.approx([0.5, -0.5, 0, 0, 0])


def test_metric_is_the_mean_of_the_tasks_accuracies() -> None:
    meter = two_and_three().meter()
    output = torch.tensor(
        [[1.0, 0, 9, 9, 9], [1.0, 0, 9, 9, 9], [9, 9, 1.0, 0, 0], [9, 9, 0, 0, 1.0]]
    )
    meter.update(output, torch.tensor([0, 1, 2, 4]), 0.0)
    assert meter.compute() == {"accuracy": 0.75, "accuracy/two": 0.5, "accuracy/three": 1.0}


def test_each_picture_is_transformed_as_its_own_task_has_it() -> None:
    joint = two_and_three()
    half = Preprocess(img_size=4, crop_pct=1.0, mean=(0, 0, 0), std=(1, 1, 1))
    transform = joint.transform(half, Augment(), training=True)  # PLAIN for both, not this one
    picture, label = joint.dataset("train")[6]
    tensor, target = transform(picture, label)
    assert target == 4 and torch.equal(tensor, torch.full((3, 4, 4), 2 / 255))


def test_a_task_that_is_no_classification_is_refused(tmp_path: Path) -> None:
    tinydense.write_photos(tmp_path)
    auto = open_task("autoencode", tmp_path)
    with pytest.raises(OptionError, match="auto is no classification"):
        joint_task("all", {"auto": (auto, PLAIN, None)}, 0.1)
