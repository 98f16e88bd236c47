"""Stanford Cars (Krause et al. 2013), cropped to their bounding boxes. Two layouts:

cars_train/ cars_test/ devkit/{cars_meta,cars_train_annos}.mat and cars_test_annos_withlabels.mat
car_ims/ cars_annos.mat                  the older one: the same pictures and splits in one table
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import Any

from maskpack.common.errors import DataError, one_line
from maskpack.datasets.prepare.listing import Box, Picture, class_folder, first_folder, inside
from maskpack.datasets.prepare.matlab import read_mat, rows, whole

BOX = ("bbox_x1", "bbox_y1", "bbox_x2", "bbox_y2")
LABELLED = "cars_test_annos_withlabels.mat"
ARCHIVES = "cars_train.tgz, cars_test.tgz and car_devkit.tgz (or car_ims.tgz with cars_annos.mat)"


def pictures(source: Path) -> list[Picture]:
    """Every picture, with its box, in whichever layout `source` (or stanford_cars/ in it) has."""
    places = [source, source / "stanford_cars"]
    for place in places:
        if (place / "cars_annos.mat").is_file():
            return _one_table(place)
    return _devkit(first_folder(places, "devkit", ARCHIVES))


def _devkit(root: Path) -> list[Picture]:
    devkit = root / "devkit"
    (classes,) = read_mat(devkit / "cars_meta.mat", "class_names")
    labelled = root / LABELLED if (root / LABELLED).exists() else devkit / LABELLED
    if not labelled.exists():
        raise DataError(
            f"{root}: has no {LABELLED}, there or in devkit/; "
            "cars_test_annos.mat alone does not say what the test pictures show"
        )
    found = []
    for split, path in (("train", devkit / "cars_train_annos.mat"), ("test", labelled)):
        folder = root / f"cars_{split}"
        if (folder / folder.name).is_dir():  # as some mirrors unpack
            folder = folder / folder.name
        (table,) = read_mat(path, "annotations")
        for where, (name, label, *box) in rows(path, table, ("fname", "class", *BOX)):
            found.append(_picture(where, split, classes, label, folder / _name(where, name), box))
    return found


def _one_table(root: Path) -> list[Picture]:
    path = root / "cars_annos.mat"
    classes, table = read_mat(path, "class_names", "annotations")
    found = []
    fields = ("relative_im_path", "class", "test", *BOX)
    for where, (name, label, test, *box) in rows(path, table, fields):
        split = "test" if whole(where, test) else "train"
        source = root / "car_ims" / PurePosixPath(_name(where, name)).name
        found.append(_picture(where, split, classes, label, source, box))
    return found


def _picture(
    where: str, split: str, classes: Any, label: Any, source: Path, box: list[Any]
) -> Picture:
    number = whole(where, label)
    if not 1 <= number <= len(classes):
        raise DataError(f"{where} is of class {number}; expected 1 to {len(classes)}")
    # the number keeps the published order; one name has a slash in it (Ram C/V)
    folder = class_folder(where, f"{number:03d}.{classes[number - 1]}")
    return Picture(split, folder, f"{source.stem}.jpg", source, _box(where, box))


def _name(where: str, name: Any) -> str:
    if not isinstance(name, str) or not name.strip():
        raise DataError(one_line(f"{where} has {name!r}; expected the name of a picture"))
    return inside(where, name.strip())


def _box(where: str, box: list[Any]) -> Box:
    # MATLAB counts pixels from 1, both ends inside
    left, top, right, bottom = (whole(where, edge) for edge in box)
    if left > right or top > bottom:
        raise DataError(
            f"{where} has a box from {left} {top} to {right} {bottom}, turned inside out"
        )
    return left - 1, top - 1, right, bottom
