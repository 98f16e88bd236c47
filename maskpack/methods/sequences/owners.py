"""Whose each weight of a network is, where the tasks of a sequence divide them among themselves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from maskpack.backbones.layers import find_layers, norm_tensors
from maskpack.common.errors import OptionError
from maskpack.methods.base import Carried

PREFIX = "owner/"  # of the owners of each weight among what a run hands on
BASE = "base"  # there too: 1 where the backbone, of whose task nothing is known, owns weights
MOST = 255  # owners are kept as bytes


@dataclass(frozen=True)
class Owners:
    """Owner of each weight by parameter name, as uint8: 0 is nobody, later tasks have larger ones.

    `number` is that of the task in training; `held` what the weights of all others are, +0.0
    where they are nobody's. With `base` the backbone counts as the first owner.
    """

    weights: Mapping[str, nn.Parameter]
    owner: Mapping[str, Tensor]
    held: Mapping[str, Tensor]
    number: int
    base: bool

    @property
    def first(self) -> bool:
        """Whether nothing was owned before: the task in training made the whole network."""
        return self.number == 1

    def mine(self, name: str) -> Tensor:
        """Where a weight is the task's, as booleans."""
        return self.owner[name] == self.number

    def earlier(self, name: str) -> Tensor:
        """Where a weight belongs to an earlier task or to the backbone, as booleans."""
        return (self.owner[name] > 0) & (self.owner[name] < self.number)

    @torch.no_grad()
    def hold_gradients(self) -> None:
        """No gradient for weights that are not the task's; in place."""
        for name, weight in self.weights.items():
            if weight.grad is not None:
                weight.grad.masked_fill_(self.owner[name] != self.number, 0)

    @torch.no_grad()
    def put_back(self, held: Mapping[str, Tensor] | None = None) -> None:
        """What is not the task's as it is `held`, exactly: momentum and weight decay moved it."""
        for name, weight in self.weights.items():
            others = (self.held if held is None else held)[name]
            weight.copy_(torch.where(self.mine(name), weight, others))

    def prune(self, share: float) -> None:
        """Free the smallest of the task's weights: as `prune`, in every layer."""
        for name, weight in self.weights.items():
            prune(weight, self.owner[name], self.number, share)

    def tensors(self) -> dict[str, Tensor]:
        """The owners, by the names that a run keeps them by."""
        return {PREFIX + name: owner for name, owner in self.owner.items()}

    def carry(self) -> dict[str, Tensor]:
        """What `begin` reads when the next task is learnt."""
        return self.tensors() | {BASE: torch.tensor(int(self.base), dtype=torch.uint8)}

    def shares(self) -> dict[str, float]:
        """Of all weights, the share that is the task's, that earlier ones own, that is free."""
        total = max(sum(owner.numel() for owner in self.owner.values()), 1)
        mine = sum(int(self.mine(name).sum()) for name in self.owner)
        earlier = sum(int(self.earlier(name).sum()) for name in self.owner)
        free = total - mine - earlier
        return {"owned": mine / total, "earlier": earlier / total, "free": free / total}


@torch.no_grad()
def begin(network: nn.Module, head: str, carried: Carried, keep: float) -> Owners:
    """Owners as a task begins: all that is free becomes its own, and 0.

    Where no task came before, the backbone keeps the largest `keep` of each layer's weights. With
    `keep` 0 it keeps none, and the task has them all, as they are. Of a network that has grown,
    without tasks of its own yet, free weights stay as they are too: were they 0, none could learn.

    Raises:
        OptionError: what was carried is not of this network, or there are too many tasks.
    """
    named = dict(network.named_parameters())
    weights = {name: named[name] for name in find_layers(network, head)}
    owner = {name: torch.ones_like(weight, dtype=torch.uint8) for name, weight in weights.items()}
    if BASE in carried.tensors:
        _read(owner, carried)
        base = bool(carried.tensors[BASE])
    else:
        base = keep > 0
        if base:
            for name, weight in weights.items():
                prune(weight, owner[name], 1, 1 - keep)
    grown = BASE in carried.tensors and not carried.tasks
    number = len(carried.tasks) + 1 + base
    if number > MOST:
        raise OptionError(f"this would be task {number} of the sequence; expected {MOST} at most")
    held = {}
    for name, weight in weights.items():
        owner[name][owner[name] == 0] = number
        held[name] = torch.where(owner[name] < number, weight, 0)
        if number > 1 and not grown:
            weight.copy_(held[name])
    return Owners(weights, owner, held, number, base)


def _read(owner: Mapping[str, Tensor], carried: Carried) -> None:
    """Fill in the owners that were carried; OptionError where they are not of these weights."""
    for name, into in owner.items():
        found = carried.tensors.get(PREFIX + name)
        if found is None or found.shape != into.shape:
            what = "no owners" if found is None else f"owners of shape {tuple(found.shape)}"
            raise OptionError(
                f"{name}: the run to start from has {what}, {tuple(into.shape)} expected; start "
                "from the network that its sequence went on with"
            )
        into.copy_(found)


@torch.no_grad()
def prune(weight: Tensor, owner: Tensor, number: int, share: float) -> None:
    """Free the smallest of a task's weights, and make them 0; in place.

    What is the task's and what is free already are ranked together by magnitude, so that a `share`
    of them is free then. As in the published code of PackNet and CPG, the weight of rank
    round(share * count) is the bound, and what is as small goes too: of equal ones all or none.
    """
    own = owner == number
    ranked = weight[own | (owner == 0)].abs()
    rank = round(share * ranked.numel())
    if rank:
        gone = own & (weight.abs() <= ranked.kthvalue(rank).values)
        owner[gone] = 0
        weight[gone] = 0


def other_parameters(network: nn.Module, head: str) -> dict[str, nn.Parameter]:
    """Parameters that nobody owns and no norms mode is about: biases, and others of no layer."""
    known = {*find_layers(network, head), *norm_tensors(network, head)}
    return {
        name: parameter
        for name, parameter in network.named_parameters()
        if name not in known and not name.startswith(f"{head}.")
    }


def under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Those of a run's tensors whose name begins with a prefix, by the rest of it."""
    return {n.removeprefix(prefix): tensor for n, tensor in tensors.items() if n.startswith(prefix)}
