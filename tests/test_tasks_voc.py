"""voc-segmentation on a devkit of a few pixels, and on devkits that are not as published."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from maskpack.common.errors import DataError, OptionError, UnknownName
from maskpack.tasks import described_task, open_task
from maskpack.tasks.dense.segmentation import voc_palette

NUMBERS = np.array([[0, 255, 15], [255, 1, 20]], dtype=np.uint8)
TRAIN, VAL = ["2007_000032", "2007_000039"], ["2008_000007"]


def mask(path: Path, numbers: np.ndarray = NUMBERS, mode: str = "P") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(numbers)
    if mode != "grey":
        image.putpalette(voc_palette())
    (image if mode in ("P", "grey") else image.convert(mode)).save(path)


def devkit(root: Path, year: str = "VOC2012", mode: str = "P") -> Path:
    """VOCdevkit/VOC2012 as published, with pictures of 3 x 2 pixels; its folder."""
    folder = root / "VOCdevkit" / year
    for inner in ("JPEGImages", "ImageSets/Segmentation", "Annotations", "SegmentationObject"):
        (folder / inner).mkdir(parents=True)
    for split, names in {"train": TRAIN, "val": VAL, "trainval": TRAIN + VAL}.items():
        listed = folder / f"ImageSets/Segmentation/{split}.txt"
        listed.write_text("".join(f"{name}\n" for name in names), encoding="utf-8")
    for name in (*TRAIN, *VAL):
        Image.new("RGB", (3, 2), (10, 20, 30)).save(folder / f"JPEGImages/{name}.jpg")
        mask(folder / f"SegmentationClass/{name}.png", mode=mode)
    return folder


def test_the_published_layout(tmp_path: Path) -> None:
    devkit(tmp_path)
    task = open_task("voc-segmentation", tmp_path)
    about = task.describe()
    assert about["kind"] == "voc-segmentation"
    assert about["options"] == {
        "loss": "ce",
        "train": "train",
        "test": "val",
        "masks": "SegmentationClass",
    }
    assert (task.outputs(), len(about["classes"])) == (21, 21)  # type: ignore[arg-type]
    assert [about["classes"][number] for number in (0, 1, 15, 20)] == [  # type: ignore[index]
        "background",
        "aeroplane",
        "person",
        "tvmonitor",
    ]
    assert task.splits() == ("train", "test")
    assert [len(task.dataset(split)) for split in task.splits()] == [2, 1]
    assert described_task(about).describe() == about


@pytest.mark.parametrize("mode", ["P", "grey"])
def test_numbers_count_and_not_their_colours(tmp_path: Path, mode: str) -> None:
    devkit(tmp_path, mode=mode)
    data = open_task("voc-segmentation", tmp_path).dataset("train")
    picture, target = pickle.loads(pickle.dumps(data))[1]
    assert (picture.mode, picture.size, target.mode) == ("RGB", (3, 2), "L")
    assert np.array(target).tolist() == NUMBERS.tolist()
    assert list(data.labels) == [0, 0]


@pytest.mark.parametrize("inner", ["", "VOCdevkit", "VOCdevkit/VOC2012"])
def test_any_of_three_folders_will_do(tmp_path: Path, inner: str) -> None:
    devkit(tmp_path)
    assert len(open_task("voc-segmentation", tmp_path / inner).dataset("train")) == 2


def test_another_year_alone_and_2012_among_several(tmp_path: Path) -> None:
    first = devkit(tmp_path, "VOC2007")
    assert _pictures(tmp_path)[0].startswith(str(first))
    second = devkit(tmp_path, "VOC2012")
    assert _pictures(tmp_path)[0].startswith(str(second))


def _pictures(root: Path, **options: str) -> list[str]:
    task = open_task("voc-segmentation", root, options=options)
    return [path for path, _ in task.dataset("train").pairs]  # type: ignore[attr-defined]


def test_other_lists_and_masks_by_option(tmp_path: Path) -> None:
    folder = devkit(tmp_path)
    listed = folder / "ImageSets/Segmentation/train_aug.txt"
    listed.write_text("\ufeff2007_000039\r\n\r\n", encoding="utf-8")
    mask(folder / "SegmentationClassAug/2007_000039.png", NUMBERS * 0, "grey")
    mask(folder / "SegmentationClassAug/2008_000007.png", NUMBERS * 0, "grey")
    chosen = {"train": "train_aug", "masks": "SegmentationClassAug"}
    task = open_task("voc-segmentation", tmp_path, options=chosen)
    assert [len(task.dataset(split)) for split in task.splits()] == [1, 1]
    assert np.array(task.dataset("train")[0][1]).max() == 0
    assert described_task(task.describe()).describe() == task.describe()


# ---- what is wrong with a devkit


def one_line(root: Path, match: str, **options: str) -> None:
    with pytest.raises(DataError, match=match) as caught:
        task = open_task("voc-segmentation", root, options=options)
        for split in task.splits():
            for index in range(len(task.dataset(split))):
                task.dataset(split)[index]
    assert "\n" not in str(caught.value)


def test_no_folder_given() -> None:
    with pytest.raises(DataError, match=r"needs a folder that holds VOCdevkit/: --data DIR"):
        open_task("voc-segmentation")


def test_no_such_folder(tmp_path: Path) -> None:
    one_line(tmp_path / "nowhere", r"task 'voc-segmentation': no folder '.*nowhere'")


def test_another_folder(tmp_path: Path) -> None:
    one_line(tmp_path, r"has no VOCdevkit/VOC2012/, nor JPEGImages/ .* unpack VOCtrainval_11-May")


def test_several_years_without_2012(tmp_path: Path) -> None:
    devkit(tmp_path, "VOC2007")
    devkit(tmp_path, "VOC2010")
    one_line(tmp_path, r"VOCdevkit has VOC2007, VOC2010; give the folder of one")


def test_a_list_is_missing(tmp_path: Path) -> None:
    (devkit(tmp_path) / "ImageSets/Segmentation/val.txt").unlink()
    one_line(tmp_path, r"Segmentation/val\.txt: no such file; there is train, trainval$")


def test_all_lists_are_missing(tmp_path: Path) -> None:
    folder = devkit(tmp_path)
    (folder / "ImageSets").rename(folder / "Sets")
    one_line(tmp_path, r"Segmentation/train\.txt: no such file; there is no list at all$")


@pytest.mark.parametrize("text", ["", "\n\n"])
def test_a_list_is_empty(tmp_path: Path, text: str) -> None:
    listed = devkit(tmp_path) / "ImageSets/Segmentation/train.txt"
    listed.write_text(text, encoding="utf-8")
    one_line(tmp_path, r"train\.txt: names no pictures; expected one a line, as 2007_000032")


@pytest.mark.parametrize(
    "line", ["/JPEGImages/a.jpg /SegmentationClassAug/a.png", "2007_000032 -1", "../../x"]
)
def test_a_list_of_another_kind(tmp_path: Path, line: str) -> None:
    listed = devkit(tmp_path) / "ImageSets/Segmentation/train.txt"
    listed.write_text(f"{TRAIN[0]}\n{line}\n", encoding="utf-8")
    one_line(tmp_path, r"train\.txt: line 2 is '.*'; expected the name of a picture without folder")


def test_a_list_that_is_no_text(tmp_path: Path) -> None:
    (devkit(tmp_path) / "ImageSets/Segmentation/train.txt").write_bytes(b"\xff\xfe\x00")
    one_line(tmp_path, r"train\.txt: cannot be read as a list of names \(")


@pytest.mark.parametrize(
    "place", ["JPEGImages/2007_000039.jpg", "SegmentationClass/2007_000039.png"]
)
def test_a_listed_file_is_missing(tmp_path: Path, place: str) -> None:
    (devkit(tmp_path) / place).unlink()
    one_line(tmp_path, rf"train\.txt: lists 2007_000039, but there is no .*{place}")


def test_masks_are_missing(tmp_path: Path) -> None:
    folder = devkit(tmp_path)
    (folder / "SegmentationClass").rename(folder / "Elsewhere")
    one_line(tmp_path, r"VOC2012: has no SegmentationClass/; expected SegmentationClass/NAME\.png")


def test_a_picture_to_train_and_to_test_on(tmp_path: Path) -> None:
    devkit(tmp_path)
    match = r"1 pictures are both in trainval\.txt, to train on, and in val\.txt, .*\(2008_000007\)"
    one_line(tmp_path, match, train="trainval")


def test_a_mask_of_another_size(tmp_path: Path) -> None:
    mask(devkit(tmp_path) / "SegmentationClass/2008_000007.png", NUMBERS.T)
    one_line(tmp_path, r"000007\.png: is 2 x 3, but its picture .*000007\.jpg is 3 x 2")


def test_masks_turned_to_colours(tmp_path: Path) -> None:
    devkit(tmp_path, mode="RGB")
    one_line(
        tmp_path,
        r"000032\.png: holds colours \(mode RGB\); expected the palette PNG as VOC publishes it, "
        r"or class numbers in grey; in its colours class 1, aeroplane, is \(128, 0, 0\)",
    )


def test_masks_turned_from_colours_to_grey(tmp_path: Path) -> None:
    devkit(tmp_path, mode="L")
    one_line(tmp_path, r"000032\.png: holds colours turned grey; expected the palette PNG as VOC")


def test_a_palette_in_another_order(tmp_path: Path) -> None:
    path = devkit(tmp_path) / "SegmentationClass/2007_000032.png"
    every = voc_palette()
    image = Image.fromarray(np.array([[0, 1, 2], [1, 3, 0]], dtype=np.uint8))
    image.putpalette([every[3 * n + channel] for n in (0, 255, 15, 1) for channel in range(3)])
    image.save(path)
    one_line(tmp_path, r"000032\.png: number 1 has the colour of class 255: a PNG optimiser chang")


def test_a_palette_of_other_colours_says_nothing(tmp_path: Path) -> None:
    folder = devkit(tmp_path)
    for colours in ([0] * 768, [n // 3 for n in range(768)]):
        image = Image.fromarray(NUMBERS)
        image.putpalette(colours)
        image.save(folder / "SegmentationClass/2007_000032.png")
        target = open_task("voc-segmentation", tmp_path).dataset("train")[0][1]
        assert np.array(target).tolist() == NUMBERS.tolist()


@pytest.mark.parametrize("mode", ["P", "grey"])
def test_a_class_out_of_range(tmp_path: Path, mode: str) -> None:
    numbers = np.array([[0, 1, 21], [0, 0, 0]], dtype=np.uint8)
    mask(devkit(tmp_path) / "SegmentationClass/2007_000032.png", numbers, mode)
    one_line(tmp_path, r"000032\.png: has a pixel of class 21; expected 0 to 20, or 255 where none")


@pytest.mark.parametrize(
    "place", ["JPEGImages/2007_000032.jpg", "SegmentationClass/2007_000032.png"]
)
def test_an_unreadable_file(tmp_path: Path, place: str) -> None:
    path = devkit(tmp_path) / place
    path.write_bytes(path.read_bytes()[:-30])
    one_line(tmp_path, rf"{place}: cannot be read as an image \(")


def test_options_that_do_not_fit(tmp_path: Path) -> None:
    devkit(tmp_path)
    for value in ("../train", "a/b", "", 2012, "x\0"):
        with pytest.raises(OptionError, match=r"train=.* expected a name without"):
            open_task("voc-segmentation", tmp_path, options={"train": value})
    with pytest.raises(UnknownName, match="unknown option of the task 'year'"):
        open_task("voc-segmentation", tmp_path, options={"year": 2012})
