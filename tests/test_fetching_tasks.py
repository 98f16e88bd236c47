"""Data sets by name, from a server on this machine to a task that trains."""

from __future__ import annotations

import hashlib
import io
import json
import os
import pickle
import subprocess
import sys
import tarfile
import time
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torchvision.datasets
from originals import ORIGINALS, picture, written
from processes import run_here
from shell import ROOT
from webserver import Site, serving

from maskpack.common.errors import DataError, OptionError, UnknownName
from maskpack.datasets import BY_HAND, SOURCES, fetch_task
from maskpack.datasets import fetch as tasks
from maskpack.datasets.fetch import LOCK
from maskpack.datasets.progress import Watch
from maskpack.datasets.sources import File, Source
from maskpack.tasks import TORCHVISION, open_task

Patch = pytest.MonkeyPatch
BIRDS = 6  # pictures of the tiny original


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: Patch) -> Path:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setenv("MASKPACK_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def site() -> Iterator[Site]:
    with serving() as found:
        yield found


def tgz(folder: Path, *names: str) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz", compresslevel=0) as archive:
        for name in names:
            archive.add(folder / name, name)
    return file.getvalue()


def zipped(folder: Path) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for path in folder.rglob("*"):
            archive.write(path, path.relative_to(folder))
    return file.getvalue()


def published(site: Site, patch: Patch, name: str, files: dict[str, bytes]) -> None:
    """Let a data set's files be those given, at their publisher's paths on the site."""
    site.files |= files
    source = SOURCES[name]
    ours = tuple(
        replace(
            file,
            url=f"{site.url}/files/{file.name}?download=1",
            md5=file.md5 and hashlib.md5(files[file.name]).hexdigest(),
            size=file.size and len(files[file.name]),
        )
        for file in source.files
    )
    patch.setitem(SOURCES, name, replace(source, files=ours))


def birds(site: Site, patch: Patch, folder: Path) -> None:
    """CUB's archive has a file beside its folder."""
    original = ORIGINALS["cubs"](folder / "made")
    (original / "attributes.txt").touch()
    content = tgz(original, "attributes.txt", "CUB_200_2011")
    published(site, patch, "cubs", {"CUB_200_2011.tgz": content})


def drawings(site: Site, patch: Patch, folder: Path) -> None:
    content = zipped(ORIGINALS["sketch"](folder / "made"))
    published(site, patch, "sketch", {"sketches_png.zip": content})


def flowers(site: Site, patch: Patch, folder: Path, name: str = "flowers") -> None:
    original = ORIGINALS["flowers"](folder / "made")
    files = {file: (original / file).read_bytes() for file in ("imagelabels.mat", "setid.mat")}
    published(site, patch, name, {"102flowers.tgz": tgz(original, "jpg"), **files})


# ---- the table


def test_files_are_those_of_torchvision() -> None:
    data = torchvision.datasets
    flowers102 = [data.Flowers102._file_dict[part] for part in ("image", "label", "setid")]
    prefix = data.Flowers102._download_url_prefix
    expected = {
        "cifar10": [(data.CIFAR10.url, data.CIFAR10.tgz_md5)],
        "cifar100": [(data.CIFAR100.url, data.CIFAR100.tgz_md5)],
        "dtd": [(data.DTD._URL, data.DTD._MD5)],
        "fgvc_aircraft": [(data.FGVCAircraft._URL, SOURCES["fgvc_aircraft"].files[0].md5)],
        "flowers102": [(prefix + file, md5) for file, md5 in flowers102],
        "oxford_iiit_pet": list(data.OxfordIIITPet._RESOURCES),
        "svhn": [
            (data.SVHN.split_list[s][0], data.SVHN.split_list[s][2]) for s in ("train", "test")
        ],
    }
    found = {
        name: [(file.url, file.md5) for file in source.files]
        for name, source in SOURCES.items()
        if not source.prepared
    }
    assert found == expected


def test_files_are_named_and_belong_where_they_are_looked_for() -> None:
    for name, source in SOURCES.items():
        assert len({file.name for file in source.files}) == len(source.files)
        if name in TORCHVISION:
            places = [Path(source.folder) / (file.makes or file.name) for file in source.files]
            wanted = Path(TORCHVISION[name].folder)
            assert wanted in {*places, *(place.parent for place in places)}
    assert SOURCES["cubs"].files[0].name == "CUB_200_2011.tgz"
    assert not SOURCES.keys() & BY_HAND.keys()


def test_a_mirror_has_the_same_files() -> None:
    files = SOURCES["flowers"].at("https://example.org/copies/").files
    assert [file.url for file in files][1] == "https://example.org/copies/imagelabels.mat"
    assert [file.md5 for file in files] == [file.md5 for file in SOURCES["flowers"].files]


# ---- from a server to a task


@pytest.mark.parametrize(
    ("name", "make", "counts"),
    [("cubs", birds, (4, 2)), ("sketch", drawings, (8, 2)), ("flowers", flowers, (6, 2))],
)
def test_a_data_set_is_fetched_and_prepared(
    site: Site,
    tmp_path: Path,
    monkeypatch: Patch,
    cache: Path,
    name: str,
    make: Callable[[Site, Patch, Path], None],
    counts: tuple[int, int],
) -> None:
    make(site, monkeypatch, tmp_path)
    task = open_task(name, download=True)
    assert tuple(len(task.dataset(split)) for split in ("train", "test")) == counts
    asked = len(site.asked)
    assert asked == len(SOURCES[name].files)
    kept = {file.name for file in SOURCES[name].files}
    assert {path.name for path in (cache / f"{name}.original").iterdir()} == kept | {LOCK}
    open_task(name, download=True)
    assert len(site.asked) == asked


def test_an_archive_put_there_by_hand_is_taken(
    site: Site, tmp_path: Path, monkeypatch: Patch
) -> None:
    birds(site, monkeypatch, tmp_path)
    (tmp_path / "data.original").mkdir()
    (tmp_path / "data.original/CUB_200_2011.tgz").write_bytes(site.files["CUB_200_2011.tgz"])
    assert fetch_task("cubs", tmp_path / "data") == tmp_path / "data"
    assert site.asked == []
    assert len(written(tmp_path / "data")) == BIRDS + 1


def test_a_mirror_is_asked_instead(site: Site, tmp_path: Path, monkeypatch: Patch) -> None:
    birds(site, monkeypatch, tmp_path)
    monkeypatch.setitem(SOURCES, "cubs", SOURCES["cubs"].at("http://nowhere.invalid/there"))
    fetch_task("cubs", tmp_path / "data", mirror=f"{site.url}/copies/", watch=Watch())
    assert site.ranges_of("CUB_200_2011.tgz") == [None]
    for mirror in ("copies", "file:///etc", "https://"):
        with pytest.raises(OptionError, match="expected http://"):
            fetch_task("cubs", tmp_path / "other", mirror=mirror)


def test_names_that_cannot_be_fetched(tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match="unknown data set 'cub'; did you mean 'cubs'"):
        fetch_task("cub", tmp_path)
    for name in BY_HAND:
        with pytest.raises(DataError, match=f"data prepare {name} --from DIR --to {tmp_path}`$"):
            fetch_task(name, tmp_path)


def test_reader_is_missing(site: Site, tmp_path: Path, monkeypatch: Patch) -> None:
    flowers(site, monkeypatch, tmp_path)
    monkeypatch.setitem(sys.modules, "scipy", None)
    with pytest.raises(DataError, match="flowers: reading its files needs the package scipy; run"):
        fetch_task("flowers", tmp_path / "data")
    assert site.asked == []


def damaged(site: Site, patch: Patch) -> str:
    site.files["CUB_200_2011.tgz"] = b"x" * len(site.files["CUB_200_2011.tgz"])
    return r"md5 is \w+, expected \w+; what came is not the published file: removed$"


def gone(site: Site, patch: Patch) -> str:
    site.files.clear()
    return "the server answers 404 Not Found; .* put the file at .*CUB_200_2011.tgz by hand, or"


def shorter(site: Site, patch: Patch) -> str:
    site.files["CUB_200_2011.tgz"] = site.files["CUB_200_2011.tgz"][:-9]
    return r"the server has [\d,]+ bytes, expected [\d,]+; this is not the published file"


def cut_off(site: Site, patch: Patch) -> str:
    """As published, but what was published is not whole."""
    content = site.files["CUB_200_2011.tgz"][:9000]
    published(site, patch, "cubs", {"CUB_200_2011.tgz": content})
    return r"CUB_200_2011.tgz: damaged \(.*; remove it and it is fetched again$"


def other(site: Site, patch: Patch) -> str:
    folder = Path(os.environ["MASKPACK_CACHE"]) / "cars"
    folder.mkdir(parents=True)
    published(site, patch, "cubs", {"CUB_200_2011.tgz": tgz(folder.parent, "cars")})
    return "CUB_200_2011.tgz: expected 'CUB_200_2011' in it, found cars$"


@pytest.mark.parametrize("harm", [damaged, gone, shorter, cut_off, other])
def test_what_goes_wrong_is_one_line(
    site: Site, tmp_path: Path, monkeypatch: Patch, harm: Callable[[Site, Patch], str]
) -> None:
    birds(site, monkeypatch, tmp_path)
    match = harm(site, monkeypatch)
    with pytest.raises(DataError, match=match) as caught:
        open_task("cubs", tmp_path / "data", download=True)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.glob("data/**/train"))


def test_train_mask_with_download_is_one_command(
    site: Site, tmp_path: Path, monkeypatch: Patch
) -> None:
    birds(site, monkeypatch, tmp_path)
    site.cuts = [5000]
    options = ("--img-size", "16", "--epochs", "1", "--workers", "0", "--device", "cpu")
    backbone = ("--backbone", "tinynet:build")
    command = ("train-mask", *backbone, "--task", "cubs", "--download", *options, "-o", "run")
    done = run_here(tmp_path, *command)
    assert done.code == 0, done.err
    assert site.ranges_of("CUB_200_2011.tgz") == [None, "bytes=5000-"]
    assert "md5 as published" in done.err
    assert json.loads((tmp_path / "run/result.json").read_text())["test"]["count"] == 2


# ---- killed and started again


SCRIPT = """
import sys
from maskpack.datasets import sources
entry = sources.SOURCES["cubs"]
file = sources.replace(entry.files[0], url=sys.argv[1], md5=sys.argv[2], size=0)
sources.SOURCES["cubs"] = sources.replace(entry, files=(file,))
sys.argv = ["maskpack", "data", "fetch", "cubs", "--to", sys.argv[3]]
from maskpack.cli import main
main()
"""


def start(site: Site, to: Path) -> subprocess.Popen[str]:
    """`maskpack data fetch cubs --to DIR` in a process of its own, of the tiny archive."""
    file = SOURCES["cubs"].files[0]
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT, file.url, file.md5, str(to)],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_killed_fetch_goes_on(site: Site, tmp_path: Path, monkeypatch: Patch) -> None:
    birds(site, monkeypatch, tmp_path)
    part = tmp_path / "data.original" / "CUB_200_2011.tgz.part"
    site.slow = 0.02
    killed = start(site, tmp_path / "data")
    end = time.monotonic() + 60
    while not (part.exists() and part.stat().st_size > 4000):
        assert killed.poll() is None and time.monotonic() < end, killed.communicate()
        time.sleep(0.005)
    killed.kill()
    killed.communicate()
    had, site.slow = part.stat().st_size, 0.0
    assert not (tmp_path / "data").exists()
    out, err = start(site, tmp_path / "data").communicate(timeout=60)
    assert out == f"{tmp_path / 'data'}\n", err
    assert site.ranges_of("CUB_200_2011.tgz") == [None, f"bytes={had}-"]
    assert 4000 < had < len(site.files["CUB_200_2011.tgz"])
    assert len(written(tmp_path / "data")) == BIRDS + 1


def test_two_at_once_fetch_once(site: Site, tmp_path: Path, monkeypatch: Patch) -> None:
    birds(site, monkeypatch, tmp_path)
    site.slow = 0.02
    both = [start(site, tmp_path / "data") for _ in range(2)]
    ends = [process.communicate(timeout=60) for process in both]
    assert [process.returncode for process in both] == [0, 0], ends
    assert site.ranges_of("CUB_200_2011.tgz") == [None]


def test_the_lock_stays_for_those_who_wait_for_it(tmp_path: Path) -> None:
    with tasks.alone(tmp_path, Watch()):
        before = (tmp_path / LOCK).stat()
    for _ in range(2):
        with tasks.alone(tmp_path, Watch()):
            assert (tmp_path / LOCK).stat().st_ino == before.st_ino
    assert os.path.samestat(before, (tmp_path / LOCK).stat())


# ---- torchvision's


def textures(root: Path) -> Path:
    for split in ("train", "val", "test"):
        listed = [f"{kind}/{kind}_{split}.jpg" for kind in ("banded", "zigzagged")]
        for name in listed:
            picture(root / "dtd/images" / name)
        path = root / "dtd/labels" / f"{split}1.txt"
        path.parent.mkdir(exist_ok=True)
        path.write_text("\n".join(listed) + "\n")
    return root


@pytest.fixture
def alone(monkeypatch: Patch) -> None:
    """torchvision itself fetches nothing."""

    def fetch(*_: object, **__: object) -> None:
        raise AssertionError("torchvision fetches")

    for module in ("cifar", "dtd", "flowers102", "svhn"):
        for name in ("download_url", "download_and_extract_archive"):
            there = sys.modules[f"torchvision.datasets.{module}"]
            monkeypatch.setattr(there, name, fetch, raising=False)


@pytest.mark.usefixtures("alone")
def test_textures_go_where_torchvision_looks(
    site: Site, tmp_path: Path, monkeypatch: Patch
) -> None:
    content = tgz(textures(tmp_path / "made"), "dtd")
    published(site, monkeypatch, "dtd", {"dtd-r1.0.1.tar.gz": content})
    site.cuts = [len(content) // 2]
    task = open_task("dtd", tmp_path / "root", download=True)
    assert len(site.asked) == 2
    assert task.outputs() == 2
    there = {path.name for path in (tmp_path / "root/dtd").iterdir()}
    assert there == {"dtd", "dtd-r1.0.1.tar.gz", LOCK}


@pytest.mark.usefixtures("alone")
def test_flowers_go_where_torchvision_looks(site: Site, tmp_path: Path, monkeypatch: Patch) -> None:
    flowers(site, monkeypatch, tmp_path, "flowers102")
    files = {
        part: (name, hashlib.md5(site.files[name]).hexdigest())
        for part, (name, _) in torchvision.datasets.Flowers102._file_dict.items()
    }
    monkeypatch.setattr(torchvision.datasets.Flowers102, "_file_dict", files)
    assert len(open_task("flowers102", tmp_path / "root", download=True).dataset("test")) == 2


@pytest.mark.usefixtures("alone")
def test_cifar_goes_where_torchvision_looks(site: Site, tmp_path: Path, monkeypatch: Patch) -> None:
    data_set, base = torchvision.datasets.CIFAR100, tmp_path / "made" / "cifar-100-python"
    base.mkdir(parents=True)
    pixels = np.zeros((2, 3072), np.uint8)
    batch = pickle.dumps({"data": pixels, "fine_labels": [0, 1]})
    meta = pickle.dumps({"fine_label_names": ["apple", "bear"]})
    known = {"train": batch, "test": batch, "meta": meta}
    for name, content in known.items():
        (base / name).write_bytes(content)
    md5 = hashlib.md5(batch).hexdigest()
    monkeypatch.setattr(data_set, "train_list", [["train", md5]])
    monkeypatch.setattr(data_set, "test_list", [["test", md5]])
    monkeypatch.setattr(data_set, "meta", data_set.meta | {"md5": hashlib.md5(meta).hexdigest()})
    content = tgz(base.parent, base.name)
    published(site, monkeypatch, "cifar100", {"cifar-100-python.tar.gz": content})
    assert open_task("cifar100", download=True).outputs() == 2
    with pytest.raises(DataError, match=r"task 'cifar10': http://.*: the server answers 404"):
        url = f"{site.url}/cifar-10-python.tar.gz"
        monkeypatch.setitem(SOURCES, "cifar10", Source((File(url, makes="cifar-10-batches-py"),)))
        open_task("cifar10", download=True)


def test_files_that_stay_as_they_are(site: Site, tmp_path: Path, monkeypatch: Patch) -> None:
    files = {"train_32x32.mat": b"train", "test_32x32.mat": b"test"}
    published(site, monkeypatch, "svhn", files)
    for _ in range(2):
        fetch_task("svhn", tmp_path / "root")
        found = {path.name: path.read_bytes() for path in (tmp_path / "root").iterdir()}
        assert found == files | {LOCK: b""}
    assert len(site.asked) == 2
