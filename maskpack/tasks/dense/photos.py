"""A folder of photos, with or without splits: what a task is made of that needs no labels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from maskpack.common.errors import DataError
from maskpack.tasks.classes.class_folders import split_folders
from maskpack.tasks.images import pictures_in, read_image
from maskpack.tasks.splits import SPLIT_SEED, carve_validation

if TYPE_CHECKING:
    from PIL.Image import Image

TEST_FRACTION = 0.1  # of the photos, where no folder says which are for testing


class Photos:
    """Photos without a target of their own."""

    def __init__(self, paths: Sequence[str]) -> None:
        self.paths = list(paths)
        self.labels = [0] * len(self.paths)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[Image, Any]:
        return read_image(self.paths[index]), None


def photo_paths(task: str, root: Path) -> dict[str, list[str]]:
    """Every picture under ROOT/{train,[val],test}, by split, or with no such folder those in ROOT.

    A tenth of the latter is the test split, the same on every machine. Without test/, val/ is it.

    Raises:
        DataError: no such folder, no pictures in it, or folders of splits and no train/.
    """
    if not root.is_dir():
        raise DataError(f"task {task!r}: no folder {str(root)!r}; expected one of photos")
    folders = split_folders(root)
    if "train" in folders:
        if "test" not in folders and "val" in folders:
            folders["test"] = folders.pop("val")
        return {split: pictures_under(task, folder) for split, folder in folders.items()}
    if folders:  # photos to test on are not to be trained on
        found = ", ".join(f"{folder.name}/" for folder in folders.values())
        raise DataError(f"task {task!r}: {root} has {found} and no train/")
    paths = pictures_under(task, root)
    train, test = carve_validation([0] * len(paths), TEST_FRACTION, SPLIT_SEED)
    splits = {"train": train, "test": test}
    return {split: [paths[n] for n in places] for split, places in splits.items() if places}


def pictures_under(task: str, folder: Path) -> list[str]:
    """Paths of all pictures in a folder and those inside it, in the order of their names.

    Raises:
        DataError: there are none.
    """
    found = pictures_in(folder)
    if not found:
        raise DataError(f"task {task!r}: {folder} has no pictures; expected photos (.jpg, .png)")
    return found
