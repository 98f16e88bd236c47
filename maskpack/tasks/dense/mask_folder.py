"""Pictures and their masks in two folders: SPLIT/images/*, SPLIT/masks/*."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from maskpack.common.errors import DataError
from maskpack.tasks.classes.class_folders import split_folders
from maskpack.tasks.classes.idx import class_names
from maskpack.tasks.dense.base import make_options
from maskpack.tasks.dense.mask_files import MaskFiles, check_headers, read_mask
from maskpack.tasks.dense.photos import TEST_FRACTION
from maskpack.tasks.dense.segmentation import IGNORE, Segmentation
from maskpack.tasks.images import is_image_name
from maskpack.tasks.splits import SPLIT_OF, SPLIT_SEED, carve_validation

IMAGES, MASKS = "images", "masks"
BINARY = {0, 255}
MOST_UNNAMED = 100  # classes; masks that were smoothed seem to have more
Pairs = list[tuple[str, str]]


def is_mask_folder(root: Path) -> bool:
    """Whether a folder is laid out as pictures and masks, sound or not. Never raises."""
    both = {IMAGES, MASKS}
    try:
        if both <= _subfolders(root):
            return True
        splits = {name: _subfolders(root / name) for name in _subfolders(root) & SPLIT_OF.keys()}
    except OSError:
        return False
    training = [inside for name, inside in splits.items() if SPLIT_OF[name] == "train"]
    # masks/ may be a class beside no_masks/, and images/ with nothing else is none
    return any(
        both <= inside or (inside and inside <= both) for inside in training or splits.values()
    )


def mask_folder_task(name: str, root: Path, options: Mapping[str, Any]) -> Segmentation:
    """The task of ROOT/{train,[val],test}/{images,masks}/*, or with the two levels changed round.

    Of ROOT/{images,masks}/* a tenth is the test split, the same on every machine. Without test/,
    val/ is it. classes.txt names the classes, one a line; without it they are 0 to the highest
    number of any mask, each of which is decoded for that: 6 to 8 ms a megapixel. Where all masks
    hold but 0 and 255, 255 is class 1; else it is no class.

    Raises:
        DataError: something is missing, a picture and its mask differ in size, or masks are not
            of class numbers.
    """
    chosen = make_options(Segmentation.Options, options)
    try:
        pairs = _carved({split: _pairs(name, *both) for split, both in _folders(root).items()})
        every = [pair for split in pairs.values() for pair in split]
        check_headers(every)
        listed = root / "classes.txt"
        named = class_names(listed) if listed.is_file() else None
        numbers, one_bit = _numbers(every, whole=named is None)
    except OSError as error:  # a folder without read permission, a share that went away
        reason = error.strerror or error
        raise DataError(f"task {name!r}: {error.filename or root}: {reason}") from error
    binary = IGNORE in numbers and numbers <= BINARY
    if named is None:
        known = {0, 1} if binary or one_bit else {0}
        named = _names(root, known if binary else known | numbers - {IGNORE})
    elif binary and len(named) != 2:
        raise DataError(
            f"{root}: the masks hold but 0 and 255, two classes; classes.txt names {len(named)}"
        )
    read = _read_binary if binary else read_mask
    datasets = {split: MaskFiles(found, len(named), read) for split, found in pairs.items()}
    return Segmentation(name, named, datasets, chosen)


def _subfolders(folder: Path) -> set[str]:
    if not folder.is_dir():
        return set()
    return {path.name for path in folder.iterdir() if path.is_dir() and path.name[0] != "."}


def _folders(root: Path) -> dict[str, tuple[Path, Path]]:
    """Folders of pictures and masks by split; by "" where no folder says which are for testing."""
    splits = split_folders(root)
    if splits:
        folders = {split: (path / IMAGES, path / MASKS) for split, path in splits.items()}
    else:
        images, masks = root / IMAGES, root / MASKS
        inner = split_folders(images) if images.is_dir() else {}
        folders = {split: (path, masks / path.name) for split, path in inner.items()}
        folders = folders or {"": (images, masks)}
    if "" not in folders and "train" not in folders:
        raise DataError(f"{root}: has no train/, only {', '.join(folders)}")
    if "test" not in folders and "val" in folders:
        folders["test"] = folders.pop("val")
    return folders


def _pairs(task: str, images: Path, masks: Path) -> Pairs:
    """Each picture with its mask: the files of one name but for its ending."""
    pictures = _by_stem(task, images, "pictures")
    drawn = _by_stem(task, masks, f"a mask for each picture of {images}")
    for stem, path in pictures.items():
        if stem not in drawn:
            raise DataError(f"{path}: has no mask; expected {masks / stem}.png")
    for stem, path in drawn.items():
        if stem not in pictures:
            raise DataError(f"{path}: has no picture; expected one of its name in {images}")
    return [(path, drawn[stem]) for stem, path in pictures.items()]


def _by_stem(task: str, folder: Path, what: str) -> dict[str, str]:
    if not folder.is_dir():
        raise DataError(f"task {task!r}: no folder {str(folder)!r}; expected {what} in it")
    found: dict[str, str] = {}
    for parent, inner, names in os.walk(folder):
        inner[:] = sorted(name for name in inner if not name.startswith("."))
        for name in filter(is_image_name, sorted(names)):
            path = os.path.join(parent, name)  # noqa: PTH118 - a million Path objects cost seconds
            stem = os.path.relpath(os.path.splitext(path)[0], folder)  # noqa: PTH122
            if stem in found:
                raise DataError(f"{path}: has the name of {found[stem]}; keep one of them")
            found[stem] = path
    if not found:
        raise DataError(f"task {task!r}: {folder} is empty; expected {what} in it")
    return found


def _carved(pairs: dict[str, Pairs]) -> dict[str, Pairs]:
    if "" not in pairs:
        return pairs
    found = pairs[""]
    train, test = carve_validation([0] * len(found), TEST_FRACTION, SPLIT_SEED)
    splits = {"train": train, "test": test}
    return {split: [found[n] for n in places] for split, places in splits.items() if places}


def _numbers(pairs: Pairs, whole: bool) -> tuple[set[int], bool]:
    """Which numbers occur in masks, and whether some masks have one bit a pixel.

    Unless `whole`, numbers that tell whether 255 is a class will do.
    """
    import numpy as np

    found: set[int] = set()
    one_bit = False
    for _, path in pairs:
        numbers = read_mask(path)
        if numbers.dtype == np.bool_:  # 0 and 1, whatever 255 means in other masks
            one_bit = True
        elif numbers.dtype == np.uint8:
            found.update(np.flatnonzero(np.bincount(numbers.ravel())).tolist())
        else:
            found.update(np.unique(numbers).tolist())
        if not whole and not found <= BINARY:
            break
    return found, one_bit


def _names(root: Path, numbers: set[int]) -> list[str]:
    """The classes 0, 1, ... where nothing names them."""
    highest = max(numbers)
    if highest == 0:
        raise DataError(f"{root}: every mask is 0 everywhere; expected class numbers 0, 1, ...")
    # grey levels that stand for classes, or smoothed edges between them
    if highest >= MOST_UNNAMED or 2 * len(numbers) <= highest:
        shown = ", ".join(map(str, sorted(numbers)[:6])) + (", ..." if len(numbers) > 6 else "")
        raise DataError(
            f"{root}: its masks hold {shown} up to {highest}; expected class numbers 0, 1, 2, ... "
            f"(or a name a line in {root / 'classes.txt'}, if these are)"
        )
    return [str(number) for number in range(highest + 1)]


def _read_binary(path: str) -> Any:
    return read_mask(path) != 0
