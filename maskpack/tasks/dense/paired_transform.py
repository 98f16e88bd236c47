"""A picture and the map that belongs to it, cropped, resized and turned alike."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from maskpack.common.errors import OptionError
from maskpack.common.preprocess import Augment, Preprocess
from maskpack.tasks.transforms import interpolation_mode, short_side

if TYPE_CHECKING:
    from PIL.Image import Image

Step = Callable[["Image", bool], "Image"]  # the picture, and whether its values are class numbers


@dataclass(frozen=True)
class Geometry:
    """PIL picture and map -> both img_size x img_size, the same pixels of each.

    As `preprocess.train_transform` and `eval_transform` crop and flip, drawn with torch's global
    generator; colours change in the picture alone. A map of `classes` is never interpolated.

    Raises:
        OptionError: the augmentation has no meaning for a map.
    """

    preprocess: Preprocess
    augment: Augment
    training: bool

    def __post_init__(self) -> None:
        if self.augment.auto_augment is not None:
            raise OptionError(
                f"--aa {self.augment.auto_augment} moves pictures without their maps; leave it out"
            )
        if self.augment.crop_mode == "random" and self.augment.padding:
            raise OptionError(
                f"--padding {self.augment.padding} would be a class of a map; leave it out"
            )

    def __call__(
        self, picture: Image, map_: Image | None, classes: bool = False
    ) -> tuple[Image, Image | None]:
        from torchvision.transforms.v2 import ColorJitter

        move = self._drawn(picture)
        if self.training and self.augment.color_jitter:
            strength = self.augment.color_jitter
            jitter = ColorJitter(brightness=strength, contrast=strength, saturation=strength)
            picture = jitter(picture)
        return move(picture, False), None if map_ is None else move(map_, classes)

    def _drawn(self, picture: Image) -> Step:
        """What is done to pictures of this size, its random numbers drawn."""
        import torch
        from torchvision.transforms.v2 import functional

        size = self.preprocess.img_size
        steps: list[Step] = []
        if self.augment.crop_mode == "resize":
            steps.append(lambda image, classes: self._resize(image, [size, size], classes))
        elif self.training and self.augment.crop_mode == "rrc":
            # torchvision's first version still gives the box without cutting it out
            from torchvision.transforms import RandomResizedCrop

            scale, ratio = list(self.augment.scale), list(self.augment.ratio)
            box = RandomResizedCrop.get_params(picture, scale, ratio)
            steps.append(lambda image, _: functional.crop(image, *box))
            steps.append(lambda image, classes: self._resize(image, [size, size], classes))
        else:
            side = [short_side(self.preprocess)]
            steps.append(lambda image, classes: self._resize(image, side, classes))
            if self.training and self.augment.crop_mode == "random":
                down, along = torch.rand(2).tolist()
                steps.append(lambda image, _: _cut(image, size, down, along))
            else:
                steps.append(lambda image, _: functional.center_crop(image, [size, size]))
        if self.training and self.augment.hflip and torch.rand(1) < self.augment.hflip:
            steps.append(lambda image, _: functional.horizontal_flip(image))
        if self.training and self.augment.vflip and torch.rand(1) < self.augment.vflip:
            steps.append(lambda image, _: functional.vertical_flip(image))

        def move(image: Image, classes: bool) -> Image:
            for step in steps:
                image = step(image, classes)
            return image

        return move

    def _resize(self, image: Image, size: list[int], classes: bool) -> Image:
        from torchvision.transforms.v2 import functional

        name = "nearest" if classes else self.preprocess.interpolation
        resized: Image = functional.resize(image, size, interpolation_mode(name))
        return resized


def _cut(image: Image, size: int, down: float, along: float) -> Image:
    """size x size pixels, at these shares of the room there is."""
    left = int(along * (image.width - size + 1))
    top = int(down * (image.height - size + 1))
    return image.crop((left, top, left + size, top + size))
