"""Files appear whole or not at all: written to a neighbour, then renamed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from maskpack.errors import MaskpackError


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a neighbour of `path` to write to; it takes the place of `path` if nothing fails.

    On failure the neighbour is removed and what stood at `path` is untouched.

    Raises:
        MaskpackError: the file cannot be written (folder missing, disk full, no permission).
    """
    neighbour = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield neighbour
        with neighbour.open("rb") as file:
            os.fsync(file.fileno())
        neighbour.replace(path)
    except OSError as error:
        raise MaskpackError(f"{path}: cannot be written: {error.strerror or error}") from error
    finally:
        neighbour.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path`, whole or not at all."""
    with replacing(path) as neighbour:
        neighbour.write_text(text, encoding="utf-8")
