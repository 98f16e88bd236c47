"""How pictures go into a backbone, and how training changes them, in plain numbers."""

from __future__ import annotations

import math
from dataclasses import dataclass

from maskpack.common.errors import OptionError

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

LARGEST = 8192  # pixels a side: a file that asks for more would cost gigabytes a batch
INTERPOLATIONS = ("bicubic", "bilinear", "box", "hamming", "lanczos", "nearest", "nearest-exact")
CROP_MODES = ("rrc", "resize", "random", "center")
AUTO_AUGMENTS = ("randaugment", "trivialaugment", "augmix")


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
    interpolation: str = "bilinear"

    def __post_init__(self) -> None:
        if type(self.img_size) is not int or not 1 <= self.img_size <= LARGEST:
            raise OptionError(f"img_size is {self.img_size!r}; expected 1 to {LARGEST} pixels")
        if not _is_number(self.crop_pct) or not 0.01 <= self.crop_pct <= 1:
            raise OptionError(f"crop_pct is {self.crop_pct!r}; expected a share, 0.01 to 1")
        for name in ("mean", "std"):
            values = tuple(getattr(self, name))
            if len(values) != 3 or not all(map(_is_number, values)):
                raise OptionError(f"{name} is {values}; expected three numbers, for R, G and B")
            object.__setattr__(self, name, values)  # JSON gives lists back
        if min(self.std) <= 0:
            raise OptionError(f"std is {self.std}; expected numbers above 0")
        if self.interpolation not in INTERPOLATIONS:
            known = ", ".join(INTERPOLATIONS)
            raise OptionError(f"interpolation is {self.interpolation!r}; known: {known}")


@dataclass(frozen=True)
class Augment:
    """What training does to a picture before it is normalised, under timm's names.

    crop_mode "rrc" is the mask papers' default (resize, random resized crop, flip);
    "resize" takes the whole picture to img_size x img_size, aspect not kept: the papers'
    data sets of cropped objects, and small pictures. It holds when scoring too.
    "random" resizes the short side as in scoring, puts `padding` black pixels around and cuts
    img_size x img_size out anywhere; "center" trains on just what is scored.
    """

    crop_mode: str = "rrc"
    scale: tuple[float, float] = (0.08, 1.0)  # share of the area a random crop takes
    ratio: tuple[float, float] = (3 / 4, 4 / 3)  # width / height of a random crop
    padding: int = 0  # on each side, in pixels after resizing; of crop_mode "random"
    hflip: float = 0.5
    vflip: float = 0.0
    color_jitter: float = 0.0  # brightness, contrast and saturation change by up to this share
    auto_augment: str | None = None
    random_erasing: float = 0.0

    def __post_init__(self) -> None:
        if self.crop_mode not in CROP_MODES:
            raise OptionError(f"crop_mode is {self.crop_mode!r}; known: {', '.join(CROP_MODES)}")
        if self.auto_augment is not None and self.auto_augment not in AUTO_AUGMENTS:
            known = ", ".join(AUTO_AUGMENTS)
            raise OptionError(f"auto_augment is {self.auto_augment!r}; known: {known}")
        if type(self.padding) is not int or not 0 <= self.padding <= LARGEST:
            raise OptionError(f"padding is {self.padding!r}; expected 0 to {LARGEST} pixels")
        for name in ("hflip", "vflip", "random_erasing"):
            value = getattr(self, name)
            if not 0 <= value <= 1:
                raise OptionError(f"{name} is {value!r}; a probability lies between 0 and 1")
        if not 0 <= self.color_jitter < math.inf:
            raise OptionError(f"color_jitter is {self.color_jitter!r}; expected 0 or more")
        for name in ("scale", "ratio"):
            pair = tuple(getattr(self, name))
            if len(pair) != 2 or not 0 < pair[0] <= pair[1] < math.inf:
                raise OptionError(f"{name} is {pair}; expected two numbers, 0 < low <= high")
            object.__setattr__(self, name, pair)  # JSON gives lists back
        if self.scale[1] > 1:
            raise OptionError(f"scale is {self.scale}; a crop takes at most 1.0 of the picture")


def _is_number(value: object) -> bool:
    # written so that NaN, infinity and an int too large for a float all fail
    return type(value) in (int, float) and -1e9 < value < 1e9  # type: ignore[operator]
