"""A network and pictures small enough for a test to train in seconds.

`tinynet:build` is its name as a backbone, for commands run in other processes.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

CLASSES = ("bright", "dark", "red")


class TinyNet(nn.Module):
    """Convolution, depthwise convolution, two batch norms, dropout and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, stride=2, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(8)
        self.depthwise = nn.Conv2d(8, 8, 3, padding=1, groups=8, bias=False)
        self.pointwise = nn.Conv2d(8, 12, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(12)
        self.drop = nn.Dropout(0.2)
        self.fc = nn.Linear(12, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.norm1(self.stem(x)))
        x = torch.relu(self.norm2(self.pointwise(self.depthwise(x))))
        return self.fc(self.drop(x.mean((2, 3))))


def build() -> TinyNet:
    return TinyNet()


build.preprocess = {"img_size": 16, "crop_pct": 1.0}  # type: ignore[attr-defined]


def write_pictures(folder: Path, each: int = 8, classes: tuple[str, ...] = CLASSES) -> Path:
    """train/, val/ and test/ of 16 px pictures, `each` a class in train, half as many elsewhere.

    Every class has a mean colour of its own under noise: easy, and not learnt at once.
    """
    rng = np.random.default_rng(0)
    colours = rng.integers(40, 215, (len(classes), 3))
    for split, count in (("train", each), ("val", each // 2), ("test", each // 2)):
        for name, colour in zip(classes, colours, strict=True):
            for i in range(count):
                pixels = np.clip(rng.normal(colour, 60, (16, 16, 3)), 0, 255).astype(np.uint8)
                path = folder / split / name / f"{i}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels).save(path)
    return folder
