"""What a preparation writes, picture by picture, and what it says when it is done."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from maskpack.common.errors import DataError, one_line

Box = tuple[float, float, float, float]  # left, top, right, bottom in pixels, from 0, right open


@dataclass(frozen=True)
class Picture:
    """One picture of the original and its place in the prepared folder.

    With a box it is cropped and written as JPEG, without one it is copied byte by byte.
    """

    split: str
    label: str  # the class folder
    name: str  # the file in it
    source: Path
    box: Box | None = None


@dataclass(frozen=True)
class Prepared:
    """A folder that is ready: pictures by split, and how many classes."""

    name: str
    folder: Path
    counts: Mapping[str, int]
    classes: int


def first_folder(candidates: list[Path], needs: str, archive: str) -> Path:
    """The first of the folders that holds `needs`; DataError where none does."""
    for folder in candidates:
        if (folder / needs).exists():
            return folder
    raise unlike(candidates[0], f"{needs}: unpack {archive} there, whole")


def unlike(folder: Path, expected: str) -> DataError:
    """The error for a folder in which something else was expected than what it holds."""
    there = sorted(path.name + "/" * path.is_dir() for path in folder.iterdir())
    found = ", ".join(there[:6]) + (", ..." if len(there) > 6 else "") or "nothing"
    return DataError(one_line(f"{folder}: found {found}; expected {expected}"))


def inside(where: str, path: str) -> str:
    """A path as a list has it; DataError where it leads out of the folder it is relative to."""
    if not path or path.startswith("/") or ".." in PurePosixPath(path).parts or "\0" in path:
        raise DataError(
            one_line(f"{where} has {path!r}; expected the path of a picture, with no / before it")
            + " and no .. in it"
        )
    return path


def class_folder(where: str, name: str) -> str:
    """A class name as the name of a folder; DataError where it can be none."""
    folder = name.strip().replace("/", "-").replace("\\", "-")
    if not folder or folder.startswith(".") or not folder.isprintable() or len(folder) > 200:
        raise DataError(one_line(f"{where}: class {name!r} cannot be the name of a folder"))
    return folder
