"""Files appear whole or not at all."""

from __future__ import annotations

import os
import resource
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from maskpack.common.errors import MaskpackError
from maskpack.common.files import remove_parts, replacing, write_text


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """No file may grow beyond `size` bytes: what a full disk does, without a disk to fill."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_takes_the_place_of_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "options.json"
    write_text(path, "old")
    with replacing(path) as written:
        written.write_text("new, \u00fcber")
        assert path.read_text() == "old", "nothing is seen before it is whole"
    assert path.read_text() == "new, \u00fcber"
    assert names(tmp_path) == ["options.json"]


@pytest.mark.parametrize("error", [OSError("disk gone"), ValueError("a bug"), KeyboardInterrupt()])
def test_a_failure_leaves_the_old_file(tmp_path: Path, error: BaseException) -> None:
    path = tmp_path / "state"
    write_text(path, "old")
    expected = MaskpackError if isinstance(error, OSError) else type(error)
    with pytest.raises(expected), replacing(path) as written:
        written.write_text("half of the n")
        raise error
    assert path.read_text() == "old"
    assert names(tmp_path) == ["state"]


def test_a_full_disk_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "state"
    write_text(path, "old")
    with (
        largest_file(1000),
        pytest.raises(MaskpackError, match=r"state: cannot be written: File too large$"),
    ):
        write_text(path, "new" * 1000)
    assert path.read_text() == "old"
    assert names(tmp_path) == ["state"]


@pytest.mark.parametrize(
    ("where", "why"), [("missing/state", "No such file"), ("folder", "Is a directory")]
)
def test_a_place_that_cannot_be_written_is_named(tmp_path: Path, where: str, why: str) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(MaskpackError, match=f"{where}: cannot be written: {why}"):
        write_text(tmp_path / where, "new")
    assert names(tmp_path) == ["folder"]


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o007])
def test_the_mode_follows_the_umask_whatever_the_writer_does(tmp_path: Path, umask: int) -> None:
    # safetensors makes files that only their owner can read
    before = os.umask(umask)
    try:
        with replacing(tmp_path / "a") as written:
            save_file({"x": np.zeros(3)}, written)
        write_text(tmp_path / "b", "text")
    finally:
        os.umask(before)
    for name in "ab":
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o666 & ~umask


def test_what_a_killed_process_left_is_removed(tmp_path: Path) -> None:
    killed = f"""
import os, signal
from pathlib import Path
from maskpack.common.files import replacing
with replacing(Path({str(tmp_path)!r}) / "last.safetensors") as written:
    written.write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""
    assert subprocess.run([sys.executable, "-c", killed], check=False).returncode == -9
    write_text(tmp_path / "other.part", "not ours")
    assert len(names(tmp_path)) == 2
    remove_parts(tmp_path)
    assert names(tmp_path) == ["other.part"]
