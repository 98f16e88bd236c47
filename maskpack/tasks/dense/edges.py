"""Photos from their edges, given beside them (pix2pix's files) or found in the photos."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from maskpack.common.errors import DataError, OptionError
from maskpack.common.options import check_choice, check_positive
from maskpack.tasks.base import LabelledImages
from maskpack.tasks.classes.class_folders import split_folders
from maskpack.tasks.dense.base import DenseOptions, make_options
from maskpack.tasks.dense.photos import Photos, photo_paths
from maskpack.tasks.dense.picture import PictureOptions, Pictures
from maskpack.tasks.images import image_size, read_image

if TYPE_CHECKING:
    from PIL.Image import Image

SAMPLE = 8  # pictures whose shape is looked at when a task is opened


@dataclass(frozen=True)
class EdgeOptions(PictureOptions):
    """`source` is pairs (edges and photo in one file), photos, or auto: by the pictures' shape.

    `direction` says which half of a pair goes in, A being the left one. `sigma` is the width in
    pixels of the blur before edges are looked for in photos.
    """

    source: str = "auto"
    direction: str = "AtoB"
    sigma: float = 1.5

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("source", self.source, ("auto", "pairs", "photos"))
        check_choice("direction", self.direction, ("AtoB", "BtoA"))
        check_positive("sigma", self.sigma)
        if self.source == "photos" and self.direction == "BtoA":
            raise OptionError(
                "direction='BtoA' is for source=pairs; photos are always made of edges"
            )


class Edges(Pictures):
    """Edges in, black on white, photo out."""

    kind: ClassVar[str] = "edges2photo"
    Options: ClassVar[type[DenseOptions]] = EdgeOptions
    packages: ClassVar[tuple[str, ...]] = (*Pictures.packages, "skimage")

    def shown(self, picture: Image) -> Image:
        return picture if self.options.source == "pairs" else edges(picture, self.options.sigma)


def edges(photo: Image, sigma: float) -> Image:
    """Edges of a photo as lines of one pixel (Canny 1986), black on white."""
    import numpy as np
    from PIL import Image
    from skimage.feature import canny

    found: Any = canny(np.asarray(photo.convert("L")) / 255, sigma)
    return Image.fromarray(np.where(found, 0, 255).astype(np.uint8)).convert("RGB")


class Pairs:
    """Files of two pictures side by side: what goes in and what is to come out, of one size."""

    def __init__(self, paths: Sequence[str], direction: str) -> None:
        self.paths = list(paths)
        self.labels = [0] * len(self.paths)
        self._turned = direction == "BtoA"

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[Image, Any]:
        whole = read_image(self.paths[index])
        width, height = whole.size
        if not _is_pair(whole.size):
            raise _no_pair(self.paths[index], whole.size)
        left = whole.crop((0, 0, height, height))
        right = whole.crop((height, 0, width, height))
        return (right, left) if self._turned else (left, right)


def edges_task(name: str, root: Path, options: Mapping[str, Any]) -> Edges:
    """The task of a folder of pairs or photos; its options then say which.

    Raises:
        DataError: no pictures, pictures of other shapes, or no train folder of pairs.
    """
    chosen = make_options(EdgeOptions, options)
    splits = photo_paths(name, root)
    train = splits["train"]
    sample = {path: image_size(path) for path in train[:: -(-len(train) // SAMPLE)]}
    wrong = next((path for path, size in sample.items() if not _is_pair(size)), None)
    pairs = sum(map(_is_pair, sample.values()))
    source = chosen.source
    if source == "auto":
        if wrong is not None and 2 * pairs > len(sample):
            raise DataError(
                f"task {name!r}: {pairs} of {len(sample)} pictures looked at in {root} are twice "
                f"as wide as high, as pairs are, and {wrong} is not; say what they are with "
                "--task-set source=pairs or source=photos"
            )
        source = "photos" if wrong is not None else "pairs"
    if source == "photos":
        datasets: dict[str, LabelledImages] = {s: Photos(paths) for s, paths in splits.items()}
    else:
        if wrong is not None:
            raise _no_pair(wrong, sample[wrong])
        if "train" not in split_folders(root):
            raise DataError(f"task {name!r}: {root} has no train/ with pairs in it")
        datasets = {split: Pairs(paths, chosen.direction) for split, paths in splits.items()}
    return Edges(name, datasets, dataclasses.replace(chosen, source=source))


def _is_pair(size: tuple[int, int]) -> bool:
    width, height = size
    return width == 2 * height


def _no_pair(path: str, size: tuple[int, int]) -> DataError:
    return DataError(
        f"{path}: is {size[0]} x {size[1]} pixels; a pair is twice as wide as high, edges on the "
        "left and photo on the right; plain photos are --task-set source=photos"
    )
