"""Learning without forgetting (Li and Hoiem, 2016, arXiv:1606.09282)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import log_softmax, softmax

from maskpack.common.options import check_not_negative, check_positive
from maskpack.methods.base import Carried, Keeper, Recipe
from maskpack.methods.sequences.old_outputs import Recall, View
from maskpack.methods.sequences.one_network import OneNetwork


@dataclass(frozen=True)
class LwF(OneNetwork):
    """Adds strength * sum over earlier tasks of `distillation` (eq. 2 to 4).

    What an earlier task's head gave for a picture when the training began is its target now.
    Earlier heads are trained with the rest. For tasks whose outputs are classes.
    """

    strength: float = 1.0  # lambda_o
    temperature: float = 2.0

    name: ClassVar[str] = "lwf"
    # section 3: 0.1 of the rate the network was trained at (1e-2), a tenth of that where it stalls,
    # and a warm-up of the new head alone until it converges; lengths are not said
    recipe: ClassVar[Recipe] = Recipe(opt="sgd", lr=1e-3, weight_decay=5e-4, head_epochs=5)

    def __post_init__(self) -> None:
        check_not_negative("strength", self.strength)
        check_positive("temperature", self.temperature)

    def keeper(self, network: nn.Module, head: str, carried: Carried) -> Keeper:
        return _Unforgetting(self, network, head, carried)


class _Unforgetting(Recall):
    def __init__(self, method: LwF, network: nn.Module, head: str, carried: Carried) -> None:
        super().__init__(method.name, network, head, carried)
        self.method = method

    def loss(self, images: Tensor, output: Tensor) -> Tensor | None:
        if not self.tasks:
            return None
        kept = distillation(self.then(images), self.now(images), self.method.temperature)
        return self.method.strength * kept


def distillation(then: Sequence[View], now: Sequence[View], temperature: float) -> Tensor:
    """- sum_j y'_j log p'_j, of the mean picture (and pixel), summed over tasks.

    y' and p' are the probabilities that logits (batch, classes, ...) stand for, then and now, each
    to the power of 1/T and normalised again: softmax(logits / T).
    """
    pairs = (zip(a.outputs, b.outputs, strict=True) for a, b in zip(then, now, strict=True))
    losses = [
        -(softmax(y.detach() / temperature, 1) * log_softmax(p / temperature, 1)).sum(1).mean()
        for view in pairs
        for y, p in view
    ]
    return torch.stack(losses).sum()
