"""Stanford Cars in both published layouts, right and wrong."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from originals import CARS, car_rows, cars, names, old_cars, struct_array, written
from PIL import Image
from scipy.io import savemat

from maskpack.common.errors import DataError
from maskpack.datasets.prepare import prepare
from maskpack.datasets.prepare.cars import LABELLED, pictures


def annotate(path: Path, rows: list[dict[str, Any]]) -> None:
    savemat(path, {"annotations": struct_array(rows)})


def refused(source: Path, match: str) -> None:
    with pytest.raises(DataError, match=match) as caught:
        prepare("stanford_cars", source, source.parent / "to")
    assert "\n" not in str(caught.value)


def test_cars_are_cropped_and_sorted(tmp_path: Path) -> None:
    prepare("stanford_cars", cars(tmp_path / "from"), tmp_path / "to")
    hummer, ram = "001.AM General Hummer SUV 2000", "002.Ram C-V Cargo Van Minivan 2012"
    assert written(tmp_path / "to") == [
        "prepared.json",
        f"test/{hummer}/00001.jpg",
        f"test/{ram}/00002.jpg",
        f"train/{hummer}/00001.jpg",
        f"train/{hummer}/00003.jpg",
        f"train/{ram}/00002.jpg",
        f"train/{ram}/00004.jpg",
    ]
    with Image.open(tmp_path / "to/test" / ram / "00002.jpg") as image:
        # columns 5 to 14 counted from 1, of a picture whose column c from 0 has the value 10 c
        assert image.size == (10, 8)
        assert np.abs(np.asarray(image)[:, :, 0].mean(0) - np.arange(40, 140, 10)).max() < 6


def test_both_layouts_say_the_same(tmp_path: Path) -> None:
    new, old = pictures(cars(tmp_path / "new")), pictures(old_cars(tmp_path / "old"))
    assert [(p.split, p.label, p.box) for p in new] == [(p.split, p.label, p.box) for p in old]
    done = prepare("stanford_cars", tmp_path / "old", tmp_path / "to")
    assert (done.counts, done.classes) == ({"train": 4, "test": 2}, 2)


def test_where_mirrors_put_things(tmp_path: Path) -> None:
    source = cars(tmp_path / "from/stanford_cars").parent
    before = [(p.split, p.label, p.name) for p in pictures(source)]
    root = source / "stanford_cars"
    (root / LABELLED).rename(root / "devkit" / LABELLED)
    for split in ("train", "test"):
        (root / f"cars_{split}").rename(root / "inner")
        (root / f"cars_{split}").mkdir()
        (root / "inner").rename(root / f"cars_{split}" / f"cars_{split}")
    assert [(p.split, p.label, p.name) for p in pictures(source)] == before
    assert prepare("stanford_cars", source, tmp_path / "to").counts == {"train": 4, "test": 2}


def test_a_box_at_the_first_pixel_does_not_wrap_around(tmp_path: Path) -> None:
    source = cars(tmp_path / "from")
    rows = [{**row, "bbox_x1": 0} for row in car_rows("train")]  # uint8, as MATLAB writes it
    annotate(source / "devkit/cars_train_annos.mat", rows)
    assert pictures(source)[0].box == (-1, 2, 14, 10)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"class": 3}, "row 1 is of class 3; expected 1 to 2"),
        ({"class": 0}, "row 1 is of class 0; expected 1 to 2"),
        ({"class": "car"}, "row 1: 'car' is not a whole number"),
        ({"class": np.nan}, "row 1: nan is not a whole number"),
        ({"fname": np.empty((0, 0))}, "row 1 has .*; expected the name of a picture"),
        ({"fname": "/etc/a.jpg"}, "row 1 has '/etc/a.jpg'; expected the path of a picture"),
        ({"fname": "../../a.jpg"}, r"row 1 has '\.\./\.\./a.jpg'; .* and no \.\. in it"),
        ({"fname": "00009.jpg"}, r"cars_train.00009\.jpg: no such file, but it is listed"),
        ({"bbox_x1": 15}, "row 1 has a box from 15 3 to 14 10, turned inside out"),
        ({"bbox_x1": 21, "bbox_x2": 30}, r"00001\.jpg: its box .*20 2 30 10.* of 20 x 16 pixels"),
    ],
)
def test_rows_that_are_wrong(change: dict[str, Any], match: str, tmp_path: Path) -> None:
    source = cars(tmp_path / "from")
    first, *others = car_rows("train")
    annotate(source / "devkit/cars_train_annos.mat", [{**first, **change}, *others])
    refused(source, match)


def test_a_table_without_classes(tmp_path: Path) -> None:
    source = cars(tmp_path / "from")
    (source / "devkit/cars_test_annos.mat").rename(source / LABELLED)
    refused(source, f"{LABELLED}: its table has bbox_x1, .*, fname; expected 'class' too")


def test_only_the_table_without_classes(tmp_path: Path) -> None:
    source = cars(tmp_path / "from")
    (source / LABELLED).unlink()
    refused(source, r"has no cars_test_annos_withlabels\.mat, there or in devkit/; cars_test_annos")


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (None, r"cars_meta\.mat: no such file; unpack the archive again"),
        (b"", r"cars_meta\.mat: cannot be read as a MATLAB file"),
        (b"<html>404</html>" * 20, r"cars_meta\.mat: cannot be read as a MATLAB file"),
        # MATLAB 7.3 writes HDF5
        (b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM" + bytes(400), "cannot be read as a MA"),
    ],
)
def test_files_that_are_no_tables(content: bytes | None, match: str, tmp_path: Path) -> None:
    source = cars(tmp_path / "from")
    path = source / "devkit/cars_meta.mat"
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    refused(source, match)


def test_a_cut_off_table(tmp_path: Path) -> None:
    source = cars(tmp_path / "from")
    path = source / "devkit/cars_train_annos.mat"
    path.write_bytes(path.read_bytes()[:700])
    refused(source, r"cars_train_annos\.mat: (cannot be read as a MATLAB file|has no|its table)")


def test_another_table(tmp_path: Path) -> None:
    source = cars(tmp_path / "from")
    savemat(source / "devkit/cars_meta.mat", {"labels": np.arange(3)})
    refused(source, r"cars_meta\.mat: has no 'class_names', only labels; it is another file")
    savemat(source / "devkit/cars_meta.mat", {"class_names": names(*CARS)})
    savemat(source / LABELLED, {"annotations": np.arange(3)})
    refused(source, "its table has no fields; expected 'fname' too")


def test_one_row_is_a_table_too(tmp_path: Path) -> None:
    source = cars(tmp_path / "from")
    annotate(source / LABELLED, car_rows("test")[:1])
    assert prepare("stanford_cars", source, tmp_path / "to").counts == {"train": 4, "test": 1}


def test_scipy_is_named_where_it_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = cars(tmp_path / "from")
    monkeypatch.setitem(sys.modules, "scipy", None)
    refused(source, r"needs the package scipy; run `pip install scipy`$")
