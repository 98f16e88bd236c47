"""What COCO's json files have in common: pictures, categories, annotations."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from maskpack.common.errors import DataError

T = TypeVar("T")


@dataclass
class Annotations:
    """A json, checked as far as every kind has it.

    pictures: id -> (path, width, height), in the file's order; categories: id -> name, by id.
    """

    path: Path
    pictures: dict[int, tuple[str, int, int]]
    categories: dict[int, str]
    records: list[dict[str, Any]]

    def classes(self, first: int) -> dict[int, int]:
        """Category id -> class number; ids have gaps, class numbers follow on from `first`."""
        return {key: number for number, key in enumerate(self.categories, start=first)}

    def each(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """The annotations, each with the words that name it in a message."""
        for place, record in enumerate(self.records):
            yield f"{self.path}: annotations[{place}]", record


def read_annotations(path: Path, folder: Path) -> Annotations:
    """A json of pictures that lie in `folder`.

    Raises:
        DataError: the file or the folder is missing, it is no json or not one of COCO's, or it
            lists a picture that is not there.
    """
    if not path.is_file():
        raise DataError(f"{path}: no such file; expected COCO's annotations there")
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; expected the pictures of {path.name}")
    document = read_document(path)
    there = {one.name for one in folder.iterdir()}  # one look instead of 100,000
    pictures = {}
    for where, record in records(path, document, "images"):
        name = member(record, "file_name", str, where)
        if name not in there:
            raise DataError(f"{path}: lists {name!r}, which is not in {folder}")
        size = (member(record, "width", int, where), member(record, "height", int, where))
        pictures[member(record, "id", int, where)] = (str(folder / name), *size)
    if not pictures:
        raise DataError(f"{path}: lists no images")
    categories = {
        member(record, "id", int, where): member(record, "name", str, where)
        for where, record in records(path, document, "categories")
    }
    listed = [record for _, record in records(path, document, "annotations")]
    return Annotations(path, pictures, dict(sorted(categories.items())), listed)


def read_document(path: Path) -> dict[str, Any]:
    """A json of COCO's, as it is.

    Raises:
        DataError: it cannot be read, is no json or none of an object.
    """
    try:
        with path.open(encoding="utf-8") as file:
            document = json.load(file)
    except (OSError, ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise DataError(f"{path}: is no json ({reason}); it is damaged or cut short") from error
    if not isinstance(document, dict):
        raise DataError(f"{path}: is not as COCO's; expected images, annotations, categories")
    return document


def member(record: dict[str, Any], key: str, kind: type[T], where: str) -> T:
    """A value of a record of the json.

    Raises:
        DataError: it is missing or of another type.
    """
    value = record.get(key)
    if value is None or not isinstance(value, kind) or isinstance(value, bool):
        found = "is missing" if value is None else f"is {value!r:.40}"
        raise DataError(f"{where}: {key!r} {found}; is it a json of COCO's of this kind?")
    return value


def records(path: Path, document: dict[str, Any], key: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Those of a list of the json, each with the words that name it in a message.

    Raises:
        DataError: there is no such list, or something else is in it.
    """
    for place, record in enumerate(member(document, key, list, str(path))):
        where = f"{path}: {key}[{place}]"
        if not isinstance(record, dict):
            raise DataError(f"{where}: is {record!r:.40}, no record")
        yield where, record
