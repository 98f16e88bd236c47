"""Elastic weight consolidation (Kirkpatrick et al., 2017, arXiv:1612.00796)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from maskpack.common.options import check_choice, check_not_negative
from maskpack.methods.base import Batches, Carried, Keeper, Loss, Recipe
from maskpack.methods.sequences.importance import (
    Consolidation,
    carried_of,
    check_samples,
    mean_gradients,
)
from maskpack.methods.sequences.one_network import OneNetwork, trunk


@dataclass(frozen=True)
class EWC(OneNetwork):
    """Adds strength / 2 * sum_i F_i (theta_i - theta*_i)^2 for each earlier task (eq. 3).

    F is the diagonal of the Fisher information, of `samples` training pictures (0: all): the mean
    of squared gradients of log p(y | x), where y is drawn from what the network itself predicts.
    `fisher="empirical"` takes the pictures' targets instead, as is done for every task but
    classification, whose networks predict no distribution.

    The terms of all earlier tasks are one quadratic, as the paper notes. With F = sum_t F_t and
    a = sum_t F_t theta*_t / F,

        sum_t F_t (theta - theta*_t)^2  =  F (theta - a)^2  +  sum_t F_t (theta*_t - a)^2

    for every weight: multiply out, and put F a in place of sum_t F_t theta*_t. The last sum does
    not depend on theta, so gradients are the same, and F and a are all that is carried.
    """

    strength: float = 400.0  # lambda: the paper's for its Atari games, it names none for MNIST
    fisher: str = "model"
    samples: int = 200

    name: ClassVar[str] = "ewc"
    # appendix, table 1; neither momentum nor batch size is said
    recipe: ClassVar[Recipe] = Recipe(opt="sgd", lr=1e-3, epochs=20, sched="constant")

    def __post_init__(self) -> None:
        check_not_negative("strength", self.strength)
        check_choice("fisher", self.fisher, ("model", "empirical"))
        check_samples(self.samples)

    def keeper(self, network: nn.Module, head: str, carried: Carried) -> Keeper:
        return _Elastic(self, network, head, carried)


class _Elastic(Consolidation):
    def __init__(self, method: EWC, network: nn.Module, head: str, carried: Carried) -> None:
        shared = trunk(network, head)
        importance = carried_of(method.name, carried, "importance", shared)
        anchor = carried_of(method.name, carried, "anchor", shared)
        super().__init__(network, head, importance, anchor, method.strength / 2)
        self.method = method

    def carry(self, batches: Batches, loss: Loss) -> dict[str, Tensor]:
        draw = likelihood()

        def objective(output: Tensor, target: Tensor) -> Tensor:
            if self.method.fisher == "model" and _classifies(output, target):
                return draw(output)
            return loss(output, target)

        found = mean_gradients(
            self.network, self.trunk, batches, self.method.samples, objective, of="squares"
        )
        carried: dict[str, Tensor] = {}
        for name, fisher in found.items():
            weight = self.trunk[name].detach()
            total, anchor = fisher, weight.clone()
            if self.importance:
                total = fisher + self.importance[name]
                # a + (theta* - a) F_T / F, which no order of magnitude of F can spoil; a weight
                # that matters to no task has no anchor to speak of
                share = torch.where(total > 0, fisher / total, 1.0)
                anchor = torch.lerp(self.anchor[name], weight, share)
            carried |= {f"importance/{name}": total, f"anchor/{name}": anchor}
        return carried


def likelihood(seed: int = 0) -> Callable[[Tensor], Tensor]:
    """-log p(y | x) of logits (batch, classes), with y drawn from p; the same draws each time."""
    generator = torch.Generator().manual_seed(seed)

    def objective(output: Tensor) -> Tensor:
        chances = output.detach().softmax(dim=1).cpu()
        drawn = torch.multinomial(chances, 1, generator=generator)[:, 0]
        return cross_entropy(output, drawn.to(output.device))

    return objective


def _classifies(output: Tensor, target: Tensor) -> bool:
    return output.dim() == 2 and target.dim() == 1 and not target.is_floating_point()
