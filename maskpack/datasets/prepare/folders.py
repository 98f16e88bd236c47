"""Prepared folders appear whole: written in a hidden folder inside, then renamed."""

from __future__ import annotations

import fcntl
import hashlib
import io
import json
import os
import shutil
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from maskpack.common.errors import DataError, MaskpackError, one_line
from maskpack.common.files import write_text
from maskpack.datasets.prepare.listing import Box, Picture, Prepared

Tick = Callable[[int, int], None]  # pictures that are written, of all

MARKER = "prepared.json"
WORK = ".preparing"
PLAN = "plan"  # in WORK: what is being written, so that nothing is mixed
QUALITY = 95  # of the JPEG that a crop is written as
SPLITS = ("test", "train")  # in the order they are moved: train alone already looks like a task


def finished(target: Path) -> Prepared | None:
    """What was prepared in a folder; None where nothing was, or not to the end.

    Raises:
        DataError: what stands there cannot be read.
    """
    path = target / MARKER
    if not path.is_file() or not all((target / split).is_dir() for split in SPLITS):
        return None
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
        counts = {split: int(said["counts"][split]) for split in reversed(SPLITS)}
        return Prepared(str(said["name"]), target, counts, int(said["classes"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{path}: cannot be read ({error}); remove {target} and prepare it again"
        ) from error


def half_done(target: Path) -> bool:
    """Whether a preparation was stopped in this folder, and goes on when started again."""
    return (target / WORK).is_dir() and finished(target) is None


def write(name: str, pictures: Sequence[Picture], target: Path, tick: Tick) -> Prepared:
    """Write the pictures of both splits into `target`, going on where a killed one stopped.

    Raises:
        DataError: the pictures cannot make a task, one of them cannot be read or written, or
            `target` is in use or holds something else.
    """
    _check(name, pictures)
    work = target / WORK
    _check_own(target)
    with _locked(work):
        moved = _begin(work, target, pictures)
        missing = [picture for picture in pictures if picture.split not in moved]
        _write_all(work, missing, len(pictures), tick)
        done = _counted(name, pictures, target)
        try:
            for split in SPLITS:
                if split not in moved:
                    (work / split).rename(target / split)
        except OSError as error:
            raise DataError(f"{target}: cannot be written: {error.strerror}") from error
        said = {"name": name, "counts": dict(done.counts), "classes": done.classes}
        try:
            write_text(target / MARKER, json.dumps(said, indent=1) + "\n")
        except MaskpackError as error:
            raise DataError(str(error)) from error
        shutil.rmtree(work, ignore_errors=True)
    return done


def _counted(name: str, pictures: Sequence[Picture], target: Path) -> Prepared:
    splits = [picture.split for picture in pictures]
    counts = {split: splits.count(split) for split in reversed(SPLITS)}
    return Prepared(name, target, counts, len({picture.label for picture in pictures}))


def _check(name: str, pictures: Sequence[Picture]) -> None:
    labels = {split: {p.label for p in pictures if p.split == split} for split in SPLITS}
    for split, found in labels.items():
        if not found:
            raise DataError(f"{name}: no picture is for {split}; the original is incomplete")
    only = sorted(labels["test"] - labels["train"])
    if only:
        raise DataError(f"{name}: class {only[0]!r} has pictures for test, but none for train")
    sources, places = set[Path](), set[tuple[str, str, str]]()
    for picture in pictures:
        place = (picture.split, picture.label, picture.name)
        if picture.source in sources:
            raise DataError(f"{picture.source}: is listed twice; a picture belongs to one split")
        if place in places:
            raise DataError(f"{picture.source}: another picture is called {'/'.join(place)} too")
        sources.add(picture.source)
        places.add(place)
        if not picture.source.is_file():
            raise DataError(
                f"{picture.source}: no such file, but it is listed; "
                "the copy is incomplete, unpack it again"
            )


def _check_own(target: Path) -> None:
    there = [split for split in SPLITS if (target / split).exists()]
    if there and not (target / WORK / PLAN).is_file():
        raise DataError(
            f"{target}: has {there[0]}/ that was not prepared here; "
            "remove it or choose another folder"
        )


@contextmanager
def _locked(work: Path) -> Iterator[None]:
    try:
        work.mkdir(parents=True, exist_ok=True)
        file = (work / "lock").open("a")
    except OSError as error:
        raise DataError(f"{work.parent}: cannot be written: {error.strerror or error}") from error
    with file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise DataError(f"{work.parent}: another process is preparing it; wait") from None
        yield


def _begin(work: Path, target: Path, pictures: Sequence[Picture]) -> set[str]:
    """Make the folders; which splits an earlier start had moved to their place already."""
    lines = "\n".join(f"{p.split}/{p.label}/{p.name} {p.source.name} {p.box}" for p in pictures)
    plan, file = hashlib.sha256(lines.encode("utf-8", "surrogateescape")).hexdigest(), work / PLAN
    same = file.is_file() and file.read_text(encoding="utf-8") == plan
    moved = {split for split in SPLITS if (target / split).exists()}
    if moved and not same:
        raise DataError(
            f"{target}: has {min(moved)}/ of a preparation from another original; "
            "remove it or choose another folder"
        )
    try:
        if not same:  # begun from something else
            for split in SPLITS:
                shutil.rmtree(work / split, ignore_errors=True)
            file.write_text(plan, encoding="utf-8")
        for split, label in {(p.split, p.label) for p in pictures if p.split not in moved}:
            (work / split / label).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"{target}: cannot be written: {error.strerror or error}") from error
    return moved


def _write_all(work: Path, pictures: Sequence[Picture], total: int, tick: Tick) -> None:
    from PIL import Image

    before = total - len(pictures)
    tick(before, total)
    with warnings.catch_warnings():
        # scans of paintings are as large as Pillow's warning of attacks allows
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        # decoding and encoding leave Python's lock to the other threads
        with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
            written = pool.map(partial(_write_one, work), pictures)
            try:
                for number, _ in enumerate(written, start=1):
                    tick(before + number, total)
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)  # not the thousands still to come
                raise


def _write_one(work: Path, picture: Picture) -> None:
    path = work / picture.split / picture.label / picture.name
    if path.is_file() and path.stat().st_size:
        return  # whole, since it was renamed to this name
    data = _encoded(picture)
    part = work / f"{threading.get_ident()}.part"
    try:
        part.write_bytes(data)
        part.replace(path)
    except OSError as error:
        raise DataError(f"{path}: cannot be written: {error.strerror or error}") from error


def _encoded(picture: Picture) -> bytes:
    """The bytes of the prepared file, once the original is known to be a whole picture."""
    from PIL import Image

    try:
        data = picture.source.read_bytes()
        with Image.open(io.BytesIO(data)) as image:
            if picture.box is not None:
                cropped = image.crop(_clamped(picture.source, picture.box, image.size))
                file = io.BytesIO()
                cropped.convert("RGB").save(file, "JPEG", quality=QUALITY)
                return file.getvalue()
            image.draft("RGB", (1, 1))  # a JPEG's end is found at an eighth of the size too
            image.load()
            return data
    except DataError:
        raise
    # Pillow's decoders raise a dozen kinds for damaged files: OSError, SyntaxError, struct.error...
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(
            one_line(f"{picture.source}: cannot be read as an image ({reason}); unpack it again")
        ) from error


def _clamped(where: Path, box: Box, size: tuple[int, int]) -> tuple[int, int, int, int]:
    """The part of a box that lies in the picture, in whole pixels."""
    left, top = (max(0, round(edge)) for edge in box[:2])
    right, bottom = (min(side, round(edge)) for side, edge in zip(size, box[2:], strict=True))
    if left >= right or top >= bottom:
        shown = " ".join(f"{edge:g}" for edge in box)
        raise DataError(
            f"{where}: its box (left, top, right, bottom {shown}) has nothing of the picture of "
            f"{size[0]} x {size[1]} pixels; the annotations are of other pictures"
        )
    return left, top, right, bottom
