"""CUB-200-2011 (Wah et al. 2011): birds, cropped to their bounding boxes.

CUB_200_2011/images.txt             `1 001.Black_footed_Albatross/Black_Footed_Albatross_0046.jpg`
CUB_200_2011/image_class_labels.txt `1 1`
CUB_200_2011/train_test_split.txt   `1 0`, 1 for training
CUB_200_2011/bounding_boxes.txt     `1 60.0 27.0 325.0 304.0`, x, y, width and height
CUB_200_2011/classes.txt            `1 001.Black_footed_Albatross`
CUB_200_2011/images/
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from maskpack.common.errors import DataError, one_line
from maskpack.datasets.prepare.listing import Box, Picture, class_folder, first_folder, inside
from maskpack.datasets.prepare.text_lists import by_number, numbers, same_keys


def pictures(source: Path) -> list[Picture]:
    """Every picture, with its box; `source` holds CUB_200_2011/ or is that folder."""
    root = first_folder([source, source / "CUB_200_2011"], "images.txt", "CUB_200_2011.tgz")
    listing = root / "images.txt"
    paths = by_number(listing, "id path")
    tables = {
        name: by_number(root / f"{name}.txt", f"id {what}")
        for name, what in {
            "image_class_labels": "class",
            "train_test_split": "is_train",
            "bounding_boxes": "x y width height",
        }.items()
    }
    for name, table in tables.items():
        same_keys(root / f"{name}.txt", table, listing, list(paths))
    classes = by_number(root / "classes.txt", "id name")
    found = []
    for key, (path,) in paths.items():
        label, is_train = tables["image_class_labels"][key][0], tables["train_test_split"][key][0]
        if label not in classes:
            where = f"{root / 'image_class_labels.txt'}: picture {key}"
            raise DataError(
                one_line(f"{where} is of class {label}, but classes.txt has {len(classes)}")
            )
        if is_train not in ("0", "1"):
            where = f"{root / 'train_test_split.txt'}: picture {key}"
            raise DataError(one_line(f"{where} has {is_train!r}; expected 1 for training, else 0"))
        found.append(
            Picture(
                "train" if is_train == "1" else "test",
                class_folder(str(root / "classes.txt"), classes[label][0]),
                f"{PurePosixPath(path).stem}.jpg",
                root / "images" / inside(f"{listing}: picture {key}", path),
                _box(
                    f"{root / 'bounding_boxes.txt'}: picture {key}", tables["bounding_boxes"][key]
                ),
            )
        )
    return found


def _box(where: str, words: list[str]) -> Box:
    x, y, width, height = numbers(where, words)
    if width <= 0 or height <= 0:
        raise DataError(f"{where} has a box of {width:g} x {height:g} pixels")
    return x, y, x + width, y + height
