"""Flowers-102 as Oxford publishes it, right and wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from originals import flowers, written
from scipy.io import savemat

from maskpack.common.errors import DataError
from maskpack.datasets.prepare import prepare
from maskpack.datasets.prepare.flowers import pictures
from maskpack.tasks import open_task


def test_flowers_are_copied_and_sorted(tmp_path: Path) -> None:
    source = flowers(tmp_path / "from")
    prepare("flowers", source, tmp_path / "to")
    assert written(tmp_path / "to") == [
        "prepared.json",
        "test/001/image_00007.jpg",
        "test/102/image_00008.jpg",
        *(f"train/001/image_0000{number}.jpg" for number in (1, 3, 5)),
        *(f"train/102/image_0000{number}.jpg" for number in (2, 4, 6)),
    ]
    for copied in (tmp_path / "to").rglob("*.jpg"):
        assert copied.read_bytes() == (source / "jpg" / copied.name).read_bytes()


def test_training_is_on_both_small_lists(tmp_path: Path) -> None:
    found = pictures(flowers(tmp_path))
    assert [p.name[10] for p in found if p.split == "train"] == list("123456")
    assert [p.name[10] for p in found if p.split == "test"] == list("78")


def test_classes_keep_the_order_of_their_numbers(tmp_path: Path) -> None:
    source = flowers(tmp_path / "from")
    labels = np.array([[2, 10, 102, 2, 10, 102, 2, 10]], dtype=np.uint8)
    savemat(source / "imagelabels.mat", {"labels": labels})
    prepare("flowers", source, tmp_path / "to")
    task = open_task("flowers", tmp_path / "to")
    assert task.describe()["classes"] == ["002", "010", "102"]


@pytest.mark.parametrize("folder", ["flowers-102", "102flowers"])
def test_in_a_folder_of_its_own(folder: str, tmp_path: Path) -> None:
    flowers(tmp_path / folder)
    assert len(pictures(tmp_path)) == 8


@pytest.mark.parametrize(
    ("labels", "sets", "match"),
    [
        ([0, 102] * 4, {}, r"imagelabels\.mat: picture 1 is of class 0; expected 1 to 102"),
        ([1, 103] * 4, {}, "picture 2 is of class 103; expected 1 to 102"),
        ([1.5, 102] * 4, {}, "picture 1: .*1.5.* is not a whole number"),
        ([1, 102] * 3, {}, "tstid has picture 7, but imagelabels.mat has 6 labels, counted from 1"),
        ([1, 102] * 4, {"trnid": [0, 1]}, "trnid has picture 0, but imagelabels.mat has 8"),
        ([1, 102] * 4, {"valid": [1]}, r"image_00001\.jpg: is listed twice; a picture belongs"),
        ([1, 102] * 4, {"tstid": [7, 9]}, "tstid has picture 9, but"),
        ([1, 102] * 4, {"tstid": []}, "flowers: no picture is for test; the original is inc"),
        ([1, 1, 1, 1, 1, 1, 1, 2], {}, "class '002' has pictures for test, but none for train"),
    ],
)
def test_usual_faults(labels: list[Any], sets: dict[str, Any], match: str, tmp_path: Path) -> None:
    source = flowers(tmp_path / "from")
    savemat(source / "imagelabels.mat", {"labels": np.array([labels])})
    whole = {"trnid": [1, 2, 3, 4], "valid": [5, 6], "tstid": [7, 8], **sets}
    savemat(source / "setid.mat", {key: np.array([value]) for key, value in whole.items()})
    with pytest.raises(DataError, match=match) as caught:
        prepare("flowers", source, tmp_path / "to")
    assert "\n" not in str(caught.value)


def test_the_two_tables_exchanged(tmp_path: Path) -> None:
    source = flowers(tmp_path / "from")
    (source / "setid.mat").replace(source / "imagelabels.mat")
    with pytest.raises(DataError, match=r"imagelabels\.mat: has no 'labels', only trnid, tstid"):
        prepare("flowers", source, tmp_path / "to")


def test_pictures_without_tables(tmp_path: Path) -> None:
    source = flowers(tmp_path / "from")
    (source / "setid.mat").unlink()
    with pytest.raises(DataError, match=r"setid\.mat: no such file"):
        prepare("flowers", source, tmp_path / "to")
