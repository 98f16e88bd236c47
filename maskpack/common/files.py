"""Files appear whole or not at all: written beside their place, then renamed."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from maskpack.common.errors import MaskpackError

PART = ".part"  # ends the name of the folder a file is written in


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a path to write to; the file takes the place of `path` if nothing fails.

    It lies in a hidden folder beside `path`, removed afterwards with all that is in it: some
    writers (safetensors) make temporary neighbours of their own. On failure what stood at `path`
    is untouched. The file's mode follows the umask, whatever mode the writer chose.

    Raises:
        MaskpackError: the file cannot be written (folder missing, disk full, no permission).
    """
    folder: Path | None = None
    try:
        folder = Path(tempfile.mkdtemp(PART, f".{path.name[:100]}.", path.parent))
        written = folder / path.name
        written.touch()
        mode = written.stat().st_mode
        yield written
        written.chmod(mode)
        with written.open("rb") as file:
            os.fsync(file.fileno())
        written.replace(path)
    except OSError as error:
        raise MaskpackError(f"{path}: cannot be written: {error.strerror or error}") from error
    finally:
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)


def remove_parts(folder: Path) -> None:
    """Remove what processes killed in `replacing` left; none may be writing in `folder` now."""
    for part in folder.glob(f".*{PART}"):
        shutil.rmtree(part, ignore_errors=True)


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path`, whole or not at all."""
    with replacing(path) as written:
        written.write_text(text, encoding="utf-8")
