"""A data set by name: fetched, unpacked, prepared, each step done once."""

from __future__ import annotations

import fcntl
import importlib.util
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from maskpack.common.errors import DataError, UnknownName
from maskpack.datasets.archives import unpack
from maskpack.datasets.download import checked_address, download, is_there
from maskpack.datasets.progress import Downloads, Watch
from maskpack.datasets.sources import BY_HAND, SOURCES, File, Source

ORIGINAL = ".original"  # ends the name of the folder that originals are kept in until prepared
LOCK = ".fetching"


def fetch_task(
    name: str,
    root: Path,
    *,
    mirror: str | None = None,
    watch: Watch | None = None,
) -> Path:
    """The folder `root` with all that `open_task(name, root)` needs; what is there is not fetched.

    What has to be prepared first lies in ROOT.original; a file put there by hand is taken for the
    one to fetch. Archives stay. `mirror` is the address of a folder with the same files. Without
    `watch` a person sees progress on stderr.

    Raises:
        UnknownName, OptionError, DataError: no such data set, a mirror that is no address, or
            files that cannot be had; a second call goes on where the first one stopped.
    """
    if name in BY_HAND:
        raise DataError(by_hand(name, root))
    if name not in SOURCES:
        raise UnknownName("data set", name, (*SOURCES, *BY_HAND))
    source = SOURCES[name] if mirror is None else SOURCES[name].at(checked_address(mirror))
    root = root.expanduser()
    if is_fetched(name, root):
        return root
    if source.needs and importlib.util.find_spec(source.needs) is None:
        raise DataError(
            f"{name}: reading its files needs the package {source.needs}; run "
            "`pip install 'maskpack[data]'`"
        )
    if watch is not None:
        _fetch(name, source, root, watch)
        return root
    from rich.console import Console

    with Downloads(Console(stderr=True)) as shown:
        _fetch(name, source, root, shown)
    return root


def by_hand(name: str, root: Path) -> str:
    """What to do for a data set that has no lasting address."""
    return (
        f"{name} cannot be fetched: {BY_HAND[name]}, then run "
        f"`maskpack data prepare {name} --from DIR --to {root}`"
    )


def is_prepared(root: Path) -> bool:
    """Whether pictures lie in `root` by split and class."""
    return (root / "train").is_dir() and (root / "test").is_dir()


def is_fetched(name: str, root: Path) -> bool:
    """Whether all that a data set of `SOURCES` needs lies in `root`."""
    source = SOURCES[name]
    if source.prepared:
        return is_prepared(root)
    folder = root / source.folder
    return all(_is_there(file, folder) for file in source.files)


def _is_there(file: File, folder: Path) -> bool:
    if file.makes:
        return (folder / file.makes).exists()
    return is_there(file, folder / file.name)


def _fetch(name: str, source: Source, root: Path, watch: Watch) -> None:
    if not source.prepared:
        folder = root / source.folder
        with alone(folder, watch):
            _files(source, folder, watch)
        return
    whole = root.resolve()
    originals = whole.with_name(whole.name + ORIGINAL)
    with alone(originals, watch):
        if not is_fetched(name, root):  # by whoever was waited for
            from maskpack.datasets.prepare import prepare

            _files(source, originals, watch)
            watch.say(f"{root}: preparing its pictures")
            prepare(name, originals, root, partial(watch.step, name, unit="pictures"))
        for file in source.files:
            if file.makes:
                shutil.rmtree(originals / file.makes, ignore_errors=True)
    watch.say(f"{root}: done; {originals} is not needed any more")


def _files(source: Source, folder: Path, watch: Watch) -> None:
    for file in source.files:
        path = folder / file.name
        if file.makes and (folder / file.makes).exists():
            continue
        download(file, path, watch)
        if file.makes:
            watch.say(f"{path}: unpacking")
            unpack(path, folder, file.makes, watch)


@contextmanager
def alone(folder: Path, watch: Watch) -> Iterator[None]:
    """Wait until no other process fetches into `folder`; the lock goes with the process.

    Its file stays: removed, it would be another one for who comes next than for who waits.

    Raises:
        DataError: `folder` cannot be written.
    """
    lock = folder / LOCK
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = lock.open("a")
    except OSError as error:
        raise DataError(f"{folder}: cannot be written: {error.strerror}") from error
    with file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            watch.say(f"{folder}: another process fetches into it; waiting")
            fcntl.lockf(file, fcntl.LOCK_EX)
        yield
