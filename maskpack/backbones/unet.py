"""`unet`: an encoder-decoder of the size that Matsumoto and Yanai (ACPR 2019) report.

They state 56.4 MB in float32, 20.5 MB of it the decoder, and no layout. This one has these sizes
(56.399 and 20.499 MB, the last layer aside), with the names of VGG's layers:

    encoder   level   1    2    3    4    5    6     at 1, 1/2, 1/4 ... of the picture's size
              width   64  128  256  256  256  512
              convs   2    3    3    3    3    2     3x3, each with a norm and a ReLU
    decoder   levels 5 to 1, of the same widths: a 2x2 transposed convolution of stride 2, the
              encoder's map beside it, one 3x3 convolution with a norm and a ReLU
    head      a 1x1 convolution

Between levels is a 2x2 max pooling. `unet` has batch norm, `unet-instance` instance norm with a
weight and a bias, without running statistics.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn
from torch.nn import functional as F

from maskpack.backbones.decoder import Decoder

WIDTHS = (64, 128, 256, 256, 256, 512)
CONVS = (2, 3, 3, 3, 3, 2)
OUTPUTS = 3  # of the network's own head: a picture
PARTS = {"encoder": ("encoder",), "decoder": ("decoder",)}


class Encoder(nn.Module):
    """conv1_1, norm1_1, conv1_2 ... conv6_2, norm6_2."""

    def __init__(self, norm: Callable[[int], nn.Module]) -> None:
        super().__init__()
        channels = 3
        for level, (width, convs) in enumerate(zip(WIDTHS, CONVS, strict=True), 1):
            for number in range(1, convs + 1):
                conv = nn.Conv2d(channels, width, 3, padding=1, bias=False)
                self.add_module(f"conv{level}_{number}", conv)
                self.add_module(f"norm{level}_{number}", norm(width))
                channels = width

    def forward(self, x: Tensor) -> list[Tensor]:
        """(batch, 3, h, w) -> a map per level, (batch, WIDTHS[i], h / 2**i, w / 2**i) rounded up.

        A map of 2 pixels a side is not made smaller: norms of one pixel would leave nothing.
        """
        maps: list[Tensor] = []
        for level, convs in enumerate(CONVS, 1):
            if level > 1 and min(x.shape[-2:]) > 2:
                x = F.max_pool2d(x, 2, ceil_mode=True)
            for number in range(1, convs + 1):
                x = self.get_submodule(f"conv{level}_{number}")(x)
                x = F.relu(self.get_submodule(f"norm{level}_{number}")(x))
            maps.append(x)
        return maps


class UNet(nn.Module):
    """(batch, 3, h, w) -> (batch, outputs, h, w), for any h and w from 16 pixels."""

    def __init__(self, norm: Callable[[int], nn.Module] = nn.BatchNorm2d) -> None:
        super().__init__()
        self.encoder = Encoder(norm)
        self.decoder = Decoder(WIDTHS, WIDTHS, "transposed", norm)
        self.head = nn.Conv2d(WIDTHS[0], OUTPUTS, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.decoder(self.encoder(x), x.shape[2], x.shape[3]))
