"""Pictures and their masks in files of their own, a number of a class for every pixel."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from maskpack.errors import DataError
from maskpack.tasks.images import read_image
from maskpack.tasks.segmentation import IGNORE

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
    """The numbers in a mask's file (h, w): a palette's indices, never its colours.

    A mask of one bit gives booleans.

    Raises:
        DataError: it cannot be read, holds colours, or was stored with loss.
    """
    import numpy as np

    with opened_mask(path) as mask:
        return np.array(mask)


@contextmanager
def opened_mask(path: str, instead: str = EXPECTED) -> Iterator[Image]:
    """A mask's file, not decoded yet; `instead` is what messages ask for.

    Raises:
        DataError: it cannot be read here or inside, holds colours, or was stored with loss.
    """
    with opened(path) as mask:
        if mask.format not in LOSSLESS:
            raise DataError(
                f"{path}: is a {mask.format}, which changes numbers; expected {instead}"
            )
        if mask.mode not in ("1", "L", "P") and not mask.mode.startswith("I"):
            raise DataError(f"{path}: holds colours (mode {mask.mode}); expected {instead}")
        yield mask


def check_headers(pairs: Sequence[tuple[str, str]], instead: str = EXPECTED) -> None:
    """Raise DataError for a pair of two sizes, and as `opened_mask`; no pixel is decoded."""
    for picture_path, mask_path in pairs:
        with opened_mask(mask_path, instead) as mask, opened(picture_path) as picture:
            check_sizes(picture_path, picture.size, mask_path, mask.size)


def check_sizes(
    picture_path: str, picture: tuple[int, int], mask_path: str, mask: tuple[int, int]
) -> None:
    """Raise DataError unless picture and mask have one (width, height)."""
    if picture != mask:
        raise DataError(
            f"{mask_path}: is {mask[0]} x {mask[1]}, but its picture {picture_path} is "
            f"{picture[0]} x {picture[1]}"
        )


@contextmanager
def opened(path: str) -> Iterator[Image]:
    from PIL import Image

    try:
        with Image.open(path) as image:
            yield image
    except DataError:
        raise
    # Pillow's decoders raise a dozen kinds for damaged files: OSError, SyntaxError, struct.error...
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"{path}: cannot be read as an image ({reason})") from error
