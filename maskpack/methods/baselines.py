"""What masks are compared with: only a new head, everything anew, everything from scratch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import Generator, Tensor

from maskpack.layers import Layer
from maskpack.methods.base import Field, Mask, Method, Params, Recipe


class _Unmasked(Method):
    masks: ClassVar[bool] = False

    @property
    def stores(self) -> Mapping[str, Field]:
        return {}

    def init_params(self, weight: Tensor, layer: Layer, generator: Generator) -> dict[str, Tensor]:
        return {}

    def mask(self, params: Params, training: bool = False) -> dict[str, Tensor]:
        return {}

    def effective_weight(self, weight: Tensor, mask: Mask) -> Tensor:
        return weight


@dataclass(frozen=True)
class ClassifierOnly(_Unmasked):
    """The backbone as it is, with a head of the task's own."""

    name: ClassVar[str] = "classifier-only"
    recipe: ClassVar[Recipe] = Recipe(opt="sgd", lr=1e-3, decay_epochs=30)


@dataclass(frozen=True)
class FineTune(_Unmasked):
    """Every weight trained, from the backbone's."""

    name: ClassVar[str] = "fine-tune"
    recipe: ClassVar[Recipe] = Recipe(opt="sgd", lr=1e-3, decay_epochs=15)
    norms: ClassVar[str] = "task"
    trains_weights: ClassVar[bool] = True


@dataclass(frozen=True)
class Scratch(_Unmasked):
    """Every weight trained, from random ones; its run or pack can be the next backbone."""

    name: ClassVar[str] = "scratch"
    recipe: ClassVar[Recipe] = Recipe(opt="sgd", lr=1e-2, sched="cosine", weight_decay=5e-4)
    norms: ClassVar[str] = "task"
    trains_weights: ClassVar[bool] = True
