"""An encoder-decoder and pictures small enough for a test to train in seconds.

`tinydense:build` is its name as a backbone, for commands run in other processes.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor, nn

from maskpack.backbones.base import Backbone, make_backbone, seeded
from maskpack.common.preprocess import Preprocess

SIZE = 16  # pixels
PARTS = {"encoder": ("down",), "blocks": ("block1", "block2"), "decoder": ("up",)}
PREPROCESS = Preprocess(img_size=SIZE, crop_pct=1.0, mean=(0.5,) * 3, std=(0.5,) * 3)


class _Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(8, 8, 3, padding=1, bias=False)
        self.norm = nn.InstanceNorm2d(8, affine=True)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.norm(self.conv(x))


class TinyDense(nn.Module):
    """Down by two, two residual blocks, up again by a transposed convolution, a 1x1 head."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Sequential(
            nn.Conv2d(3, 8, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU()
        )
        self.block1 = _Block()
        self.block2 = _Block()
        self.up = nn.Sequential(
            nn.ConvTranspose2d(8, 8, 2, stride=2, bias=False), nn.BatchNorm2d(8), nn.ReLU()
        )
        self.head = nn.Conv2d(8, 3, 1)

    def forward(self, x: Tensor) -> Tensor:  # (batch, 3, h, w) -> (batch, outputs, h, w)
        return self.head(self.up(self.block2(self.block1(self.down(x)))))


def build() -> TinyDense:
    return TinyDense()


build.preprocess = PREPROCESS  # type: ignore[attr-defined]
build.parts = PARTS  # type: ignore[attr-defined]


def backbone(seed: int = 0) -> Backbone:
    """The network of `tinydense:build`, under that name."""
    with seeded(seed):
        module = build()
    return make_backbone("tinydense:build", module, PREPROCESS, "head", parts=PARTS)


def write_photos(folder: Path, train: int = 6, test: int = 4) -> Path:
    """train/ and test/ of 20 px pictures: a bright disc of some colour on a dark ground."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:20, :20]
    for split, count in (("train", train), ("test", test)):
        (folder / split).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            inside = (x - rng.integers(6, 14)) ** 2 + (y - rng.integers(6, 14)) ** 2 < 25
            pixels = np.where(inside[..., None], rng.integers(120, 255, 3), rng.integers(0, 80, 3))
            pixels = np.clip(pixels + rng.normal(0, 8, pixels.shape), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / split / f"{number}.png")
    return folder
