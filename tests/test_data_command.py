"""`maskpack data`, as a person types it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from originals import ORIGINALS, written
from processes import run_here
from webserver import serving

from maskpack.datasets import SOURCES
from maskpack.datasets.counts import PUBLISHED
from maskpack.datasets.registry import REGISTRY
from maskpack.tasks import BUILTIN, TORCHVISION, open_task
from maskpack.tasks.classes.imagenet_to_sketch import IMAGENET_TO_SKETCH


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setenv("MASKPACK_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def listed(folder: Path) -> dict[str, dict[str, object]]:
    done = run_here(folder, "data", "list", "--json")
    assert (done.code, done.err) == (0, "")
    return {row["data set"]: row for row in json.loads(done.out)}


def test_list_has_every_data_set(tmp_path: Path, cache: Path) -> None:
    rows = listed(tmp_path)
    small = {f"registry/{name}" for name in REGISTRY}
    assert set(rows) == {*BUILTIN, *small, *IMAGENET_TO_SKETCH, *TORCHVISION}
    assert rows["cubs"] == {
        "data set": "cubs",
        "classes": 200,
        "train": 5994,
        "val": None,
        "test": 5794,
        "there": "no",
        "get": "maskpack data fetch cubs",
        "folder": f"{cache}/cubs",
    }
    assert rows["wikiart"]["get"] == "maskpack data prepare wikiart --from DIR"
    assert rows["dtd"]["val"] == 1880
    there = {name for name, row in rows.items() if row["there"] == "yes"}
    assert there == set(BUILTIN)
    (cache / "registry/signs").mkdir(parents=True)
    (cache / "dtd/dtd").mkdir(parents=True)
    for split in ("train", "test"):
        (cache / "cubs" / split).mkdir(parents=True)
    there = {name for name, row in listed(tmp_path).items() if row["there"] == "yes"}
    assert there == {*BUILTIN, "registry/signs", "dtd", "cubs"}


@pytest.mark.parametrize("name", BUILTIN)
def test_counts_of_what_comes_with_the_package(name: str) -> None:
    task = open_task(name)
    found = (task.outputs(), *(len(task.dataset(split)) for split in ("train", "test")), 0)
    assert found == PUBLISHED[name]


def test_list_as_a_table(tmp_path: Path) -> None:
    done = run_here(tmp_path, "data", "list")
    assert done.out.startswith("# data sets\ndata set\tclasses\ttrain\tval\ttest\tthere\tget\tfold")


def test_fetch_into_folders(tmp_path: Path, cache: Path) -> None:
    content = {name: name.encode() for name in ("train_32x32.mat", "test_32x32.mat")}
    with serving() as site, pytest.MonkeyPatch.context() as patch:
        site.files |= content
        files = tuple(type(file)(file.url) for file in SOURCES["svhn"].files)
        patch.setitem(SOURCES, "svhn", type(SOURCES["svhn"])(files))
        done = run_here(tmp_path, "data", "fetch", "SVHN", "--mirror", site.url, "--to", "numbers")
        assert (done.code, done.out) == (0, "numbers\n")
        assert "no checksum is published" in done.err
        assert written(tmp_path / "numbers") == sorted(content)
        done = run_here(tmp_path, "data", "fetch", "svhn", "--mirror", site.url, "--quiet")
        assert (done.code, done.out, done.err) == (0, f"{cache}/svhn\n", "")
        both = ("data", "fetch", "svhn", "svhn", "--mirror", site.url, "--to", "all")
        assert run_here(tmp_path, *both).out == "all/svhn\nall/svhn\n"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("fetch", "cub"), "unknown data set 'cub'; did you mean 'cubs'?; known: cifar10, "),
        (("fetch", "svhn", "gtsrb", "--mirror", "http://x"), "--mirror: gtsrb is not fetched by"),
        (("fetch", "cubs", "--mirror", "x"), "--mirror 'x': expected http://... or https://..."),
        (("fetch", "wikiart"), "wikiart cannot be fetched: "),
        (("prepare", "cub", "--from", "."), "unknown data set to prepare 'cub'; did you mean"),
        (("prepare", "cubs", "--from", "no"), "no: no such folder; expected the unpacked original"),
    ],
)
def test_mistakes_are_one_line(tmp_path: Path, arguments: tuple[str, ...], said: str) -> None:
    done = run_here(tmp_path, "data", *arguments)
    assert (done.code, done.out, done.err.count("\n")) == (1, "", 1)
    assert done.err.startswith(f"error: {said}")
    assert not list(tmp_path.glob("cache/*"))


def test_prepare(tmp_path: Path, cache: Path) -> None:
    ORIGINALS["cubs"](tmp_path)
    done = run_here(tmp_path, "data", "prepare", "cubs", "--from", ".", "--to", "birds")
    assert (done.code, done.out) == (0, "birds\n")
    assert done.err == "birds: 2 classes, 4 in train, 2 in test\n"
    done = run_here(tmp_path, "data", "prepare", "cubs", "--from", "CUB_200_2011", "-q")
    assert (done.code, done.out, done.err) == (0, f"{cache}/cubs\n", "")
    assert written(cache / "cubs") == written(tmp_path / "birds")
