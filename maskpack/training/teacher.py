"""A network that knows a task already, from whose outputs another learns it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn.functional import kl_div, log_softmax

from maskpack.common.errors import OptionError
from maskpack.networks.serialize import unpack_task
from maskpack.runs.open import open_base, open_source
from maskpack.tasks.base import Classification

if TYPE_CHECKING:
    from maskpack.common.preprocess import Preprocess
    from maskpack.tasks.base import Task


def open_teacher(source: str, task: Task, preprocess: Preprocess) -> nn.Module:
    """The network of a run or pack (PATH[#TASK]) that was learnt on the same classes.

    Raises:
        OptionError: the task is no classification, or the network has other classes or takes
            pictures with another mean or deviation.
        MaskpackError: it cannot be opened.
    """
    if not isinstance(task, Classification):
        raise OptionError(f"--teacher is for classification, not for {task.name}; leave it out")
    pack = open_source(source)
    packed = pack.task()
    known = packed.info.get("task")
    classes = known.get("classes") if isinstance(known, dict) else None
    if classes != task.describe().get("classes"):
        raise OptionError(
            f"--teacher {source}: learnt other classes than {task.name} has; give a run or pack of "
            "the same task"
        )
    given = packed.info.get("preprocess")
    for key in ("mean", "std"):
        found = given.get(key) if isinstance(given, dict) else None
        expected = list(getattr(preprocess, key))
        if found != expected:
            raise OptionError(
                f"--teacher {source}: its pictures' {key} is {found}, not {expected}; train with "
                f"its --{key}, or give another teacher"
            )
    return unpack_task(packed, open_base(pack, packed)).to(memory_format=torch.channels_last)


def soft_loss(output: Tensor, taught: Tensor, temperature: float) -> Tensor:
    """T^2 KL(teacher || student), both softened by the temperature T; logits (batch, classes).

    Hinton, Vinyals and Dean 2015, arXiv:1503.02531, section 2; T^2 keeps the size of gradients.
    """
    ours = log_softmax(output / temperature, dim=1)
    theirs = log_softmax(taught / temperature, dim=1)
    return temperature**2 * kl_div(ours, theirs, reduction="batchmean", log_target=True)
