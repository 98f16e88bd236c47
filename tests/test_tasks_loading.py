"""Batches: the same bytes for any number of workers, from any batch on, and clean ends."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor

from maskpack.common.errors import DataError, OptionError
from maskpack.common.preprocess import Augment, Preprocess
from maskpack.tasks import Subset, open_task
from maskpack.tasks.base import PictureOnly
from maskpack.tasks.images import ImageFiles
from maskpack.tasks.loading import Transformed, batches, count_batches
from maskpack.tasks.transforms import train_transform

DATA = Subset(open_task("fashion").dataset("train"), list(range(0, 2000, 87)))  # 23 pictures
TRANSFORM = PictureOnly(
    train_transform(Preprocess(img_size=16), Augment(auto_augment="randaugment"))
)
Batch = tuple[Tensor, Tensor]


def epoch(**options: object) -> Iterator[Batch]:
    chosen = {"batch_size": 5, "shuffle": True, "seed": 3, "epoch": 1, **options}
    return batches(DATA, TRANSFORM, **chosen)  # type: ignore[arg-type]


def same(first: list[Batch], second: list[Batch]) -> bool:
    pairs = zip(first, second, strict=True)
    return all(torch.equal(a, c) and torch.equal(b, d) for (a, b), (c, d) in pairs)


def test_a_batch_is_floats_and_targets() -> None:
    pictures, targets = next(epoch())
    assert (pictures.shape, pictures.dtype) == ((5, 3, 16, 16), torch.float32)
    assert pictures.is_contiguous()
    assert (targets.shape, targets.dtype) == ((5,), torch.int64)


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_never_change_the_bytes(workers: int) -> None:
    assert same(list(epoch()), list(epoch(workers=workers)))


@pytest.mark.parametrize("workers", [0, 2])
def test_starting_later_gives_the_rest_of_the_same_epoch(workers: int) -> None:
    assert same(list(epoch())[3:], list(epoch(start_batch=3, workers=workers)))
    assert list(epoch(start_batch=5, workers=workers)) == []


def test_seed_and_epoch_change_order_and_pictures() -> None:
    first = list(epoch())
    for other in ({"seed": 4}, {"epoch": 2}):
        assert not same(first, list(epoch(**other)))
    whole = partial(epoch, shuffle=False, batch_size=23)
    (pictures, targets), (later, same_targets) = next(whole(epoch=1)), next(whole(epoch=2))
    assert targets.tolist() == DATA.labels == same_targets.tolist()
    assert not torch.equal(pictures, later)


def test_every_picture_comes_once() -> None:
    seen = torch.cat([targets for _, targets in epoch()])
    assert sorted(seen.tolist()) == sorted(DATA.labels)
    assert [len(targets) for _, targets in epoch()] == [5, 5, 5, 5, 3]
    assert [len(targets) for _, targets in epoch(drop_last=True)] == [5, 5, 5, 5]


def test_batch_size_does_not_change_a_sample() -> None:
    by_five = torch.cat([pictures for pictures, _ in epoch()])
    assert torch.equal(by_five, torch.cat([pictures for pictures, _ in epoch(batch_size=7)]))
    sample = Transformed(DATA, TRANSFORM, seed=3, epoch=1)
    assert torch.equal(sample[4][0], sample.batch([2, 4])[0][1])


@pytest.mark.parametrize("workers", [0, 1])
def test_global_random_numbers_stay_as_they_were(workers: int) -> None:
    torch.manual_seed(1)
    random.seed(1)
    expected = (torch.rand(1), random.random())
    torch.manual_seed(1)
    random.seed(1)
    list(epoch(workers=workers))
    assert (torch.rand(1), random.random()) == expected


class Counting:
    """Remembers which pictures were opened."""

    def __init__(self) -> None:
        self.opened: list[int] = []
        self.labels = [0] * 10

    def __len__(self) -> int:
        return 10

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        self.opened.append(index)
        return Image.new("RGB", (2, 2)), 0


def test_skipped_pictures_are_never_opened() -> None:
    data = Counting()
    options = {"batch_size": 4, "shuffle": False, "seed": 0, "epoch": 0}
    rest = batches(data, TRANSFORM, start_batch=1, **options)  # type: ignore[arg-type]
    assert data.opened == []
    assert len(list(rest)) == 2
    assert data.opened == [4, 5, 6, 7, 8, 9]


@pytest.mark.parametrize(
    ("samples", "size", "drop", "expected"),
    [(10, 5, False, 2), (11, 5, False, 3), (11, 5, True, 2), (4, 5, True, 0), (0, 5, False, 0)],
)
def test_count_of_batches(samples: int, size: int, drop: bool, expected: int) -> None:
    assert count_batches(samples, size, drop) == expected


def test_absurd_numbers_are_refused() -> None:
    with pytest.raises(OptionError, match="batch size is 0"):
        epoch(batch_size=0)
    with pytest.raises(OptionError, match="workers is -1"):
        epoch(workers=-1)


def test_closing_early_stops_the_workers() -> None:
    running = epoch(workers=2)
    next(running)
    assert len(multiprocessing.active_children()) == 2
    running.close()  # type: ignore[attr-defined]
    assert multiprocessing.active_children() == []


def test_workers_leave_interrupts_to_the_main_process() -> None:
    running = epoch(workers=2)
    found = [next(running), next(running)]  # one of each worker: both have begun
    for child in multiprocessing.active_children():
        assert child.pid is not None
        os.kill(child.pid, signal.SIGINT)
        os.kill(child.pid, signal.SIGTERM)
    assert same(list(epoch()), found + list(running))
    assert multiprocessing.active_children() == []


@pytest.mark.parametrize("workers", [0, 2])
def test_unreadable_picture_is_one_line(tmp_path: Path, workers: int) -> None:
    path = tmp_path / "bad.png"
    path.write_bytes(b"no")
    data = ImageFiles([str(path)] * 4, [0] * 4)
    options = {"batch_size": 2, "shuffle": False, "seed": 0, "epoch": 0, "workers": workers}
    with pytest.raises(DataError, match=r"bad\.png: cannot be read as an image") as caught:
        list(batches(data, TRANSFORM, **options))  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
    assert multiprocessing.active_children() == []


class Deadly(Counting):
    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        os._exit(3)


def test_dead_worker_is_one_line() -> None:
    options = {"batch_size": 2, "shuffle": False, "seed": 0, "epoch": 0, "workers": 1}
    with pytest.raises(DataError, match=r"a loading worker died .*; try fewer, or -j 0") as caught:
        list(batches(Deadly(), TRANSFORM, **options))  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
