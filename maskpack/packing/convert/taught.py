"""What a fine-tuned network was taught: its task's pictures, to score it and to distill from it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from maskpack.common.errors import OptionError
from maskpack.common.options import as_json, replaced
from maskpack.common.preprocess import Augment, Preprocess
from maskpack.evaluation.evaluate import evaluate
from maskpack.tasks import Subset, open_task
from maskpack.tasks.loading import batches

if TYPE_CHECKING:
    from maskpack.backbones.base import Backbone
    from maskpack.tasks.base import Task


@dataclass(frozen=True)
class Taught:
    """What a network was fine-tuned on, and how its pictures go in.

    None in `task` is what a run or pack says itself, if anything. `preprocess` and `augment` are
    what differs from the backbone's and the task's own.
    """

    task: str | None = None
    data: str | None = None
    preprocess: Mapping[str, Any] = field(default_factory=dict)
    augment: Mapping[str, Any] = field(default_factory=dict)


def taught_by_name(
    tasks: Mapping[str | None, str],
    data: Mapping[str | None, str],
    preprocess: Mapping[str, Any],
    augment: Mapping[str, Any],
) -> dict[str | None, Taught]:
    """What is said of each named network, and under None of all others."""
    return {
        name: Taught(
            tasks.get(name, tasks.get(None)), data.get(name, data.get(None)), preprocess, augment
        )
        for name in {None, *tasks, *data}
    }


@dataclass(frozen=True)
class Pictures:
    """A task opened, and how its pictures go in."""

    task: Task
    data: str | None
    preprocess: Preprocess
    augment: Augment

    def info(self) -> dict[str, Any]:
        """The entries of a pack's info by which `eval` scores it: those that train-mask writes."""
        about: dict[str, Any] = as_json(
            {
                "task": self.task.describe(),
                "data": self.data,
                "preprocess": dataclasses.asdict(self.preprocess),
                "augment": dataclasses.asdict(self.augment),
            }
        )
        return about

    def score(self, network: nn.Module, device: torch.device | str) -> dict[str, Any]:
        """Metric, loss and count on the test split; the network is back on the CPU afterwards."""
        score = evaluate(
            network,
            self.task,
            self.task.dataset("test"),
            self.preprocess,
            self.augment,
            device=device,
        )
        network.cpu().to(memory_format=torch.contiguous_format)
        return score.record()

    def some(self, count: int, seed: int) -> Tensor:
        """So many training pictures, or all where there are fewer: (count, 3, size, size)."""
        train = self.task.dataset("train")
        generator = torch.Generator().manual_seed(seed)
        chosen = torch.randperm(len(train), generator=generator)[:count].tolist()
        parts = batches(
            Subset(train, chosen),
            self.task.transform(self.preprocess, self.augment, training=False),
            batch_size=64,
            shuffle=False,
            seed=0,
            epoch=0,
        )
        return torch.cat([images for images, _ in parts])


def open_pictures(about: Taught, info: Mapping[str, Any], backbone: Backbone) -> Pictures | None:
    """The task a network was fine-tuned on, as the user or else its run says; None if neither.

    Raises:
        OptionError: a value that does not fit, or a run that does not say how its pictures go in.
        UnknownName, DataError: the task or its pictures are not here.
    """
    kept = {} if about.task else dict(info)
    try:
        name = about.task or (kept["task"]["name"] if "task" in kept else None)
        preprocess = Preprocess(**kept["preprocess"]) if "preprocess" in kept else None
        augment = Augment(**kept["augment"]) if "augment" in kept else None
    except (KeyError, TypeError) as error:
        raise OptionError(f"its run does not say its task ({error!r}); give --task") from error
    if name is None:
        return None
    data = about.data or kept.get("data")
    learnt = kept.get("task")
    options = learnt.get("options") if isinstance(learnt, Mapping) else None
    task = open_task(name, data, options=options)
    return Pictures(
        task,
        data,
        replaced(preprocess or backbone.preprocess, about.preprocess, "preprocessing option"),
        replaced(augment or task.augment, about.augment, "augmentation option"),
    )
