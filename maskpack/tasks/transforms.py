"""From a picture to the tensor a backbone expects, for training and for scoring."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from maskpack.common.preprocess import Augment, Preprocess

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor
    from torchvision.transforms.v2 import InterpolationMode


@dataclass(frozen=True)
class ToNormalised:
    """PIL RGB picture -> float32 (3, h, w), (x / 255 - mean) / std.

    One pass over numpy's bytes: a third of the time of torchvision's three steps.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __call__(self, image: Image) -> Tensor:
        import numpy as np
        import torch

        pixels = torch.from_numpy(np.array(image, dtype=np.uint8)).permute(2, 0, 1)
        planes = pixels.to(torch.float32, memory_format=torch.contiguous_format).div_(255)
        return planes.sub_(_column(self.mean)).div_(_column(self.std))


def _column(values: tuple[float, ...]) -> Tensor:
    import torch

    return torch.tensor(values, dtype=torch.float32).view(-1, 1, 1)  # (3, 1, 1)


# PIL resizes, not torch: torch is quicker on large pictures but rounds differently on processors
# without AVX2, and a pack's score must not depend on the machine that reads the pictures.


def train_transform(preprocess: Preprocess, augment: Augment) -> Callable[[Image], Tensor]:
    """PIL RGB picture -> float32 (3, img_size, img_size), drawn with torch's global RNG."""
    from torchvision.transforms import v2

    size, mode = preprocess.img_size, interpolation_mode(preprocess.interpolation)
    steps: list[Callable[..., Any]] = []
    if augment.crop_mode == "rrc":
        steps.append(v2.Resize(short_side(preprocess), interpolation=mode))
        steps.append(v2.RandomResizedCrop(size, augment.scale, augment.ratio, interpolation=mode))
    elif augment.crop_mode == "random":
        steps.append(v2.Resize(short_side(preprocess), interpolation=mode))
        steps.append(v2.RandomCrop(size, padding=augment.padding or None))
    else:
        steps.extend(_scored(preprocess, augment))
    if augment.hflip:
        steps.append(v2.RandomHorizontalFlip(augment.hflip))
    if augment.vflip:
        steps.append(v2.RandomVerticalFlip(augment.vflip))
    if augment.color_jitter:
        strength = augment.color_jitter
        steps.append(v2.ColorJitter(brightness=strength, contrast=strength, saturation=strength))
    if augment.auto_augment is not None:
        policies = {
            "randaugment": v2.RandAugment,
            "trivialaugment": v2.TrivialAugmentWide,
            "augmix": v2.AugMix,
        }
        steps.append(policies[augment.auto_augment](interpolation=mode))
    steps.append(ToNormalised(preprocess.mean, preprocess.std))
    if augment.random_erasing:  # after normalising, so that the hole is the mean colour
        steps.append(v2.RandomErasing(augment.random_erasing))
    return v2.Compose(steps)


def eval_transform(preprocess: Preprocess, augment: Augment) -> Callable[[Image], Tensor]:
    """PIL RGB picture -> float32 (3, img_size, img_size), nothing random.

    Of `augment` only crop_mode is used: pictures seen whole in training are seen whole here.
    """
    from torchvision.transforms import v2

    normalise = ToNormalised(preprocess.mean, preprocess.std)
    return v2.Compose([*_scored(preprocess, augment), normalise])


def _scored(preprocess: Preprocess, augment: Augment) -> list[Callable[..., Any]]:
    """What makes a picture img_size x img_size for scoring."""
    from torchvision.transforms import v2

    size, mode = preprocess.img_size, interpolation_mode(preprocess.interpolation)
    if augment.crop_mode == "resize":
        return [v2.Resize((size, size), interpolation=mode)]
    return [v2.Resize(short_side(preprocess), interpolation=mode), v2.CenterCrop(size)]


def short_side(preprocess: Preprocess) -> int:
    """To which the short side of a picture is resized before the crop, in pixels."""
    return round(preprocess.img_size / preprocess.crop_pct)


def interpolation_mode(name: str) -> InterpolationMode:
    """torchvision's own, from one of INTERPOLATIONS."""
    from torchvision.transforms.v2 import InterpolationMode

    return InterpolationMode(name)
