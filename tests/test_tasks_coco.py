"""coco-segmentation on a few pixels laid out as COCO is, and on what is not."""

from __future__ import annotations

import copy
import importlib.util
import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as runs
from pycocotools.coco import COCO

from maskpack.common.errors import DataError, OptionError
from maskpack.tasks import described_task, open_task

WIDTH, HEIGHT = 6, 4
# ids have gaps and stand in no order
THINGS = [{"id": 90, "name": "toothbrush"}, {"id": 1, "name": "person"}, {"id": 18, "name": "dog"}]
STUFF = [*THINGS, {"id": 200, "name": "rug-merged"}]
PIXELS = np.zeros((HEIGHT, WIDTH), dtype=np.uint8)
CROWD = PIXELS.copy()
CROWD[:, 5] = 1


def square(x: int, y: int, size: int) -> list[float]:
    return [x, y, x + size, y, x + size, y + size, x, y + size]


def rle(mask: np.ndarray) -> dict[str, Any]:
    """Run lengths as COCO's json has them for crowds: columns first, zeros first."""
    pixels = [0, *mask.T.ravel().tolist(), 2]
    edges = [n for n in range(1, len(pixels)) if pixels[n] != pixels[n - 1]]
    counts = [after - before for before, after in zip([1, *edges], edges, strict=False)]
    return {"size": list(mask.shape), "counts": counts}


def packed(mask: np.ndarray) -> dict[str, Any]:
    found = runs.encode(np.asfortranarray(mask))
    return {"size": found["size"], "counts": found["counts"].decode()}


def thing(category: int, segmentation: Any, crowd: int = 0, picture: int = 9) -> dict[str, Any]:
    return {
        "id": 1,
        "image_id": picture,
        "category_id": category,
        "segmentation": segmentation,
        "iscrowd": crowd,
    }


def image(number: int) -> dict[str, Any]:
    name = f"{number:012}.jpg"
    return {"id": number, "file_name": name, "width": WIDTH, "height": HEIGHT}


INSTANCES = {
    "info": {},
    "images": [image(9), image(25)],
    "categories": THINGS,
    "annotations": [
        thing(1, [square(1, 1, 2)]),
        thing(90, [square(0, 0, 4)]),
        thing(18, rle(CROWD), crowd=1),
    ],
}


def coco(root: Path, change: Callable[[Any], None] = lambda json_: None, **parts: Any) -> Path:
    """annotations/instances_{train,val}2017.json and pictures; `change` is done to train's json."""
    for split, numbers in {"train": (9, 25), "val": (9,)}.items():
        (root / f"{split}2017").mkdir(parents=True)
        for number in numbers:
            picture = Image.new("RGB", (WIDTH, HEIGHT), (10, 20, 30))
            picture.save(root / f"{split}2017" / f"{number:012}.jpg")
        made = copy.deepcopy(INSTANCES) | parts
        made["images"] = [image(number) for number in numbers]
        if split == "train":
            change(made)
        written(root, f"instances_{split}2017.json", made)
    return root


def written(root: Path, name: str, made: Any) -> None:
    (root / "annotations").mkdir(exist_ok=True)
    (root / "annotations" / name).write_text(json.dumps(made), encoding="utf-8")


def target(root: Path, index: int = 0, **options: str) -> list[list[int]]:
    data = open_task("coco-segmentation", root, options=options).dataset("train")
    return np.array(data[index][1]).tolist()


def drawn(root: Path, *things: dict[str, Any]) -> list[list[int]]:
    return target(coco(root, annotations=list(things)))


# ---- instances


def test_instances_as_published(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    task = open_task("coco-segmentation", coco(tmp_path))
    assert task.describe() == {
        "name": "coco-segmentation",
        "kind": "coco-segmentation",
        "metric": "mIoU",
        "lower is better": False,
        "options": {"loss": "ce", "labels": "instances", "year": 2017},
        "classes": ["background", "person", "dog", "toothbrush"],
    }
    assert task.splits() == ("train", "test")
    data = task.dataset("train")
    assert (len(data), list(data.labels), len(task.dataset("test"))) == (2, [0, 0], 1)
    picture, numbers = pickle.loads(pickle.dumps(data))[0]
    assert (picture.mode, picture.size, numbers.mode) == ("RGB", (WIDTH, HEIGHT), "L")
    assert np.array(numbers).tolist() == [
        [3, 3, 3, 3, 0, 255],
        [3, 1, 1, 3, 0, 255],
        [3, 1, 1, 3, 0, 255],
        [3, 3, 3, 3, 0, 255],
    ]
    assert np.array(data[1][1]).max() == 0, "a picture without things is background"
    assert described_task(task.describe()).describe() == task.describe()
    assert capfd.readouterr() == ("", "")


def test_the_smaller_lies_above_and_of_equals_the_later(tmp_path: Path) -> None:
    small, large = [square(1, 1, 1)], [square(0, 0, 3)]
    for place, order in enumerate(([small, large], [large, small])):
        shapes = [thing(1 if shape is small else 18, shape) for shape in order]
        assert drawn(tmp_path / str(place), *shapes)[1][:4] == [2, 1, 2, 0]
    assert drawn(tmp_path / "3", thing(1, small), thing(18, small))[1][1] == 2
    assert drawn(tmp_path / "4", thing(18, small), thing(1, small))[1][1] == 1


def test_a_crowd_lies_below_things(tmp_path: Path) -> None:
    found = drawn(tmp_path, thing(1, [square(4, 0, 2)]), thing(18, rle(CROWD), crowd=1))
    assert [row[4:] for row in found] == [[1, 1], [1, 1], [0, 255], [0, 255]]


@pytest.mark.parametrize("form", [rle, packed])
def test_run_lengths_in_both_forms(tmp_path: Path, form: Callable[[np.ndarray], Any]) -> None:
    mask = np.random.default_rng(0).integers(0, 2, (HEIGHT, WIDTH)).astype(np.uint8)
    assert drawn(tmp_path, thing(1, form(mask))) == mask.tolist()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of pycocotools' arrays, by numpy 2
def test_shapes_are_what_pycocotools_draws(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    shapes = [[rng.uniform(0, 4, 10).round(2).tolist(), square(4, 1, 2)] for _ in range(8)]
    root = coco(tmp_path, annotations=[thing(1, shape) for shape in shapes])
    reader = COCO()
    reader.imgs = {9: image(9)}
    expected = sum(reader.annToMask(thing(1, shape)) for shape in shapes) > 0
    assert target(root) == expected.astype(int).tolist()
    assert 0 < expected.sum() < expected.size


def test_a_shape_of_two_corners_covers_nothing(tmp_path: Path) -> None:
    assert np.max(drawn(tmp_path, thing(1, [[1, 1, 3, 3]]), thing(1, []))) == 0


# ---- panoptic


def panoptic(root: Path, folder: str = "annotations", change: Any = lambda json_: None) -> Path:
    """annotations/panoptic_{train,val}2017.json beside coco()'s, and their PNGs in `folder`."""
    coco(root)
    large = 300 + 256**2  # R, G and B all count
    ids = np.array([[0, 7, 7, large, large, 300]] * HEIGHT)
    rgb = np.stack([ids % 256, ids // 256 % 256, ids // 256**2], axis=2).astype(np.uint8)
    for split, number in (("train", 25), ("val", 9)):
        inner = root / folder / f"panoptic_{split}2017"
        inner.mkdir(parents=True)
        Image.fromarray(rgb).save(inner / f"{number:012}.png")
        segments = [
            {"id": 300, "category_id": 18, "iscrowd": 0},
            {"id": large, "category_id": 1, "iscrowd": 1},
            {"id": 7, "category_id": 200, "iscrowd": 0},
        ]
        record = {"image_id": number, "file_name": f"{number:012}.png", "segments_info": segments}
        made = {"images": [image(number)], "categories": STUFF, "annotations": [record]}
        if split == "train":
            change(made)
        written(root, f"panoptic_{split}2017.json", made)
    return root


@pytest.mark.parametrize("folder", ["annotations", ""])
def test_panoptic_as_published(tmp_path: Path, folder: str) -> None:
    task = open_task(
        "coco-segmentation", panoptic(tmp_path, folder), options={"labels": "panoptic"}
    )
    assert task.classes == ("person", "dog", "toothbrush", "rug-merged")  # type: ignore[attr-defined]
    assert [len(task.dataset(split)) for split in task.splits()] == [1, 1]
    data = pickle.loads(pickle.dumps(task.dataset("train")))
    assert list(data.labels) == [0]
    picture, numbers = data[0]
    assert (picture.mode, picture.size, numbers.mode) == ("RGB", (WIDTH, HEIGHT), "L")
    assert np.array(numbers).tolist() == [[255, 3, 3, 0, 0, 1]] * HEIGHT
    assert described_task(task.describe()).describe() == task.describe()


def test_panoptic_needs_no_pycocotools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    panoptic(tmp_path)
    without_pycocotools(monkeypatch)
    assert target(tmp_path, labels="panoptic")[0] == [255, 3, 3, 0, 0, 1]
    match = r"needs pycocotools: pip install 'maskpack\[coco\]'"
    with pytest.raises(OptionError, match=match):
        open_task("coco-segmentation", tmp_path)


def without_pycocotools(monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.util.find_spec
    missing = lambda name: None if name == "pycocotools" else real(name)  # noqa: E731
    monkeypatch.setattr("maskpack.tasks.dense.coco.find_spec", missing)


# ---- what is wrong with a folder


def one_line(root: Path, match: str, labels: str = "instances") -> None:
    with pytest.raises(DataError, match=match) as caught:
        task = open_task("coco-segmentation", root, options={"labels": labels})
        for split in task.splits():
            for index in range(len(task.dataset(split))):
                task.dataset(split)[index]
    assert "\n" not in str(caught.value)


def test_no_folder_given() -> None:
    with pytest.raises(DataError, match=r"needs a folder with annotations/, .*: --data DIR"):
        open_task("coco-segmentation")


def test_no_such_folder(tmp_path: Path) -> None:
    one_line(tmp_path / "nowhere", r"task 'coco-segmentation': no folder '.*nowhere'")


@pytest.mark.parametrize("split", ["train", "val"])
def test_a_json_is_missing(tmp_path: Path, split: str) -> None:
    name = f"instances_{split}2017.json"
    (coco(tmp_path) / "annotations" / name).unlink()
    one_line(tmp_path, rf"annotations/{name}: no such file; expected COCO's annotations there")


def test_another_year(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"annotations/instances_train2014\.json: no such file"):
        open_task("coco-segmentation", coco(tmp_path), options={"year": "2014"})


def test_pictures_are_missing(tmp_path: Path) -> None:
    (coco(tmp_path) / "val2017").rename(tmp_path / "pictures")
    one_line(tmp_path, r"val2017: no such folder; expected the pictures of instances_val2017\.json")


def test_a_listed_picture_is_missing(tmp_path: Path) -> None:
    (coco(tmp_path) / "train2017/000000000025.jpg").unlink()
    one_line(tmp_path, r"train2017\.json: lists '000000000025\.jpg', which is not in .*train2017$")


@pytest.mark.parametrize("text", [b"", b'{"images": [', b"\xff\xfe", b"[" * 100_000])
def test_a_broken_json(tmp_path: Path, text: bytes) -> None:
    (coco(tmp_path) / "annotations/instances_train2017.json").write_bytes(text)
    one_line(tmp_path, r"train2017\.json: is no json \(.*\); it is damaged or cut short")


def delete(*path: Any) -> Callable[[Any], None]:
    def change(made: Any) -> None:
        for step in path[:-1]:
            made = made[step]
        del made[path[-1]]

    return change


def put(value: Any, *path: Any) -> Callable[[Any], None]:
    def change(made: Any) -> None:
        for step in path[:-1]:
            made = made[step]
        made[path[-1]] = value

    return change


BROKEN = [
    (delete("images"), r"json: 'images' is missing; is it a json of COCO's of this kind\?"),
    (delete("annotations"), r"json: 'annotations' is missing"),
    (delete("categories"), r"json: 'categories' is missing"),
    (put({}, "annotations"), r"json: 'annotations' is \{\}"),
    (put([], "images"), r"json: lists no images"),
    (put(7, "images", 1), r"json: images\[1\]: is 7, no record"),
    (delete("images", 1, "file_name"), r"images\[1\]: 'file_name' is missing"),
    (put("6", "images", 0, "width"), r"images\[0\]: 'width' is '6'"),
    (put(True, "categories", 0, "id"), r"categories\[0\]: 'id' is True"),
    (delete("annotations", 1, "category_id"), r"annotations\[1\]: 'category_id' is missing"),
    (delete("annotations", 0, "segmentation"), r"annotations\[0\]: 'segmentation' is missing"),
    (put(2, "annotations", 0, "category_id"), r"annotations\[0\]: category_id 2 is not among the"),
    (put(8, "annotations", 2, "image_id"), r"annotations\[2\]: image_id 8 is not among the images"),
    (put("brush", "categories", 0, "name"), r"val2017\.json: has other categories than .*train"),
    (put(7, "images", 0, "height"), r"entry in .*json: is 6 x 7, but its picture .*jpg is 6 x 4"),
]


@pytest.mark.parametrize(("change", "match"), BROKEN)
def test_a_json_that_is_not_as_cocos(
    tmp_path: Path, change: Callable[[Any], None], match: str
) -> None:
    one_line(coco(tmp_path, change), match)


@pytest.mark.parametrize("text", ["[]", "7"])
def test_a_json_of_no_record(tmp_path: Path, text: str) -> None:
    (coco(tmp_path) / "annotations/instances_train2017.json").write_text(text, encoding="utf-8")
    one_line(tmp_path, r"json: is not as COCO's; expected images, annotations, categories")


@pytest.mark.parametrize(
    ("shape", "reason"),
    [
        (["a"], "it is neither polygons nor run lengths"),
        ([["a"] * 6], "could not convert string to float"),
        ([[1, 2, 3, float("nan"), 5, 6]], "a corner lies far outside the picture"),
        ([[1, 2, 3, 1e9, 5, 6]], "a corner lies far outside the picture"),
        ({"counts": [1]}, "'size'"),
        ({"size": [6, 4], "counts": [24]}, r"it is \[6, 4\] high and wide, the picture \[4, 6\]"),
        ({"size": [4, 6], "counts": [2, 3]}, "its runs are 5 pixels, not 24"),
        ({"size": [4, 6], "counts": [30, -6]}, "its runs are 24 pixels, not 24"),
        ({"size": [4, 6], "counts": "abc"}, "Invalid RLE"),
        (7, "it is neither polygons nor run lengths"),
    ],
)
def test_a_shape_that_is_none(tmp_path: Path, shape: Any, reason: str) -> None:
    root = coco(tmp_path, annotations=[thing(1, shape)])
    one_line(root, rf"jpg: a segmentation cannot be drawn \({reason}")


def test_an_unreadable_picture(tmp_path: Path) -> None:
    path = coco(tmp_path) / "train2017/000000000009.jpg"
    path.write_bytes(path.read_bytes()[:-30])
    one_line(tmp_path, r"000000000009\.jpg: cannot be read as an image \(")


def png(root: Path) -> Path:
    return root / "annotations/panoptic_train2017/000000000025.png"


def test_pngs_are_missing(tmp_path: Path) -> None:
    folder = png(panoptic(tmp_path)).parent
    folder.rename(folder.with_name("elsewhere"))
    one_line(
        tmp_path,
        r"panoptic_train2017: no such folder; expected the PNGs of panoptic_train2017\.json",
        "panoptic",
    )
    folder.with_suffix(".zip").write_bytes(b"PK")
    one_line(tmp_path, r"no such folder; unpack .*panoptic_train2017\.zip$", "panoptic")


def test_a_listed_png_is_missing(tmp_path: Path) -> None:
    png(panoptic(tmp_path)).unlink()
    one_line(tmp_path, r"json: lists '000000000025\.png', which is not in .*panop", "panoptic")


def test_a_png_of_another_size(tmp_path: Path) -> None:
    Image.new("RGB", (5, 4)).save(png(panoptic(tmp_path)))
    one_line(tmp_path, r"025\.png: is 5 x 4, but its picture .*025\.jpg is 6 x 4", "panoptic")


def test_a_png_of_another_kind(tmp_path: Path) -> None:
    Image.new("P", (6, 4)).save(png(panoptic(tmp_path)))
    one_line(tmp_path, r"025\.png: is a PNG of mode P; expected an RGB PNG", "panoptic")


def test_an_unreadable_png(tmp_path: Path) -> None:
    path = png(panoptic(tmp_path))
    path.write_bytes(path.read_bytes()[:50])
    one_line(tmp_path, r"025\.png: cannot be read as an image \(", "panoptic")


@pytest.mark.parametrize("number", [6, 301, 256**3 - 1])
def test_a_segment_that_the_json_does_not_know(tmp_path: Path, number: int) -> None:
    colour = (number % 256, number // 256 % 256, number // 256**2)
    Image.new("RGB", (6, 4), colour).save(png(panoptic(tmp_path)))
    one_line(tmp_path, rf"025\.png: segment {number} is not in its segments_info", "panoptic")


SEGMENTS = ("annotations", 0, "segments_info")
BROKEN_PANOPTIC = [
    (delete(*SEGMENTS), r"annotations\[0\]: 'segments_info' is missing"),
    (put([3], *SEGMENTS), r"annotations\[0\]: segments_info\[0\]: is 3, no record"),
    (delete(*SEGMENTS, 1, "id"), r"annotations\[0\]: segments_info\[1\]: 'id' is missing"),
    (put(5, *SEGMENTS, 2, "category_id"), r"segments_info\[2\]: category_id 5 is not among the"),
    (put(8, "annotations", 0, "image_id"), r"annotations\[0\]: image_id 8 is not among the images"),
    (put([], "annotations"), r"json: has no annotations"),
]


@pytest.mark.parametrize(("change", "match"), BROKEN_PANOPTIC)
def test_a_panoptic_json_that_is_not_as_cocos(
    tmp_path: Path, change: Callable[[Any], None], match: str
) -> None:
    one_line(panoptic(tmp_path, change=change), match, "panoptic")


def test_instances_given_as_panoptic(tmp_path: Path) -> None:
    panoptic(tmp_path)
    for split in ("train", "val"):
        written(tmp_path, f"panoptic_{split}2017.json", INSTANCES | {"images": [image(9)]})
    one_line(tmp_path, r"annotations\[0\]: 'file_name' is missing; is it a json of", "panoptic")


def test_labels_of_no_kind(tmp_path: Path) -> None:
    match = "labels='stuff': expected one of instances, panoptic"
    with pytest.raises(OptionError, match=match):
        open_task("coco-segmentation", coco(tmp_path), options={"labels": "stuff"})
