"""Networks that can be built wider: what such a module tells of itself, and where its weights go.

A module that has what `Widenable` names can grow, whoever wrote it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

STEP = 0.5  # by which a width grows, as in CPG


@dataclass(frozen=True)
class Widened:
    """Weights of a wider network by name; `old` says which of their entries were there before."""

    state: dict[str, Tensor]
    old: dict[str, Tensor]  # bool, each of its tensor's shape


Widen = Callable[[Mapping[str, Tensor]], Widened]  # of a narrow network's state, without its head


@runtime_checkable
class Widenable(Protocol):
    """A network that is one of a family of widths; about `width` times the weights of width 1."""

    width: float

    def name_of_width(self, width: float) -> str:
        """What `open_backbone` calls the network of another width."""

    def widened(self, state: Mapping[str, Tensor], width: float, seed: int) -> Widened:
        """Its state, or a part of one, for the network of a larger width."""


def width_of(module: nn.Module) -> float:
    """The width of a network; 1 where it has no other."""
    return module.width if isinstance(module, Widenable) else 1.0


def next_width(module: nn.Module, widest: float) -> float | None:
    """The width that a network grows to, `widest` at most; None where it cannot grow."""
    if not isinstance(module, Widenable):
        return None
    width = module.width + STEP
    return width if width <= widest else None


def surrounded(state: Mapping[str, Tensor], fresh: Mapping[str, Tensor]) -> Widened:
    """Each tensor of `state` as the leading block of that of `fresh`.

    Weights that lead from new inputs to old outputs are 0: what the old channels compute hangs on
    nothing that is new.
    """
    grown: dict[str, Tensor] = {}
    old: dict[str, Tensor] = {}
    for name, tensor in state.items():
        block = tuple(slice(size) for size in tensor.shape)
        new = fresh[name].detach().to(tensor.device, tensor.dtype, copy=True)
        if new.dim() > 1:
            new[: len(tensor), tensor.shape[1] :] = 0
        new[block] = tensor.detach()
        grown[name] = new
        old[name] = torch.zeros_like(new, dtype=torch.bool)
        old[name][block] = True
    return Widened(grown, old)
