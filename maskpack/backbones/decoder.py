"""The way back from feature maps to a picture's size, as in U-Net (Ronneberger et al., 2015)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Decoder(nn.Module):
    """Upsample, put the encoder's map of that size beside it, convolve; until full size.

    Level 1 is the picture's size, level 2 half of it, and so on. `channels` are those of the
    encoder's maps from level 1 to the deepest, 0 where there is none; `widths` those the decoder
    makes, from level 1 on. `up` is "transposed" (a 2x2 transposed convolution of stride 2) or
    "resize" (bilinear, then a 3x3 convolution: no chequered patterns). A level has three modules:
    up3, conv3, norm3.
    """

    def __init__(
        self,
        channels: Sequence[int],
        widths: Sequence[int],
        up: str,
        norm: Callable[[int], nn.Module],
    ) -> None:
        super().__init__()
        self.up = up
        self.levels = tuple(range(len(channels) - 1, 0, -1))  # deepest first
        deep = channels[-1]
        for level in self.levels:
            width, skip = widths[level - 1], channels[level - 1]
            step: nn.Module
            if up == "transposed":
                step = nn.ConvTranspose2d(deep, width, 2, stride=2)
            else:
                step = nn.Conv2d(deep, width, 3, padding=1)
            self.add_module(f"up{level}", step)
            conv = nn.Conv2d(width + skip, width, 3, padding=1, bias=False)
            self.add_module(f"conv{level}", conv)
            self.add_module(f"norm{level}", norm(width))
            deep = width

    def forward(self, maps: Sequence[Tensor | None], height: int, width: int) -> Tensor:
        """`maps` from level 1 to the deepest -> (batch, widths[0], height, width)."""
        x = maps[-1]
        assert x is not None
        for level in self.levels:
            skip = maps[level - 1]
            stride = 1 << (level - 1)
            size = (-(-height // stride), -(-width // stride))
            if skip is not None:
                size = (skip.shape[2], skip.shape[3])
            if self.up == "transposed":
                x = fit(self._run("up", level, x), *size)
            else:
                x = F.interpolate(x, size=size, mode="bilinear", align_corners=False)
                x = self._run("up", level, x)
            x = x if skip is None else torch.cat([x, skip], dim=1)
            x = F.relu(self._run("norm", level, self._run("conv", level, x)))
        return x

    def _run(self, kind: str, level: int, x: Tensor) -> Tensor:
        return self.get_submodule(f"{kind}{level}")(x)


def fit(x: Tensor, height: int, width: int) -> Tensor:
    """A map at another size: cut where it is a doubled odd size, else resized (bilinear)."""
    more = (x.shape[2] - height, x.shape[3] - width)
    if all(0 <= pixels <= 1 for pixels in more):
        return x[:, :, :height, :width]
    return F.interpolate(x, size=(height, width), mode="bilinear", align_corners=False)
