"""Pictures and their masks in two folders: SPLIT/images/*, SPLIT/masks/*."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from maskpack.tasks.segmentation import Segmentation


def is_mask_folder(root: Path) -> bool:
    return False


def mask_folder_task(name: str, root: Path, options: Mapping[str, Any]) -> Segmentation:
    raise NotImplementedError
