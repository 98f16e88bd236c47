"""One file over HTTP: goes on where it was stopped, and is checked before it takes its place.

What has come so far lies in NAME.part beside the file's place, and in NAME.part.tag what the
server calls this version of the file, so that two versions are never put together.
"""

from __future__ import annotations

import errno
import hashlib
import http.client
import shutil
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from maskpack.common.errors import DataError, OptionError, one_line
from maskpack.common.files import PART
from maskpack.common.version import __version__
from maskpack.datasets.progress import Watch
from maskpack.datasets.sources import File

CHUNK = 1 << 20
PATIENCE = 30.0  # seconds without a byte before a connection counts as lost
TRIES = 5  # in a row without a single byte
PAUSE = 1.0  # seconds before the second try; doubled each time
PASSING = (408, 425, 429, 500, 502, 503, 504)  # states of a server that may pass
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class Lost(Exception):
    """The connection, or the server, went away; worth another try."""


def download(
    file: File,
    path: Path,
    watch: Watch | None = None,
    *,
    patience: float = PATIENCE,
    tries: int = TRIES,
    pause: float = PAUSE,
) -> None:
    """Fetch `file` to `path`, unless it is there already; only what is whole and right gets there.

    Raises:
        DataError: it cannot be had, it is not what was published, or the disk is full. What came
            stays in PATH.part for the next call, unless it is wrong.
    """
    watch = watch or Watch()
    if path.is_file():
        wrong = _wrong(file, path, watch)
        if not wrong:
            return
        watch.say(f"warning: {path}: {wrong}; it is fetched anew")
    part = path.with_name(path.name + PART)
    _writing(path, lambda: path.parent.mkdir(parents=True, exist_ok=True))
    watch.say(f"{file.url} -> {path}")
    for again in (True, False):
        resumed = _complete(file, part, watch, patience, tries, pause)
        wrong = _wrong(file, part, watch)
        if not wrong:
            break
        _drop(part)
        if not (resumed and again):
            raise DataError(f"{file.url}: {wrong}; what came is not the published file: removed")
        watch.say(f"warning: {file.name}: {wrong} once put together; it is fetched from its start")
    _writing(path, lambda: part.replace(path))
    _drop(part)
    watch.say(f"{path}: {path.stat().st_size:,} bytes, {_assurance(file)}")


def is_there(file: File, path: Path) -> bool:
    """Whether `path` holds the file as published."""
    return path.is_file() and not _wrong(file, path, Watch())


def checked_address(url: str) -> str:
    """`url` if files can be fetched from there, which is OptionError otherwise."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise OptionError(f"--mirror {url!r}: expected http://... or https://...")
    return url


def _complete(
    file: File, part: Path, watch: Watch, patience: float, tries: int, pause: float
) -> bool:
    """Fill `part`; True if some of it was there before."""
    resumed = bool(_size(part))
    failed = 0
    while True:
        before = _size(part)
        try:
            if _more(file, part, watch, patience):
                return resumed
            resumed = False  # what was there is no use: once more from the start
        except Lost as error:
            failed = 1 if _size(part) > before else failed + 1
            if failed >= tries:
                came = _size(part)
                again = f"{came:,} bytes are kept: run it again to go on" if came else "try again"
                raise DataError(
                    f"{file.url}: {error}; {again}, or put the file at "
                    f"{part.with_name(file.name)} by hand"
                ) from error
            wait = pause * 2 ** (failed - 1)
            watch.say(f"{file.name}: {error}; trying again in {wait:.0f} s")
            time.sleep(wait)


def _more(file: File, part: Path, watch: Watch, patience: float) -> bool:
    """One request for what is missing of `part`; False if what was there had to go."""
    have = _size(part)
    if file.size and have == file.size:
        return True
    if file.size and have > file.size:
        _drop(part)
        return False
    headers = {"User-Agent": f"maskpack/{__version__}", "Accept-Encoding": "identity"}
    tag = part.with_name(part.name + ".tag")
    if have:
        headers["Range"] = f"bytes={have}-"
        if tag.is_file():
            headers["If-Range"] = tag.read_text("latin-1")
    try:
        request = urllib.request.Request(file.url, headers=headers)
        response = urllib.request.urlopen(request, timeout=patience)
    except urllib.error.HTTPError as error:
        with error:
            return _refused(file, part, have, error)
    except (http.client.HTTPException, OSError, ValueError) as error:
        raise _lost(error) from error
    with response:
        start, total = _extent(response)
        if start not in (0, have):
            if not have:
                raise DataError(f"{file.url}: the server gives another part of it than asked for")
            _drop(part)
            return False
        if have and not start:
            watch.say(f"{file.name}: the server cannot go on, or has another file now: from 0")
        if file.size and total not in (None, file.size):
            raise DataError(
                f"{file.url}: the server has {total:,} bytes, expected {file.size:,}; this is not "
                f"the published file; put that at {part.with_name(file.name)} by hand"
            )
        _room(part, (total or 0) - start)
        _writing(part, lambda: tag.write_text(_version(response.headers), "latin-1"))
        if not tag.stat().st_size:
            tag.unlink()
        _receive(response, file, part, start, total, watch)
    return True


def _receive(
    response: http.client.HTTPResponse,
    file: File,
    part: Path,
    start: int,
    total: int | None,
    watch: Watch,
) -> None:
    """Append what comes to `part`, each chunk on disk at once: a kill loses nothing."""
    done = start
    try:
        written = part.open("ab" if start else "wb", buffering=0)
    except OSError as error:
        raise _disk(part, error) from error
    with written:
        cut = False
        while not cut:
            try:
                chunk = response.read1(CHUNK)  # what is there, not waiting for a whole chunk
            except http.client.IncompleteRead as error:
                chunk, cut = error.partial, True
            except (http.client.HTTPException, OSError, ValueError) as error:
                raise _lost(error) from error
            if not chunk:
                break
            try:
                while chunk:
                    count = written.write(chunk) or 0
                    done += count
                    chunk = chunk[count:]
            except OSError as error:
                raise _disk(part, error) from error
            watch.step(file.name, done, total)
    if cut or (total is not None and done < total):
        raise Lost(f"the connection was closed after {done:,} bytes")


def _refused(file: File, part: Path, have: int, error: urllib.error.HTTPError) -> bool:
    """What an answer other than the file means: raise, or as `_more`."""
    if error.code == 416 and have:  # nothing follows what is there: it is all, or of another file
        total = str(error.headers.get("Content-Range", "")).rpartition("/")[2]
        if total == str(have):
            return True
        _drop(part)
        return False
    said = one_line(f"{error.code} {error.reason}")
    if error.code in PASSING:
        raise Lost(f"the server answers {said}") from error
    raise DataError(
        f"{file.url}: the server answers {said}; it moved or is not for everyone: put the file at "
        f"{part.with_name(file.name)} by hand, or name a copy with `maskpack data fetch --mirror`"
    ) from error


def _extent(response: Any) -> tuple[int, int | None]:
    """Where in the file an answer begins, and how long the whole file is."""
    length = response.headers.get("Content-Length", "")
    if response.status != 206:
        return 0, int(length) if length.isdecimal() else None
    span, _, whole = response.headers.get("Content-Range", "").partition("/")
    first = span.removeprefix("bytes").strip().partition("-")[0]
    start = int(first) if first.isdecimal() else -1
    return start, int(whole) if whole.isdecimal() else None


def _version(headers: Any) -> str:
    """What If-Range compares: a strong ETag, else a date."""
    tag: str = headers.get("ETag", "")
    return tag if tag.startswith('"') else headers.get("Last-Modified", "")


def _wrong(file: File, path: Path, watch: Watch) -> str:
    """What is not as published in a file; "" if all is."""
    size = _size(path)
    if file.size and size != file.size:
        return f"has {size:,} bytes, expected {file.size:,}"
    kind, expected = ("sha256", file.sha256) if file.sha256 else ("md5", file.md5)
    if not expected:
        return ""
    digest = hashlib.new(kind, usedforsecurity=False)
    try:
        with path.open("rb") as opened:
            while chunk := opened.read(CHUNK):
                digest.update(chunk)
                watch.step(f"checking {file.name}", opened.tell(), size)
    except OSError as error:
        raise _disk(path, error) from error
    found = digest.hexdigest()
    return "" if found == expected else f"{kind} is {found}, expected {expected}"


def _assurance(file: File) -> str:
    if file.sha256 or file.md5:
        return f"{'sha256' if file.sha256 else 'md5'} as published"
    return "as many as the server has (no checksum is published)"


def _lost(error: Exception) -> Lost:
    reason = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(reason, TimeoutError):
        return Lost("the server is silent")
    text = reason.strerror if isinstance(reason, OSError) and reason.strerror else str(reason)
    return Lost(f"no connection ({one_line(text) or type(reason).__name__})")


def _room(part: Path, wanted: int) -> None:
    free = shutil.disk_usage(part.parent).free
    if wanted > free:
        raise DataError(
            f"{part.parent}: {wanted:,} bytes are to come, but the disk has room for {free:,}; "
            "make room, or choose another folder"
        )


def _disk(path: Path, error: OSError) -> DataError:
    if error.errno in FULL:
        return DataError(f"{path}: the disk is full; make room and run it again to go on")
    return DataError(f"{path}: cannot be written: {error.strerror or error}")


def _writing(path: Path, write: Any) -> None:
    try:
        write()
    except OSError as error:
        raise _disk(path, error) from error


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _drop(part: Path) -> None:
    part.unlink(missing_ok=True)
    part.with_name(part.name + ".tag").unlink(missing_ok=True)
