"""`--data DIR` with pictures and masks in two folders, and what is said where they are not so."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import tinydense
from PIL import Image

from maskpack.common.errors import DataError, UnknownName
from maskpack.evaluation.task_row import Bases, score_task
from maskpack.runs.open import open_pack
from maskpack.tasks import open_task
from maskpack.training.setup import Options, open_session
from maskpack.training.train_run import learn

NUMBERS = np.array([[0, 1, 2], [2, 255, 0]], dtype=np.uint8)
BINARY = np.array([[0, 255, 255], [0, 0, 255]], dtype=np.uint8)
PALETTE = [0, 0, 0, 255, 255, 255, 9, 9, 9, *[7] * 759]


def picture(path: Path, width: int = 3, height: int = 2) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (width, height), (10, 20, 30)).save(path)


def mask(path: Path, numbers: np.ndarray = NUMBERS, mode: str = "L") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(numbers.astype(np.uint16) if mode == "I;16" else numbers)
    if mode == "P":
        image.putpalette(PALETTE)
    elif mode != "I;16":
        image = image.convert(mode)
    image.save(path)


def tree(root: Path, *stems: str, numbers: np.ndarray = NUMBERS, mode: str = "L") -> Path:
    """ROOT/SPLIT/images/x.jpg and ROOT/SPLIT/masks/x.png for each SPLIT/x."""
    for stem in stems:
        split, _, name = stem.rpartition("/")
        picture(root / split / "images" / f"{name}.jpg")
        mask(root / split / "masks" / f"{name}.png", numbers, mode)
    return root


SOUND = ("train/a", "train/b", "test/c")


def targets(root: Path, split: str = "train") -> list[list[list[int]]]:
    data = open_task("parts", root).dataset(split)
    return [np.array(data[index][1]).tolist() for index in range(len(data))]


@pytest.mark.parametrize("mode", ["L", "P", "I;16"])
def test_numbers_are_classes_and_255_none(tmp_path: Path, mode: str) -> None:
    task = open_task("parts", tree(tmp_path, *SOUND, mode=mode))
    assert task.describe() == {
        "name": "parts",
        "kind": "segmentation",
        "metric": "mIoU",
        "lower is better": False,
        "options": {"loss": "ce"},
        "classes": ["0", "1", "2"],
    }
    assert task.splits() == ("train", "test")
    assert list(task.dataset("train").labels) == [0, 0]
    image, target = task.dataset("test")[0]
    assert (image.mode, image.size, target.mode) == ("RGB", (3, 2), "L")
    assert np.array(target).tolist() == NUMBERS.tolist()


@pytest.mark.parametrize("mode", ["L", "1"])
def test_black_and_white_masks_are_two_classes(tmp_path: Path, mode: str) -> None:
    tree(tmp_path, *SOUND, numbers=BINARY, mode=mode)
    assert open_task("x", tmp_path).classes == ("0", "1")  # type: ignore[attr-defined]
    assert targets(tmp_path) == [[[0, 1, 1], [0, 0, 1]]] * 2


def test_one_mask_with_another_number_makes_255_no_class(tmp_path: Path) -> None:
    tree(tmp_path, "train/a", "test/c", numbers=BINARY)
    tree(tmp_path, "train/b", numbers=np.array([[0, 1, 1], [0, 0, 0]], dtype=np.uint8))
    assert targets(tmp_path)[0] == BINARY.tolist()


def test_masks_of_one_bit_are_class_1_beside_any_others(tmp_path: Path) -> None:
    tree(tmp_path, "train/a", "test/c", numbers=BINARY, mode="1")
    tree(tmp_path, "train/b")
    assert targets(tmp_path) == [[[0, 1, 1], [0, 0, 1]], NUMBERS.tolist()]


@pytest.mark.parametrize("numbers", [NUMBERS, BINARY])
def test_classes_have_the_names_of_a_file(tmp_path: Path, numbers: np.ndarray) -> None:
    tree(tmp_path, *SOUND, numbers=numbers)
    names = ["sky", "sea", "sand"][: 2 + (numbers is NUMBERS)]
    (tmp_path / "classes.txt").write_text("\n".join(names) + "\n", encoding="utf-8")
    assert open_task("x", tmp_path).classes == tuple(names)  # type: ignore[attr-defined]
    assert targets(tmp_path)[0][0] == [0, 1, 2 if numbers is NUMBERS else 1]


def test_folders_of_splits_may_be_inside(tmp_path: Path) -> None:
    for split in ("train", "val", "test"):
        picture(tmp_path / "images" / split / "a.png")
        mask(tmp_path / "masks" / split / "a.png")
    assert open_task("x", tmp_path).splits() == ("train", "val", "test")


def test_without_test_the_val_folder_is_the_test_split(tmp_path: Path) -> None:
    assert open_task("x", tree(tmp_path, "train/a", "valid/b")).splits() == ("train", "test")


def test_without_splits_a_tenth_is_for_testing_always_the_same(tmp_path: Path) -> None:
    tree(tmp_path, *[f"{number:02}" for number in range(20)])
    task = open_task("x", tmp_path)
    assert [len(task.dataset(split)) for split in task.splits()] == [18, 2]
    pairs = task.dataset("test").pairs  # type: ignore[attr-defined]
    assert [Path(path).stem for path, _ in pairs] == ["10", "16"]
    assert all(Path(one).stem == Path(other).stem for one, other in pairs)


def test_pictures_in_folders_and_hidden_files(tmp_path: Path) -> None:
    tree(tmp_path, *SOUND)
    picture(tmp_path / "train/images/deep/d.e.png")
    mask(tmp_path / "train/masks/deep/d.e.png")
    picture(tmp_path / "train/images/._a.jpg")
    picture(tmp_path / "train/images/.checkpoints/a.jpg")
    (tmp_path / "train/masks/notes.txt").write_text("x", encoding="utf-8")
    assert len(targets(tmp_path)) == 3


def test_class_folders_are_no_masks(tmp_path: Path) -> None:
    for place in ("train/masks/1.png", "train/none/1.png", "test/masks/2.png"):
        picture(tmp_path / place)
    assert open_task("x", tmp_path).describe()["kind"] == "classification"


def test_a_data_set_can_be_sent_to_a_worker(tmp_path: Path) -> None:
    data = open_task("x", tree(tmp_path, *SOUND)).dataset("train")
    assert np.array(pickle.loads(pickle.dumps(data))[1][1]).tolist() == NUMBERS.tolist()


# ---- what is wrong with a folder


def one_line(root: Path, match: str) -> None:
    with pytest.raises(DataError, match=match) as caught:
        task = open_task("parts", root)
        for split in task.splits():
            for index in range(len(task.dataset(split))):
                task.dataset(split)[index]
    assert "\n" not in str(caught.value)


def test_no_such_folder(tmp_path: Path) -> None:
    one_line(tmp_path / "nowhere", r"task 'parts': no folder '.*nowhere'")


def test_an_unknown_layout_names_this_one_too(tmp_path: Path) -> None:
    picture(tmp_path / "images/a.png")
    one_line(tmp_path, r"found no train/, images/; expected .*; or images/\* and masks/\*")


def test_no_train_folder(tmp_path: Path) -> None:
    one_line(tree(tmp_path, "test/a"), "has no train/, only test")


def test_two_folders_of_one_split(tmp_path: Path) -> None:
    one_line(tree(tmp_path, "train/a", "val/b", "valid/c"), "val/ and valid/ are both val")


@pytest.mark.parametrize("there", ["images", "masks"])
def test_one_folder_of_two_is_missing(tmp_path: Path, there: str) -> None:
    picture(tmp_path / "train" / there / "a.png")
    one_line(tmp_path, r"task 'parts': no folder '.*train/(images|masks)'; expected .* in it")


def test_an_empty_folder(tmp_path: Path) -> None:
    tree(tmp_path, *SOUND)
    (tmp_path / "val/images").mkdir(parents=True)
    (tmp_path / "val/masks").mkdir()
    one_line(tmp_path, r"task 'parts': .*val/images is empty; expected pictures in it")


def test_a_picture_without_mask(tmp_path: Path) -> None:
    picture(tree(tmp_path, *SOUND) / "train/images/z.jpg")
    one_line(tmp_path, r"images/z\.jpg: has no mask; expected .*train/masks/z\.png")


def test_a_mask_without_picture(tmp_path: Path) -> None:
    mask(tree(tmp_path, *SOUND) / "test/masks/z.png")
    one_line(tmp_path, r"masks/z\.png: has no picture; expected one of its name in .*test/images")


def test_two_pictures_of_one_name(tmp_path: Path) -> None:
    picture(tree(tmp_path, *SOUND) / "train/images/a.png")
    one_line(tmp_path, r"images/a\.png: has the name of .*images/a\.jpg; keep one of them")


def test_a_mask_of_another_size(tmp_path: Path) -> None:
    mask(tree(tmp_path, *SOUND) / "test/masks/c.png", NUMBERS.T)
    one_line(tmp_path, r"masks/c\.png: is 2 x 3, but its picture .*images/c\.jpg is 3 x 2")


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA"])
def test_masks_of_colours(tmp_path: Path, mode: str) -> None:
    tree(tmp_path, *SOUND, mode=mode)
    one_line(tmp_path, rf"\.png: holds colours \(mode {mode}\); expected a PNG of class numbers")


def test_masks_stored_with_loss(tmp_path: Path) -> None:
    tree(tmp_path, *SOUND)
    (tmp_path / "train/masks/b.png").unlink()
    mask(tmp_path / "train/masks/b.jpg")
    one_line(tmp_path, r"b\.jpg: is a JPEG, which changes numbers; expected a PNG of class numbers")


def test_a_class_out_of_range(tmp_path: Path) -> None:
    tree(tmp_path, *SOUND)
    (tmp_path / "classes.txt").write_text("sky\nsea\n", encoding="utf-8")
    one_line(tmp_path, r"\.png: has a pixel of class 2; expected 0 to 1, or 255 where none counts")


@pytest.mark.parametrize(
    ("numbers", "mode", "found"),
    [
        ([[0, 128, 0]], "L", "0, 128 up to 128"),
        ([[0, 50, 100, 150, 200, 250, 3]], "L", r"0, 3, 50, 100, 150, 200, \.\.\. up to 250"),
        ([[0, 65535]], "I;16", "0, 65535 up to 65535"),
        ([list(range(255))], "L", r"0, 1, 2, 3, 4, 5, \.\.\. up to 254"),
    ],
)
def test_grey_levels_that_are_no_class_numbers(
    tmp_path: Path, numbers: list[list[int]], mode: str, found: str
) -> None:
    for stem in SOUND:
        split, _, name = stem.partition("/")
        picture(tmp_path / split / "images" / f"{name}.jpg", len(numbers[0]), 1)
        array = np.array(numbers, dtype=np.uint16 if mode == "I;16" else np.uint8)
        mask(tmp_path / split / "masks" / f"{name}.png", array, mode)
    one_line(tmp_path, rf"its masks hold {found}; expected class numbers 0, 1, 2, \.\.\. \(or a n")


def test_masks_without_a_class(tmp_path: Path) -> None:
    one_line(tree(tmp_path, *SOUND, numbers=0 * NUMBERS), "every mask is 0 everywhere")


def test_black_and_white_masks_and_three_names(tmp_path: Path) -> None:
    tree(tmp_path, *SOUND, numbers=BINARY)
    (tmp_path / "classes.txt").write_text("a\nb\nc\n", encoding="utf-8")
    one_line(tmp_path, "the masks hold but 0 and 255, two classes; classes.txt names 3")


def test_a_name_twice(tmp_path: Path) -> None:
    tree(tmp_path, *SOUND)
    (tmp_path / "classes.txt").write_text("a\nb\na\n", encoding="utf-8")
    one_line(tmp_path, r"classes\.txt: line 3: class 'a' is named twice")


@pytest.mark.parametrize("place", ["train/images/a.jpg", "train/masks/a.png"])
@pytest.mark.parametrize("left", [0, 45])
def test_an_unreadable_file(tmp_path: Path, place: str, left: int) -> None:
    path = tree(tmp_path, *SOUND) / place
    path.write_bytes(path.read_bytes()[:left])
    one_line(tmp_path, rf"{place}: cannot be read as an image \(")


def test_a_mask_that_went_away(tmp_path: Path) -> None:
    data = open_task("x", tree(tmp_path, *SOUND)).dataset("train")
    (tmp_path / "train/masks/a.png").unlink()
    with pytest.raises(DataError, match=r"masks/a\.png: no such file; it was there when the task"):
        data[0]


def test_an_option_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match="unknown option of the task 'labels'; known: loss"):
        open_task("parts", tree(tmp_path, *SOUND), options={"labels": "x"})


# ---- the whole way


@pytest.mark.parametrize("loss", ["ce", "l1", "l2", "adversarial"])
def test_a_segmentation_is_learnt_and_scored_as_recorded(tmp_path: Path, loss: str) -> None:
    tinydense.write_photos(tmp_path / "photos")
    for path in (tmp_path / "photos").glob("*/*.png"):
        with Image.open(path) as image:
            bright = np.asarray(image.convert("L")) > 100
        inside = tmp_path / "data" / path.parent.name
        mask(inside / "masks" / path.name, np.where(bright, 255, 0).astype(np.uint8))
        (inside / "images").mkdir(exist_ok=True)
        path.rename(inside / "images" / path.name)
    size = 32 if loss == "adversarial" else 16
    options = Options(
        "tinydense:build",
        "discs",
        "piggyback",
        data=str(tmp_path / "data"),
        task_set={"loss": loss},
        preprocess={"img_size": size},
        recipe={"epochs": 2, "batch_size": 2, "opt": "adam", "lr": 1e-2},
    )
    session = open_session(options, tinydense.backbone())
    run = learn(session, tmp_path / "run")
    bases = Bases()
    bases.give(session.backbone)
    row = score_task(open_pack(run.path), "discs", bases=bases)
    test = run.result["test"]
    assert test.keys() == {"mIoU", "pixel accuracy", "loss", "count"}
    assert (row["mIoU"], row["pixel accuracy"]) == (test["mIoU"], test["pixel accuracy"])
    assert 0 < row["mIoU"] <= row["pixel accuracy"] <= 1
    assert row["recorded"] == row["mIoU"] and row["low"] is None
