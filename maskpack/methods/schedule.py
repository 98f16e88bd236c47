"""The learning rate over a training, and over a phase of one."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING

from maskpack.common.errors import OptionError

if TYPE_CHECKING:
    from maskpack.methods.base import Recipe

SCHEDULES = ("step", "multistep", "cosine", "constant")


def lr_factor(recipe: Recipe, epoch: float) -> float:
    """Share of the full learning rate at a moment, given in epochs and fractions of one.

    "step" multiplies by decay_rate every decay_epochs, "multistep" at each of decay_milestones;
    "cosine" falls per step to min_lr at the last epoch (Loshchilov and Hutter 2017, eq. 5, without
    restarts); warm-up is linear per step.
    """
    if epoch < recipe.warmup_epochs:
        return (epoch + 1e-3) / recipe.warmup_epochs
    if recipe.sched == "step":
        factor = recipe.decay_rate ** (int(epoch) // max(recipe.decay_epochs, 1))
    elif recipe.sched == "multistep":
        factor = recipe.decay_rate ** sum(epoch >= at for at in recipe.decay_milestones)
    elif recipe.sched == "cosine":
        span = max(recipe.epochs - recipe.warmup_epochs, 1)
        done = (epoch - recipe.warmup_epochs) / span
        low = recipe.min_lr / recipe.lr if recipe.lr else 0.0
        factor = low + (1 - low) * 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))
    elif recipe.sched == "constant":
        factor = 1.0
    else:
        raise OptionError(f"--sched {recipe.sched!r}: expected one of {', '.join(SCHEDULES)}")
    return max(factor, recipe.min_lr / recipe.lr if recipe.lr else 0.0)


def phase_factor(
    recipe: Recipe, epoch: float, begin: float, end: float, share: float = 1.0
) -> float:
    """`lr_factor` of a phase with a schedule of its own, between two moments given in epochs.

    Its epochs, those of decays among them, count from its begin. Its full rate is `share` of the
    recipe's; only a phase that begins the training warms up.
    """
    warmup = recipe.warmup_epochs if begin == 0 else 0
    length = max(math.ceil(end - begin), 1)
    phase = dataclasses.replace(
        recipe, epochs=length, lr=recipe.lr * share, warmup_epochs=min(warmup, length)
    )
    return share * lr_factor(phase, epoch - begin)
