"""The Visual Decathlon's tasks: DIR/annotations/*.json, and pictures in DIR/data/TASK/.

Ten data sets of small pictures with splits and class numbers of their own (Rebuffi et al. 2017,
arXiv:1705.08045): `decathlon-aircraft` is not the Aircraft of other papers.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from maskpack.common.errors import DataError
from maskpack.common.preprocess import Augment
from maskpack.datasets.decathlon import TASKS
from maskpack.tasks.base import Classification
from maskpack.tasks.dense.coco_json import member, read_document, records
from maskpack.tasks.images import ImageFiles, pictures_in

PREFIX = "decathlon-"
DECATHLON: dict[str, str] = {f"{PREFIX}{task}": task for task in TASKS}  # our name -> theirs
SITE = "https://www.robots.ox.ac.uk/~vgg/decathlon/"
STEP = 10**7  # between the category ids of two tasks

# Rebuffi et al.: crops and mirrored pictures, but where a sign or a letter would become another.
CROPS = Augment("random")
SIGNS = Augment("center", hflip=0.0)
AUGMENT = dict.fromkeys(TASKS, CROPS) | dict.fromkeys(("gtsrb", "omniglot", "svhn"), SIGNS)


class Decathlon(Classification):
    """Classes in the order of their category ids, which is not that of the pictures' folders."""

    def __init__(self, name: str, classes: list[str], splits: dict[str, ImageFiles]) -> None:
        super().__init__(name, classes, splits, AUGMENT[DECATHLON[name]])
        self.tested_on = "test"

    def describe(self) -> dict[str, object]:
        return {**super().describe(), "tested on": self.tested_on}


def decathlon_task(name: str, root: Path | None) -> Decathlon:
    """One of DECATHLON, in the folder that all ten lie in.

    Labels of the test pictures are read from annotations/TASK_test.json where there is one. They
    were not given out; without them the val split is tested on, and training holds out pictures
    of its own to choose the best epoch by.

    Raises:
        DataError: something is missing, or a json is not as theirs are.
    """
    task = DECATHLON[name]
    if root is None:
        raise DataError(f"task {name!r}: no --data DIR; {_advice(task)}")
    if not root.is_dir():
        raise DataError(f"task {name!r}: no folder {str(root)!r}; {_advice(task)}")
    labelled = json_path(root, task, "test").is_file()
    names = ("train", "val", "test") if labelled else ("train", "val")
    opened = {split: labels_of(root, task, split) for split in names}
    classes = opened["train"].classes
    for split, found in opened.items():
        if found.classes != classes:
            raise DataError(
                f"{json_path(root, task, split)}: has other categories than {task}_train.json; "
                "take all files from one devkit"
            )
    splits = {split: ImageFiles(found.paths, found.labels) for split, found in opened.items()}
    if not labelled:
        splits["test"] = splits.pop("val")
    made = Decathlon(name, classes, splits)
    if not labelled:
        made.tested_on = "val"
    return made


def category_id(task: str, label: int) -> int:
    """The challenge's number of a class that is counted from 0."""
    return STEP * (1 + TASKS.index(task)) + 1 + label


def json_path(root: Path, task: str, split: str) -> Path:
    """Where the json of a split is; "test_stripped" has pictures without labels."""
    return root / "annotations" / f"{task}_{split}.json"


@dataclass(frozen=True)
class Pictures:
    """Pictures of a json, in its order, by their ids; `labels` are class numbers from 0."""

    ids: list[int]
    paths: list[str]
    labels: list[int]
    classes: list[str]


def pictures_of(root: Path, task: str, split: str) -> Pictures:
    """The pictures that a json lists, without labels; and its classes, if it names them.

    Raises:
        DataError: the json or a picture is missing, or it is not as theirs are.
    """
    path = json_path(root, task, split)
    document = _document(path, task)
    found = _pictures(root, task, split, path, document)
    classes = _classes(path, document, task) if document.get("categories") else []
    return Pictures(found.ids, found.paths, [], classes)


def labels_of(root: Path, task: str, split: str) -> Pictures:
    """The pictures that a json lists, with the class of each.

    Raises:
        DataError: as `pictures_of`, or a picture has no annotation, or several.
    """
    path = json_path(root, task, split)
    document = _document(path, task)
    found = _pictures(root, task, split, path, document)
    classes = _classes(path, document, task)
    labels: dict[int, int] = dict.fromkeys(found.ids, -1)
    for where, record in records(path, document, "annotations"):
        picture = member(record, "image_id", int, where)
        label = member(record, "category_id", int, where) - category_id(task, 0)
        if picture not in labels:
            raise DataError(f"{where}: image_id {picture} is not among the images")
        if not 0 <= label < len(classes):
            wrong = record["category_id"]
            raise DataError(f"{where}: category_id {wrong} is not among the categories")
        if labels[picture] >= 0:
            raise DataError(f"{where}: image_id {picture} has a class already; expected one each")
        labels[picture] = label
    without = next((key for key, label in labels.items() if label < 0), None)
    if without is not None:
        raise DataError(
            f"{path}: picture {without} has no annotation; is it a _stripped.json under another "
            "name?"
        )
    return Pictures(found.ids, found.paths, list(labels.values()), classes)


def _document(path: Path, task: str) -> dict[str, Any]:
    if not path.is_file():
        raise DataError(f"{path}: no such file; {_advice(task)}")
    return read_document(path)


def _pictures(root: Path, task: str, split: str, path: Path, document: dict[str, Any]) -> Pictures:
    folder = root / "data" / task / split.partition("_")[0]
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; {_advice(task)}")
    there = set(pictures_in(folder))  # one look instead of a million
    start, own = f"data/{task}/{folder.name}/", f"{folder}{os.sep}"
    paths: dict[int, str] = {}
    for where, record in records(path, document, "images"):
        name, key = member(record, "file_name", str, where), member(record, "id", int, where)
        picture = f"{own}{name.removeprefix(start)}"
        if not name.startswith(start) or picture not in there:
            raise DataError(
                f"{path}: lists {name!r:.80}, which is not in {folder}; unpack {task}.tar again"
            )
        if key in paths:
            raise DataError(f"{where}: id {key} is that of another picture, too")
        paths[key] = picture
    if not paths:
        raise DataError(f"{path}: lists no images")
    return Pictures(list(paths), list(paths.values()), [], [])


def _classes(path: Path, document: dict[str, Any], task: str) -> list[str]:
    found = {
        member(record, "id", int, where): member(record, "name", str, where)
        for where, record in records(path, document, "categories")
    }
    expected = [category_id(task, label) for label in range(len(found))]
    if sorted(found) != expected:
        wrong = next((key for key in sorted(found) if key not in expected), "none")
        raise DataError(
            f"{path}: category id {wrong}; expected {category_id(task, 0)} and those after it, as "
            f"the decathlon numbers {task}"
        )
    return [found[key] for key in expected]


def _advice(task: str) -> str:
    """What to fetch and where to put it."""
    pictures = f"decathlon-1.0-data.tar.gz and {task}.tar out of it"
    if task == "imagenet12":
        pictures = "the pictures of imagenet12 (a download of their own)"
    return (
        f"expected annotations/{task}_*.json and data/{task}/ in it: unpack "
        f"decathlon-1.0-devkit.tar.gz there and {pictures} in its data/, from {SITE}"
    )
