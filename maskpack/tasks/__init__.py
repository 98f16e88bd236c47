"""What is learnt. Three sources of tasks, found by name; importing this never imports torch."""

from __future__ import annotations

from os import PathLike
from pathlib import Path

from maskpack.errors import UnknownName
from maskpack.tasks.base import SPLITS, Classification, LabelledImages, Task
from maskpack.tasks.builtin import BUILTIN, builtin_task
from maskpack.tasks.image_folder import is_folder_task, open_folder
from maskpack.tasks.splits import Subset, carve_validation
from maskpack.tasks.torchvision_tasks import ALIASES, TORCHVISION, torchvision_task

__all__ = [
    "BUILTIN",
    "KNOWN",
    "SPLITS",
    "TORCHVISION",
    "Classification",
    "LabelledImages",
    "Subset",
    "Task",
    "carve_validation",
    "open_task",
]

KNOWN: tuple[str, ...] = (*sorted(BUILTIN), *sorted(TORCHVISION))


def open_task(name: str, data: str | PathLike[str] | None = None, download: bool = False) -> Task:
    """The task of a name, or of any name and a folder.

    `data` is a folder in one of the three layouts; for a torchvision name it may also be the
    root torchvision expects. `download` lets torchvision fetch what is missing. Splits that
    exist have been checked (files listed, labels read) when this returns; pictures have not.

    Raises UnknownName for a name without `data` that is in no table, DataError for data that
    are missing or not as they should be.
    """
    root = None if data is None else Path(data).expanduser()
    key = ALIASES.get(name.lower(), name.lower())
    if key in TORCHVISION:
        entry = TORCHVISION[key]
        # a folder of the very pictures, `--task cifar10 --data cifar10/` with train/CLASS/*.png
        if root is not None and not (root / entry.folder).exists() and is_folder_task(root):
            return open_folder(name, root, entry.augment)
        return torchvision_task(name, key, root, download)
    if root is not None:
        return open_folder(name, root, BUILTIN.get(key))
    if key in BUILTIN:
        return builtin_task(key)
    raise UnknownName("task", name, KNOWN, hint="or give --data DIR")
