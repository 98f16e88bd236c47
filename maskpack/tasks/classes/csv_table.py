"""Pictures listed in a csv file with the columns path and label."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from maskpack.common.errors import DataError
from maskpack.common.preprocess import Augment
from maskpack.tasks.base import Classification
from maskpack.tasks.images import ImageFiles
from maskpack.tasks.splits import SPLIT_OF

ALL_SPLITS = "labels.csv"


class Row(NamedTuple):
    """One picture of the table, and where the table says so."""

    path: str
    label: str
    split: str
    where: str


def csv_files(root: Path) -> dict[str, Path]:
    """labels.csv alone, or the csv of each split; by split name, "" for labels.csv."""
    if (root / ALL_SPLITS).is_file():
        return {"": root / ALL_SPLITS}
    found: dict[str, Path] = {}
    for name, split in SPLIT_OF.items():
        path = root / f"{name}.csv"
        if path.is_file():
            if split in found:
                raise DataError(f"{root}: {found[split].name} and {path.name} are both {split}")
            found[split] = path
    return found


def csv_task(name: str, root: Path, augment: Augment | None = None) -> Classification:
    """The task of labels.csv (path,label[,split]) or of train.csv, [val.csv], test.csv.

    Paths are relative to the csv file; classes are in the order of their names.
    """
    rows: dict[str, list[Row]] = {}
    for split, path in csv_files(root).items():
        for row in _rows(path, split):
            rows.setdefault(row.split, []).append(row)
    if "train" not in rows:
        found = ", ".join(rows) or "no pictures"
        raise DataError(f"{root}: the csv files have no train split, found {found}")
    if "test" not in rows and "val" in rows:
        rows["test"] = rows.pop("val")
    classes = sorted({row.label for row in rows["train"]})
    number = {label: index for index, label in enumerate(classes)}
    datasets = {}
    for split, listed in rows.items():
        for row in listed:
            if row.label not in number:
                raise DataError(f"{row.where}: class {row.label!r} is not in the train split")
        paths = [row.path for row in listed]
        datasets[split] = ImageFiles(paths, [number[row.label] for row in listed])
    return Classification(name, classes, datasets, augment)


def _rows(path: Path, split: str) -> Iterator[Row]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, skipinitialspace=True)
            columns = {(column or "").strip().lower(): column for column in reader.fieldnames or ()}
            if "path" not in columns or "label" not in columns:
                found = ", ".join(columns) or "nothing"
                raise DataError(
                    f"{path}: its first line has the columns {found}; expected path,label[,split]"
                )
            for record in reader:
                where = f"{path}: line {reader.line_num}"
                cells = {name: (record[column] or "").strip() for name, column in columns.items()}
                yield _row(path, where, cells, split)
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: is not UTF-8 text ({error.reason})") from error
    except csv.Error as error:
        raise DataError(f"{path}: is not a csv file ({error})") from error


def _row(path: Path, where: str, cells: dict[str, str], split: str) -> Row:
    if not cells["path"] or not cells["label"]:
        raise DataError(f"{where}: path or label is empty")
    picture = path.parent / cells["path"]
    if not picture.is_file():
        raise DataError(f"{where}: no file {cells['path']!r} (looked for {picture})")
    if not split:  # labels.csv names the split itself; without the column all is for training
        named = cells.get("split", "train")
        split = SPLIT_OF.get(named.lower(), "")
        if not split:
            raise DataError(f"{where}: split is {named!r}; known: train, val, test")
    return Row(str(picture), cells["label"], split, where)
