"""CIFAR-100's twenty tasks, from each layout it comes in, and from wrong ones."""

from __future__ import annotations

import hashlib
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tinycifar
import torchvision.datasets
from PIL import Image

from maskpack.common.errors import DataError, MaskpackError, OptionError, UnknownName
from maskpack.common.preprocess import Augment
from maskpack.packs.file import check_task_name
from maskpack.tasks import SPLIT_CIFAR100, Classification, open_task
from maskpack.tasks.classes.split_cifar100 import CLASSES, RECORD, SUPERCLASSES

FISH = "cifar100-fish"


def opened(name: str, root: Path | None = None, **options: str) -> Classification:
    task = open_task(name, root, options=options)
    assert isinstance(task, Classification)
    return task


def content(task: Classification, split: str) -> list[tuple[int, bytes]]:
    data = task.dataset(split)
    assert [label for _, label in (data[i] for i in range(len(data)))] == list(data.labels)
    return sorted((data.labels[i], data[i][0].tobytes()) for i in range(len(data)))


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tinycifar.write_folders(tmp_path_factory.mktemp("cifar") / "cifar100_org")


@pytest.fixture(scope="module")
def binary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tinycifar.write_binary(tmp_path_factory.mktemp("cifar") / "cifar-100-binary")


def write_python(root: Path, patch: pytest.MonkeyPatch) -> Path:
    """cifar-100-python/ of the same pictures, its checksums published in torchvision's place."""
    kind = torchvision.datasets.CIFAR100
    place = root / kind.base_folder
    place.mkdir(parents=True)

    def write(name: str, content: object) -> list[str]:
        (place / name).write_bytes(pickle.dumps(content))
        return [name, hashlib.md5((place / name).read_bytes()).hexdigest()]

    for split, attribute in (("train", "train_list"), ("test", "test_list")):
        found = list(tinycifar.pictures(split))
        data = np.stack([pixels.transpose(2, 0, 1).reshape(-1) for _, _, pixels in found])
        labels = [CLASSES.index(name) for _, name, _ in found]
        patch.setattr(kind, attribute, [write(split, {"data": data, "fine_labels": labels})])
    meta = write("meta", {"fine_label_names": CLASSES})
    patch.setattr(kind, "meta", {**kind.meta, "md5": meta[1]})
    return root


# ---- the table


def test_there_are_twenty_tasks_of_five_classes_each() -> None:
    assert len(SPLIT_CIFAR100) == 20 and list(SUPERCLASSES) == sorted(SUPERCLASSES)
    assert all(len(names) == 5 and list(names) == sorted(names) for names in SUPERCLASSES.values())
    assert len(set(CLASSES)) == 100
    # places of some in the published list of fine labels
    numbers = {"apple": 0, "beaver": 4, "fox": 34, "maple_tree": 47, "train": 90, "worm": 99}
    assert {name: CLASSES.index(name) for name in numbers} == numbers
    for name in SPLIT_CIFAR100:
        check_task_name(name)


# ---- the layouts


@pytest.mark.parametrize("name", [FISH, "cifar100-large_man-made_outdoor_things"])
def test_every_layout_gives_the_same_pictures(
    name: str, folders: Path, binary: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    python = write_python(tmp_path, monkeypatch)
    roots = (folders, folders.parent, binary, binary.parent, python, python / "cifar-100-python")
    tasks = [opened(name, root) for root in roots]
    for task in tasks:
        assert task.name == name and task.splits() == ("train", "test")
        assert task.classes == SUPERCLASSES[name.removeprefix("cifar100-")]
        assert task.augment == Augment("random", padding=4, hflip=0.5)
        assert [len(task.dataset(split)) for split in task.splits()] == [20, 10]
        for split in task.splits():
            assert content(task, split) == content(tasks[0], split)


def test_download_takes_the_folder_itself_where_it_is_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = write_python(tmp_path, monkeypatch) / "cifar-100-python"
    before = sorted(place.iterdir())
    task = open_task(FISH, place, download=True)
    assert isinstance(task, Classification) and len(task.dataset("train")) == 20
    assert sorted(place.iterdir()) == before


def test_without_data_the_cache_is_looked_in(
    tmp_path: Path, binary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MASKPACK_CACHE", str(tmp_path))
    with pytest.raises(DataError, match="no such folder; fetch it by --download or") as caught:
        opened(FISH)
    assert str(tmp_path / "cifar100") in str(caught.value)
    shutil.copytree(binary, tmp_path / "cifar100" / "cifar-100-binary")
    assert len(opened(FISH).dataset("train")) == 20


# ---- mean and deviation


def test_a_task_may_bring_its_own_mean_and_deviation(folders: Path, binary: Path) -> None:
    assert opened(FISH, folders).preprocess == {}
    found = [opened(FISH, root, normalise="own").preprocess for root in (folders, binary)]
    pixels = np.stack([p for s, _, p in tinycifar.pictures("train") if s == "fish"]) / 255
    assert found[0] == found[1]
    assert found[0]["mean"] == pytest.approx(pixels.mean((0, 1, 2)), abs=6e-5)
    assert found[0]["std"] == pytest.approx(pixels.std((0, 1, 2)), abs=6e-5)
    task = opened(FISH, folders, normalise="own")
    assert task.describe()["options"] == {"normalise": "own"}


# ---- wrong ones


def no_test(root: Path) -> None:
    shutil.rmtree(root / "test")


def plain_classes(root: Path) -> None:
    for split in ("train", "test"):
        for superclass in list((root / split).iterdir()):
            for folder in superclass.iterdir():
                folder.rename(root / split / folder.name)
            superclass.rmdir()


def no_trout(root: Path) -> None:
    shutil.rmtree(root / "train/fish/trout")


def one_more(root: Path) -> None:
    (root / "test/fish/eel").mkdir()
    Image.new("RGB", (32, 32)).save(root / "test/fish/eel/0.png")


def empty_class(root: Path) -> None:
    for path in (root / "train/fish/ray").iterdir():
        path.unlink()


def damaged(root: Path) -> None:
    path = next((root / "train/fish/ray").iterdir())
    path.write_bytes(path.read_bytes()[:30])


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (no_test, "has train/ and no test/; expected both"),
        (plain_classes, "no folder 'fish', found aquarium_fish, flatfish, ray, ...; expected the "),
        (no_trout, "found aquarium_fish, flatfish, ray, shark; expected a folder for each"),
        (one_more, "found aquarium_fish, eel, flatfish, ray, shark, trout; expected a folder"),
        (empty_class, "has no pictures; a class folder may not be empty"),
        (damaged, "cannot be read as an image"),
    ],
)
def test_wrong_folders_are_one_line(
    change: Callable[[Path], None], expected: str, tmp_path: Path
) -> None:
    root = tinycifar.write_folders(tmp_path / "data", ("fish",))
    change(root)
    with pytest.raises(DataError) as caught:
        content(opened(FISH, root), "train")
    line = str(caught.value)
    assert expected in line and str(root) in line and "\n" not in line


def cut_short(root: Path) -> None:
    path = root / "train.bin"
    path.write_bytes(path.read_bytes()[:-1])


def nothing(root: Path) -> None:
    (root / "test.bin").write_bytes(b"")


def no_file(root: Path) -> None:
    (root / "test.bin").unlink()


def relabelled(root: Path) -> None:
    path = root / "train.bin"
    content = bytearray(path.read_bytes())
    content[RECORD * 7 + 1] = 255
    path.write_bytes(content)


def swapped(root: Path) -> None:
    path = root / "train.bin"
    content = bytearray(path.read_bytes())
    content[RECORD * 7] += 1
    path.write_bytes(content)


def without_fish(root: Path) -> None:
    path = root / "test.bin"
    content = path.read_bytes()
    records = [content[start : start + RECORD] for start in range(0, len(content), RECORD)]
    path.write_bytes(b"".join(record for record in records if record[0] != 1))


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (cut_short, "expected records of 3074 (superclass, class, 3 x 32 x 32 pixels), so it is"),
        (nothing, "has 0 bytes; expected records of 3074"),
        (no_file, "test.bin: no such file; expected train.bin and test.bin"),
        (relabelled, "picture 7 has superclass 1 and class 255, which are not CIFAR-100's"),
        (swapped, "picture 7 has superclass 2 and class 67, which are not CIFAR-100's"),
        (without_fish, "test.bin: has no picture of fish"),
    ],
)
def test_wrong_files_are_one_line(
    change: Callable[[Path], None], expected: str, binary: Path, tmp_path: Path
) -> None:
    root = tmp_path / "data"
    shutil.copytree(binary, root)
    change(root)
    with pytest.raises(DataError) as caught:
        opened(FISH, root)
    line = str(caught.value)
    assert expected in line and str(root) in line and "\n" not in line


def test_a_pickle_that_is_not_the_published_one_is_never_opened(tmp_path: Path) -> None:
    place = tmp_path / "cifar-100-python"
    place.mkdir()

    class Harm:
        def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
            return Path.touch, (tmp_path / "harmed",)

    for name in ("train", "test", "meta"):
        (place / name).write_bytes(pickle.dumps(Harm()))
    with pytest.raises(DataError, match=r"incomplete or damaged.*md5 differs") as caught:
        opened(FISH, tmp_path)
    assert "\n" not in str(caught.value) and not (tmp_path / "harmed").exists()


@pytest.mark.parametrize("inside", ["cifar-100-binary.tar.gz", "cifar-10-batches-bin/x", ""])
def test_what_is_missing_is_told_with_where_it_is_had(inside: str, tmp_path: Path) -> None:
    if inside:
        (tmp_path / inside).parent.mkdir(exist_ok=True)
        (tmp_path / inside).touch()
    with pytest.raises(DataError) as caught:
        opened(FISH, tmp_path)
    line = str(caught.value)
    assert f"found {inside.partition('/')[0] or 'nothing'}" in line
    for part in (
        f"fetch cifar100 --to {tmp_path}",
        "--download",
        "https://www.cs.toronto.edu/~kriz/cifar.html",
    ):
        assert part in line
    assert "{train,test}/fish/CLASS/*.png" in line and "\n" not in line


def test_wrong_names_and_options_are_one_line(folders: Path) -> None:
    with pytest.raises(UnknownName, match="unknown superclass of CIFAR-100 'fisch'; did you mean"):
        open_task("cifar100-fisch", folders)
    with pytest.raises(UnknownName, match="unknown option of the task 'loss'"):
        opened(FISH, folders, loss="l2")
    with pytest.raises(OptionError, match="normalise='mine': expected one of backbone, own"):
        opened(FISH, folders, normalise="mine")
    same = np.zeros((32, 32, 3), np.uint8)
    with pytest.raises(MaskpackError, match="a colour is the same everywhere"):
        task = opened(FISH, folders, normalise="own")
        task._datasets = {"train": [(Image.fromarray(same), 0)]}  # type: ignore[dict-item]
        _ = task.preprocess
