"""Pictures listed in csv files."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from maskpack.common.errors import DataError
from maskpack.tasks import open_task


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "pictures").mkdir()
    for name in "abcd":
        Image.new("L", (2, 2)).save(tmp_path / "pictures" / f"{name}.png")
    return tmp_path


SOUND = "path,label,split\npictures/a.png,dog,train\npictures/b.png,cat,train\n"


def test_one_table_with_splits(root: Path) -> None:
    (root / "labels.csv").write_text(
        SOUND + "\npictures/c.png,cat,test\npictures/d.png,dog,valid\n", encoding="utf-8-sig"
    )
    task = open_task("x", root)
    assert task.splits() == ("train", "val", "test")
    assert task.describe()["classes"] == ["cat", "dog"]
    assert list(task.dataset("train").labels) == [1, 0]
    assert task.dataset("test")[0][0].mode == "RGB"


def test_one_table_per_split(root: Path) -> None:
    (root / "train.csv").write_text("id, Label ,Path\n1, b ,pictures/a.png\n2,a,pictures/b.png\n")
    (root / "test.csv").write_text('path,label\n"pictures/c.png","a"\n')
    task = open_task("x", root)
    assert task.splits() == ("train", "test")
    assert list(task.dataset("train").labels) == [1, 0]


def test_tables_beside_a_folder_of_loose_pictures(tmp_path: Path) -> None:
    (tmp_path / "train").mkdir()
    for name in "ab":
        Image.new("L", (2, 2)).save(tmp_path / "train" / f"{name}.png")
    (tmp_path / "train.csv").write_text("path,label\ntrain/a.png,x\ntrain/b.png,y\n")
    assert open_task("x", tmp_path).splits() == ("train",)


def test_without_a_split_column_all_is_for_training(root: Path) -> None:
    (root / "labels.csv").write_text("path,label\npictures/a.png,1\npictures/b.png,2\n")
    assert open_task("x", root).splits() == ("train",)


def test_without_test_the_val_rows_are_the_test_split(root: Path) -> None:
    (root / "labels.csv").write_text(SOUND + "pictures/c.png,cat,val\n")
    assert open_task("x", root).splits() == ("train", "test")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (SOUND + "pictures/z.png,cat,test\n", r"labels\.csv: line 4: no file 'pictures/z\.png'"),
        (SOUND + "pictures/c.png,,test\n", "line 4: path or label is empty"),
        (SOUND + "pictures/c.png\n", "line 4: path or label is empty"),
        (SOUND + "pictures/c.png,cat,dev\n", "line 4: split is 'dev'; known: train, val, test"),
        (SOUND + "pictures/c.png,cat,\n", "line 4: split is ''"),
        (SOUND + "pictures/c.png,eel,test\n", "line 4: class 'eel' is not in the train split"),
        (SOUND.replace("path", "file"), "columns file, label, split; expected path,label"),
        ("", r"columns nothing; expected path,label\[,split\]"),
        ("path,label,split\n", "no train split, found no pictures"),
        ("path,label,split\npictures/a.png,1,test\n", "no train split, found test"),
        ("path,label\npictures/a.png,1\n", "needs two classes or more, found '1'"),
        ('path,label\npictures/a.png,"' + "x" * 200_000 + '"\n', "is not a csv file"),
    ],
)
def test_wrong_table(root: Path, text: str, message: str) -> None:
    (root / "labels.csv").write_text(text)
    with pytest.raises(DataError, match=message) as caught:
        open_task("x", root)
    assert "\n" not in str(caught.value)


def test_table_that_is_not_text(root: Path) -> None:
    (root / "labels.csv").write_bytes(b"path,label\n\xff\xfe,1\n")
    with pytest.raises(DataError, match="is not UTF-8 text"):
        open_task("x", root)


def test_two_tables_of_one_split(root: Path) -> None:
    for name in ("train", "val", "valid"):
        (root / f"{name}.csv").write_text("path,label\n")
    with pytest.raises(DataError, match=r"val\.csv and valid\.csv are both val"):
        open_task("x", root)
