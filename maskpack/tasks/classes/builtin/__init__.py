"""Small real tasks shipped inside the package, as idx files with their licences."""

from __future__ import annotations

from pathlib import Path

from maskpack.common.preprocess import Augment
from maskpack.tasks.base import Classification
from maskpack.tasks.classes.idx import idx_task

BUILTIN: dict[str, Augment] = {
    "fashion": Augment(crop_mode="resize", hflip=0.5),
    "sketches": Augment(crop_mode="resize", hflip=0.5),
}


def builtin_task(name: str) -> Classification:
    """One of BUILTIN: 28 px grey pictures, made RGB."""
    return idx_task(name, Path(__file__).parent / name, BUILTIN[name])
