"""The decathlon's tasks on a few pictures in the published layout, and on what is not."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tinydecathlon import CLASSES, write_decathlon, write_json

from maskpack.common.errors import DataError, OptionError, UnknownName
from maskpack.common.preprocess import Augment
from maskpack.datasets.decathlon import TASKS
from maskpack.packs.file import check_task_name
from maskpack.tasks import DECATHLON, KNOWN, open_task
from maskpack.tasks.classes.decathlon import category_id, pictures_of


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_decathlon(tmp_path_factory.mktemp("whole"))


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """One task, to be spoilt."""
    return write_decathlon(tmp_path / "decathlon", "dtd")


def light(picture: Any) -> bool:
    return bool(np.asarray(picture).mean() > 120)


def test_there_are_ten_tasks_with_names_that_packs_can_have() -> None:
    assert len(DECATHLON) == 10 and {*DECATHLON} <= {*KNOWN}
    for name, task in DECATHLON.items():
        check_task_name(name)
        assert name == f"decathlon-{task}"


@pytest.mark.parametrize("task", TASKS)
def test_every_task_opens(whole: Path, task: str) -> None:
    opened = open_task(f"decathlon-{task}", whole)
    assert (opened.name, opened.outputs()) == (f"decathlon-{task}", 2)
    assert opened.splits() == ("train", "test")
    signs = task in ("gtsrb", "omniglot", "svhn")
    assert opened.augment == (Augment("center", hflip=0.0) if signs else Augment("random"))


def test_classes_are_counted_by_category_id_and_not_by_folder(whole: Path) -> None:
    opened = open_task("decathlon-ucf101", whole)
    assert opened.describe()["classes"] == list(CLASSES)
    train = opened.dataset("train")
    assert train.labels == [0, 1, 0, 1]
    for index, label in enumerate(train.labels):
        picture, target = train[index]
        assert (light(picture), target) == (bool(label), label)
        assert min(picture.size) == 72
    assert category_id("ucf101", 1) == 90_000_002


def test_without_labels_of_the_test_pictures_val_is_tested_on(whole: Path, tmp_path: Path) -> None:
    opened = open_task("decathlon-dtd", whole)
    assert opened.describe()["tested on"] == "val"
    assert len(opened.dataset("train")) == 4 and len(opened.dataset("test")) == 2
    labelled = open_task("decathlon-dtd", write_decathlon(tmp_path, "dtd", labelled=True))
    assert labelled.splits() == ("train", "val", "test")
    assert labelled.describe()["tested on"] == "test"
    picture, target = labelled.dataset("test")[1]
    assert (light(picture), target) == (True, 1)


def test_pictures_without_labels_have_their_ids(whole: Path) -> None:
    found = pictures_of(whole, "aircraft", "test_stripped")
    assert found.ids == [10_000_507, 10_000_508]
    assert [Path(path).relative_to(whole).as_posix() for path in found.paths] == [
        "data/aircraft/test/000001.jpg",
        "data/aircraft/test/000002.jpg",
    ]


def spoil(change: Callable[[dict[str, Any]], None], split: str = "train") -> Callable[[Path], None]:
    def spoilt(place: Path) -> None:
        path = place / "annotations" / f"dtd_{split}.json"
        document = json.loads(path.read_text())
        change(document)
        write_json(path, document)

    return spoilt


def first(kind: str, **values: Any) -> Callable[[Path], None]:
    return spoil(lambda document: document[kind][0].update(values))


WRONG: list[tuple[str, Callable[[Path], None], str]] = [
    (
        "no annotations",
        lambda place: shutil.rmtree(place / "annotations"),
        r"dtd_train.json: no such file; expected annotations/dtd_\*.json and data/dtd/ in it: "
        r"unpack decathlon-1.0-devkit.tar.gz there and decathlon-1.0-data.tar.gz and dtd.tar out "
        r"of it in its data/, from https://www.robots.ox.ac.uk/~vgg/decathlon/",
    ),
    (
        "pictures not unpacked",
        lambda place: shutil.rmtree(place / "data" / "dtd"),
        r"data/dtd/train: no such folder; .* dtd.tar",
    ),
    (
        "pictures beside annotations",
        lambda place: (place / "data" / "dtd").rename(place / "dtd"),
        r"data/dtd/train: no such folder; expected .*data/dtd/ in it",
    ),
    (
        "a picture missing",
        lambda place: (place / "data/dtd/val/0001/000002.jpg").unlink(),
        r"dtd_val.json: lists 'data/dtd/val/0001/000002.jpg', which is not in .*; unpack dtd.tar",
    ),
    ("no json", lambda p: (p / "annotations/dtd_val.json").write_text("{"), "is no json"),
    ("a list", lambda p: (p / "annotations/dtd_val.json").write_text("[]"), "is not as COCO's"),
    ("a file elsewhere", first("images", file_name="../../secret.jpg"), "lists '../../secret.jpg'"),
    ("a file above", first("images", file_name="data/dtd/train/../val/0001/000002.jpg"), "lists "),
    ("an id twice", first("images", id=40_000_502), r"images\[1\]: id 40000502 is that of another"),
    ("no name", first("images", file_name=None), r"images\[0\]: 'file_name' is missing"),
    (
        "labels from 0",
        first("categories", id=40_000_000),
        r"category id 40000000; expected 4000000",
    ),
    ("another task", first("categories", id=10_000_001), "category id 10000001; expected 40000001"),
    ("unknown label", first("annotations", category_id=40_000_003), "category_id 40000003 is not"),
    ("unknown picture", first("annotations", image_id=7), r"annotations\[0\]: image_id 7 is not"),
    ("two labels", first("annotations", image_id=40_000_502), "has a class already"),
    ("stripped", spoil(lambda d: d.update(annotations=[])), "_stripped.json under another name"),
    ("no pictures", spoil(lambda d: d.update(images=[])), "lists no images"),
    (
        "other classes in val",
        spoil(lambda d: d["categories"][0].update(name="zebra"), "val"),
        "dtd_val.json: has other categories than dtd_train.json",
    ),
]


@pytest.mark.parametrize(("damage", "message"), [w[1:] for w in WRONG], ids=[w[0] for w in WRONG])
def test_a_layout_that_is_wrong_gets_one_clear_line(
    place: Path, damage: Callable[[Path], Any], message: str
) -> None:
    damage(place)
    with pytest.raises(DataError, match=message) as told:
        open_task("decathlon-dtd", place)
    assert "\n" not in str(told.value)


def test_what_is_missing_is_said_with_where_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no --data DIR; expected annotations/svhn_"):
        open_task("decathlon-svhn")
    with pytest.raises(DataError, match=r"no folder .*nowhere.*decathlon-1.0-devkit"):
        open_task("decathlon-svhn", tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"the pictures of imagenet12 \(a download of their own\)"):
        open_task("decathlon-imagenet12", tmp_path)
    with pytest.raises(OptionError, match="is classification, which has no 'loss' to set"):
        open_task("decathlon-svhn", options={"loss": "l2"})
    with pytest.raises(UnknownName, match="did you mean 'decathlon-aircraft'"):
        open_task("decathlon-aircrafts")
