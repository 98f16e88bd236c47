"""Pascal VOC's segmentation: VOCdevkit/VOC2012/{JPEGImages,SegmentationClass,ImageSets}.

Everingham et al. 2010, The Pascal Visual Object Classes (VOC) Challenge.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from maskpack.common.errors import DataError, OptionError
from maskpack.tasks.dense.base import DenseOptions, make_options
from maskpack.tasks.dense.mask_files import MaskFiles, check_headers, numbers_of
from maskpack.tasks.dense.segmentation import IGNORE, Segmentation, SegmentationOptions, voc_palette
from maskpack.tasks.images import from_image

if TYPE_CHECKING:
    from PIL.Image import Image

# fmt: off
CLASSES = (
    "background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair",
    "cow", "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa",
    "train", "tvmonitor",
)
# fmt: on
NAME = re.compile(r"\w[\w.-]*")
YEAR = "VOC2012"  # where a VOCdevkit holds several
PICTURES, LISTS = "JPEGImages", "ImageSets/Segmentation"
INSTEAD = (
    "the palette PNG as VOC publishes it, or class numbers in grey; "
    "in its colours class 1, aeroplane, is (128, 0, 0)"
)


@dataclass(frozen=True)
class VocOptions(SegmentationOptions):
    """`train` and `test` are lists of ImageSets/Segmentation, `masks` the folder of masks."""

    train: str = "train"
    test: str = "val"
    masks: str = "SegmentationClass"

    def __post_init__(self) -> None:
        super().__post_init__()
        for key in ("train", "test", "masks"):
            name = getattr(self, key)
            if not isinstance(name, str) or not NAME.fullmatch(name):
                raise OptionError(f"{key}={name!r}: expected a name without folders")


class VocSegmentation(Segmentation):
    """VOC's 20 classes and its background; the borders of objects, 255, do not count."""

    kind: ClassVar[str] = "voc-segmentation"
    Options: ClassVar[type[DenseOptions]] = VocOptions


def voc_segmentation(name: str, root: Path, options: Mapping[str, Any]) -> VocSegmentation:
    """The task of a folder that is VOC2012, or holds it, or holds VOCdevkit.

    VOC's own test masks are not public: its val.txt is the test split.

    Raises:
        DataError: something that is listed is missing, a picture is in both splits, or masks are
            not of class numbers.
    """
    chosen: VocOptions = make_options(VocOptions, options)
    folder = _voc_folder(name, root)
    listed = {"train": chosen.train, "test": chosen.test}
    splits = {split: _listed(folder, one) for split, one in listed.items()}
    if both := set(splits["train"]) & set(splits["test"]):
        raise DataError(
            f"{folder / LISTS}: {len(both)} pictures are both in {chosen.train}.txt, to train on, "
            f"and in {chosen.test}.txt, to test on ({min(both)})"
        )
    datasets = {}
    for split, names in splits.items():
        pairs = _pairs(folder, folder / LISTS / f"{listed[split]}.txt", chosen.masks, names)
        check_headers(pairs, INSTEAD)
        datasets[split] = MaskFiles(pairs, len(CLASSES), read_voc_mask)
    return VocSegmentation(name, CLASSES, datasets, chosen)


def _voc_folder(task: str, root: Path) -> Path:
    if (root / PICTURES).is_dir():
        return root
    for parent in (root, root / "VOCdevkit"):
        years = sorted(path.name for path in parent.glob("VOC2*") if path.is_dir())
        if YEAR in years or len(years) == 1:
            return parent / (YEAR if YEAR in years else years[0])
        if years:
            found = ", ".join(years)
            raise DataError(f"task {task!r}: {parent} has {found}; give the folder of one")
    if not root.is_dir():
        raise DataError(f"task {task!r}: no folder {str(root)!r}; expected VOCdevkit/ in it")
    raise DataError(
        f"task {task!r}: {root} has no VOCdevkit/{YEAR}/, nor {PICTURES}/ of its own; "
        "unpack VOCtrainval_11-May-2012.tar there"
    )


def _listed(folder: Path, name: str) -> list[str]:
    """The names in a list of pictures."""
    path = folder / LISTS / f"{name}.txt"
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (FileNotFoundError, NotADirectoryError):
        known = sorted(one.stem for one in (folder / LISTS).glob("*.txt"))
        there = f"there is {', '.join(known)}" if known else "there is no list at all"
        raise DataError(f"{path}: no such file; {there}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read as a list of names ({error})") from error
    names = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        if Path(line.strip()).name != line.strip() or len(line.split()) > 1:
            raise DataError(
                f"{path}: line {number} is {line.strip()!r}; "
                "expected the name of a picture without folder and ending"
            )
        names.append(line.strip())
    if not names:
        raise DataError(f"{path}: names no pictures; expected one a line, as 2007_000032")
    return names


def _pairs(folder: Path, listing: Path, masks: str, names: list[str]) -> list[tuple[str, str]]:
    """Picture and mask of each name, once all are found to be there."""
    columns = []
    for inner, ending in ((PICTURES, ".jpg"), (masks, ".png")):
        if not (folder / inner).is_dir():
            raise DataError(f"{folder}: has no {inner}/; expected {inner}/NAME{ending}")
        # one look at the folder instead of one at each of thousands of files
        there = {path.name for path in (folder / inner).iterdir()}
        for name in names:
            if name + ending not in there:
                raise DataError(
                    f"{listing}: lists {name}, but there is no {folder / inner / (name + ending)}"
                )
        columns.append([str(folder / inner / (name + ending)) for name in names])
    return list(zip(*columns, strict=True))


def read_voc_mask(path: str) -> Any:
    """The class numbers of a palette PNG as VOC has them, or of a grey copy of those (h, w).

    Raises:
        DataError: it cannot be read, holds colours, or numbers that are not VOC's: its palette
            was put in another order, or its colours were turned grey.
    """
    return from_image(path, partial(_checked, path))


def _checked(path: str, mask: Image) -> Any:
    import numpy as np

    numbers = numbers_of(path, mask, INSTEAD)
    _check_numbers(path, mask, np.unique(numbers).tolist())
    return numbers


def _check_numbers(path: str, mask: Image, numbers: list[int]) -> None:
    every = voc_palette()
    classes = {tuple(every[3 * n : 3 * n + 3]): n for n in (*range(len(CLASSES)), IGNORE)}
    if mask.mode == "P":
        palette = mask.getpalette() or []
        colours = [tuple(palette[3 * n : 3 * n + 3]) for n in numbers]
        found = [classes.get(colour) for colour in colours]
        # a palette of other colours says nothing, VOC's own at other places much
        if None not in found and len({*found}) == len(found) and found != numbers:
            n, wanted = next(pair for pair in zip(numbers, found, strict=True) if len({*pair}) > 1)
            raise DataError(
                f"{path}: number {n} has the colour of class {wanted}: a PNG optimiser changed "
                f"its palette; expected {INSTEAD}"
            )
    elif not set(numbers) <= {*range(len(CLASSES)), IGNORE}:
        # ITU-R 601, as Pillow turns colours grey
        grey = {(19595 * r + 38470 * g + 7471 * b + 0x8000) >> 16 for r, g, b in classes}
        if set(numbers) <= grey:
            raise DataError(f"{path}: holds colours turned grey; expected {INSTEAD}")
