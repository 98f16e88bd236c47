"""`resnet-generator-6` and `-9`: an auto-encoder with residual blocks between its halves.

The networks of Johnson et al. (ECCV 2016) and CycleGAN (Zhu et al., ICCV 2017):

    encoder   a 7x7 convolution to 64 channels, two 3x3 of stride 2, to 128 and 256
    blocks    6 or 9, each x + norm(conv(relu(norm(conv(x))))), 3x3 and 256 channels
    decoder   two 3x3 transposed convolutions of stride 2, to 128 and 64
    head      a 7x7 convolution; what range it has is the task's affair, so no tanh follows

Pictures are reflected at their borders, except in the strided layers. Every other layer has a norm
(instance norm with a weight and a bias, no running statistics; batch norm in the `-batch`
variants), and no bias, which the norm would take away again.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

WIDTHS = (64, 128, 256)
OUTPUTS = 3  # of the network's own head: a picture

MakeNorm = Callable[[int], nn.Module]


class Encoder(nn.Module):
    """(batch, 3, h, w) -> (batch, 256, h / 4, w / 4), rounded up."""

    def __init__(self, norm: MakeNorm) -> None:
        super().__init__()
        first, second, third = WIDTHS
        self.conv1 = _reflecting(3, first, 7)
        self.norm1 = norm(first)
        self.conv2 = nn.Conv2d(first, second, 3, stride=2, padding=1, bias=False)
        self.norm2 = norm(second)
        self.conv3 = nn.Conv2d(second, third, 3, stride=2, padding=1, bias=False)
        self.norm3 = norm(third)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.norm1(self.conv1(x)))
        x = F.relu(self.norm2(self.conv2(x)))
        return F.relu(self.norm3(self.conv3(x)))


class Block(nn.Module):
    """A residual block that starts as the identity: its last norm's weight and bias are 0."""

    def __init__(self, norm: MakeNorm) -> None:
        super().__init__()
        width = WIDTHS[-1]
        self.conv1 = _reflecting(width, width, 3)
        self.norm1 = norm(width)
        self.conv2 = _reflecting(width, width, 3)
        self.norm2 = norm(width)
        for parameter in self.norm2.parameters():
            nn.init.zeros_(parameter)

    def forward(self, x: Tensor) -> Tensor:
        change = self.norm2(self.conv2(F.relu(self.norm1(self.conv1(x)))))
        return torch.add(x, change)


class Decoder(nn.Module):
    """(batch, 256, h, w) -> (batch, 64, 4 h, 4 w)."""

    def __init__(self, norm: MakeNorm) -> None:
        super().__init__()
        first, second, third = WIDTHS
        self.up1 = _doubling(third, second)
        self.norm1 = norm(second)
        self.up2 = _doubling(second, first)
        self.norm2 = norm(first)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.norm1(self.up1(x)))
        return F.relu(self.norm2(self.up2(x)))


class ResnetGenerator(nn.Module):
    """(batch, 3, h, w) -> (batch, outputs, h, w), for any h and w from 16 pixels.

    A new one is an auto-encoder with blocks that do nothing yet.
    """

    def __init__(self, blocks: int, norm: MakeNorm) -> None:
        super().__init__()
        self.encoder = Encoder(norm)
        self.blocks = nn.Sequential(*(Block(norm) for _ in range(blocks)))
        self.decoder = Decoder(norm)
        self.head = nn.Conv2d(WIDTHS[0], OUTPUTS, 7, padding=3, padding_mode="reflect")

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[2], x.shape[3]
        x = self.decoder(self.blocks(self.encoder(x)))
        return self.head(x[:, :, :height, :width])  # sizes that 4 does not divide


def parts(blocks: int) -> dict[str, tuple[str, ...]]:
    """`Backbone.parts`: each block is a name, so that a task can have blocks of its own."""
    names = tuple(f"blocks.{number}" for number in range(blocks))
    return {"encoder": ("encoder",), "blocks": names, "decoder": ("decoder",)}


def _reflecting(channels: int, width: int, kernel: int) -> nn.Conv2d:
    padding = kernel // 2
    return nn.Conv2d(channels, width, kernel, padding=padding, padding_mode="reflect", bias=False)


def _doubling(channels: int, width: int) -> nn.ConvTranspose2d:
    return nn.ConvTranspose2d(channels, width, 3, stride=2, padding=1, output_padding=1, bias=False)
