"""Segmentation's loss and metric against numbers worked by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from maskpack.common.errors import DataError, OptionError
from maskpack.common.preprocess import Augment, Preprocess
from maskpack.tasks import described_task
from maskpack.tasks.dense.base import make_options
from maskpack.tasks.dense.segmentation import IGNORE, IoUMeter, Segmentation, voc_palette

LOSSES = ["ce", "l1", "l2", "adversarial"]


def task(loss: str = "ce", classes: int = 3) -> Segmentation:
    options = make_options(Segmentation.Options, {"loss": loss})
    return Segmentation("parts", [f"part {number}" for number in range(classes)], {}, options)


def output(found: list[list[int]], classes: int = 3) -> Tensor:
    """Logits (1, classes, h, w) whose largest is the class found."""
    numbers = torch.tensor([found])
    return torch.nn.functional.one_hot(numbers, classes).permute(0, 3, 1, 2).float()


def measured(*batches: tuple[list[list[int]], list[list[int]]], classes: int = 3) -> dict:
    meter = IoUMeter(classes)
    for found, target in batches:
        meter.update(output(found, classes), torch.tensor([target]), 0.0)
    return meter.compute()


# ---- the metric


def test_iou_of_a_picture_by_hand() -> None:
    # both, of either: class 0 has 2 of 3 pixels, class 1 has 1 of 3, class 2 has 1 of 2
    found, target = [[0, 0, 1], [0, 2, 2]], [[0, 0, 1], [1, 2, 1]]
    score = measured((found, target))
    assert score["mIoU"] == pytest.approx((2 / 3 + 1 / 3 + 1 / 2) / 3)
    assert score["pixel accuracy"] == pytest.approx(4 / 6)
    assert list(score) == ["mIoU", "pixel accuracy"]


def test_iou_is_of_the_whole_split_and_no_mean_of_pictures() -> None:
    one = ([[0, 0, 0, 1]], [[0, 0, 1, 1]])  # alone: (2/3 + 1/2) / 2
    other = ([[1, 1, 1, 1]], [[1, 1, 1, 0]])  # alone: (0 + 3/4) / 2
    # together: class 0 is 2 of 4, class 1 is 1 + 3 of 2 + 4
    score = measured(one, other, classes=2)
    assert score["mIoU"] == pytest.approx((2 / 4 + 4 / 6) / 2)
    alone = [measured(batch, classes=2)["mIoU"] for batch in (one, other)]
    assert score["mIoU"] != pytest.approx(sum(alone) / 2)


def test_ignored_pixels_count_nowhere() -> None:
    # what is found at 255 is in no union either: class 2 is found there alone
    score = measured(([[0, 1, 2, 2]], [[0, 1, IGNORE, IGNORE]]))
    assert score == {"mIoU": 1.0, "pixel accuracy": 1.0}


def test_a_class_found_and_not_there_counts_0() -> None:
    score = measured(([[0, 0, 1, 2]], [[0, 0, 1, 1]]))
    assert score["mIoU"] == pytest.approx((1 + 1 / 2 + 0) / 3)


def test_a_class_nowhere_does_not_count() -> None:
    assert measured(([[0, 0, 1, 1]], [[0, 0, 1, 0]]), classes=21)["mIoU"] == pytest.approx(
        (2 / 3 + 1 / 2) / 2
    )


def test_a_class_there_and_not_found_counts_0() -> None:
    assert measured(([[0, 0]], [[0, 2]]))["mIoU"] == pytest.approx((1 / 2 + 0) / 2)


def test_nothing_to_count_is_0() -> None:
    nothing = {"mIoU": 0.0, "pixel accuracy": 0.0}
    assert measured() == nothing
    assert measured(([[0, 1]], [[IGNORE, IGNORE]])) == nothing


def test_iou_equals_a_slow_count() -> None:
    rng = np.random.default_rng(0)
    batches = []
    for _ in range(3):
        target = rng.integers(0, 5, (4, 6))
        target[rng.random((4, 6)) < 0.2] = IGNORE
        batches.append((rng.integers(0, 5, (4, 6)).tolist(), target.tolist()))
    shares = []
    for number in range(6):
        both = either = 0
        for found, target in batches:
            pairs = zip(np.ravel(found), np.ravel(target), strict=True)
            for one, other in [pair for pair in pairs if pair[1] != IGNORE]:
                both += one == number == other
                either += number in (one, other)
        shares += [both / either] if either else []
    assert len(shares) == 5
    assert measured(*batches, classes=6)["mIoU"] == pytest.approx(np.mean(shares))


# ---- the losses


@pytest.mark.parametrize("loss", LOSSES)
def test_ignored_pixels_give_no_gradient_and_others_do(loss: str) -> None:
    target = torch.tensor([[[0, IGNORE], [1, 2]]])
    logits = torch.randn(1, 3, 2, 2, requires_grad=True)
    segmentation = task(loss)
    total = segmentation.loss(logits, target)
    if segmentation.adversarial:  # what a critic sees reaches the network too
        total = total + segmentation.judged(logits, target).square().sum()
    total.backward()
    assert logits.grad is not None
    assert logits.grad[0, :, 0, 1].abs().max() == 0
    assert (logits.grad.abs().sum(dim=1) > 0).sum() == 3


@pytest.mark.parametrize("loss", LOSSES)
def test_ignored_pixels_do_not_change_the_loss(loss: str) -> None:
    logits = torch.randn(2, 3, 2, 2)
    target = torch.tensor([[[0, 1], [2, 2]]]).repeat(2, 1, 1)
    alone = task(loss).loss(logits[:1], target[:1])
    target[1] = IGNORE
    assert task(loss).loss(logits, target) == pytest.approx(float(alone))


@pytest.mark.parametrize("loss", LOSSES)
def test_a_batch_without_a_pixel_that_counts_costs_nothing(loss: str) -> None:
    assert task(loss).loss(torch.randn(1, 3, 2, 2), torch.full((1, 2, 2), IGNORE)) == 0


def test_losses_by_hand() -> None:
    logits = torch.log(torch.tensor([0.5, 0.3, 0.2])).view(1, 3, 1, 1)
    target = torch.tensor([[[1]]])
    expected = {
        "ce": -np.log(0.3),
        "l1": (0.5 + 0.7 + 0.2) / 3,
        "l2": (0.25 + 0.49 + 0.04) / 3,
        "adversarial": 100 * (0.5 + 0.7 + 0.2) / 3,
    }
    for loss, value in expected.items():
        assert float(task(loss).loss(logits, target)) == pytest.approx(value, rel=1e-5)


def test_a_critic_sees_nothing_where_nothing_counts() -> None:
    target = torch.tensor([[[0, IGNORE], [1, 2]]])
    adversarial = task("adversarial")
    judged = adversarial.judged(torch.randn(1, 3, 2, 2), target)
    real = adversarial.real(target)
    assert judged.shape == real.shape == (1, 3, 2, 2)
    assert judged[0, :, 0, 1].tolist() == real[0, :, 0, 1].tolist() == [0, 0, 0]
    assert real[0, :, 1, 1].tolist() == [0, 0, 1]
    assert torch.allclose(judged.sum(dim=1), real.sum(dim=1))


# ---- maps and pictures


def test_a_map_moves_with_its_picture_and_keeps_its_numbers() -> None:
    numbers = np.random.default_rng(0).choice([0, 1, 2, IGNORE], (20, 30)).astype(np.uint8)
    picture = Image.fromarray(np.stack([numbers] * 3, axis=2))
    preprocess = Preprocess(img_size=16, mean=(0.0,) * 3, std=(1.0,) * 3, interpolation="nearest")
    augment = Augment(hflip=0.5, vflip=0.5)
    for training in (False, True):
        move = task().transform(preprocess, augment, training)
        for seed in range(8):
            torch.manual_seed(seed)
            images, target = move(picture, Image.fromarray(numbers))
            assert (images.shape, target.shape, target.dtype) == (
                (3, 16, 16),
                (16, 16),
                torch.int64,
            )
            assert (images[0] * 255).round().long().tolist() == target.tolist()


def test_classes_are_drawn_in_the_colours_of_voc() -> None:
    drawn = task().drawn(output([[0, 1], [2, 2]]).squeeze(0), Image.new("RGB", (4, 4)))
    assert drawn.size == (4, 4)
    assert [drawn.getpixel(place) for place in ((0, 0), (3, 1), (1, 3))] == [
        (0, 0, 0),
        (128, 0, 0),
        (0, 128, 0),
    ]
    target = task().drawn_target(torch.tensor([[0, IGNORE]]))
    assert target is not None and target.getpixel((1, 0)) == (224, 224, 192)


def test_voc_palette() -> None:
    palette = voc_palette()
    colours = {number: tuple(palette[3 * number : 3 * number + 3]) for number in range(256)}
    assert len({*colours.values()}) == 256
    assert {number: colours[number] for number in (3, 4, 7, 8, 15, 20, 255)} == {
        3: (128, 128, 0),
        4: (0, 0, 128),
        7: (128, 128, 128),
        8: (64, 0, 0),
        15: (192, 128, 128),
        20: (0, 64, 128),
        255: (224, 224, 192),
    }


# ---- the task


def test_a_described_task_is_the_same() -> None:
    about = task("l2").describe()
    again = described_task(about)
    assert (type(again), again.describe(), again.outputs()) == (Segmentation, about, 3)
    assert (again.metric, again.lower_is_better) == ("mIoU", False)


@pytest.mark.parametrize("classes", [1, 256])
def test_classes_that_255_numbers_can_not_tell_apart(classes: int) -> None:
    with pytest.raises(DataError, match=f"needs 2 to 255 classes, found {classes}"):
        task(classes=classes)


def test_an_unknown_loss() -> None:
    with pytest.raises(OptionError, match="loss='dice': expected one of ce, l1, l2, adversarial"):
        task("dice")
