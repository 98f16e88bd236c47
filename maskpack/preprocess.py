"""From a picture to the tensor a backbone expects, for training and for scoring."""

from __future__ import annotations

from dataclasses import dataclass

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Preprocess:
    """How a backbone wants its pictures: RGB in [0, 1], then (x - mean) / std per channel.

    When scoring, the short side is resized to round(img_size / crop_pct), then the centre
    img_size x img_size pixels are taken.
    """

    img_size: int = 224
    crop_pct: float = 0.875
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    interpolation: str = "bilinear"  # or "bicubic", "nearest"
