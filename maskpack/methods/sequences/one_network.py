"""What methods with one network share: every task trains it whole, and it forgets as little as it
can. A task's own is its head; the trunk is what all tasks have."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import ClassVar

import torch
from torch import Tensor, nn

from maskpack.backbones.layers import norm_layers
from maskpack.methods.baselines import _Unmasked


class OneNetwork(_Unmasked):
    """Every weight trained, from those that the task before left behind."""

    # AlexNet, VGG or perceptrons in the papers: no norms, hence no word on them. Statistics of the
    # newest task would change what earlier ones compute, however well their weights are kept.
    norms: ClassVar[str] = "frozen"

    def trained(self, parts: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
        return ("",)


def trunk(network: nn.Module, head: str) -> dict[str, nn.Parameter]:
    """The parameters that all tasks share, by name; one with several names under its first.

    Without the head, and without norms: they are frozen, or else each task has its own.
    """
    own = [f"{name}." for name in (head, *norm_layers(network, head))]
    return {
        name: parameter
        for name, parameter in network.named_parameters()
        if not name.startswith(tuple(own)) and parameter.is_floating_point()
    }


@contextmanager
def evaluating(*networks: nn.Module) -> Iterator[None]:
    """Every module in eval mode inside, and afterwards in the mode that each was in."""
    modes = [(module, module.training) for network in networks for module in network.modules()]
    for network in networks:
        network.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


def placed(tensor: Tensor, like: Tensor) -> Tensor:
    """A copy of `tensor` on the device and in the memory order of `like`."""
    return torch.empty_like(like, requires_grad=False).copy_(tensor)
