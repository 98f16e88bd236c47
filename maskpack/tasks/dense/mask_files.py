"""Pictures and their masks in files of their own, a number of a class for every pixel."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from maskpack.common.errors import DataError
from maskpack.tasks.dense.segmentation import IGNORE
from maskpack.tasks.images import from_image, image_size, read_image

if TYPE_CHECKING:
    from PIL.Image import Image

LOSSLESS = ("PNG", "TIFF", "BMP", "PPM")
EXPECTED = "a PNG of class numbers (grey, palette or 16 bit)"


class MaskFiles:
    """Pairs of files, picture and mask; `read` gives the class numbers (h, w) of a mask's file."""

    def __init__(
        self,
        pairs: Sequence[tuple[str, str]],
        classes: int,
        read: Callable[[str], Any],
    ) -> None:
        self.pairs = list(pairs)
        self.labels = [0] * len(self.pairs)
        self.classes = classes
        self._read = read

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> tuple[Image, Image]:
        picture_path, mask_path = self.pairs[index]
        picture, numbers = read_image(picture_path), self._read(mask_path)
        height, width = numbers.shape
        check_sizes(picture_path, picture.size, mask_path, (width, height))
        return picture, class_map(numbers, self.classes, mask_path)


def class_map(numbers: Any, classes: int, where: str) -> Image:
    """Class numbers (h, w) as PIL mode "L".

    Raises:
        DataError: a number is neither a class nor 255.
    """
    import numpy as np
    from PIL import Image

    wrong = numbers[((numbers < 0) | (numbers >= classes)) & (numbers != IGNORE)]
    if wrong.size:
        raise DataError(
            f"{where}: has a pixel of class {int(wrong.flat[0])}; "
            f"expected 0 to {classes - 1}, or {IGNORE} where none counts"
        )
    return Image.fromarray(numbers.astype(np.uint8))


def read_mask(path: str) -> Any:
    """The numbers in a mask's file (h, w), booleans where it has one bit a pixel.

    Raises:
        DataError: it cannot be read, holds colours, or was stored with loss.
    """
    return from_image(path, partial(numbers_of, path))


def numbers_of(path: str, mask: Image, instead: str = EXPECTED) -> Any:
    """The numbers of an opened mask: a palette's indices, never its colours.

    `instead` is what a message asks for.

    Raises:
        DataError: it holds colours, or was stored with loss.
    """
    import numpy as np

    _header(path, mask, instead)
    return np.array(mask)


def check_headers(pairs: Sequence[tuple[str, str]], instead: str = EXPECTED) -> None:
    """Raise DataError for a pair of two sizes, and as `numbers_of`; no pixel is decoded."""
    for picture_path, mask_path in pairs:
        size = from_image(mask_path, partial(_header, mask_path, instead=instead))
        check_sizes(picture_path, image_size(picture_path), mask_path, size)


def check_sizes(
    picture_path: str, picture: tuple[int, int], mask_path: str, mask: tuple[int, int]
) -> None:
    """Raise DataError unless picture and mask have one (width, height)."""
    if picture != mask:
        raise DataError(
            f"{mask_path}: is {mask[0]} x {mask[1]}, but its picture {picture_path} is "
            f"{picture[0]} x {picture[1]}"
        )


def _header(path: str, mask: Image, instead: str) -> tuple[int, int]:
    """The size of what can be a mask."""
    if mask.format not in LOSSLESS:
        raise DataError(f"{path}: is a {mask.format}, which changes numbers; expected {instead}")
    if mask.mode not in ("1", "L", "P") and not mask.mode.startswith("I"):
        raise DataError(f"{path}: holds colours (mode {mask.mode}); expected {instead}")
    return mask.size
