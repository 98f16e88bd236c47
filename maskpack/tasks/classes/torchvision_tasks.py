"""torchvision's classification data sets as tasks."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from maskpack.common.errors import DataError
from maskpack.common.preprocess import Augment
from maskpack.datasets import SOURCES, fetch_task
from maskpack.tasks.base import Classification
from maskpack.tasks.images import to_rgb

if TYPE_CHECKING:
    from PIL.Image import Image

PHOTOS = Augment()
SMALL = Augment(crop_mode="resize", hflip=0.5)
SIGNS = Augment(crop_mode="resize", hflip=0.0)  # digits, letters, text: mirrored means another

DIGITS = tuple("0123456789")
TRAIN_TEST: dict[str, dict[str, Any]] = {"train": {"split": "train"}, "test": {"split": "test"}}
TRAIN_VAL_TEST = {**TRAIN_TEST, "val": {"split": "val"}}
BOOLEAN: dict[str, dict[str, Any]] = {"train": {"train": True}, "test": {"train": False}}


@dataclass(frozen=True)
class Entry:
    """How one torchvision class becomes a task."""

    dataset: str  # class in torchvision.datasets
    folder: str  # what the class looks for in its root
    splits: Mapping[str, dict[str, Any]]  # ours -> the class's arguments
    augment: Augment = PHOTOS
    classes: tuple[str, ...] = ()  # empty: the data set names them
    needs: str = ""  # package that reads its files
    downloads: bool = True
    arguments: dict[str, Any] = field(default_factory=dict)


# Published splits as they are: flowers102's papers trained on train + val together.
# CIFAR's files are pickles, which torchvision opens only after their md5 matches.
TORCHVISION: dict[str, Entry] = {
    "cifar10": Entry("CIFAR10", "cifar-10-batches-py", BOOLEAN, SMALL),
    "cifar100": Entry("CIFAR100", "cifar-100-python", BOOLEAN, SMALL),
    "country211": Entry("Country211", "country211", {**TRAIN_VAL_TEST, "val": {"split": "valid"}}),
    "dtd": Entry("DTD", "dtd", TRAIN_VAL_TEST),
    "emnist": Entry("EMNIST", "EMNIST/raw", BOOLEAN, SIGNS, arguments={"split": "balanced"}),
    "fashion_mnist": Entry("FashionMNIST", "FashionMNIST/raw", BOOLEAN, SMALL),
    "fgvc_aircraft": Entry("FGVCAircraft", "fgvc-aircraft-2013b", TRAIN_VAL_TEST),
    "flowers102": Entry("Flowers102", "flowers-102", TRAIN_VAL_TEST, needs="scipy"),
    "food101": Entry("Food101", "food-101", TRAIN_TEST),
    "gtsrb": Entry(
        "GTSRB", "gtsrb", TRAIN_TEST, SIGNS, classes=tuple(f"{sign:05d}" for sign in range(43))
    ),
    "imagenette": Entry(
        "Imagenette", "imagenette2", {"train": {"split": "train"}, "test": {"split": "val"}}
    ),
    "kmnist": Entry("KMNIST", "KMNIST/raw", BOOLEAN, SIGNS),
    "mnist": Entry("MNIST", "MNIST/raw", BOOLEAN, SIGNS),
    "oxford_iiit_pet": Entry(
        "OxfordIIITPet",
        "oxford-iiit-pet",
        {"train": {"split": "trainval"}, "test": {"split": "test"}},
    ),
    "pcam": Entry(
        "PCAM", "pcam", TRAIN_VAL_TEST, SMALL, classes=("no tumour", "tumour"), needs="h5py"
    ),
    "rendered_sst2": Entry("RenderedSST2", "rendered-sst2", TRAIN_VAL_TEST, SIGNS),
    "stanford_cars": Entry(
        "StanfordCars", "stanford_cars", TRAIN_TEST, needs="scipy", downloads=False
    ),
    "stl10": Entry("STL10", "stl10_binary", TRAIN_TEST, SMALL),
    "svhn": Entry("SVHN", "train_32x32.mat", TRAIN_TEST, SIGNS, classes=DIGITS, needs="scipy"),
    "usps": Entry("USPS", "usps.bz2", BOOLEAN, SIGNS, classes=DIGITS),
}

# torchvision's own spellings, in lower case
ALIASES: dict[str, str] = {
    "fashionmnist": "fashion_mnist",
    "fgvcaircraft": "fgvc_aircraft",
    "oxfordiiitpet": "oxford_iiit_pet",
    "renderedsst2": "rendered_sst2",
    "stanfordcars": "stanford_cars",
}


def cache_folder(name: str) -> Path:
    """Where a data set lives when no --data is given.

    $MASKPACK_CACHE/NAME, else $XDG_CACHE_HOME/maskpack/NAME, else ~/.cache/maskpack/NAME.
    """
    own = os.environ.get("MASKPACK_CACHE")
    if own:
        return Path(own) / name
    shared = os.environ.get("XDG_CACHE_HOME")
    return (Path(shared) if shared else Path.home() / ".cache") / "maskpack" / name


def torchvision_task(name: str, key: str, root: Path | None, download: bool) -> Classification:
    """The task of TORCHVISION[key], called `name`; root None is the cache folder.

    Opens every split, so that a missing one shows before the training and not after.
    """
    entry = TORCHVISION[key]
    if entry.needs and importlib.util.find_spec(entry.needs) is None:
        raise DataError(
            f"task {name!r}: reading its files needs the package {entry.needs}; "
            f"run `pip install {entry.needs}`"
        )
    folder = cache_folder(key) if root is None else root
    if download and key in SOURCES:
        try:
            fetch_task(key, folder)
        except DataError as error:
            raise DataError(f"task {name!r}: {error}") from error
    opened = {}
    for split in entry.splits:
        try:
            opened[split] = _open_split(entry, split, folder, download)
        # torchvision raises RuntimeError for files it misses, and whatever a parser meets in
        # damaged ones: pickle, json, scipy, csv and urllib have no common base
        except Exception as error:
            reason = _what_to_do(entry, split, folder, download, error)
            if root is not None:
                reason += f" (or lay {root} out as train/CLASS/*, test/CLASS/*)"
            raise DataError(f"task {name!r}: {reason}") from error
    classes = entry.classes or _class_names(opened["train"])
    try:
        datasets = {split: TorchvisionImages(name, split, data) for split, data in opened.items()}
    except (OSError, KeyError, ValueError, TypeError) as error:
        raise DataError(f"task {name!r}: the labels in {folder} cannot be read: {error}") from error
    return Classification(name, classes, datasets, entry.augment)


def _open_split(entry: Entry, split: str, root: Path, download: bool) -> Any:
    from torchvision import datasets

    arguments = {**entry.arguments, **entry.splits[split]}
    if download and entry.downloads:
        root.mkdir(parents=True, exist_ok=True)
        arguments["download"] = True
    # some versions print while they fetch; stdout belongs to results
    with contextlib.redirect_stdout(sys.stderr):
        return getattr(datasets, entry.dataset)(str(root), **arguments)


def _what_to_do(entry: Entry, split: str, root: Path, download: bool, error: Exception) -> str:
    place = root / entry.folder
    reason = _one_line(error)
    if download and entry.downloads:
        return f"could not be fetched ({reason}); put its files in {place} by hand"
    if not place.exists():
        wanted = "add --download, or put" if entry.downloads else "they cannot be fetched, put"
        return f"its files are not in {place}; {wanted} them there"
    again = "; add --download to fetch them again" if entry.downloads else ""
    if "download=True" in reason:  # torchvision's own advice, for Python
        reason = "torchvision misses one, or its md5 differs"
    return f"the files of {split} in {place} are incomplete or damaged ({reason}){again}"


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _class_names(dataset: Any) -> list[str]:
    named = getattr(dataset, "classes", None)
    if named is None:  # Flowers102 before torchvision 0.22
        return [str(label) for label in range(1 + max(_labels(dataset)))]
    # Imagenette gives all the names of a class in a tuple, the usual one first
    return [entry if isinstance(entry, str) else str(entry[0]) for entry in named]


class TorchvisionImages:
    """A torchvision data set with its labels in one list and its pictures as RGB."""

    def __init__(self, name: str, split: str, dataset: Any) -> None:
        self.labels = _labels(dataset)
        self._dataset = dataset
        self._where = f"task {name!r}, {split}"

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Image, int]:
        try:
            return to_rgb(self._dataset[index][0]), self.labels[index]
        # whatever Pillow's decoders raise for a damaged file
        except Exception as error:
            reason = _one_line(error)
            raise DataError(f"{self._where}: picture {index} cannot be read: {reason}") from error


def _labels(dataset: Any) -> list[int]:
    # each class keeps them under another name
    for attribute in ("targets", "_labels", "labels"):
        found = getattr(dataset, attribute, None)
        if found is not None:
            return [int(label) for label in found]
    pairs: Sequence[tuple[str, int]] | None = getattr(dataset, "_samples", None)
    if pairs is not None:
        return [int(label) for _, label in pairs]
    return _pcam_labels(dataset)


def _pcam_labels(dataset: Any) -> list[int]:
    h5py: Any = importlib.import_module("h5py")
    file_name = dataset._FILES[dataset._split]["targets"][0]
    with h5py.File(dataset._base_folder / file_name) as file:
        labels: list[int] = file["y"][:, 0, 0, 0].tolist()
    return labels
