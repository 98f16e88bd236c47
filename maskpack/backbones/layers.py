"""Which weights of a network can carry a mask, and which of its layers are norms."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from maskpack.common.errors import OptionError

NORMS: tuple[type[nn.Module], ...] = (_NormBase, nn.LayerNorm, nn.GroupNorm)
if hasattr(nn, "RMSNorm"):
    NORMS += (nn.RMSNorm,)
ATTENTION = ("in_proj_weight", "q_proj_weight", "k_proj_weight", "v_proj_weight")
DEFAULT = "default"  # a pattern of --include: the weights that are masked anyway


@dataclass(frozen=True)
class Layer:
    """A weight that carries a mask.

    `channel` is the dimension of its output channels (1 in transposed convolutions), `normed`
    whether a norm takes the layer's output directly, which makes the output's scale irrelevant.
    """

    name: str
    shape: tuple[int, ...]
    kind: str
    channel: int = 0
    normed: bool = False


def find_layers(
    network: nn.Module,
    head: str,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    example: Tensor | None = None,
) -> dict[str, Layer]:
    """The weights to mask, by parameter name.

    By default the weights of convolutions, linear layers and attention, but not the head, biases
    and norms. With `include`, exactly the parameters whose name matches one of its patterns
    (the pattern "default" stands for the default); `exclude` is applied after. A weight that
    several modules share is listed once, under its first name. `example`, of shape
    (batch, channels, height, width), is run once to see which layers a norm follows.

    Raises:
        OptionError: a pattern matches no parameter.
    """
    default = _default_layers(network, head)
    every = {
        name: default.get(name) or Layer(name, tuple(parameter.shape), "parameter")
        for name, parameter in network.named_parameters()
        if not _inside(name, head) and parameter.is_floating_point()
    }
    chosen = every if include else default
    for option, patterns in (("--include", include), ("--exclude", exclude)):
        for pattern in patterns:
            if pattern != DEFAULT and not any(fnmatchcase(name, pattern) for name in every):
                near = ", ".join(list(default)[:3])
                raise OptionError(f"{option} {pattern!r} matches no parameter; some: {near}, ...")
    layers = {
        name: layer
        for name, layer in chosen.items()
        if (not include or _matches(name, include, default))
        and not _matches(name, exclude, default)
    }
    followed = _followed_by_norm(network, example) if example is not None else set()
    return {
        name: Layer(name, layer.shape, layer.kind, layer.channel, name in followed)
        for name, layer in layers.items()
    }


def norm_layers(network: nn.Module, head: str) -> dict[str, nn.Module]:
    """The normalisation layers outside the head, by module name."""
    return {
        name: module
        for name, module in network.named_modules()
        if isinstance(module, NORMS) and not _inside(name, head)
    }


def norm_tensors(network: nn.Module, head: str) -> dict[str, Tensor]:
    """Weight, bias, running mean and running variance of every norm, by state name."""
    return {
        f"{name}.{key}": tensor
        for name, module in norm_layers(network, head).items()
        for key, tensor in module.state_dict(keep_vars=True).items()
        if tensor.is_floating_point()
    }


def _inside(name: str, module: str) -> bool:
    return name == module or name.startswith(f"{module}.")


def _matches(name: str, patterns: Sequence[str], default: dict[str, Layer]) -> bool:
    return any(
        name in default if pattern == DEFAULT else fnmatchcase(name, pattern)
        for pattern in patterns
    )


def _default_layers(network: nn.Module, head: str) -> dict[str, Layer]:
    # named_parameters() names a shared weight once; modules may meet it under a later name
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    layers: dict[str, Layer] = {}
    for module in network.modules():
        keys: tuple[str, ...] = ()
        if isinstance(module, (_ConvNd, nn.Linear)):
            keys = ("weight",)
        elif isinstance(module, nn.MultiheadAttention):
            keys = ATTENTION  # bare parameters; out_proj is a linear layer of its own
        for key in keys:
            weight = module._parameters.get(key)
            if weight is None or _inside(names[id(weight)], head):
                continue
            name = names[id(weight)]
            channel = 1 if isinstance(module, _ConvTransposeNd) else 0
            layers.setdefault(name, Layer(name, tuple(weight.shape), _kind(module), channel))
    order = {name: place for place, name in enumerate(names.values())}
    return dict(sorted(layers.items(), key=lambda item: order[item[0]]))


def _kind(module: nn.Module) -> str:
    if isinstance(module, nn.MultiheadAttention):
        return "attention"
    if isinstance(module, nn.Linear):
        return "linear"
    assert isinstance(module, _ConvNd)
    if isinstance(module, _ConvTransposeNd):
        return "transposed conv"
    if module.groups == 1:
        return "conv"
    return "depthwise conv" if module.groups == module.in_channels else "grouped conv"


@torch.no_grad()
def _followed_by_norm(network: nn.Module, example: Tensor) -> set[str]:
    """Names of weights whose layers' outputs all go, untouched, to some norm first."""
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    made: dict[int, tuple[Tensor, int, str]] = {}  # the tensor is kept, or its id could be reused
    loose: Counter[str] = Counter()  # outputs that no norm took; a shared weight has several

    def after_layer(module: nn.Module, _: object, output: Tensor) -> None:
        name = names.get(id(module._parameters.get("weight")))
        if name is not None:  # None where the weight is computed, as by weight_norm
            # an activation in place hands on the same tensor, in another version
            made[id(output)] = (output, output._version, name)
            loose[name] += 1

    def before_norm(_: nn.Module, inputs: tuple[object, ...]) -> None:
        if inputs and id(inputs[0]) in made:
            output, version, name = made.pop(id(inputs[0]))
            loose[name] -= output._version == version

    hooks = []
    for module in network.modules():
        if isinstance(module, (_ConvNd, nn.Linear)):
            hooks.append(module.register_forward_hook(after_layer))
        elif isinstance(module, NORMS):
            hooks.append(module.register_forward_pre_hook(before_norm))
    training = {module: module.training for module in network.modules()}
    try:
        network.eval()(example)
    finally:
        for hook in hooks:
            hook.remove()
        for module, mode in training.items():
            module.training = mode
    return {name for name, outputs in loose.items() if outputs == 0}
