"""Score a network on a split."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from maskpack.preprocess import Augment, Preprocess, eval_transform
from maskpack.tasks.loading import batches

if TYPE_CHECKING:
    from maskpack.tasks.base import Task


@dataclass(frozen=True)
class Score:
    """A metric's mean over `count` samples; `correct` is its sum."""

    value: float
    loss: float
    correct: float
    count: int


@torch.no_grad()
def evaluate(
    network: nn.Module,
    task: Task,
    dataset: Any,
    preprocess: Preprocess,
    augment: Augment,
    *,
    batch_size: int = 64,
    workers: int = 0,
    device: torch.device | str = "cpu",
    amp: bool = False,
    tick: Callable[[], None] = lambda: None,
) -> Score:
    """Mean metric and loss of a network in eval mode. `tick` is called after every batch."""
    transform = eval_transform(preprocess, augment)
    network = network.eval().to(device).to(memory_format=torch.channels_last)
    correct = loss = 0.0
    count = 0
    for images, target in batches(
        dataset,
        transform,
        batch_size=batch_size,
        shuffle=False,
        seed=0,
        epoch=0,
        workers=workers,
    ):
        images = images.to(device, memory_format=torch.channels_last)
        target = target.to(device)
        with torch.autocast(torch.device(device).type, torch.bfloat16, enabled=amp):
            output = network(images)
        output = output.float()
        loss += float(task.loss(output, target)) * len(images)
        correct += float(task.score(output, target).sum())
        count += len(images)
        tick()
    return Score(correct / max(count, 1), loss / max(count, 1), correct, count)
