"""What a network gave for earlier tasks, on the pictures of the new one: nothing old is kept but
the network itself, as it was when the training began."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from maskpack.errors import OptionError
from maskpack.methods.base import Carried, Keeper

POOLS = (nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveMaxPool2d, nn.AdaptiveAvgPool2d)


@dataclass
class Seen:
    """What a network's head was given in the last forward pass.

    `map` is the last feature map (batch, channels, h, w) of more than one place that a module
    made before that, pooling aside: pooled to 1 x 1 there is no place left to look at, and what
    an adaptive pool makes larger it makes of copies.
    """

    features: Tensor | None = None
    map: Tensor | None = None


def watch(network: nn.Module, head: str) -> Seen:
    """Keep in the returned `Seen` what the head is given, pass by pass.

    The hooks are closures, so a deep copy of the network has them too: what they see of a copy,
    such as the one that is validated, is passed over.
    """
    seen, latest = Seen(), Seen()
    last = network.get_submodule(head)
    modules = {id(module) for module in network.modules() if not isinstance(module, POOLS)}

    def after(module: nn.Module, inputs: Any, output: Any) -> None:
        if id(module) in modules and isinstance(output, Tensor) and output.dim() == 4:
            height, width = output.shape[2:]
            latest.map = output if height * width > 1 else latest.map

    def before(module: nn.Module, inputs: tuple[Any, ...]) -> None:
        if module is last:
            seen.features, seen.map, latest.map = inputs[0], latest.map, None

    for module in network.modules():
        module.register_forward_hook(after)
    last.register_forward_pre_hook(before)
    return seen


class Recall(Keeper):
    """Runs the network of before and the one in training through the heads of earlier tasks.

    Heads are trained too (`trained`), as the papers have it. Where no task came before, nothing
    is copied and nothing is hooked.

    Raises:
        OptionError: earlier tasks have norms of their own; with these their outputs would need a
            forward pass each, and the new task's norms would not be theirs.
    """

    def __init__(self, method: str, network: nn.Module, head: str, carried: Carried) -> None:
        self.tasks = carried.tasks
        for task in self.tasks:
            if task.norms:
                raise OptionError(
                    f"{method} after {task.name!r}: that task has norms of its own, and earlier "
                    "outputs can be kept only where all tasks share them; take --norms frozen for "
                    "every task of the sequence"
                )
        last = network.get_submodule(head)
        device = next(last.parameters()).device
        self._fixed = [{n: t.to(device) for n, t in task.head.items()} for task in self.tasks]
        self.current = [
            {name: nn.Parameter(tensor.detach().clone()) for name, tensor in known.items()}
            for known in self._fixed
        ]
        if not self.tasks:
            return
        self.before = copy.deepcopy(network).eval().requires_grad_(False)
        self._layer = copy.deepcopy(last)  # how it computes; not its values
        self.seen, self.seen_before = watch(network, head), watch(self.before, head)

    def recall(self, images: Tensor, *, differentiable: bool = False) -> list[Tensor]:
        """Outputs of earlier tasks as the network gave them when the training began.

        With `differentiable` they can be differentiated by `seen_before.map`.
        """
        pictures = images.detach().float()
        with torch.set_grad_enabled(differentiable):
            self.before(pictures.requires_grad_() if differentiable else pictures)
            assert self.seen_before.features is not None
            return self._outputs(self._fixed, self.seen_before.features)

    def outputs(self) -> list[Tensor]:
        """The same as they are now, of the pictures that went through the network last."""
        assert self.seen.features is not None, "the network has not seen a picture yet"
        return self._outputs(self.current, self.seen.features)

    def trained(self) -> list[nn.Parameter]:
        return [parameter for head in self.current for parameter in head.values()]

    def tensors(self) -> dict[str, Tensor]:
        return {
            f"head.{number}.{name}": parameter.detach()
            for number, head in enumerate(self.current)
            for name, parameter in head.items()
        }

    def heads(self) -> Sequence[Mapping[str, Tensor]]:
        return [{name: p.detach() for name, p in head.items()} for head in self.current]

    def _outputs(self, heads: Sequence[Mapping[str, Tensor]], features: Tensor) -> list[Tensor]:
        features = features.float()  # bfloat16 where the network's pass was in mixed precision
        return [functional_call(self._layer, dict(head), (features,)) for head in heads]
