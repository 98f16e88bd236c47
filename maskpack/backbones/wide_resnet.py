"""`wrn28-decathlon`: the wide residual network of the Visual Decathlon, for pictures of 64 px.

Wide ResNet-28 (Zagoruyko and Komodakis 2016, arXiv:1605.07146) with widths 64, 128 and 256 is what
Rebuffi et al. (2017, arXiv:1705.08045) and Mancini et al. (2018, arXiv:1805.11119) train:

    stem      a 3x3 convolution to 16 channels
    stages    64, 128, 256 channels; 4 blocks each, the first of stride 2: 32, 16, 8 px
    block     relu(norm(conv(relu(norm(conv(x))))) + shortcut), both 3x3
    head      mean over the map, then a linear layer from 256

Papers give no more than that. Assumed here: norms behind convolutions, not before them; the
shortcut of each stage's first block is a 1x1 convolution of stride 2 with a norm, all others are
the identity; no convolution has a bias, and there is no dropout. With that, 28 convolutions have
5,839,280 weights and 28 norms 8,096, from which the 1.28 (Piggyback) and 1.29 (with norms) of
Mancini et al.'s table 3 follow.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from maskpack.backbones.base import Backbone, make_backbone, seeded
from maskpack.backbones.weights import fit_weights, read_weights
from maskpack.common.errors import UnknownName
from maskpack.common.preprocess import Preprocess

STEM = 16
WIDTHS = (64, 128, 256)
BLOCKS = 4
OUTPUTS = 1000  # of the network's own head: ImageNet's classes
HEAD = "fc"
# Pictures of the decathlon have a short side of 72; the centre 64 x 64 of them is scored.
PREPROCESS = Preprocess(img_size=64, crop_pct=64 / 72)


class Block(nn.Module):
    """(batch, channels, h, w) -> (batch, width, h / stride, w / stride)."""

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample = nn.Sequential()
        if stride != 1 or channels != width:
            conv = nn.Conv2d(channels, width, 1, stride=stride, bias=False)
            self.downsample = nn.Sequential(conv, nn.BatchNorm2d(width))

    def forward(self, x: Tensor) -> Tensor:
        out = torch.relu(self.bn1(self.conv1(x)))
        return torch.relu(self.bn2(self.conv2(out)) + self.downsample(x))


class WideResNet(nn.Module):
    """(batch, 3, h, w) -> (batch, outputs)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, STEM, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(STEM)
        channels = STEM
        for number, width in enumerate(WIDTHS, 1):
            blocks = [Block(channels, width, stride=2)]
            blocks += [Block(width, width, stride=1) for _ in range(BLOCKS - 1)]
            self.add_module(f"layer{number}", nn.Sequential(*blocks))
            channels = width
        self.fc = nn.Linear(channels, OUTPUTS)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.bn1(self.conv1(x)))
        for number in range(1, len(WIDTHS) + 1):
            x = self.get_submodule(f"layer{number}")(x)
        return self.fc(x.mean((2, 3)))


def build(name: str, weights: Path | str | None, seed: int, head: str | None) -> Backbone:
    """A file's weights, or random ones, which is all that the name alone can mean."""
    family, slash, weight_set = name.partition("/")
    if slash:
        raise UnknownName(f"weight set of {family}", weight_set, ["none"])
    with seeded(seed):
        module = WideResNet()
    if isinstance(weights, Path):
        fit_weights(module, read_weights(weights), head or HEAD, str(weights))
        source = f"file {weights.name}"
    else:
        name, source = f"{name}/none#{seed}", f"random, seed {seed}"
    return make_backbone(name, module, PREPROCESS, head or HEAD, source)
