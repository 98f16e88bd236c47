"""Image files of any mode and condition -> RGB pictures."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from maskpack.common.errors import DataError

if TYPE_CHECKING:
    from PIL.Image import Image

T = TypeVar("T")

IMAGE_SUFFIXES = frozenset(
    [".bmp", ".gif", ".jfif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"]
)


def is_image_name(name: str) -> bool:
    """Hidden files are none: macOS leaves `._cat.jpg` beside `cat.jpg`."""
    return not name.startswith(".") and Path(name).suffix.lower() in IMAGE_SUFFIXES


def pictures_in(folder: str | Path) -> list[str]:
    """Paths of all pictures in a folder and those inside it, in the order of their names."""
    return sorted(
        os.path.join(parent, name)  # noqa: PTH118 - a million Path objects cost seconds
        for parent, _, names in os.walk(folder)
        for name in names
        if is_image_name(name)
    )


def read_image(path: str | Path) -> Image:
    """The picture, fully decoded, as RGB; DataError names the file that cannot be read."""
    return from_image(path, to_rgb)


def image_size(path: str | Path) -> tuple[int, int]:
    """Width and height in pixels, of the file's header alone; DataError as `read_image`."""
    return from_image(path, lambda image: image.size)


def from_image(path: str | Path, what: Callable[[Image], T]) -> T:
    """What a function makes of a picture as its file has it; DataError as `read_image`."""
    from PIL import Image

    try:
        with Image.open(path) as image:
            return what(image)
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; it was there when the task was opened") from None
    except DataError:
        raise
    # Pillow's decoders raise a dozen kinds for damaged files: OSError, SyntaxError, struct.error...
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"{path}: cannot be read as an image ({reason})") from error


def to_rgb(image: Image) -> Image:
    """RGB as a viewer would show it: transparent parts on white, 16 bit scaled to 8."""
    import numpy as np
    from PIL import Image

    if image.mode == "RGB" and "transparency" not in image.info:
        image.load()
        return image
    if image.has_transparency_data:
        # convert("RGB") alone would show whatever colour hides below: black, mostly
        layer = image.convert("RGBA")
        page = Image.new("RGBA", layer.size, "white")
        return Image.alpha_composite(page, layer).convert("RGB")
    if image.mode.startswith("I;16"):
        # convert("L") would clip at 255: nearly every picture white
        image = Image.fromarray((np.asarray(image).astype(np.uint32) // 257).astype(np.uint8))
    elif image.mode == "I" and image.format == "PNG":  # 16 bit, as older Pillow opens it
        image = Image.fromarray((np.asarray(image) // 257).clip(0, 255).astype(np.uint8))
    elif image.mode in ("I", "F"):
        image = Image.fromarray(np.nan_to_num(np.asarray(image)).clip(0, 255).astype(np.uint8))
    return image.convert("RGB")


class ImageFiles:
    """Pictures in files of their own, opened one by one when asked for."""

    def __init__(self, paths: Sequence[str], labels: Sequence[int]) -> None:
        self.paths = list(paths)
        self.labels = list(labels)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[Image, int]:
        return read_image(self.paths[index]), self.labels[index]
