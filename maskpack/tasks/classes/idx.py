"""idx files, MNIST's format: a count of dimensions, their sizes, then the numbers."""

from __future__ import annotations

import gzip
import math
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from maskpack.common.errors import DataError
from maskpack.common.preprocess import Augment
from maskpack.tasks.base import Classification
from maskpack.tasks.splits import SPLIT_OF

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image

FILE_NAME = re.compile(r"(?P<split>[a-z0-9]+)-(?P<part>images|labels)[-.]idx\d-ubyte(\.gz)?")
TYPES = {0x08: "u1", 0x0B: ">i2", 0x0C: ">i4"}

# Small pictures are seen whole; what they show is unknown, and a mirrored digit is another sign
AUGMENT = Augment(crop_mode="resize", hflip=0.0)

_CHUNK = 1 << 20
# deflate cannot do better than 1032 : 1, so a header that promises more lies
_MOST_PER_BYTE = 1032


def idx_files(root: Path) -> dict[str, Path]:
    """Files of MNIST's names in a folder, by "train images", "test labels", ..."""
    found: dict[str, Path] = {}
    # descending order puts x.gz before x: where an archive was unpacked beside itself, x wins
    for path in sorted(root.iterdir(), reverse=True):
        match = FILE_NAME.fullmatch(path.name)
        if match and match["split"] in SPLIT_OF and path.is_file():
            key = f"{SPLIT_OF[match['split']]} {match['part']}"
            other = found.get(key)
            if other is not None and other.name != f"{path.name}.gz":
                raise DataError(f"{root}: {path.name} and {other.name} are both {key}; keep one")
            found[key] = path
    return found


def idx_task(name: str, root: Path, augment: Augment | None = None) -> Classification:
    """The task of a folder of idx files; an optional classes.txt names a class per line."""
    files = idx_files(root)
    splits = [split for split in ("train", "val", "test") if f"{split} images" in files]
    if "train" not in splits:
        found = ", ".join(sorted(path.name for path in files.values()))
        raise DataError(f"{root}: no train-images-idx3-ubyte[.gz], found {found}")
    datasets: dict[str, IdxImages] = {}
    for split in splits:
        images = files[f"{split} images"]
        if f"{split} labels" not in files:
            raise DataError(f"{root}: no labels for {images.name}")
        datasets[split] = IdxImages(images, files[f"{split} labels"])
    if "test" not in datasets and "val" in datasets:
        datasets["test"] = datasets.pop("val")
    listed = root / "classes.txt"
    if listed.is_file():
        classes = class_names(listed)
    else:
        count = 1 + max(max(data.labels) for data in datasets.values())
        classes = [str(label) for label in range(count)]
    return Classification(name, classes, datasets, AUGMENT if augment is None else augment)


class IdxImages:
    """Pictures of an idx file, (n, h, w) grey or (n, h, w, 3) colour, all in memory."""

    def __init__(self, images: Path, labels: Path) -> None:
        pixels, numbers = read_idx(images), read_idx(labels)
        if pixels.dtype.str[1:] != "u1" or not (
            pixels.ndim == 3 or (pixels.ndim == 4 and pixels.shape[3] in (1, 3))
        ):
            raise DataError(
                f"{images}: holds {pixels.dtype} {pixels.shape}; pictures are bytes, "
                f"(n, h, w) or (n, h, w, 3)"
            )
        if numbers.ndim != 1 or len(numbers) != len(pixels):
            raise DataError(
                f"{labels}: holds labels {numbers.shape}, {images.name} has {len(pixels)} pictures"
            )
        if 0 in pixels.shape:
            raise DataError(f"{images}: holds no pixels, its shape is {pixels.shape}")
        self._pixels = pixels[..., 0] if pixels.shape[3:] == (1,) else pixels
        self.labels: list[int] = numbers.tolist()

    def __len__(self) -> int:
        return len(self._pixels)

    def __getitem__(self, index: int) -> tuple[Image, int]:
        from PIL import Image

        return Image.fromarray(self._pixels[index]).convert("RGB"), self.labels[index]


def read_idx(path: Path) -> np.ndarray[Any, Any]:
    """The array of an idx file, gzipped or not; DataError where the header lies.

    Never allocates what the header claims before the file has shown that many bytes.
    """
    import numpy as np

    try:
        size = path.stat().st_size
        packed = path.name.endswith(".gz")
        with gzip.open(path) if packed else path.open("rb") as file:
            dtype, shape = _read_header(path, file)
            claimed = math.prod(shape) * np.dtype(dtype).itemsize
            if claimed > size * (_MOST_PER_BYTE if packed else 1):
                raise DataError(
                    f"{path}: claims {claimed} bytes for {shape}, the file has {size}; "
                    f"it is damaged or cut short"
                )
            body = b"".join(_chunks(file, claimed + 1))
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: cannot be read ({error}); it is damaged or cut short") from error
    if len(body) != claimed:
        found = "more" if len(body) > claimed else len(body)
        raise DataError(f"{path}: {shape} needs {claimed} bytes, found {found}; it is damaged")
    return np.frombuffer(body, dtype=dtype).reshape(shape)


def _read_header(path: Path, file: BinaryIO | gzip.GzipFile) -> tuple[str, tuple[int, ...]]:
    magic = file.read(4)
    if len(magic) < 4 or magic[:2] != b"\0\0" or magic[2] not in TYPES or not 1 <= magic[3] <= 4:
        raise DataError(
            f"{path}: begins with {magic.hex(' ') or 'nothing'}, which is no idx header "
            f"(00 00, type, number of dimensions)"
        )
    sizes = file.read(4 * magic[3])
    if len(sizes) < 4 * magic[3]:
        raise DataError(f"{path}: ends inside its header; it is cut short")
    shape = tuple(int.from_bytes(sizes[i : i + 4], "big") for i in range(0, len(sizes), 4))
    return TYPES[magic[2]], shape


def _chunks(file: BinaryIO | gzip.GzipFile, limit: int) -> Iterator[bytes]:
    while limit > 0 and (chunk := file.read(min(limit, _CHUNK))):
        limit -= len(chunk)
        yield chunk


def class_names(path: Path) -> list[str]:
    """The names in a classes.txt, one a line, in order; DataError for an empty line or a double."""
    try:
        names = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines()]
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: is not UTF-8 text ({error.reason})") from error
    while names and not names[-1]:
        names.pop()
    for number, name in enumerate(names, start=1):
        if not name:
            raise DataError(f"{path}: line {number} is empty; expected a class name a line")
        if name in names[: number - 1]:
            raise DataError(f"{path}: line {number}: class {name!r} is named twice")
    return names
