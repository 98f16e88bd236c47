"""Memory aware synapses (Aljundi et al., 2018, arXiv:1711.09601), the global form."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from maskpack.common.options import check_not_negative
from maskpack.methods.base import Batches, Carried, Keeper, Loss, Recipe
from maskpack.methods.sequences.importance import (
    Consolidation,
    carried_of,
    check_samples,
    mean_gradients,
)
from maskpack.methods.sequences.one_network import OneNetwork, trunk


@dataclass(frozen=True)
class MAS(OneNetwork):
    """Adds strength * sum_i Omega_i (theta_i - theta*_i)^2.

    Omega sums, over earlier tasks, the mean over `samples` training pictures (0: all, as in the
    paper) of |d ||f(x)||^2 / d theta_i|, where f(x) are all of the task's outputs. No target is
    needed. theta* is where the training starts.
    """

    strength: float = 1.0  # lambda
    samples: int = 200

    name: ClassVar[str] = "mas"
    # the published code's: 8e-4, x 0.1 after 54 epochs
    recipe: ClassVar[Recipe] = Recipe(
        opt="sgd", lr=8e-4, epochs=100, batch_size=200, decay_epochs=54
    )

    def __post_init__(self) -> None:
        check_not_negative("strength", self.strength)
        check_samples(self.samples)

    def keeper(self, network: nn.Module, head: str, carried: Carried) -> Keeper:
        return _Aware(self, network, head, carried)


class _Aware(Consolidation):
    def __init__(self, method: MAS, network: nn.Module, head: str, carried: Carried) -> None:
        shared = trunk(network, head)
        importance = carried_of(method.name, carried, "importance", shared)
        start = {name: parameter.detach().clone() for name, parameter in shared.items()}
        super().__init__(network, head, importance, start, method.strength)
        self.samples = method.samples

    def carry(self, batches: Batches, loss: Loss) -> dict[str, Tensor]:
        found = mean_gradients(
            self.network, self.trunk, batches, self.samples, _length, of="magnitudes"
        )
        if self.importance:
            for name, omega in found.items():
                omega += self.importance[name]
        return {f"importance/{name}": omega for name, omega in found.items()}


def _length(output: Tensor, target: Tensor) -> Tensor:
    """||f(x)||^2, which the paper takes since a vector's own gradients would cost one pass each."""
    return output.square().sum()
