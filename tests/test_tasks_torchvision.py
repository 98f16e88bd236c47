"""torchvision's data sets, from tiny files in the layouts their publishers use."""

from __future__ import annotations

import bz2
import dataclasses
import hashlib
import json
import pickle
import struct
import sys
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torchvision.datasets
from PIL import Image

from maskpack.common.errors import DataError
from maskpack.tasks import TORCHVISION, open_task
from maskpack.tasks.classes.torchvision_tasks import cache_folder

RNG = np.random.default_rng(0)
Patch = pytest.MonkeyPatch


def md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes()).hexdigest()


def picture(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(RNG.integers(0, 256, (6, 5, 3), dtype=np.uint8)).save(path)


def cifar(root: Path, patch: Patch, kind: str) -> None:
    """torchvision unpickles a batch only when its md5 is the published one: publish ours."""
    data_set = getattr(torchvision.datasets, kind)
    key, names = ("labels", 10) if kind == "CIFAR10" else ("fine_labels", 100)
    for attribute in ("train_list", "test_list"):
        listed = []
        for name, _ in getattr(data_set, attribute):
            path = root / data_set.base_folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            pixels = RNG.integers(0, 256, (2, 3072), dtype=np.uint8)
            path.write_bytes(pickle.dumps({"data": pixels, key: [0, names - 1]}))
            listed.append([name, md5(path)])
        patch.setattr(data_set, attribute, listed)
    meta = root / data_set.base_folder / data_set.meta["filename"]
    meta.write_bytes(pickle.dumps({data_set.meta["key"]: [f"class {i}" for i in range(names)]}))
    patch.setattr(data_set, "meta", {**data_set.meta, "md5": md5(meta)})


def cifar10(root: Path, patch: Patch) -> None:
    cifar(root, patch, "CIFAR10")


def cifar100(root: Path, patch: Patch) -> None:
    cifar(root, patch, "CIFAR100")


def mnist_like(folder: Path, splits: dict[str, str]) -> None:
    folder.mkdir(parents=True)
    for prefix in splits.values():
        images = struct.pack(">BBBBIII", 0, 0, 8, 3, 2, 28, 28) + bytes(2 * 784)
        labels = struct.pack(">BBBBI", 0, 0, 8, 1, 2) + bytes([3, 9])
        (folder / f"{prefix}-images-idx3-ubyte").write_bytes(images)
        (folder / f"{prefix}-labels-idx1-ubyte").write_bytes(labels)


def mnist(root: Path, patch: Patch) -> None:
    mnist_like(root / "MNIST/raw", {"train": "train", "test": "t10k"})


def fashion_mnist(root: Path, patch: Patch) -> None:
    mnist_like(root / "FashionMNIST/raw", {"train": "train", "test": "t10k"})


def emnist(root: Path, patch: Patch) -> None:
    prefixes = {split: f"emnist-balanced-{split}" for split in ("train", "test")}
    mnist_like(root / "EMNIST/raw", prefixes)


def usps(root: Path, patch: Patch) -> None:
    line = " ".join(f"{i}:{value:.3f}" for i, value in enumerate(np.linspace(-1, 1, 256), 1))
    for name in ("usps.bz2", "usps.t.bz2"):
        (root / name).write_bytes(bz2.compress(f"1 {line}\n10 {line}\n".encode()))


def dtd(root: Path, patch: Patch) -> None:
    for split in ("train", "val", "test"):
        names = [f"{kind}/{kind}_{split}.jpg" for kind in ("banded", "zigzagged")]
        for name in names:
            picture(root / "dtd/dtd/images" / name)
        listed = root / "dtd/dtd/labels" / f"{split}1.txt"
        listed.parent.mkdir(exist_ok=True)
        listed.write_text("\n".join(names) + "\n")


def gtsrb(root: Path, patch: Patch) -> None:
    base = root / "gtsrb"
    for sign in range(43):
        picture(base / f"GTSRB/Training/{sign:05d}/00000_00000.ppm")
    rows = ["Filename;Width;Height;Roi.X1;Roi.Y1;Roi.X2;Roi.Y2;ClassId"]
    for index, sign in enumerate((16, 42)):
        picture(base / f"GTSRB/Final_Test/Images/{index:05d}.ppm")
        rows.append(f"{index:05d}.ppm;5;6;0;0;4;5;{sign}")
    (base / "GT-final_test.csv").write_text("\n".join(rows) + "\n")


def fgvc_aircraft(root: Path, patch: Patch) -> None:
    data = root / "fgvc-aircraft-2013b/data"
    for index in range(3):
        picture(data / f"images/{index:07d}.jpg")
    (data / "variants.txt").write_text("707-320\nA300 B4\n")
    for split in ("train", "val", "test"):
        lines = "0000000 707-320\n0000001 A300 B4\n" if split == "train" else "0000002 A300 B4\n"
        (data / f"images_variant_{split}.txt").write_text(lines)


def food101(root: Path, patch: Patch) -> None:
    base = root / "food-101"
    (base / "meta").mkdir(parents=True)
    for split, number in (("train", 1), ("test", 2)):
        listed = {kind: [f"{kind}/{number}"] for kind in ("waffles", "apple_pie")}
        for names in listed.values():
            picture(base / f"images/{names[0]}.jpg")
        (base / f"meta/{split}.json").write_text(json.dumps(listed))


def oxford_iiit_pet(root: Path, patch: Patch) -> None:
    base = root / "oxford-iiit-pet"
    (base / "annotations").mkdir(parents=True)
    for split in ("trainval", "test"):
        names = [f"Abyssinian_{split}", f"yorkshire_terrier_{split}"]
        for name in names:
            picture(base / f"images/{name}.jpg")
        lines = [f"{names[0]} 1 1 1", f"{names[1]} 2 2 1"]
        (base / f"annotations/{split}.txt").write_text("\n".join(lines) + "\n")


def imagenette(root: Path, patch: Patch) -> None:
    for split in ("train", "val"):
        for wnid in ("n01440764", "n03888257"):
            picture(root / f"imagenette2/{split}/{wnid}/1.JPEG")


def country211(root: Path, patch: Patch) -> None:
    for split in ("train", "valid", "test"):
        for country in ("AD", "ZW"):
            picture(root / f"country211/{split}/{country}/1.jpg")


def rendered_sst2(root: Path, patch: Patch) -> None:
    for split in ("train", "valid", "test"):
        for kind in ("negative", "positive"):
            picture(root / f"rendered-sst2/{split}/{kind}/1.png")


def stl10(root: Path, patch: Patch) -> None:
    base = root / "stl10_binary"
    base.mkdir()
    (base / "class_names.txt").write_text("airplane\nbird\n")
    for attribute in ("train_list", "test_list"):
        listed = []
        for name, _ in getattr(torchvision.datasets.STL10, attribute):
            content = bytes([1, 2]) if name.endswith("_y.bin") else bytes(2 * 3 * 96 * 96)
            (base / name).write_bytes(content)
            listed.append([name, md5(base / name)])
        patch.setattr(torchvision.datasets.STL10, attribute, listed)


def fake_module(patch: Patch, name: str, **content: Any) -> None:
    module = ModuleType(name)
    module.__spec__ = ModuleSpec(name, None)
    vars(module).update(content)
    patch.setitem(sys.modules, name, module)


def mat_reader(patch: Patch, tables: dict[str, dict[str, Any]]) -> None:
    """scipy is an extra that tests do without: its reader is replaced by a table."""

    def loadmat(path: Any, squeeze_me: bool = False) -> dict[str, Any]:
        return tables[Path(path).name]

    fake_module(patch, "scipy")
    fake_module(patch, "scipy.io", loadmat=loadmat)
    patch.setattr(sys.modules["scipy"], "io", sys.modules["scipy.io"], raising=False)


def svhn(root: Path, patch: Patch) -> None:
    splits, tables = {}, {}
    for split, (url, name, _) in torchvision.datasets.SVHN.split_list.items():
        (root / name).write_bytes(name.encode())
        splits[split] = [url, name, md5(root / name)]
        tables[name] = {
            "X": RNG.integers(0, 256, (32, 32, 3, 2), dtype=np.uint8),
            "y": np.array([[10], [3]]),
        }
    patch.setattr(torchvision.datasets.SVHN, "split_list", splits)
    mat_reader(patch, tables)


def flowers102(root: Path, patch: Patch) -> None:
    base, files = root / "flowers-102", dict(torchvision.datasets.Flowers102._file_dict)
    for index in range(1, 7):
        picture(base / f"jpg/image_{index:05d}.jpg")
    for part in ("label", "setid"):
        (base / files[part][0]).write_bytes(part.encode())
        files[part] = (files[part][0], md5(base / files[part][0]))
    patch.setattr(torchvision.datasets.Flowers102, "_file_dict", files)
    sets = {"trnid": np.array([1, 2]), "valid": np.array([3, 4]), "tstid": np.array([5, 6])}
    labels = {"labels": np.array([1, 102, 1, 102, 1, 102])}
    mat_reader(patch, {"setid.mat": sets, "imagelabels.mat": labels})


def stanford_cars(root: Path, patch: Patch) -> None:
    base = root / "stanford_cars"
    tables: dict[str, dict[str, Any]] = {}
    for split, name in (("train", "cars_train_annos"), ("test", "cars_test_annos_withlabels")):
        picture(base / f"cars_{split}/00001.jpg")
        picture(base / f"cars_{split}/00002.jpg")
        path = base / ("devkit" if split == "train" else "") / f"{name}.mat"
        path.parent.mkdir(exist_ok=True)
        path.touch()
        rows = [{"fname": "00001.jpg", "class": 1}, {"fname": "00002.jpg", "class": 2}]
        tables[path.name] = {"annotations": rows}
    tables["cars_meta.mat"] = {"class_names": np.array(["AM General Hummer", "Acura RL"])}
    mat_reader(patch, tables)


class FakeH5(dict[str, Any]):
    """h5py.File by file name; another extra that tests do without."""

    files: dict[str, dict[str, Any]] = {}

    def __init__(self, path: Any) -> None:
        super().__init__(self.files[Path(path).name])

    def __enter__(self) -> FakeH5:
        return self

    def __exit__(self, *_: object) -> None:
        pass


def pcam(root: Path, patch: Patch) -> None:
    (root / "pcam").mkdir()
    for files in torchvision.datasets.PCAM._FILES.values():
        images, targets = files["images"][0], files["targets"][0]
        FakeH5.files[images] = {"x": RNG.integers(0, 256, (2, 96, 96, 3), dtype=np.uint8)}
        FakeH5.files[targets] = {"y": np.array([0, 1]).reshape(2, 1, 1, 1)}
        for name in (images, targets):
            (root / "pcam" / name).touch()
    fake_module(patch, "h5py", File=FakeH5)


# maker, classes, labels of test
MADE: dict[str, tuple[Callable[[Path, Patch], None], int, list[int]]] = {
    "cifar10": (cifar10, 10, [0, 9]),
    "cifar100": (cifar100, 100, [0, 99]),
    "country211": (country211, 2, [0, 1]),
    "dtd": (dtd, 2, [0, 1]),
    "emnist": (emnist, 47, [3, 9]),
    "fashion_mnist": (fashion_mnist, 10, [3, 9]),
    "fgvc_aircraft": (fgvc_aircraft, 2, [1]),
    "flowers102": (flowers102, 102, [0, 101]),
    "food101": (food101, 2, [1, 0]),
    "gtsrb": (gtsrb, 43, [16, 42]),
    "imagenette": (imagenette, 2, [0, 1]),
    "mnist": (mnist, 10, [3, 9]),
    "oxford_iiit_pet": (oxford_iiit_pet, 2, [0, 1]),
    "pcam": (pcam, 2, [0, 1]),
    "rendered_sst2": (rendered_sst2, 2, [0, 1]),
    "stanford_cars": (stanford_cars, 2, [0, 1]),
    "stl10": (stl10, 2, [0, 1]),
    "svhn": (svhn, 10, [0, 3]),
    "usps": (usps, 10, [0, 9]),
}


def test_every_name_is_tried_here() -> None:
    assert set(TORCHVISION) - set(MADE) == {"kmnist"}  # MNIST's files under another name


@pytest.mark.parametrize("name", MADE)
def test_published_files_give_a_task(name: str, tmp_path: Path, monkeypatch: Patch) -> None:
    make, classes, labels = MADE[name]
    make(tmp_path, monkeypatch)
    task = open_task(name, tmp_path)
    assert (task.name, task.outputs()) == (name, classes)
    assert set(task.splits()) == set(TORCHVISION[name].splits)
    test = task.dataset("test")
    assert list(test.labels) == labels
    image, label = test[len(test) - 1]
    assert (image.mode, label) == ("RGB", labels[-1])
    json.dumps(task.describe())


def test_class_names_come_from_the_data(tmp_path: Path, monkeypatch: Patch) -> None:
    cifar10(tmp_path, monkeypatch)
    assert open_task("cifar10", tmp_path).describe()["classes"] == [f"class {i}" for i in range(10)]


def test_other_spelling(tmp_path: Path, monkeypatch: Patch) -> None:
    fashion_mnist(tmp_path, monkeypatch)
    task = open_task("FashionMNIST", tmp_path)
    assert (task.name, task.outputs()) == ("FashionMNIST", 10)


def test_files_are_looked_for_in_the_cache(tmp_path: Path, monkeypatch: Patch) -> None:
    monkeypatch.setenv("MASKPACK_CACHE", str(tmp_path))
    (tmp_path / "mnist").mkdir()
    mnist(tmp_path / "mnist", monkeypatch)
    assert len(open_task("mnist").dataset("train")) == 2


def test_cache_folder(monkeypatch: Patch) -> None:
    monkeypatch.delenv("MASKPACK_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", "/x")
    assert cache_folder("dtd") == Path("/x/maskpack/dtd")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder("dtd") == Path.home() / ".cache/maskpack/dtd"


def one_line(name: str, root: Path | None, match: str, download: bool = False) -> None:
    with pytest.raises(DataError, match=match) as caught:
        open_task(name, root, download)
    assert "\n" not in str(caught.value)


def test_missing_files_in_the_cache(tmp_path: Path, monkeypatch: Patch) -> None:
    monkeypatch.setenv("MASKPACK_CACHE", str(tmp_path))
    place = tmp_path / "cifar10/cifar-10-batches-py"
    expected = f"files are not in {place}; add --download, or put them there$"
    one_line("cifar10", None, expected)


def test_missing_files_in_a_folder(tmp_path: Path) -> None:
    one_line("dtd", tmp_path, r"/dtd; add --download, or put them there \(or lay .* out as train")
    one_line("usps", tmp_path, r"/usps\.bz2; add --download")


def test_data_that_nobody_serves(tmp_path: Path, monkeypatch: Patch) -> None:
    entry = TORCHVISION["country211"]
    monkeypatch.setitem(TORCHVISION, "country211", dataclasses.replace(entry, downloads=False))
    one_line("country211", tmp_path, "they cannot be fetched, put them there", download=True)


def test_damaged_files(tmp_path: Path, monkeypatch: Patch) -> None:
    cifar10(tmp_path, monkeypatch)
    (tmp_path / "cifar-10-batches-py/test_batch").write_bytes(b"\x80harm")
    one_line("cifar10", tmp_path, r"incomplete or damaged \(torchvision misses.*; add --download")


def test_missing_test_split_shows_at_once(tmp_path: Path, monkeypatch: Patch) -> None:
    gtsrb(tmp_path, monkeypatch)
    (tmp_path / "gtsrb/GT-final_test.csv").unlink()
    one_line("gtsrb", tmp_path, "the files of test in .* are incomplete or damaged")


def test_missing_reader(tmp_path: Path, monkeypatch: Patch) -> None:
    monkeypatch.setitem(sys.modules, "scipy", None)
    one_line("svhn", tmp_path, "needs the package scipy; run `pip install scipy`")


def test_failed_download(tmp_path: Path, monkeypatch: Patch, capsys: Any) -> None:
    def offline(*args: Any, split: str, download: bool) -> None:
        assert download
        print("Downloading")
        raise OSError("no route\nto host")

    monkeypatch.setattr(torchvision.datasets, "Food101", offline)
    expected = r"not be fetched \(no route to host\); put its files in .*food-101"
    one_line("food101", tmp_path / "new", expected, download=True)
    assert capsys.readouterr().out == ""


def test_damaged_picture_is_named(tmp_path: Path, monkeypatch: Patch) -> None:
    dtd(tmp_path, monkeypatch)
    (tmp_path / "dtd/dtd/images/banded/banded_test.jpg").write_bytes(b"no")
    with pytest.raises(DataError, match=r"task 'dtd', test: picture 0 cannot be read: .*banded"):
        open_task("dtd", tmp_path).dataset("test")[0]
