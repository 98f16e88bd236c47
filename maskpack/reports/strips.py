"""Strips: what went into a network, what came out and what should have, in one PNG side by side.

Each says in a text chunk of its own what made it and where its parts are, so that it can be cut up
again, moved or renamed. No torch.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from maskpack.common.errors import DataError, MaskpackError, printable
from maskpack.common.files import replacing

if TYPE_CHECKING:
    from PIL.Image import Image

PARTS = ("input", "output", "target")
CHUNK = "maskpack"  # of PNG's text, by its key
LARGE = 1e15  # a number beyond it is no score
GAP = 4  # white pixels between two parts
LARGEST = 1 << 26  # pixels of a strip that is still opened
NUMBERED = re.compile(r"[0-9]{4,}\.png")

Row = dict[str, Any]
Box = tuple[int, int, int, int]  # left, top, right, bottom


@dataclass(frozen=True)
class Maker:
    """What made a strip: a task of a file, and how it scored on the split of the picture."""

    task: str
    learnt: str  # what was learnt, whatever the task is called in its file
    method: str
    norms: str
    file: str
    split: str
    metric: str = ""
    score: float | None = None
    lower_is_better: bool = False

    def same(self, other: Maker | None) -> bool:
        """Whether the other one is this one, perhaps with another score."""
        return other is not None and self._key() == other._key()

    def _key(self) -> tuple[str, ...]:
        return self.task, self.method, self.file, self.split


@dataclass(frozen=True)
class Example:
    """One picture's parts by name, and the digest of the picture they were made of."""

    picture: str
    parts: Mapping[str, Image]


# ---- writing


def make_folder(root: Path) -> None:
    """Raise MaskpackError where the folder is not there and cannot be made."""
    try:
        root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise MaskpackError(f"{root}: cannot be made: {error.strerror or error}") from error


def write_strips(root: Path, maker: Maker, examples: Iterable[Example]) -> tuple[Path, int]:
    """Write ROOT/TASK-METHOD/0001.png and so on; returns that folder, and how many there are.

    What the same file's task wrote there before is replaced, and what it wrote beyond them
    removed. Where another one did, the folder is TASK-METHOD-2, and so on.

    Raises:
        MaskpackError: a file cannot be written.
    """
    folder = _folder(root, maker)
    make_folder(folder)
    count = 0
    for count, example in enumerate(examples, 1):
        _write(folder / f"{count:04}.png", maker, example)
    for path in _numbered(folder)[count:]:
        if (old := _about(path)) is not None and maker.same(old[0]):
            path.unlink()
    return folder, count


def _folder(root: Path, maker: Maker) -> Path:
    name = re.sub(r"[^\w.-]+", "-", f"{maker.task}-{maker.method}").strip("-.")[:80] or "task"
    for count in itertools.count(1):
        folder = root / (name if count == 1 else f"{name}-{count}")
        first = next(iter(_numbered(folder)), None)
        if first is None:
            return folder
        if (old := _about(first)) is not None and maker.same(old[0]):
            return folder
    raise AssertionError("numbers do not end")


def _numbered(folder: Path) -> list[Path]:
    """0001.png, 0002.png, ... of a folder, which need not be there."""
    found = folder.glob("*.png")
    return sorted((path for path in found if NUMBERED.fullmatch(path.name)), key=_number)


def _number(path: Path) -> int:
    return int(path.stem)


def _write(path: Path, maker: Maker, example: Example) -> None:
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    boxes: dict[str, Box] = {}
    left = 0
    for name, part in example.parts.items():
        boxes[name] = (left, 0, left + part.width, part.height)
        left += part.width + GAP
    height = max(part.height for part in example.parts.values())
    strip = Image.new("RGB", (left - GAP, height), "white")
    for name, part in example.parts.items():
        strip.paste(part, boxes[name])
    told = PngInfo()
    about = dataclasses.asdict(maker) | {"picture": example.picture, "parts": boxes}
    told.add_text(CHUNK, json.dumps({"format": 1, **about}))
    with replacing(path) as written:
        strip.save(written, "PNG", pnginfo=told)


# ---- reading


def read_strips(root: Path) -> list[Row]:
    """The strips of a folder and of those in it: a row a maker, JSON types only.

    A row has `folder`, what its Maker says, and `pictures`: of each its `file` in the folder, the
    `picture` (equal for one picture, whoever made something of it), and its `parts` by name as
    left, top, right, bottom. Other PNG files are passed over.

    Raises:
        DataError: there are none.
    """
    rows: list[Row] = []
    for folder in (root, *sorted(path for path in _listed(root) if path.is_dir())):
        made: dict[Maker, list[Row]] = {}
        for path in sorted(path for path in _listed(folder) if path.suffix.lower() == ".png"):
            if (found := _about(path)) is not None:
                maker, picture, boxes = found
                parts = {name: list(box) for name, box in boxes.items()}
                row = {"file": path.name, "picture": picture, "parts": parts}
                made.setdefault(maker, []).append(row)
        for maker, pictures in made.items():
            rows.append({"folder": str(folder)} | _told(maker) | {"pictures": pictures})
    if not rows:
        raise DataError(
            f"{root}: no strips there; expected a folder that maskpack eval --save-images has "
            "written"
        )
    return rows


def read_part(path: Path, box: Iterable[int]) -> Image:
    """One part of a strip, cut out.

    Raises:
        DataError: the file is gone or damaged.
    """
    from PIL import Image

    try:
        with Image.open(path) as strip:
            left, top, right, bottom = box
            return strip.convert("RGB").crop((left, top, right, bottom))
    # Pillow's decoders raise a dozen kinds for damaged files
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"{path}: cannot be read as an image ({reason})") from error


def _listed(folder: Path) -> Iterator[Path]:
    try:
        yield from (path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError as error:
        raise DataError(f"{folder}: cannot be read: {error.strerror or error}") from error


def _told(maker: Maker) -> Row:
    told = dataclasses.asdict(maker)
    return {key.replace("norms", "norms mode").replace("_", " "): told[key] for key in told}


def _about(path: Path) -> tuple[Maker, str, dict[str, Box]] | None:
    """What a strip says of itself: its maker, the picture, the parts; None where it is none."""
    from PIL import Image

    try:
        with Image.open(path, formats=["PNG"]) as strip:
            if strip.width * strip.height > LARGEST:
                return None
            about = json.loads(strip.info[CHUNK])
            maker = _maker(about)
            boxes = {name: _box(about["parts"][name], strip.size) for name in about["parts"]}
            if about["format"] != 1 or not isinstance(about["picture"], str):
                return None
            known = boxes and boxes.keys() <= set(PARTS)
            return (maker, printable(about["picture"]), boxes) if known else None
    except Exception:  # any PNG may lie there, and text of any kind in it
        return None


def _maker(about: Mapping[str, Any]) -> Maker:
    texts = {}
    for key in ("task", "learnt", "method", "norms", "file", "split", "metric"):
        if not isinstance(about[key], str):
            raise TypeError(key)
        texts[key] = printable(about[key])
    score = about["score"]
    known = type(score) in (int, float) and -LARGE < score < LARGE
    return Maker(
        **texts,
        score=float(score) if known else None,
        lower_is_better=about["lower_is_better"] is True,
    )


def _box(box: Any, size: tuple[int, int]) -> Box:
    left, top, right, bottom = (int(n) for n in box)
    if not (0 <= left < right <= size[0] and 0 <= top < bottom <= size[1]):
        raise ValueError(f"{box} of {size}")
    return left, top, right, bottom
