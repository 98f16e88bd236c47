"""What is learnt. Four sources of tasks, found by name; importing this never imports torch."""

from __future__ import annotations

from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any

from maskpack.common.errors import DataError, MaskpackError, OptionError, UnknownName
from maskpack.tasks.base import SPLITS, Classification, LabelledImages, Task
from maskpack.tasks.classes.builtin import BUILTIN, builtin_task
from maskpack.tasks.classes.decathlon import DECATHLON, decathlon_task
from maskpack.tasks.classes.image_folder import is_folder_task, open_folder
from maskpack.tasks.classes.imagenet_to_sketch import IMAGENET_TO_SKETCH, imagenet_to_sketch_task
from maskpack.tasks.classes.split_cifar100 import PREFIX, SPLIT_CIFAR100, split_cifar100_task
from maskpack.tasks.classes.torchvision_tasks import ALIASES, TORCHVISION, torchvision_task
from maskpack.tasks.dense import IMAGE_TO_IMAGE, KINDS
from maskpack.tasks.dense.base import Dense
from maskpack.tasks.dense.mask_folder import is_mask_folder, mask_folder_task
from maskpack.tasks.splits import Subset, carve_validation

__all__ = [
    "BUILTIN",
    "DECATHLON",
    "IMAGENET_TO_SKETCH",
    "IMAGE_TO_IMAGE",
    "KNOWN",
    "SPLITS",
    "SPLIT_CIFAR100",
    "TORCHVISION",
    "Classification",
    "Dense",
    "LabelledImages",
    "Subset",
    "Task",
    "carve_validation",
    "described_task",
    "open_task",
]

KNOWN: tuple[str, ...] = (
    *sorted(BUILTIN),
    *sorted(IMAGE_TO_IMAGE),
    *sorted(IMAGENET_TO_SKETCH.keys() | TORCHVISION.keys()),
    *sorted(DECATHLON),
    f"{PREFIX}SUPERCLASS",
)


def open_task(
    name: str,
    data: str | PathLike[str] | None = None,
    download: bool = False,
    options: Mapping[str, Any] | None = None,
) -> Task:
    """The task of a name, or of any name and a folder.

    `data` is a folder in one of the layouts; for a torchvision name it may also be the root
    torchvision expects. `download` fetches what is missing. `options` are those of
    an image-to-image task. Splits that exist have been checked (files listed, labels read) when
    this returns; pictures have not.

    Raises UnknownName for a name without `data` that is in no table, OptionError for an option
    the task has not or a value that does not fit it, DataError for data that are missing or not
    as they should be.
    """
    root = None if data is None else Path(data).expanduser()
    key = ALIASES.get(name.lower(), name.lower())
    if key.startswith(PREFIX):
        return split_cifar100_task(name, root, download, options or {})
    if key in IMAGE_TO_IMAGE:
        return IMAGE_TO_IMAGE[key](name, root, options or {})
    if key in DECATHLON and not options:
        return decathlon_task(key, root)
    if root is not None and is_mask_folder(root):
        return mask_folder_task(name, root, options or {})
    if options:
        raise _no_options(name, root, min(options))
    if key in IMAGENET_TO_SKETCH:
        return imagenet_to_sketch_task(name, key, root, download)
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


def _no_options(name: str, root: Path | None, option: str) -> MaskpackError:
    if root is None:
        return OptionError(f"task {name!r} is classification, which has no {option!r} to set")
    if not root.is_dir():
        return DataError(f"task {name!r}: no folder {str(root)!r}")
    return OptionError(
        f"task {name!r}: {root} has no images/ and masks/, so it is classification, "
        f"which has no {option!r} to set"
    )


def described_task(about: Mapping[str, Any]) -> Dense:
    """An image-to-image task as a pack's header describes it, without its pictures.

    Raises:
        OptionError: it is none, or its options do not fit.
    """
    kinds = {kind.kind: kind for kind in KINDS}
    if about.get("kind") not in kinds:
        raise OptionError(
            f"task {about.get('name')!r} is {about.get('kind')}; known: {', '.join(kinds)}"
        )
    return kinds[str(about["kind"])].described(about)
