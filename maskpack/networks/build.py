"""Backbone + head + norms + masks: the network of one task."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from maskpack.backbones.base import replace_head
from maskpack.backbones.layers import find_layers
from maskpack.common.errors import OptionError
from maskpack.networks.masked import MaskedNetwork

if TYPE_CHECKING:
    from maskpack.backbones.base import Backbone
    from maskpack.methods.base import Method
    from maskpack.tasks.base import Task

HEAD_INITS = ("random", "zeros")


def task_network(
    backbone: Backbone,
    method: Method,
    outputs: int,
    *,
    norms: str | None = None,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    head_init: str = "random",
    seed: int = 0,
) -> MaskedNetwork:
    """A copy of the backbone with a new head of `outputs` units and fresh masks.

    `norms` is "frozen", "scale" (weight and bias of the task's own), "stats" (running statistics of
    its own) or "task" (both); by default what the method's paper does. `head_init` is one of
    HEAD_INITS. The backbone itself is left as it is.

    Raises:
        OptionError: a pattern of `include` or `exclude` matches nothing, no weight is masked, the
            backbone lacks the part that the method trains, or the network does not take pictures
            of its own size.
    """
    if outputs < 1:
        raise OptionError(f"outputs is {outputs}; a head has 1 or more")
    module = copy.deepcopy(backbone.module)
    size = backbone.preprocess.img_size
    example = torch.zeros(1, 3, size, size)
    _check_runs(module, example, backbone.name)
    found = {}
    layers = {}
    if method.masks:
        found = find_layers(module, backbone.head, include, exclude, example)
        layers = {name: layer for name, layer in found.items() if method.adapts(layer)}
        if not layers:
            raise OptionError("no weight of the network is masked; see --include and --exclude")
    network = replace_head(module, backbone.head, outputs, seed=seed)
    if head_init == "zeros":
        for parameter in network.get_submodule(backbone.head).parameters():
            torch.nn.init.zeros_(parameter)
    trained = method.trained(backbone.parts)
    masked = MaskedNetwork(
        network, backbone.head, method, layers, norms or method.norms, seed, trained
    )
    masked.left_out = tuple(name for name in found if name not in layers)
    return masked


@torch.no_grad()
def check_output(network: MaskedNetwork, task: Task, backbone: Backbone, size: int) -> None:
    """Raise OptionError unless a network gives what a task expects for size x size pictures."""
    expected = task.output_shape(size)
    if expected is None:
        return
    try:
        output = network.eval()(torch.zeros(1, 3, size, size))
    except Exception as error:  # as in _check_runs; without the new last layer it did run
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise OptionError(
            f"{backbone.name} does not run with a last layer {backbone.head!r} of "
            f"{task.outputs()} outputs: {first}; say which layer is the last with --head"
        ) from error
    network.train()
    found = tuple(output.shape[1:]) if isinstance(output, Tensor) else None
    if found == expected:
        return
    if found is None:
        what = f"a {type(output).__name__}"
    else:
        what = " x ".join(str(n) for n in found) + " numbers"
    if len(expected) == 1:
        advice = "take a network that classifies"
    elif found is not None and len(found) == len(expected):
        advice = "choose another --img-size"
    else:
        advice = "take unet, resnet-generator-9, NAME+resize or another encoder-decoder"
    raise OptionError(
        f"{backbone.name} gives {what} for a picture of {size} x {size} pixels, and task "
        f"{task.name!r} expects {' x '.join(str(n) for n in expected)}; {advice}"
    )


@torch.no_grad()
def _check_runs(network: nn.Module, example: Tensor, name: str) -> None:
    """Raise OptionError where a network does not take pictures of this size."""
    try:
        network.eval()(example)
    except Exception as error:  # somebody else's network, which may raise anything
        shape = " x ".join(str(n) for n in example.shape[1:])
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise OptionError(
            f"{name} does not run on {shape} pictures: {first}; choose another --img-size, in "
            "Python from_module(..., preprocess=Preprocess(img_size=...))"
        ) from error
