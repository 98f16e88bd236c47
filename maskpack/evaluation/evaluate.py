"""Score a network on a split."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from maskpack.tasks.loading import batches

if TYPE_CHECKING:
    from maskpack.common.preprocess import Augment, Preprocess
    from maskpack.tasks.base import Task

Watch = Callable[[Tensor, Any], None]  # output and target of a batch


@dataclass(frozen=True)
class Score:
    """Metrics over `count` samples, the task's own first."""

    values: dict[str, float]
    loss: float
    count: int

    @property
    def value(self) -> float:
        return next(iter(self.values.values()))

    def record(self) -> dict[str, Any]:
        """What runs and packs keep of a test score: metrics by name, loss, count."""
        return {**self.values, "loss": self.loss, "count": self.count}


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
    watch: Watch | None = None,
) -> Score:
    """Metrics and mean loss of a network in eval mode. `tick` is called after every batch, `watch`
    with what the network gave for it and what it should have.
    """
    pictures = batches(
        dataset,
        task.transform(preprocess, augment, training=False),
        batch_size=batch_size,
        shuffle=False,
        seed=0,
        epoch=0,
        workers=workers,
    )
    return evaluate_batches(network, task, pictures, device=device, amp=amp, tick=tick, watch=watch)


@torch.no_grad()
def evaluate_batches(
    network: nn.Module,
    task: Task,
    pictures: Iterable[tuple[Tensor, Any]],
    *,
    device: torch.device | str = "cpu",
    amp: bool = False,
    tick: Callable[[], None] = lambda: None,
    watch: Watch | None = None,
) -> Score:
    """`evaluate` on batches that are made already: float32 (batch, 3, h, w), target."""
    network = network.eval().to(device).to(memory_format=torch.channels_last)
    meter = task.meter()
    loss = 0.0
    count = 0
    for images, target in pictures:
        images = images.to(device, memory_format=torch.channels_last)
        target = target.to(device)
        with torch.autocast(torch.device(device).type, torch.bfloat16, enabled=amp):
            output = network(images)
        output = output.float()
        mean = float(task.loss(output, target))
        meter.update(output, target, mean)
        if watch is not None:
            watch(output, target)
        loss += mean * len(images)
        count += len(images)
        tick()
    return Score(meter.compute(), loss / max(count, 1), count)
