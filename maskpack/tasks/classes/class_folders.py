"""Pictures sorted into folders: DIR/SPLIT/CLASS/picture.png."""

from __future__ import annotations

import os
from pathlib import Path

from maskpack.common.errors import DataError
from maskpack.common.preprocess import Augment
from maskpack.tasks.base import Classification
from maskpack.tasks.images import ImageFiles, is_image_name, pictures_in
from maskpack.tasks.splits import SPLIT_OF


def split_folders(root: Path) -> dict[str, Path]:
    """The folders in `root` named after a split; DataError for two names of one split."""
    found: dict[str, Path] = {}
    for path in sorted(root.iterdir()):
        split = SPLIT_OF.get(path.name)
        if split is None or not path.is_dir():
            continue
        if split in found:
            raise DataError(f"{root}: {found[split].name}/ and {path.name}/ are both {split}")
        found[split] = path
    return found


def folder_task(name: str, root: Path, augment: Augment | None = None) -> Classification:
    """The task of DIR/{train,[val],test}/CLASS/*; classes in the order of their names.

    Without test/, val/ is the test split (ImageNet's layout).
    """
    folders = split_folders(root)
    if "test" not in folders and "val" in folders:
        folders["test"] = folders.pop("val")
    found = {split: class_folders(folder) for split, folder in folders.items()}
    classes = list(found["train"])
    if len(classes) < 2:
        raise DataError(
            f"{folders['train']}: has {len(classes)} class folder{'s' * (len(classes) != 1)}; "
            f"expected two or more, each named after a class, with its pictures inside"
        )
    datasets = {}
    for split, by_class in found.items():
        extra = sorted(set(by_class) - set(classes))
        if extra:
            raise DataError(
                f"{folders[split]}: class {extra[0]!r} is not in {folders['train']}; "
                f"every class needs pictures to train on"
            )
        paths, labels = [], []
        for class_name, pictures in by_class.items():
            paths += pictures
            labels += [classes.index(class_name)] * len(pictures)
        datasets[split] = ImageFiles(paths, labels)
    return Classification(name, classes, datasets, augment)


def class_folders(folder: Path) -> dict[str, list[str]]:
    """Class name -> its pictures, both in the order of their names."""
    by_class: dict[str, list[str]] = {}
    with os.scandir(folder) as entries:
        listed = sorted(entries, key=lambda entry: entry.name)
    for entry in listed:
        if entry.is_dir() and not entry.name.startswith("."):
            by_class[_checked_name(entry)] = _pictures(entry.path)
        elif is_image_name(entry.name):
            raise DataError(
                f"{entry.path}: lies beside the class folders; "
                f"expected it in a folder named after its class"
            )
    return by_class


def _checked_name(entry: os.DirEntry[str]) -> str:
    try:
        entry.name.encode()
    except UnicodeEncodeError:
        raise DataError(f"{entry.path!a}: the folder's name is not UTF-8; rename it") from None
    return entry.name


def _pictures(folder: str) -> list[str]:
    pictures = pictures_in(folder)
    if not pictures:
        raise DataError(f"{folder}: has no pictures; a class folder may not be empty")
    return pictures
