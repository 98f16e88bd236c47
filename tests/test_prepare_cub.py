"""CUB-200-2011 as its archive unpacks, right and wrong."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from originals import cub, written
from PIL import Image

from maskpack.common.errors import DataError
from maskpack.datasets.prepare import prepare
from maskpack.datasets.prepare.cub import pictures


def edited(source: Path, name: str, before: str, after: str) -> None:
    path = source / "CUB_200_2011" / name
    text = path.read_text()
    assert before in text
    path.write_text(text.replace(before, after, 1))


def test_birds_are_cropped_and_sorted(tmp_path: Path) -> None:
    prepare("cubs", cub(tmp_path / "from"), tmp_path / "to")
    assert written(tmp_path / "to") == [
        "prepared.json",
        "test/001.Black_footed_Albatross/Black_footed_Albatross_0002_7962.jpg",
        "test/002.Laysan_Albatross/Laysan_Albatross_0005_7965.jpg",
        "train/001.Black_footed_Albatross/Black_footed_Albatross_0000_7960.jpg",
        "train/001.Black_footed_Albatross/Black_footed_Albatross_0001_7961.jpg",
        "train/002.Laysan_Albatross/Laysan_Albatross_0003_7963.jpg",
        "train/002.Laysan_Albatross/Laysan_Albatross_0004_7964.jpg",
    ]
    with Image.open(next((tmp_path / "to/test/002.Laysan_Albatross").iterdir())) as image:
        assert (image.format, image.mode, image.size) == ("JPEG", "RGB", (10, 8))
        # columns 4 to 13 of a picture whose column c has the value 10 c
        assert np.abs(np.asarray(image)[:, :, 0].mean(0) - np.arange(40, 140, 10)).max() < 6


def test_a_box_is_cut_off_at_the_picture(tmp_path: Path) -> None:
    prepare("cubs", cub(tmp_path / "from"), tmp_path / "to")
    first = next((tmp_path / "to/train/001.Black_footed_Albatross").glob("*_0000_*"))
    with Image.open(first) as image:
        assert image.size == (16, 8)  # 4 to 20 of a box from 4 to 329


def test_the_folder_itself_is_taken_too(tmp_path: Path) -> None:
    source = cub(tmp_path)
    assert pictures(source / "CUB_200_2011") == pictures(source)


def test_numbers_are_keys_not_places(tmp_path: Path) -> None:
    source = cub(tmp_path)
    before = pictures(source)
    path = source / "CUB_200_2011/image_class_labels.txt"
    path.write_text("".join(reversed(path.read_text().splitlines(keepends=True))))
    assert pictures(source) == before


@pytest.mark.parametrize(
    ("name", "before", "after", "match"),
    [
        ("image_class_labels.txt", "6 2\n", "", "has 5 lines, none for picture 6 of images.txt"),
        ("train_test_split.txt", "5 1\n6 0\n", "", "has 4 lines, none for picture 5 .* cut off"),
        ("bounding_boxes.txt", "6 4.0 2.0 10.0 8.0", "6 4.0 2.0", "line 6 is '6 4.0 2.0'; exp"),
        ("images.txt", "2 001.", "001.", "images.txt: line 2 is .*; expected 'id path'"),
        ("images.txt", "2 001.", "1 001.", "line 2: 1 stands there a second time"),
        ("image_class_labels.txt", "6 2", "6 3", "picture 6 is of class 3, but classes.txt has 2"),
        ("train_test_split.txt", "6 0", "6 2", "picture 6 has '2'; expected 1 for training"),
        ("bounding_boxes.txt", "2 4.0", "2 x", "bounding_boxes.txt: picture 2: 'x' is not a num"),
        ("bounding_boxes.txt", "2 4.0", "2 nan", "picture 2: 'nan' is not a number"),
        ("bounding_boxes.txt", "10.0 8.0", "0.0 8.0", "picture 2 has a box of 0 x 8 pixels"),
        ("bounding_boxes.txt", "2 4.0", "2 20.0", "7961.jpg: its box .*20 2 30 10.* of 20 x 16"),
        ("bounding_boxes.txt", "2 4.0", "2 -90.0", "its box .* has nothing of the picture"),
        ("classes.txt", "001.Black_footed_Albatross", "..", "class '..' cannot be the name of a"),
        ("images.txt", "1 001.", "1 /001.", "images.txt: picture 1 has '/001.*with no / before it"),
        ("images.txt", "1 001.", "1 ../../001.", r"picture 1 has '\.\./.*and no \.\. in it"),
        ("images.txt", "_0002_", "_0001_", "cannot|no such file|listed twice"),
    ],
)
def test_usual_faults(name: str, before: str, after: str, match: str, tmp_path: Path) -> None:
    source = cub(tmp_path / "from")
    edited(source, name, before, after)
    with pytest.raises(DataError, match=match) as caught:
        prepare("cubs", source, tmp_path / "to")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [None, b"", b"\xff\xfe\x00", b"\x1f\x8b" * 50])
@pytest.mark.parametrize("name", ["images.txt", "bounding_boxes.txt", "classes.txt"])
def test_files_that_are_missing_or_no_text(
    name: str, content: bytes | None, tmp_path: Path
) -> None:
    source = cub(tmp_path / "from")
    path = source / "CUB_200_2011" / name
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    match = r"expected images\.txt|no such file; unpack|is empty; unpack|cannot be read as text"
    with pytest.raises(DataError, match=match):
        prepare("cubs", source, tmp_path / "to")


def test_an_archive_that_is_not_unpacked(tmp_path: Path) -> None:
    (tmp_path / "CUB_200_2011.tgz").touch()
    expected = r"found CUB_200_2011\.tgz; expected images\.txt: unpack CUB_200_2011\.tgz there"
    with pytest.raises(DataError, match=expected):
        prepare("cubs", tmp_path, tmp_path / "to")
