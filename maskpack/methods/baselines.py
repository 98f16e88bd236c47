"""What masks are compared with: a new head, a part or all of the network trained for itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import Generator, Tensor

from maskpack.backbones.layers import Layer
from maskpack.common.options import check_choice
from maskpack.methods.base import (
    Field,
    Mask,
    Method,
    Params,
    Recipe,
    find_part,
)


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

    def trained(self, parts: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
        return ("",)


@dataclass(frozen=True)
class Scratch(_Unmasked):
    """Every weight trained, from random ones; its run or pack can be the next backbone.

    `without="blocks"` leaves that part of an encoder-decoder as it is: an auto-encoder whose
    residual blocks, which begin as the identity, wait for the tasks.
    """

    without: str = "none"

    name: ClassVar[str] = "scratch"
    recipe: ClassVar[Recipe] = Recipe(opt="sgd", lr=1e-2, sched="cosine", weight_decay=5e-4)

    @property
    def norms(self) -> str:  # type: ignore[override]  # an option decides it here
        # those of the trained parts are trained with them; those of the part that waits stay
        return "task" if self.without == "none" else "frozen"

    def trained(self, parts: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
        if self.without == "none":
            return ("",)
        find_part(parts, self.without)
        others = (names for part, names in parts.items() if part != self.without)
        return tuple(name for names in others for name in names)


@dataclass(frozen=True)
class Decoder(_Unmasked):
    """A decoder of the task's own behind the shared, frozen encoder of an encoder-decoder."""

    name: ClassVar[str] = "decoder"
    recipe: ClassVar[Recipe] = Recipe(opt="adam", lr=1e-3)

    def trained(self, parts: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
        return find_part(parts, "decoder")


@dataclass(frozen=True)
class ResidualBlocks(_Unmasked):
    """Residual blocks of the task's own between a shared, frozen encoder and decoder.

    Matsumoto and Yanai 2019 on the generator of Johnson et al. 2016. After the auto-encoder (the
    first of "two-stage") all blocks are trained at once; "sequential" trains one after the other,
    each in its share of the epochs; "alternate" the odd and the even ones in turns, by epoch.
    """

    training: str = "two-stage"

    name: ClassVar[str] = "residual-blocks"
    recipe: ClassVar[Recipe] = Recipe(opt="adam", lr=1e-3)

    def __post_init__(self) -> None:
        check_choice("training", self.training, ("two-stage", "sequential", "alternate"))

    def trained(self, parts: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
        return find_part(parts, "blocks")

    def learning(self, modules: tuple[str, ...], epoch: int, epochs: int) -> tuple[str, ...]:
        if self.training == "sequential":
            starts = [n * epochs // len(modules) for n in range(len(modules) + 1)]
            spans = zip(modules, starts, starts[1:], strict=False)
            # with fewer epochs than blocks, several share one
            return tuple(name for name, a, b in spans if a <= epoch < max(b, a + 1))
        if self.training == "alternate":
            return modules[epoch % 2 :: 2]
        return modules
