"""`--data DIR` with pictures in class folders, and what is said about folders that are not so."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from maskpack.common.errors import DataError
from maskpack.tasks import open_task


def draw(path: Path, colour: object = (10, 20, 30), mode: str = "RGB") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, (6, 4), colour).save(path)  # type: ignore[arg-type]


def tree(root: Path, *names: str) -> Path:
    for name in names:
        draw(root / name)
    return root


SOUND = ("train/cat/1.png", "train/dog/1.png", "test/cat/2.png", "test/dog/2.png")


def test_class_folders_give_a_task(tmp_path: Path) -> None:
    tree(tmp_path, *SOUND, "train/cat/0.JPG", "val/dog/3.jpeg")
    task = open_task("birds", tmp_path)
    assert task.describe() == {
        "name": "birds",
        "kind": "classification",
        "metric": "accuracy",
        "classes": ["cat", "dog"],
    }
    assert (task.outputs(), task.splits()) == (2, ("train", "val", "test"))
    train = task.dataset("train")
    assert list(train.labels) == [0, 0, 1]
    assert [Path(path).name for path in train.paths] == ["0.JPG", "1.png", "1.png"]  # type: ignore[attr-defined]
    picture, label = task.dataset("val")[0]
    assert (picture.mode, picture.size, label) == ("RGB", (6, 4), 1)


@pytest.mark.parametrize("name", ["val", "valid", "validation"])
def test_each_name_of_the_validation_folder_is_known(tmp_path: Path, name: str) -> None:
    tree(tmp_path, *SOUND, f"{name}/cat/1.png")
    assert open_task("x", tmp_path).splits() == ("train", "val", "test")


def test_without_test_the_val_folder_is_the_test_split(tmp_path: Path) -> None:
    tree(tmp_path, "train/cat/1.png", "train/dog/1.png", "val/cat/2.png", "val/dog/2.png")
    task = open_task("x", tmp_path)
    assert task.splits() == ("train", "test")
    with pytest.raises(DataError, match="no val split, only train, test"):
        task.dataset("val")


def test_a_missing_test_split_is_named_when_asked_for(tmp_path: Path) -> None:
    task = open_task("x", tree(tmp_path, "train/cat/1.png", "train/dog/1.png"))
    with pytest.raises(DataError, match="task 'x' has no test split, only train"):
        task.dataset("test")


def test_a_class_may_be_absent_from_test(tmp_path: Path) -> None:
    tree(tmp_path, "train/a/1.png", "train/b/1.png", "train/c/1.png", "test/c/1.png")
    assert list(open_task("x", tmp_path).dataset("test").labels) == [2]


def test_nested_pictures_count_and_other_files_do_not(tmp_path: Path) -> None:
    tree(tmp_path, *SOUND, "train/cat/deep/9.webp", "train/cat/._1.png", "train/.cache/z.png")
    (tmp_path / "train/cat/notes.txt").write_text("x")
    (tmp_path / "train/README").write_text("x")
    assert list(open_task("x", tmp_path).dataset("train").labels) == [0, 0, 1]


def test_a_linked_class_folder_is_followed(tmp_path: Path) -> None:
    tree(tmp_path, *SOUND, "elsewhere/1.png")
    (tmp_path / "train/eel").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    assert open_task("x", tmp_path).outputs() == 3


def one_line(root: Path, match: str) -> None:
    with pytest.raises(DataError, match=match) as caught:
        open_task("birds", root)
    assert "\n" not in str(caught.value)


def test_missing_folder(tmp_path: Path) -> None:
    one_line(tmp_path / "nowhere", r"task 'birds': no folder '.*nowhere'")


def test_file_instead_of_a_folder(tmp_path: Path) -> None:
    draw(tmp_path / "x.png")
    one_line(tmp_path / "x.png", "is a file; expected a folder")


def test_unknown_layout_says_what_is_there_and_the_three_layouts(tmp_path: Path) -> None:
    one_line(
        tree(tmp_path, "cat/1.png", "dog/1.png"),
        r"found no train/, cat/, dog/; expected train/CLASS.*; or train-images-idx3.*; or labels",
    )


def test_empty_folder(tmp_path: Path) -> None:
    one_line(tmp_path, "found nothing; expected train/CLASS")


def test_test_without_train(tmp_path: Path) -> None:
    one_line(tree(tmp_path, "test/cat/1.png", "test/dog/1.png"), "found no train/, test/")


def test_empty_class_folder(tmp_path: Path) -> None:
    tree(tmp_path, *SOUND)
    (tmp_path / "train/eel").mkdir()
    one_line(tmp_path, r"train/eel: has no pictures; a class folder may not be empty")


def test_class_only_in_test(tmp_path: Path) -> None:
    tree(tmp_path, *SOUND, "test/eel/1.png")
    one_line(tmp_path, r"test: class 'eel' is not in .*train")


def test_single_class(tmp_path: Path) -> None:
    tree(tmp_path, "train/cat/1.png", "test/cat/1.png")
    one_line(tmp_path, "train: has 1 class folder; expected two or more")


def test_train_without_class_folders(tmp_path: Path) -> None:
    one_line(tree(tmp_path, "train/1.png", "test/1.png"), r"1\.png: lies beside the class folders")


def test_loose_picture_beside_class_folders(tmp_path: Path) -> None:
    one_line(tree(tmp_path, *SOUND, "train/3.png"), r"3\.png: lies beside the class folders")


def test_two_folders_of_one_split(tmp_path: Path) -> None:
    tree(tmp_path, *SOUND, "val/cat/1.png", "valid/cat/1.png")
    one_line(tmp_path, "val/ and valid/ are both val")


@pytest.mark.skipif("__import__('sys').platform != 'linux'", reason="needs names of any bytes")
def test_class_name_that_is_not_text(tmp_path: Path) -> None:
    tree(tmp_path, *SOUND, "train/\udcff/1.png")
    one_line(tmp_path, "name is not UTF-8")
