"""Put masks on a network, read them off, bake them in."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from maskpack.backbones.layers import Layer, norm_layers, norm_tensors
from maskpack.common.errors import UnknownName
from maskpack.methods.base import Method

KEPT_FROZEN = ("frozen", "scale")  # those that leave running statistics the backbone's
LEARNT = {  # which tensors of a norm are then the task's own
    "frozen": (),
    "scale": ("weight", "bias"),
    "stats": ("running_mean", "running_var"),
    "task": ("weight", "bias", "running_mean", "running_var"),
}
NORM_MODES = tuple(LEARNT)


class MaskedNetwork(nn.Module):
    """A network that computes with effective weights, functions of its frozen ones.

    `network` is never changed by a mask: every forward pass hands it the effective weights in
    place of its own (torch.func.functional_call), which reaches bare parameters and shared
    weights as well. Only what the task owns requires a gradient: scores and coefficients, the
    head, with norms="scale" or "task" the norms, and the `trained` modules whole: with "" among
    them, as fine-tuning has it, everything.
    """

    def __init__(
        self,
        network: nn.Module,
        head: str,
        method: Method,
        layers: Mapping[str, Layer],
        norms: str = "frozen",
        seed: int = 0,
        trained: tuple[str, ...] = (),
    ) -> None:
        super().__init__()
        if norms not in NORM_MODES:
            raise UnknownName("norms mode", norms, NORM_MODES)
        self.network = network
        self.head = head
        self.method = method
        self.layers = dict(layers) if method.masks else {}
        self.left_out: tuple[str, ...] = ()  # weights that the method cannot mask
        self.norms = norms
        self.keeps_masks = False  # whether a training step leaves its masks in `used_masks`
        self.used_masks: dict[str, dict[str, Tensor]] = {}
        self.trained = trained
        found = norm_layers(network, head)
        # norms of a part that is the task's own are trained with it, whatever the norms mode
        parts = () if "" in trained else trained
        self._part_norms = [norm for name, norm in found.items() if _inside(name, parts)]
        self._norm_layers = [norm for name, norm in found.items() if not _inside(name, parts)]
        generator = torch.Generator().manual_seed(seed)
        self.params = nn.ModuleDict()  # a ModuleDict key may hold any character but the dot
        named = dict(network.named_parameters())
        for name, layer in self.layers.items():
            weight = named[name].detach()
            # random scores are drawn in memory order: that of C, whatever the weight's is
            values = method.init_params(weight.cpu().contiguous(), layer, generator)
            self.params[name.replace(".", "/")] = nn.ParameterDict(
                {key: nn.Parameter(value.to(weight.device)) for key, value in values.items()}
            )
        self._set_gradients()
        self.train()

    def layer_params(self, layer: str) -> dict[str, Tensor]:
        """Trainables of one weight, by name."""
        values: Any = self.params[layer.replace(".", "/")]
        return dict(values.items())

    def scores(self) -> Iterator[Tensor]:
        """What is thresholded into bits, of every layer."""
        for name in self.layers:
            values = self.layer_params(name)
            if "scores" in values:
                yield values["scores"]

    def masks(self, training: bool = False) -> dict[str, dict[str, Tensor]]:
        """What a pack would keep, by layer and field."""
        return {name: self.method.mask(self.layer_params(name), training) for name in self.layers}

    def effective_weights(self) -> dict[str, Tensor]:
        """The weights the network computes with in place of its own, by parameter name."""
        named = dict(self.network.named_parameters())
        masks = self.masks(self.training)
        self.used_masks = masks if self.training and self.keeps_masks else {}
        return {
            name: self.method.effective_weight(named[name], mask) for name, mask in masks.items()
        }

    def forward(self, *inputs: Any, **kwargs: Any) -> Any:
        if not self.layers:
            return self.network(*inputs, **kwargs)
        return functional_call(self.network, self.effective_weights(), inputs, kwargs)

    def train(self, mode: bool = True) -> MaskedNetwork:
        super().train(mode)
        if self.norms in KEPT_FROZEN:
            for norm in self._norm_layers:  # or their running statistics would drift
                norm.eval()
        return self

    @torch.no_grad()
    def confine(self) -> None:
        """`Method.confine` of every layer."""
        for name in self.layers:
            self.method.confine(self.layer_params(name))

    def own_tensors(self) -> dict[str, dict[str, Tensor]]:
        """The task's tensors that are no masks: by role (head, norms, weights) and state name.

        A tensor with several names comes once, under the first. Where weights are trained the
        norms among them come too, frozen or not: fine-tuned, a task needs no backbone.
        """
        names: dict[int, str] = {}
        state = self.network.state_dict(keep_vars=True)
        state = {n: t for n, t in state.items() if names.setdefault(id(t), n) == n}
        head = {name: t for name, t in state.items() if name.startswith(f"{self.head}.")}
        norms = {n: t for n, t in norm_tensors(self.network, self.head).items() if n in state}
        every = {name for name in state if _inside(name, self.trained)}
        learnt = LEARNT[self.norms]
        weights = {
            name: tensor
            for name, tensor in state.items()
            if name in every and name not in head | norms and tensor.is_floating_point()
        }
        norms = {n: t for n, t in norms.items() if n in every or n.rpartition(".")[2] in learnt}
        roles = {"head": head, "norms": norms, "weights": weights}
        return {role: _without(tensors, self.layers) for role, tensors in roles.items() if tensors}

    @torch.no_grad()
    def baked(self) -> nn.Module:
        """A plain copy of the network with the effective weights as its own, in eval mode."""
        was_training = self.training
        self.eval()
        plain = copy.deepcopy(self.network)
        set_weights(plain, self.effective_weights())
        self.train(was_training)
        return plain.eval().requires_grad_(False)

    def share_of_ones(self) -> dict[str, float]:
        """Share of mask bits that are 1, by layer; empty for a method without bits."""
        if "mask" not in self.method.stores:
            return {}
        with torch.no_grad():
            return {
                name: float(mask["mask"].float().mean()) if mask["mask"].numel() else 1.0
                for name, mask in self.masks().items()
            }

    def at_rest(self, epoch: int, epochs: int) -> Iterator[nn.Parameter]:
        """Parameters of the trained modules that do not learn in an epoch, counted from 0."""
        learning = self.method.learning(self.trained, epoch, epochs)
        for name in self.trained:
            if name not in learning:
                yield from self.network.get_submodule(name).parameters()

    def _set_gradients(self) -> None:
        self.network.requires_grad_(False)
        for name in self.trained:
            self.network.get_submodule(name).requires_grad_(True)
        for norm in self._norm_layers:
            norm.requires_grad_(self.norms in ("scale", "task"))
        head: Any = self.network.get_submodule(self.head)
        head.requires_grad_(True)
        named = dict(self.network.named_parameters())
        for name in self.layers:  # a masked norm or head weight stays the backbone's
            named[name].requires_grad_(False)

    def trained_groups(self) -> dict[str, list[nn.Parameter]]:
        """What the optimiser may move: by group (scores, norms, head, weights)."""
        prefix = f"{self.head}."
        every = [*self._norm_layers, *self._part_norms]
        norms = {id(p) for norm in every for p in norm.parameters()}
        groups: dict[str, list[nn.Parameter]] = {"scores": list(self.params.parameters())}
        for name, parameter in self.network.named_parameters():
            if parameter.requires_grad:
                inside = name.startswith(prefix)
                role = "head" if inside else "norms" if id(parameter) in norms else "weights"
                groups.setdefault(role, []).append(parameter)
        return {role: parameters for role, parameters in groups.items() if parameters}


def _inside(name: str, modules: tuple[str, ...]) -> bool:
    """Whether a module or tensor lies in one of the modules; "" is the whole network."""
    return any(not module or f"{name}.".startswith(f"{module}.") for module in modules)


def set_weights(network: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Copy tensors into a network's parameters and buffers of the same name and shape."""
    state = network.state_dict(keep_vars=True)
    with torch.no_grad():
        for name, value in weights.items():
            state[name].copy_(value)


def _without(tensors: Mapping[str, Tensor], layers: Mapping[str, Layer]) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in tensors.items() if name not in layers}


def named_params(masked: MaskedNetwork) -> Iterator[tuple[str, str, Tensor]]:
    """Layer, name and value of every trainable of a mask."""
    for layer in masked.layers:
        for key, value in masked.layer_params(layer).items():
            yield layer, key, value
