"""idx files: sound ones of every shape, and ones that lie."""

from __future__ import annotations

import gzip
import math
import struct
from pathlib import Path

import numpy as np
import pytest

from maskpack.common.errors import DataError
from maskpack.tasks import open_task
from maskpack.tasks.classes.idx import read_idx


def idx(shape: tuple[int, ...], body: bytes | None = None, kind: int = 8) -> bytes:
    if body is None:
        body = bytes(i % 251 for i in range(math.prod(shape)))
    return struct.pack(f">BBBB{len(shape)}I", 0, 0, kind, len(shape), *shape) + body


def folder(root: Path, train: bytes | None = None, packed: bool = False) -> Path:
    files = {
        "train-images-idx3-ubyte": train or idx((4, 3, 2)),
        "train-labels-idx1-ubyte": idx((4,), bytes([0, 1, 2, 1])),
        "t10k-images-idx3-ubyte": idx((2, 3, 2)),
        "t10k-labels-idx1-ubyte": idx((2,), bytes([2, 0])),
    }
    for name, content in files.items():
        if packed:
            (root / f"{name}.gz").write_bytes(gzip.compress(content))
        else:
            (root / name).write_bytes(content)
    return root


@pytest.mark.parametrize("packed", [False, True])
def test_idx_files_give_a_task(tmp_path: Path, packed: bool) -> None:
    task = open_task("digits", folder(tmp_path, packed=packed))
    assert task.describe()["classes"] == ["0", "1", "2"]
    assert task.splits() == ("train", "test")
    assert list(task.dataset("train").labels) == [0, 1, 2, 1]
    picture, label = task.dataset("train")[1]
    assert (picture.mode, picture.size, label) == ("RGB", (2, 3), 1)
    grey = np.arange(6, 12, dtype=np.uint8).reshape(3, 2)
    assert np.array_equal(np.asarray(picture), np.repeat(grey[..., None], 3, axis=2))
    assert (task.augment.crop_mode, task.augment.hflip) == ("resize", 0.0)


@pytest.mark.parametrize("channels", [1, 3])
def test_four_dimensions(tmp_path: Path, channels: int) -> None:
    task = open_task("x", folder(tmp_path, idx((4, 3, 2, channels))))
    picture, _ = task.dataset("train")[0]
    assert picture.mode == "RGB"
    expected = np.arange(6 * channels, dtype=np.uint8).reshape(3, 2, channels)
    assert np.array_equal(np.asarray(picture), np.broadcast_to(expected, (3, 2, 3)))


def test_class_names_are_read(tmp_path: Path) -> None:
    (folder(tmp_path) / "classes.txt").write_text("zebra\nant\ncat\n\n")
    assert open_task("x", tmp_path).describe()["classes"] == ["zebra", "ant", "cat"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a\nb\n", "label 2 in train, but there are 2 classes"),
        ("a\n\nc\n", "line 2 is empty"),
        ("a\nb\na\n", "line 3: class 'a' is named twice"),
    ],
)
def test_wrong_class_names(tmp_path: Path, text: str, message: str) -> None:
    (folder(tmp_path) / "classes.txt").write_text(text)
    with pytest.raises(DataError, match=message):
        open_task("x", tmp_path)


def test_unpacked_file_wins_over_its_archive(tmp_path: Path) -> None:
    folder(tmp_path)
    (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(b"rubbish")
    assert len(open_task("x", tmp_path).dataset("train")) == 4


def test_val_is_the_test_split_where_there_is_none(tmp_path: Path) -> None:
    folder(tmp_path)
    for path in tmp_path.glob("t10k-*"):
        path.rename(path.with_name(path.name.replace("t10k", "val")))
    assert open_task("x", tmp_path).splits() == ("train", "test")


def test_labels_of_four_bytes(tmp_path: Path) -> None:
    folder(tmp_path)
    wide = idx((4,), struct.pack(">4i", 0, 1, 2, 1), kind=0x0C)
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(wide)
    assert list(open_task("x", tmp_path).dataset("train").labels) == [0, 1, 2, 1]


def write(root: Path, name: str, content: bytes) -> None:
    (root / name).write_bytes(content)


IMAGES, LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (IMAGES, b"", "begins with nothing, which is no idx header"),
        (IMAGES, b"\x89PNG...", "begins with 89 50 4e 47"),
        (IMAGES, idx((4, 3, 2))[:9], "ends inside its header"),
        (IMAGES, idx((4, 3, 2))[:-1], "needs 24 bytes, found 23"),
        (IMAGES, idx((4, 3, 2)) + b"x", "needs 24 bytes, found more"),
        (IMAGES, idx((2**32 - 1,) * 3, b"12"), "claims .* bytes for .*, the file has 18"),
        (IMAGES, idx((4, 3, 2), bytes(48), kind=0x0B), "pictures are bytes"),
        (IMAGES, idx((4, 3)), "pictures are bytes"),
        (IMAGES, idx((4, 3, 2, 2)), r"\(n, h, w, 3\)"),
        (IMAGES, idx((4, 0, 2)), "holds no pixels"),
        (LABELS, idx((3,)), "train-images-idx3-ubyte has 4 pictures"),
        (LABELS, idx((4, 1)), r"holds labels \(4, 1\)"),
        (LABELS, idx((4,), struct.pack(">4h", 0, 1, 2, -5), kind=0x0B), "label -5 in train"),
        ("t10k-labels-idx1-ubyte", idx((2,), bytes([0, 9])), "class '9' is in test but not in"),
    ],
)
def test_damaged_or_lying_file(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    write(folder(tmp_path), name, content)
    with pytest.raises(DataError, match=message) as caught:
        open_task("x", tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (gzip.compress(idx((4, 3, 2)))[:-12], "cut short"),
        (b"no gzip", "cannot be read"),
        (gzip.compress(idx((2**31, 2**20, 2**10), b"12")), "claims .* the file has"),
        (gzip.compress(idx((50, 50, 4), b"12")), "needs 10000 bytes, found 2"),
        (gzip.compress(idx((4, 3, 2)) + bytes(10**7)), "found more"),
        (b"\x1f\x8b\x08\0\0\0\0\0\0\x03" + b"\xff" * 30, "cannot be read"),
    ],
)
def test_damaged_archive(tmp_path: Path, content: bytes, message: str) -> None:
    write(tmp_path, "x.gz", content)
    with pytest.raises(DataError, match=message):
        read_idx(tmp_path / "x.gz")


def test_missing_labels(tmp_path: Path) -> None:
    (folder(tmp_path) / LABELS).unlink()
    with pytest.raises(DataError, match="no labels for train-images-idx3-ubyte"):
        open_task("x", tmp_path)


def test_missing_train(tmp_path: Path) -> None:
    (folder(tmp_path) / IMAGES).unlink()
    with pytest.raises(DataError, match=r"no train-images-idx3-ubyte\[.gz\], found t10k"):
        open_task("x", tmp_path)


def test_two_files_of_one_part(tmp_path: Path) -> None:
    write(folder(tmp_path), "test-images-idx3-ubyte", idx((2, 3, 2)))
    with pytest.raises(DataError, match="are both test images; keep one"):
        open_task("x", tmp_path)
