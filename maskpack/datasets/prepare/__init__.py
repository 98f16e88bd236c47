"""Data sets as their authors publish them -> TARGET/{train,test}/CLASS/*, once.

One file a data set, with a function that lists its pictures; what writes them is shared.
Importing this imports neither torch, Pillow nor scipy.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path

from maskpack.common.errors import DataError, UnknownName
from maskpack.datasets.prepare.folders import MARKER, Tick, finished, half_done, write
from maskpack.datasets.prepare.listing import Picture, Prepared

__all__ = ["MARKER", "PREPARE", "Picture", "Prepared", "finished", "half_done", "prepare"]

# name of the task -> module:function, which takes the unpacked original and lists its pictures
PREPARE: dict[str, str] = {
    "cubs": "maskpack.datasets.prepare.cub:pictures",
    "flowers": "maskpack.datasets.prepare.flowers:pictures",
    "sketch": "maskpack.datasets.prepare.tu_berlin:pictures",
    "stanford_cars": "maskpack.datasets.prepare.cars:pictures",
    "wikiart": "maskpack.datasets.prepare.wikiart:pictures",
}


def prepare(
    name: str, source: Path, target: Path, tick: Tick = lambda done, total: None
) -> Prepared:
    """Write `source`, an original as its archives unpack, into `target` as class folders.

    What was prepared before is left as it is; what was stopped half-way goes on. train/ and test/
    appear in `target` once all their pictures are written. `tick` hears how many are, of how many.

    Raises:
        UnknownName: no such data set.
        DataError: the original is not as published, or `target` holds something else.
    """
    if name not in PREPARE:
        raise UnknownName("data set to prepare", name, PREPARE)
    done = finished(target)
    if done is not None:
        if done.name != name:
            raise DataError(f"{target}: holds {done.name!r} already; choose another folder")
        return done
    _check_source(name, source)
    try:
        pictures = _lister(name)(source)
    except OSError as error:  # no permission, a share that went away
        where = error.filename or source
        raise DataError(f"{where}: cannot be read: {error.strerror or error}") from error
    return write(name, pictures, target, tick)


def _lister(name: str) -> Callable[[Path], list[Picture]]:
    module, _, function = PREPARE[name].partition(":")
    found: Callable[[Path], list[Picture]] = getattr(import_module(module), function)
    return found


def _check_source(name: str, source: Path) -> None:
    if source.is_file():
        raise DataError(f"{source}: is a file; unpack it and give the folder that holds the result")
    if not source.is_dir():
        raise DataError(f"{source}: no such folder; expected the unpacked original of {name!r}")
    if (source / "train").is_dir() and (source / "test").is_dir():
        raise DataError(
            f"{source}: has train/ and test/, so it needs no preparing; "
            f"give it to --task {name} as --data"
        )
