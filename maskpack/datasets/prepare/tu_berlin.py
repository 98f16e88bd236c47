"""TU-Berlin's sketches (Eitz et al. 2012): 250 folders of 80 drawings, copied as they are.

png/airplane/1.png ... png/zebra/20000.png, with png/filelist.txt

Papers on masks train on 16,000 and test on 4,000 of them and do not say which: here the last
fifth of each class in the order of the files' numbers (16 of 80) is for testing.
"""

from __future__ import annotations

from pathlib import Path

from maskpack.common.errors import DataError, one_line
from maskpack.datasets.prepare.listing import Picture, class_folder, unlike
from maskpack.datasets.prepare.text_lists import lines

TEST_SHARE = 5  # one of so many pictures is for testing
LIST = "filelist.txt"
SUFFIX = ".png"


def pictures(source: Path) -> list[Picture]:
    """Every drawing; `source` is the folder of class folders, or holds it as png/."""
    root = source / "png" if (source / "png").is_dir() else source
    folders = sorted(p for p in root.iterdir() if p.is_dir() and not p.name.startswith("."))
    if len(folders) < 2:
        raise unlike(root, "a folder of drawings a class: unpack sketches_png.zip there, whole")
    found = []
    for folder in folders:
        drawings = sorted(
            (p for p in folder.iterdir() if p.suffix.lower() == SUFFIX and p.name[0] != "."),
            key=lambda path: (_number(path), path.name),
        )
        if len(drawings) < 2:
            raise DataError(
                f"{folder}: has {len(drawings)} {SUFFIX} pictures; expected two or more"
            )
        label = class_folder(str(root), folder.name)
        first_test = len(drawings) - max(1, round(len(drawings) / TEST_SHARE))
        for index, path in enumerate(drawings):
            split = "train" if index < first_test else "test"
            found.append(Picture(split, label, path.name, path))
    _check_listed(root, {picture.source for picture in found})
    return found


def _number(path: Path) -> float:
    return int(path.stem) if path.stem.isascii() and path.stem.isdigit() else float("inf")


def _check_listed(root: Path, there: set[Path]) -> None:
    """Raise DataError where a drawing of the archive's own list is missing."""
    if not (root / LIST).is_file():  # folders alone are enough
        return
    for number, line in lines(root / LIST):
        if root / line not in there:
            raise DataError(
                one_line(f"{root / LIST}: line {number} lists {line!r}, which is not there")
                + "; unpack sketches_png.zip again"
            )
