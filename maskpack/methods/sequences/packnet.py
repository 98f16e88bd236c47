"""PackNet (Mallya and Lazebnik, 2018, https://arxiv.org/abs/1711.05769): every weight one task's.

A task trains what is free, gives most of it back by magnitude, and trains the rest again. It reads
its own weights and those of earlier tasks, which stay as they are.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Generator, Tensor, nn

from maskpack.backbones.layers import Layer
from maskpack.common.errors import OptionError
from maskpack.common.options import check_share
from maskpack.methods.base import (
    Batches,
    Carried,
    Field,
    Keeper,
    Loss,
    Mask,
    Method,
    Params,
    Recipe,
)
from maskpack.methods.schedule import phase_factor
from maskpack.methods.sequences.owners import BASE, PREFIX, begin, other_parameters, under

RETRAIN_RATE = 0.1  # of the learning rate before


@dataclass(frozen=True)
class PackNet(Method):
    """W where 0 < owner <= reads, else 0; the owner's bits stand in `owners`.bit_length() planes.

    `keep` of the backbone's weights stay, the largest of each layer, for every task to read. With
    0 the first task owns all of them until it is pruned, by the share `first_prune`; every other
    by `prune`, the last of `tasks` (0: there is always a next) not at all. The last `retrain` of
    the epochs come after the pruning.
    """

    keep: float = 0.5
    prune: float = 0.75
    first_prune: float = 0.5
    retrain: float = 0.33
    tasks: int = 0
    reads: int = 0  # set when packed: the largest owner whose weights the task reads
    owners: int = 0  # set when packed: the largest owner there is

    name: ClassVar[str] = "packnet"
    recipe: ClassVar[Recipe] = Recipe(opt="sgd", lr=1e-3, decay_epochs=10)
    masks: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_share("keep", self.keep, whole=True)
        for option in ("prune", "first_prune", "retrain"):
            check_share(option, getattr(self, option))
        for option in ("tasks", "reads", "owners"):
            value = getattr(self, option)
            if not 0 <= value <= 255:
                raise OptionError(f"{option}={value!r}: expected 0 to 255")

    @property
    def stores(self) -> Mapping[str, Field]:
        return {f"owner{bit}": Field("bits") for bit in range(self.owners.bit_length())}

    def init_params(self, weight: Tensor, layer: Layer, generator: Generator) -> dict[str, Tensor]:
        return {}

    def mask(self, params: Params, training: bool = False) -> dict[str, Tensor]:
        return {}

    def effective_weight(self, weight: Tensor, mask: Mask) -> Tensor:
        owner = torch.zeros((), dtype=torch.int32, device=weight.device)
        for bit, key in enumerate(self.stores):
            owner = owner + (mask[key].to(torch.int32) << bit)
        return torch.where((owner > 0) & (owner <= self.reads), weight, 0)

    def trained(self, parts: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
        return ("",)

    def check(self, recipe: Recipe, metric: str) -> None:
        self.prunes_at(recipe.epochs)

    def prunes_at(self, epochs: int) -> int:
        """Before which epoch, counted from 0, a task is pruned.

        Raises:
            OptionError: one epoch cannot be both before and after.
        """
        if epochs < 2:
            raise OptionError(
                f"--epochs {epochs}: packnet trains, prunes and trains again; expected 2 or more"
            )
        return epochs - min(max(round(epochs * self.retrain), 1), epochs - 1)

    def keeper(self, network: nn.Module, head: str, carried: Carried) -> Keeper:
        return PackNetKeeper(self, network, head, carried)

    def shared(self, number: int, carried: Carried) -> tuple[Method, dict[str, dict[str, Tensor]]]:
        base = int(carried.tensors[BASE])
        reads = dataclasses.replace(self, reads=base + number + 1, owners=base + len(carried.tasks))
        planes = list(enumerate(reads.stores))
        return reads, {
            name: {key: (owner >> bit) & 1 for bit, key in planes}
            for name, owner in under(PREFIX, carried.tensors).items()
        }


class PackNetKeeper(Keeper):
    """Trains what is the task's, and prunes it once."""

    def __init__(self, method: PackNet, network: nn.Module, head: str, carried: Carried) -> None:
        self.method = method
        self.owners = begin(network, head, carried, method.keep)
        last = len(carried.tasks) + 1 == method.tasks
        self.share = method.first_prune if self.owners.first else method.prune
        self.share = 0.0 if last else self.share
        # biases stay what the first task, or the backbone, made them
        others = {} if self.owners.first else other_parameters(network, head)
        self.frozen = list(others.values())
        device = next(network.parameters()).device
        self.pruned = torch.zeros((), dtype=torch.uint8, device=device)

    def begin_epoch(self, epoch: int, epochs: int) -> None:
        if epoch >= self.method.prunes_at(epochs) and not self.pruned:
            self.owners.prune(self.share)
            self.pruned.fill_(1)

    def after_backward(self) -> None:
        self.owners.hold_gradients()
        for parameter in self.frozen:
            parameter.grad = None  # the optimiser leaves it as it is, weight decay and all

    def after_step(self) -> None:
        self.owners.put_back()

    def rate(self, epoch: float, recipe: Recipe) -> float:
        pruning = self.method.prunes_at(recipe.epochs)
        if epoch < pruning:
            return phase_factor(recipe, epoch, 0, pruning)
        return phase_factor(recipe, epoch, pruning, recipe.epochs, RETRAIN_RATE)

    def chooses(self, epoch: int, epochs: int) -> bool:
        return bool(self.pruned) or not self.share

    def tensors(self) -> dict[str, Tensor]:
        return self.owners.tensors() | {"pruned": self.pruned}

    def carry(self, batches: Batches, loss: Loss) -> dict[str, Tensor]:
        return self.owners.carry()

    def record(self) -> dict[str, Any]:
        return self.owners.shares()

    def verdict(self) -> list[str]:
        if self.owners.shares()["owned"]:
            return []
        return ["warning: no weight was free for this task; only its head is its own"]
