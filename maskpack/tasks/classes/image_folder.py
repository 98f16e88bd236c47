"""The task of `--data DIR`, in whichever of three layouts DIR has."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from maskpack.common.errors import DataError
from maskpack.common.preprocess import Augment
from maskpack.tasks.base import Classification
from maskpack.tasks.classes.class_folders import folder_task, split_folders
from maskpack.tasks.classes.csv_table import csv_files, csv_task
from maskpack.tasks.classes.idx import idx_files, idx_task

LAYOUTS = (
    "train/CLASS/*.png (with test/, and val/ if you have it)",
    "train-images-idx3-ubyte[.gz] and train-labels-idx1-ubyte[.gz] (with t10k-...)",
    "labels.csv with path,label,split (or train.csv and test.csv with path,label)",
    "images/* and masks/*, a mask of class numbers a picture (or both in train/ and in test/)",
)


def open_folder(name: str, root: Path, augment: Augment | None = None) -> Classification:
    """The task in a folder; DataError says what was found there and what is expected."""
    if not root.exists():
        raise DataError(f"task {name!r}: no folder {str(root)!r}")
    if not root.is_dir():
        raise DataError(f"task {name!r}: {str(root)!r} is a file; expected a folder")
    try:
        layout = _layout(root)
        if layout is not None:
            return layout(name, root, augment)
        found = _content(root)
    except OSError as error:  # a folder without read permission, a share that went away
        reason = error.strerror or error
        raise DataError(f"task {name!r}: {error.filename or root}: {reason}") from error
    raise DataError(f"{root}: found {found}; expected {'; or '.join(LAYOUTS)}")


def is_folder_task(root: Path) -> bool:
    """Whether `root` looks like one of the layouts, sound or not."""
    return root.is_dir() and _layout(root) is not None


def _layout(root: Path) -> Callable[[str, Path, Augment | None], Classification] | None:
    # train/ beside train.csv may be just the place of the listed pictures: it needs class folders
    train = split_folders(root).get("train")
    tables = csv_files(root)
    if train and (not tables or any(path.is_dir() for path in train.iterdir())):
        return folder_task
    if idx_files(root):
        return idx_task
    return csv_task if tables else None


def _content(root: Path) -> str:
    names = sorted(path.name + "/" * path.is_dir() for path in root.iterdir())
    shown = ", ".join(names[:6]) + (", ..." if len(names) > 6 else "")
    missing = "no train/" if any(name.endswith("/") for name in names) else ""
    return ", ".join(filter(None, [missing, shown])) or "nothing"
