"""A network of three widths, for what grows; `tinywide:narrow` and so on are backbones."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from maskpack.backbones.base import seeded
from maskpack.backbones.widening import Widened, surrounded

NAMES = {1.0: "tinywide:narrow", 1.5: "tinywide:wide", 2.0: "tinywide:wider"}


class Wide(nn.Module):
    """Two convolutions with norms, a linear layer with a bias, a head."""

    def __init__(self, width: float) -> None:
        super().__init__()
        self.width = width
        first, second, third = (int(count * math.sqrt(width)) for count in (5, 7, 9))
        self.stem = nn.Conv2d(3, first, 3, stride=2, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(first)
        self.conv = nn.Conv2d(first, second, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(second)
        self.linear = nn.Linear(second, third)
        self.fc = nn.Linear(third, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.norm1(self.stem(x)))
        x = torch.relu(self.norm2(self.conv(x))).mean((2, 3))
        return self.fc(torch.relu(self.linear(x)))

    def name_of_width(self, width: float) -> str:
        return NAMES[width]

    def widened(self, state: Mapping[str, Tensor], width: float, seed: int) -> Widened:
        with seeded(seed):
            return surrounded(state, Wide(width).state_dict())


def narrow() -> Wide:
    return Wide(1.0)


def wide() -> Wide:
    return Wide(1.5)


def wider() -> Wide:
    return Wide(2.0)


narrow.preprocess = {"img_size": 8}  # type: ignore[attr-defined]
wider.preprocess = {"img_size": 8}  # type: ignore[attr-defined]
wide.preprocess = {"img_size": 8}  # type: ignore[attr-defined]
