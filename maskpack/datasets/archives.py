"""Archives, unpacked as if whoever made them meant harm: only plain files, only inside, bounded."""

from __future__ import annotations

import lzma
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO

from maskpack.common.errors import DataError, one_line
from maskpack.datasets.progress import Watch

# name, size, and what opens its content (None: a folder)
Member = tuple[str, int, Callable[[], IO[bytes]] | None]

MOST = 30  # bytes that may come out of one byte of archive; photos do not shrink
ALWAYS = 1 << 20  # bytes that may come out of any
CHUNK = 1 << 20
DAMAGED = (
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    NotImplementedError,  # a way of compressing that zipfile does not know
    RuntimeError,  # a password is wanted
    UnicodeError,
    ValueError,
)


def unpack(archive: Path, folder: Path, makes: str, watch: Watch | None = None) -> None:
    """Unpack the entry `makes` of a .zip or .tar[.gz|.bz2|.xz] into `folder`, whole or not at all.

    It is written into a hidden folder in there first; one that a killed process left is thrown
    away. What else the archive has is looked at and left out.

    Raises:
        DataError: the archive is damaged, has something other than files and folders, a name that
            leads outside, more than `MOST` times its size in it, or lacks `makes`.
    """
    inside = folder / f".{archive.name}.unpacking"
    with _told(archive):
        if inside.exists():
            shutil.rmtree(inside)
        inside.mkdir(parents=True)
        found = _write(archive, inside, makes, watch or Watch())
        if makes not in found:
            names = ", ".join(map(one_line, sorted(found)[:5])) or "nothing"
            raise DataError(f"{archive}: expected {makes!r} in it, found {names}")
        (inside / makes).replace(folder / makes)
        inside.rmdir()


@contextmanager
def _told(archive: Path) -> Iterator[None]:
    try:
        yield
    except DAMAGED as error:
        said = one_line(str(error)) or type(error).__name__
        raise DataError(
            f"{archive}: damaged ({said}); remove it and it is fetched again"
        ) from error
    except OSError as error:
        where = error.filename or archive
        raise DataError(f"{where}: cannot be unpacked: {error.strerror or error}") from error


def _write(archive: Path, folder: Path, makes: str, watch: Watch) -> set[str]:
    """Write what is in `makes`; the names of all entries at the top."""
    size = archive.stat().st_size
    bound = MOST * size + ALWAYS
    what = f"unpacking {archive.name}"
    found: set[str] = set()
    done = 0
    for name, wanted, content in _members(archive):
        parts = _parts(archive, name)
        done += wanted
        if done > bound:
            raise DataError(
                f"{archive}: more than {bound:,} bytes would come out of {size:,}; not unpacked"
            )
        found |= set(parts[:1])
        if parts[:1] != [makes]:
            continue
        path = folder.joinpath(*parts)
        if content is None:
            path.mkdir(parents=True, exist_ok=True)
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        with content() as read, path.open("xb") as written:
            shutil.copyfileobj(read, written, CHUNK)
        if path.stat().st_size != wanted:
            raise EOFError(f"{name} is cut off")
        watch.step(what, done, None)
    watch.step(what, done, done)
    return found


def _parts(archive: Path, name: str) -> list[str]:
    """The folders and the file that a member's name tells, all of them inside."""
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if name.startswith("/") or ".." in parts or "\\" in name or name[1:2] == ":":
        raise DataError(f"{archive}: {one_line(name)!r} in it leads outside; not unpacked")
    return parts


def _members(archive: Path) -> Iterator[Member]:
    """Each member, in the archive's order."""
    if archive.suffix.lower() == ".zip":
        yield from _zip_members(archive)
        return
    with tarfile.open(archive, "r|*") as opened:
        for member in opened:
            if not (member.isfile() or member.isdir()) or member.issparse():
                raise _strange(archive, member.name)
            content = partial(_opened, opened, member) if member.isfile() else None
            yield member.name, member.size, content


def _opened(archive: tarfile.TarFile, member: tarfile.TarInfo) -> IO[bytes]:
    content = archive.extractfile(member)
    assert content is not None, member  # only links and folders have none
    return content


def _zip_members(archive: Path) -> Iterator[Member]:
    with zipfile.ZipFile(archive) as opened:
        for member in opened.infolist():
            kind = stat.S_IFMT(member.external_attr >> 16)
            if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise _strange(archive, member.filename)
            content = None if member.is_dir() else partial(opened.open, member)
            yield member.filename, member.file_size, content


def _strange(archive: Path, name: str) -> DataError:
    return DataError(
        f"{archive}: {one_line(name)!r} in it is neither file nor folder; not unpacked"
    )
