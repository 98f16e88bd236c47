"""Weights that mattered to earlier tasks are tied to where they were: a quadratic for each."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator, Mapping
from typing import Literal

import torch
from torch import Tensor, nn

from maskpack.common.errors import OptionError
from maskpack.methods.base import Batches, Carried, Keeper, Recipe
from maskpack.methods.sequences.one_network import evaluating, placed, trunk

Objective = Callable[[Tensor, Tensor], Tensor]  # output and target of one picture -> scalar


STEPS = ("sgd", "nesterov")  # as long as the gradient is steep


class Consolidation(Keeper):
    """Adds factor * sum_i importance_i * (theta_i - anchor_i)^2 over the trunk.

    `importance` and `anchor` are by parameter name; without them, as in the first task of a
    sequence, nothing is added.

    A weight may matter so much that a step along this gradient leaps over the anchor, further each
    time, until the loss is infinite: with SGD where lr * 2 factor * importance > 2 (and a little
    more with momentum). There the product counts as 1, which takes a weight all the way back in
    one step: no step of this size could hold it better.
    """

    def __init__(
        self,
        network: nn.Module,
        head: str,
        importance: Mapping[str, Tensor],
        anchor: Mapping[str, Tensor],
        factor: float,
    ) -> None:
        self.network = network
        self.trunk = trunk(network, head)
        self.importance = {n: placed(t, self.trunk[n]) for n, t in importance.items()}
        self.anchor = {n: placed(t, self.trunk[n]) for n, t in anchor.items()}
        self.factor = factor
        self._limit = math.inf  # of importance
        self._held = self.importance

    def rate(self, epoch: float, recipe: Recipe) -> float | None:
        """None, as by default; but this is where a keeper hears how far a step goes."""
        steepest = 2 * self.factor * recipe.lr
        limit = 1 / steepest if recipe.opt in STEPS and steepest > 0 else math.inf
        if limit != self._limit:
            self._limit = limit
            self._held = {name: t.clamp(max=limit) for name, t in self.importance.items()}
        return None

    def verdict(self) -> list[str]:
        found = sum(int((tensor > self._limit).sum()) for tensor in self.importance.values())
        share = found / max(sum(tensor.numel() for tensor in self.importance.values()), 1)
        if not found:
            return []
        return [
            f"{share:.2%} of the shared weights matter more than steps of --lr can hold; they were "
            "held as far as such steps can, a lower --lr holds them further"
        ]

    def loss(self, images: Tensor, output: Tensor) -> Tensor | None:
        if not self.importance or not self.factor:
            return None
        terms = [
            (self._held[name] * (parameter - self.anchor[name]).square()).sum()
            for name, parameter in self.trunk.items()
        ]
        return self.factor * torch.stack(terms).sum()


def mean_gradients(
    network: nn.Module,
    shared: Mapping[str, nn.Parameter],
    batches: Batches,
    samples: int,
    objective: Objective,
    of: Literal["squares", "magnitudes"],
) -> dict[str, Tensor]:
    """Mean over pictures of each picture's squared or absolute gradient, by parameter name.

    One picture at a time, since the gradient of a batch is the sum of its pictures' and neither
    square nor magnitude of a sum is what is asked for. The network is in eval mode meanwhile.
    """
    sums = {name: torch.zeros_like(parameter) for name, parameter in shared.items()}
    required = {name: parameter.requires_grad for name, parameter in shared.items()}
    device = next(iter(shared.values())).device
    count = 0
    try:
        for parameter in shared.values():
            parameter.requires_grad_(True)
        with evaluating(network), torch.enable_grad():
            for image, target in drawn(batches, samples):
                count += 1
                output = network(image[None].to(device)).float()
                value = objective(output, target[None].to(device))
                found = torch.autograd.grad(value, list(shared.values()), allow_unused=True)
                for total, gradient in zip(sums.values(), found, strict=True):
                    if gradient is not None:
                        total += gradient.square() if of == "squares" else gradient.abs()
    finally:
        for name, parameter in shared.items():
            parameter.requires_grad_(required[name])
    return {name: total / max(count, 1) for name, total in sums.items()}


def drawn(batches: Batches, samples: int, seed: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
    """`samples` random pictures and their targets, all of them if 0; the same ones each time.

    Algorithm R (Vitter 1985): one pass, of unknown length, with only the chosen ones in memory.
    The first pictures would not do, which of a folder are those of one class.
    """
    pairs = (pair for images, targets in batches() for pair in zip(images, targets, strict=True))
    if not samples:
        yield from pairs
        return
    rng = random.Random(seed)
    kept: list[tuple[Tensor, Tensor]] = []
    for number, (image, target) in enumerate(pairs):
        place = number if number < samples else rng.randint(0, number)
        if place >= samples:
            continue
        copy = (image.clone(), target.clone())  # a row would keep its whole batch in memory
        if place == len(kept):
            kept.append(copy)
        else:
            kept[place] = copy
    yield from kept


def carried_of(
    method: str, carried: Carried, kind: str, shared: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """The carried tensors KIND/NAME by NAME; none where a sequence begins.

    Raises:
        OptionError: the run before belongs to another method, or to another network.
    """
    if not carried.tasks:
        return {}
    found = {}
    for name, parameter in shared.items():
        tensor = carried.tensors.get(f"{kind}/{name}")
        if tensor is None or tensor.shape != parameter.shape:
            what = "none" if tensor is None else f"one of shape {tuple(tensor.shape)}"
            raise OptionError(
                f"{method} after {carried.tasks[-1].name!r}: needs its {kind} of {name}, of shape "
                f"{tuple(parameter.shape)}, and found {what}; start from a run of {method}"
            )
        found[name] = tensor
    return found


def check_samples(samples: int) -> None:
    """Raise OptionError unless `samples` is a count."""
    if samples < 0:
        raise OptionError(f"samples={samples}: expected 0, for all pictures, or more")
