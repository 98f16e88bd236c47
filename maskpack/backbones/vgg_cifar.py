"""`vgg16_bn_cifar`: VGG-16 with batch norm for 32 px pictures, narrow or wide.

The network on which CPG (Hung et al. 2019, https://arxiv.org/abs/1910.06562) and KSM (Yang et al.
2021) learn CIFAR-100's twenty tasks: thirteen 3x3 convolutions without bias, each with a batch norm
and a ReLU, five times halved, then linear layers of 4096 and 4096 and the head.

`-wW` behind the name multiplies every layer's outputs by sqrt(W), rounded down, so that about W
times as many weights are there; CPG grows from 1 by 0.5, on CIFAR to 1.5 at most. `widened` takes
a network's weights to a wider one, `narrowed` takes them back.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from maskpack.backbones import VGG_CIFAR
from maskpack.backbones.base import Backbone, make_backbone, seeded
from maskpack.backbones.weights import fit_weights, read_weights
from maskpack.backbones.widening import Widened, surrounded
from maskpack.common.errors import BackboneError, UnknownName
from maskpack.common.preprocess import Preprocess

HEAD = "head"
PLAN = (64, 64, 0, 128, 128, 0, 256, 256, 256, 0, 512, 512, 512, 0, 512, 512, 512, 0)  # 0: halve
LINEAR = 4096
OUTPUTS = 100  # of the network's own head
LEAST, MOST = 0.001, 16.0  # widths

# mean and standard deviation of CIFAR-100's training pictures
PREPROCESS = Preprocess(
    img_size=32, crop_pct=1.0, mean=(0.5071, 0.4865, 0.4409), std=(0.2673, 0.2564, 0.2762)
)

_NAME = re.compile(rf"{VGG_CIFAR}(?:-w(?P<width>\d+(?:\.\d+)?))?")


class VGG(nn.Module):
    """(batch, 3, h, w) -> (batch, OUTPUTS), for any h and w from 32 pixels.

    Convolutions have the numbers that torchvision's vgg16_bn gives them: `features.0` and so on.
    """

    def __init__(self, width: float = 1.0) -> None:
        super().__init__()
        self.width = width
        layers: list[nn.Module] = []
        channels = 3
        for outputs in PLAN:
            if not outputs:
                layers.append(nn.MaxPool2d(2))
                continue
            outputs = scaled(outputs, width)
            convolution = nn.Conv2d(channels, outputs, 3, padding=1, bias=False)
            layers += [convolution, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)]
            channels = outputs
        linear = scaled(LINEAR, width)
        self.features = nn.Sequential(*layers)
        self.pool = nn.AdaptiveAvgPool2d(1)  # of 32 px pictures one pixel is left, as it is
        self.fc6 = nn.Linear(channels, linear)
        self.fc7 = nn.Linear(linear, linear)
        self.head = nn.Linear(linear, OUTPUTS)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            elif isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, 0.0, 0.01)
                nn.init.zeros_(module.bias)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(self.features(x)).flatten(1)
        x = torch.relu(self.fc6(x))
        return self.head(torch.relu(self.fc7(x)))

    # ---- maskpack.backbones.widening.Widenable

    def name_of_width(self, width: float) -> str:
        return name_of_width(width)

    def widened(self, state: Mapping[str, Tensor], width: float, seed: int) -> Widened:
        return widened(state, self.width, width, seed=seed)


def scaled(outputs: int, width: float) -> int:
    """Outputs of a layer that has `outputs` of them at width 1."""
    return max(1, int(outputs * math.sqrt(width)))


def name_of_width(width: float) -> str:
    """What `open_backbone` calls the network of a width."""
    return VGG_CIFAR if width == 1 else f"{VGG_CIFAR}-w{width:g}"


def width_of(name: str) -> float:
    """The width in a network's name, whatever weights it names besides.

    Raises:
        BackboneError: not a name of this family, or a width it cannot have.
    """
    match = _NAME.fullmatch(name.partition("/")[0])
    width = float(match["width"] or 1) if match else 0.0
    if not LEAST <= width <= MOST:
        raise BackboneError(
            f"backbone {name!r}: expected {VGG_CIFAR} or {VGG_CIFAR}-wW, the width W a number from "
            f"{LEAST:g} to {MOST:g}, as in {VGG_CIFAR}-w1.5"
        )
    return width


def build(name: str, weights: Path | str | None, seed: int, head: str | None) -> Backbone:
    """The network of a name: a file's weights, or random ones, all that the name alone can mean."""
    family, slash, weight_set = name.partition("/")
    if slash:
        raise UnknownName(f"weight set of {family}", weight_set, ["none"])
    width = width_of(family)
    name = name_of_width(width)
    with seeded(seed):
        module = VGG(width)
    if isinstance(weights, Path):
        fit_weights(module, read_weights(weights), head or HEAD, str(weights))
        source = f"file {weights.name}"
    else:
        name, source = f"{name}/none#{seed}", f"random, seed {seed}"
    return make_backbone(name, module, PREPROCESS, head or HEAD, source)


# ---- growing


def widened(
    state: Mapping[str, Tensor], old_width: float, new_width: float, *, seed: int = 0
) -> Widened:
    """Weights of width `old_width`, and new ones around them, for a network of `new_width`.

    `state` is a state dict or a part of one; its head, if there, keeps its classes. Old weights are
    the leading block of each tensor. The rest is what a new network draws from `seed`, but for
    weights that lead from new inputs to old outputs, which are 0: what the old channels compute
    hangs on nothing that is new, and the head answers as before, up to the order of sums.

    As soon as those zeros are trained, earlier tasks need them masked (`old` is the mask), or the
    narrow network: `narrowed` gives them back their very bits.

    Raises:
        BackboneError: the widths are in the wrong order, or a tensor is not of the old one.
    """
    if not LEAST <= old_width <= new_width <= MOST:
        raise BackboneError(
            f"a network of width {old_width:g} cannot grow to {new_width:g}; expected a larger "
            f"width, {MOST:g} at most"
        )
    with seeded(seed):
        fresh = VGG(new_width).state_dict()
    shapes = _shapes(state, old_width)
    for name, tensor in state.items():
        if tensor.shape != shapes[name]:
            raise BackboneError(
                f"{name} is {tuple(tensor.shape)}, and in {name_of_width(old_width)} it is "
                f"{tuple(shapes[name])}"
            )
        if name.startswith(f"{HEAD}."):
            fresh[name] = fresh[name].new_zeros([len(tensor), *fresh[name].shape[1:]])
    return surrounded(state, fresh)


def narrowed(state: Mapping[str, Tensor], width: float) -> dict[str, Tensor]:
    """The leading blocks of a network's tensors that are one of `width`: `widened` undone.

    Raises:
        BackboneError: the network is narrower than that.
    """
    cut: dict[str, Tensor] = {}
    for name, shape in _shapes(state, width).items():
        if any(have < want for have, want in zip(state[name].shape, shape, strict=True)):
            raise BackboneError(
                f"{name} is {tuple(state[name].shape)}, too narrow for {name_of_width(width)}, "
                f"which has {tuple(shape)}"
            )
        cut[name] = state[name].detach()[tuple(slice(size) for size in shape)].clone()
    return cut


def _shapes(state: Mapping[str, Tensor], width: float) -> dict[str, torch.Size]:
    """Shapes at a width of the tensors in `state`; a head has the classes that it has there."""
    with torch.device("meta"):
        known = VGG(width).state_dict()
    shapes: dict[str, torch.Size] = {}
    for name, tensor in state.items():
        if name not in known or known[name].dim() != tensor.dim():
            raise BackboneError(f"{name}: no such tensor in {name_of_width(width)}")
        shape = known[name].shape
        if name.startswith(f"{HEAD}."):
            shape = torch.Size([len(tensor), *shape[1:]])
        shapes[name] = shape
    return shapes
