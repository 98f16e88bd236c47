"""ImageNet-to-Sketch: five tasks of papers on masks (Mallya et al. 2018, arXiv:1801.06519).

All are class folders, made from their publishers' files by `maskpack data prepare` (see `prepare`).
Birds and cars are cropped to their bounding boxes: without that, accuracy is far lower.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from maskpack.common.errors import DataError
from maskpack.common.preprocess import Augment
from maskpack.tasks.base import Classification
from maskpack.tasks.classes.image_folder import is_folder_task, open_folder
from maskpack.tasks.classes.torchvision_tasks import TORCHVISION, cache_folder, torchvision_task

CROPPED = Augment(crop_mode="resize")  # the object fills the picture: 224 x 224, aspect not kept
WHOLE = Augment()


@dataclass(frozen=True)
class Entry:
    """One data set, as published."""

    title: str
    folder: str  # what papers' own copies call it
    classes: int
    train: int  # pictures
    test: int
    augment: Augment
    marks: tuple[str, ...]  # what only the unprepared original has

    def difference(self, classes: int, counts: Mapping[str, int]) -> str | None:
        """In which numbers a copy differs from what papers report on; None where it does not."""
        found = (counts.get("train", 0), counts.get("test", 0), classes)
        published = (self.train, self.test, self.classes)
        if found == published:
            return None
        said = ["{:,} / {:,} pictures of {:,} classes".format(*row) for row in (found, published)]
        return f"has {said[0]}, published are {said[1]}"


IMAGENET_TO_SKETCH: dict[str, Entry] = {
    "cubs": Entry(
        "CUB-200-2011", "cubs_cropped", 200, 5994, 5794, CROPPED, ("CUB_200_2011", "images.txt")
    ),
    "stanford_cars": Entry(
        "Stanford Cars",
        "stanford_cars_cropped",
        *(196, 8144, 8041),
        CROPPED,
        ("devkit", "cars_annos.mat", "stanford_cars"),
    ),
    "flowers": Entry(
        "Flowers-102", "flowers", 102, 2040, 6149, WHOLE, ("setid.mat", "jpg", "flowers-102")
    ),
    "wikiart": Entry(
        "WikiArt",
        "wikiart",
        *(195, 42129, 10628),
        WHOLE,
        ("artist_train.csv", "wikiart_csv", "train.txt"),
    ),
    "sketch": Entry(
        "TU-Berlin's sketches", "sketches", 250, 16000, 4000, WHOLE, ("png", "filelist.txt")
    ),
}


def imagenet_to_sketch_task(
    name: str, key: str, root: Path | None, download: bool
) -> Classification:
    """The task of IMAGENET_TO_SKETCH[key], called `name`; root None is the cache folder.

    `root` is the prepared folder, or holds it by the task's name or by that of papers' own copies.
    Cars laid out for torchvision are taken too, whole pictures, where there is no such folder.

    Raises:
        DataError: there is no prepared folder (and how to get one), or it is damaged.
    """
    entry = IMAGENET_TO_SKETCH[key]
    base = cache_folder(key) if root is None else root
    found = _prepared(_places(key, entry, base))
    if found is None and key in TORCHVISION and (base / TORCHVISION[key].folder).is_dir():
        return torchvision_task(name, key, root, download)
    if found is None and download and not _is_original(entry, base):
        from maskpack.datasets import fetch_task

        found = fetch_task(key, _aim(key, entry, base))
    if found is None:
        raise DataError(f"task {name!r}: {_what_to_do(key, entry, base, root is None)}")
    _check_is(name, key, found)
    return open_folder(name, found, entry.augment)


def _places(key: str, entry: Entry, base: Path) -> list[Path]:
    """Where a prepared folder may lie: under either name inside, `base` itself, or a neighbour."""
    names = (entry.folder, key)
    beside = [base.with_name(name) for name in names] if base.name in names else []
    return [*(base / name for name in names), base, *beside]


def _aim(key: str, entry: Entry, base: Path) -> Path:
    """Where it is to be written: not among the data sets that may lie in the user's folder."""
    return base if base.name in (entry.folder, key) else base / entry.folder


def _prepared(places: list[Path]) -> Path | None:
    """The first folder that looks like class folders, or like another of the user's layouts."""
    try:
        return next((place for place in places if is_folder_task(place)), None)
    except OSError as error:  # a folder without read permission, a share that went away
        raise DataError(f"{error.filename or places[0]}: {error.strerror or error}") from error


def _is_original(entry: Entry, folder: Path) -> bool:
    return any((folder / mark).exists() for mark in entry.marks)


def _check_is(name: str, key: str, folder: Path) -> None:
    """Raise DataError where a folder says that it was prepared as another data set."""
    from maskpack.datasets.prepare import finished

    done = finished(folder)
    if done is not None and done.name != key:
        raise DataError(f"task {name!r}: {folder} was prepared as {done.name!r}, not as {key!r}")


def _what_to_do(key: str, entry: Entry, base: Path, cached: bool) -> str:
    from maskpack.datasets import BY_HAND, SOURCES
    from maskpack.datasets.prepare import half_done

    aim = _aim(key, entry, base)
    command = f"maskpack data prepare {key} --from"
    to = "" if cached else f" --to {shlex.quote(str(aim))}"
    for place in _places(key, entry, base):
        if half_done(place):
            to = "" if cached and place == aim else f" --to {shlex.quote(str(place))}"
            return f"{place} is prepared half-way; run `{command} DIR{to}` once more"
    if _is_original(entry, base):
        source = shlex.quote(str(base))
        done = "" if cached else ", then leave out --data"
        return f"{base} is {entry.title} as published; run `{command} {source}` first{done}"
    if key in BY_HAND:
        get = f"by hand: {BY_HAND[key]}"
    else:
        addresses = " ".join(file.url for file in SOURCES[key].files)
        get = f"with --download, or by hand: unpack {addresses}"
    there = "is no folder" if not aim.is_dir() else "has no train/ and test/"
    return f"{aim} {there}; get {entry.title} {get}, then run `{command} DIR{to}`"
