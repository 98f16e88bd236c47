"""CPG: compact, pick, grow (Hung et al., 2019, https://arxiv.org/abs/1910.06562).

A task picks among the weights of earlier tasks by a mask, trains what is free beside them, and
gives back as many of its own as its accuracy bears. Where it misses its goal, the network grows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Generator, Tensor, nn

from maskpack.backbones.layers import Layer
from maskpack.backbones.widening import Widen
from maskpack.common.errors import OptionError
from maskpack.common.options import check_positive, check_share
from maskpack.methods.base import Carried, Field, Keeper, Mask, Method, Params, Recipe
from maskpack.methods.sequences.cpg_growing import grown
from maskpack.methods.sequences.cpg_phases import Phases
from maskpack.methods.sequences.cpg_training import MASKS, VALUES, WEIGHTS, CPGKeeper, unpacked
from maskpack.methods.sequences.owners import PREFIX, under

WIDEST = 16


@dataclass(frozen=True)
class CPG(Method):
    """W where the mask is 1, else 0; biases are each task's own.

    The first `pick` of the epochs train the task's weights, and scores over the earlier ones that
    work as Piggyback's (`threshold`, `init_scale`, Adam at `mask_lr`). Rounds of pruning follow, to
    .1, .2, ... .9 and .95 of its weights, a step of it every `frequency` optimiser steps; the
    last `retrain` of the epochs go on from the highest ratio whose validation accuracy was within
    `tolerance` of `goal` (0: the best before pruning). Of `tasks` (0: not known), each leaves an
    equal share to those that come after it, whatever the accuracy. `keep` is as in PackNet.

    A task that misses `goal` before pruning begins anew on a network of 0.5 times more weights, to
    `grow` times at most (0: never), if the backbone is one of those that can be built wider.
    """

    keep: float = 0.5
    goal: float = 0.0
    tolerance: float = 0.005
    tasks: int = 0
    pick: float = 0.3
    retrain: float = 0.1
    threshold: float = 5e-3
    init_scale: float = 1e-2
    mask_lr: float = 5e-4
    frequency: int = 10
    grow: float = 0.0

    name: ClassVar[str] = "cpg"
    recipe: ClassVar[Recipe] = Recipe(epochs=330, opt="sgd", lr=1e-2, weight_decay=4e-5)
    norms: ClassVar[str] = "task"
    masks: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_share("keep", self.keep, whole=True)
        check_share("goal", self.goal, whole=True)
        for option in ("tolerance", "pick", "retrain"):
            check_share(option, getattr(self, option))
        if not 0 <= self.tasks <= 255:
            raise OptionError(f"tasks={self.tasks!r}: expected 0 to 255")
        check_positive("frequency", self.frequency)
        if not (self.grow == 0 or 1 <= self.grow <= WIDEST):
            raise OptionError(
                f"grow={self.grow!r}: expected the largest width, 1 to {WIDEST}, as in 1.5; or 0"
            )
        if self.init_scale <= self.threshold:
            raise OptionError(
                f"init_scale={self.init_scale!r}: expected more than threshold={self.threshold!r}, "
                "so that every task begins with all earlier weights"
            )

    @property
    def stores(self) -> Mapping[str, Field]:
        return {"mask": Field("bits", always=False), "value": Field("f32")}

    def init_params(self, weight: Tensor, layer: Layer, generator: Generator) -> dict[str, Tensor]:
        return {}

    def mask(self, params: Params, training: bool = False) -> dict[str, Tensor]:
        return {}

    def effective_weight(self, weight: Tensor, mask: Mask) -> Tensor:
        if "mask" not in mask:  # a bias, the task's own
            return mask["value"]
        return torch.where(mask["mask"].bool(), weight, 0)

    def trained(self, parts: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
        return ("",)

    def check(self, recipe: Recipe, metric: str) -> None:
        Phases.of(recipe.epochs, self.pick, self.retrain)
        if metric != "accuracy":
            raise OptionError(
                f"cpg prunes by a task's accuracy, and this one has {metric}; take another method"
            )

    def keeper(self, network: nn.Module, head: str, carried: Carried) -> Keeper:
        return CPGKeeper(self, network, head, carried)

    def widest(self) -> float:
        return self.grow

    def widened(
        self, network: nn.Module, head: str, carried: Carried, widen: Widen
    ) -> tuple[Mapping[str, Tensor], Carried]:
        return grown(self, network, head, carried, widen)

    def weights(self, carried: Carried) -> dict[str, Tensor]:
        return under(WEIGHTS, carried.tensors)

    def shared(self, number: int, carried: Carried) -> tuple[Method, dict[str, dict[str, Tensor]]]:
        bits = under(MASKS.format(number), carried.tensors)
        values = under(VALUES.format(number), carried.tensors)
        shapes = {name: carried.tensors[PREFIX + name].shape for name in bits}
        masks = {name: {"mask": unpacked(kept, shapes[name])} for name, kept in bits.items()}
        return self, masks | {name: {"value": value} for name, value in values.items()}
