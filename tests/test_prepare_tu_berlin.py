"""TU-Berlin's sketches as their archive unpacks, right and wrong."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from originals import picture, sketches, written

from maskpack.common.errors import DataError
from maskpack.datasets.prepare import prepare
from maskpack.datasets.prepare.tu_berlin import pictures


def test_sketches_are_copied_and_split(tmp_path: Path) -> None:
    prepare("sketch", sketches(tmp_path / "from"), tmp_path / "to")
    # by number, in which 10 comes after 9
    assert written(tmp_path / "to") == sorted(
        [
            "prepared.json",
            "test/airplane/10.png",
            "test/alarm clock/15.png",
            *(f"train/airplane/{number}.png" for number in range(6, 10)),
            *(f"train/alarm clock/{number}.png" for number in range(11, 15)),
        ]
    )


def test_eighty_drawings_are_64_and_16(tmp_path: Path) -> None:
    for name in ("ant", "zebra"):
        (tmp_path / name).mkdir()
        for number in range(80):
            (tmp_path / name / f"{number}.png").touch()
    found = pictures(tmp_path)
    of_ants = [p.split for p in found if p.label == "ant"]
    assert of_ants == ["train"] * 64 + ["test"] * 16
    assert [p.name for p in found[64:80]] == [f"{number}.png" for number in range(64, 80)]


def test_the_folder_of_classes_itself(tmp_path: Path) -> None:
    source = sketches(tmp_path)
    assert pictures(source / "png") == pictures(source)


def test_a_drawing_of_the_list_is_missing(tmp_path: Path) -> None:
    source = sketches(tmp_path / "from")
    (source / "png/alarm clock/13.png").unlink()
    expected = r"filelist\.txt: line 8 lists 'alarm clock/13\.png', which is not there; unpack"
    with pytest.raises(DataError, match=expected):
        prepare("sketch", source, tmp_path / "to")


def test_a_class_that_is_empty(tmp_path: Path) -> None:
    source = sketches(tmp_path / "from")
    (source / "png/filelist.txt").unlink()
    (source / "png/zebra").mkdir()
    with pytest.raises(DataError, match=r"zebra: has 0 \.png pictures; expected two or more"):
        prepare("sketch", source, tmp_path / "to")


def test_drawings_without_folders(tmp_path: Path) -> None:
    source = tmp_path / "from"
    picture(source / "png/1.png")
    with pytest.raises(DataError, match=r"found 1\.png; expected a folder of drawings a class"):
        prepare("sketch", source, tmp_path / "to")


def test_what_a_mac_leaves_is_left_out(tmp_path: Path) -> None:
    source = sketches(tmp_path / "from")
    (source / "png/airplane/._6.png").write_bytes(b"\0")
    (source / "png/.hidden").mkdir()
    assert prepare("sketch", source, tmp_path / "to").counts == {"train": 8, "test": 2}
    shutil.rmtree(source)
