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

from maskpack.backbones.layers import norm_layers
from maskpack.common.errors import OptionError
from maskpack.methods.base import Carried, Keeper
from maskpack.methods.sequences.one_network import evaluating

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
        if module is network:
            latest.map = None
        elif module is last:
            seen.features, seen.map = inputs[0], latest.map

    for module in network.modules():
        module.register_forward_hook(after)
    for module in (network, last):
        module.register_forward_pre_hook(before)
    return seen


@dataclass(frozen=True)
class View:
    """What a forward pass gave: logits of each task that it was for, and its last feature map."""

    outputs: list[Tensor]
    map: Tensor | None


class Recall(Keeper):
    """Runs the network of before and the one in training through the heads of earlier tasks.

    Where tasks share their norms, the pass of the training step serves all of them. Where each has
    its own, each needs a pass of its own, with these in place: they stay as they are. Heads are
    trained (`trained`), as the papers have it. Where no task came before, nothing is copied and
    nothing is hooked.

    Raises:
        OptionError: some of the earlier tasks have norms of their own, and some have not.
    """

    def __init__(self, method: str, network: nn.Module, head: str, carried: Carried) -> None:
        self.tasks = carried.tasks
        if len({bool(task.norms) for task in self.tasks}) > 1:
            shared = next(task.name for task in self.tasks if not task.norms)
            raise OptionError(
                f"{method} after {self.tasks[-1].name!r}: some tasks before it have norms of their "
                f"own, {shared!r} has not; give --norms the same value for all tasks of a sequence"
            )
        self.network, self.head = network, head
        last = network.get_submodule(head)
        device = next(last.parameters()).device
        self._fixed = [_on(device, task.head) for task in self.tasks]
        self._norms = [_on(device, task.norms) for task in self.tasks]
        self.current = [
            {name: nn.Parameter(tensor.detach().clone()) for name, tensor in known.items()}
            for known in self._fixed
        ]
        if not self.tasks:
            return
        self.before = copy.deepcopy(network).eval().requires_grad_(False)
        self._layer = copy.deepcopy(last)  # how it computes; not its values
        self.seen, self.seen_before = watch(network, head), watch(self.before, head)

    def then(self, images: Tensor, *, differentiable: bool = False) -> list[View]:
        """What the network as it was when the training began gives for earlier tasks.

        With `differentiable` outputs can be differentiated by the map of their view.
        """
        pictures = images.detach().float()
        with torch.set_grad_enabled(differentiable):
            pictures = pictures.requires_grad_() if differentiable else pictures
            if any(self._norms):
                return self._passes(self.before, self.seen_before, self._fixed, pictures)
            self.before(pictures)
            return [self._heads(self.seen_before, self._fixed)]

    def now(self, images: Tensor) -> list[View]:
        """The same of the network as it is, which these pictures have just gone through."""
        if not any(self._norms):
            return [self._heads(self.seen, self.current)]
        with evaluating(*norm_layers(self.network, self.head).values()):
            return self._passes(self.network, self.seen, self.current, images)

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

    def _heads(self, seen: Seen, heads: Sequence[Mapping[str, Tensor]]) -> View:
        """All heads on what the network's own was given."""
        assert seen.features is not None, "the network has not seen a picture yet"
        features = seen.features.float()  # bfloat16 after a pass in mixed precision
        outputs = [functional_call(self._layer, dict(head), (features,)) for head in heads]
        return View(outputs, seen.map)

    def _passes(
        self,
        network: nn.Module,
        seen: Seen,
        heads: Sequence[Mapping[str, Tensor]],
        images: Tensor,
    ) -> list[View]:
        """A pass for each task, with its head and norms in place of the network's."""
        views = []
        for head, norms in zip(heads, self._norms, strict=True):
            own = {f"{self.head}.{name}": tensor for name, tensor in head.items()}
            output = functional_call(network, {**norms, **own}, (images,))
            views.append(View([output.float()], seen.map))
        return views


def _on(device: torch.device, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.to(device) for name, tensor in tensors.items()}
