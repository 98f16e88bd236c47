"""--task cubs and its like: where they are looked for, and what is said when they are not there."""

from __future__ import annotations

from pathlib import Path

import pytest
from originals import ORIGINALS, cars, cub, flowers, picture

import maskpack.datasets
from maskpack.common.errors import DataError
from maskpack.datasets.prepare import PREPARE, prepare
from maskpack.tasks import KNOWN, TORCHVISION, open_task
from maskpack.tasks.classes.imagenet_to_sketch import IMAGENET_TO_SKETCH

PUBLISHED = {  # classes, train, test, folder in papers' copies
    "cubs": (200, 5994, 5794, "cubs_cropped"),
    "stanford_cars": (196, 8144, 8041, "stanford_cars_cropped"),
    "flowers": (102, 2040, 6149, "flowers"),
    "wikiart": (195, 42129, 10628, "wikiart"),
    "sketch": (250, 16000, 4000, "sketches"),
}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MASKPACK_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def copy_of_papers(folder: Path) -> Path:
    for split in ("train", "test"):
        for name in ("one", "two"):
            picture(folder / split / name / "1.jpg")
    return folder


def refused(name: str, root: Path | None, match: str, download: bool = False) -> None:
    with pytest.raises(DataError, match=match) as caught:
        open_task(name, root, download)
    assert "\n" not in str(caught.value)


def test_entries_are_as_published() -> None:
    found = {
        name: (entry.classes, entry.train, entry.test, entry.folder)
        for name, entry in IMAGENET_TO_SKETCH.items()
    }
    assert found == PUBLISHED
    assert set(IMAGENET_TO_SKETCH) == set(PREPARE)
    assert len(set(KNOWN)) == len(KNOWN) and set(IMAGENET_TO_SKETCH) <= set(KNOWN)
    sources = {*maskpack.datasets.SOURCES, *maskpack.datasets.BY_HAND}
    assert set(IMAGENET_TO_SKETCH) <= sources


def test_cropped_pictures_are_seen_whole() -> None:
    modes = {name: entry.augment.crop_mode for name, entry in IMAGENET_TO_SKETCH.items()}
    assert {name for name, mode in modes.items() if mode == "resize"} == {"cubs", "stanford_cars"}
    assert {entry.augment.hflip for entry in IMAGENET_TO_SKETCH.values()} == {0.5}


def test_counts_that_are_not_the_published_ones() -> None:
    entry = IMAGENET_TO_SKETCH["flowers"]
    assert entry.difference(102, {"train": 2040, "test": 6149}) is None
    assert entry.difference(102, {"train": 1020, "test": 6149}) == (
        "has 1,020 / 6,149 pictures of 102 classes, "
        "published are 2,040 / 6,149 pictures of 102 classes"
    )


@pytest.mark.parametrize("name", PUBLISHED)
def test_papers_own_copies(name: str, tmp_path: Path, cache: Path) -> None:
    folder = PUBLISHED[name][3]
    copy_of_papers(tmp_path / "data" / folder)
    for root in (tmp_path / "data", tmp_path / "data" / folder, tmp_path / "data" / name):
        task = open_task(name, root)
        assert (task.name, task.outputs(), len(task.dataset("test"))) == (name, 2, 2)
        assert task.augment == IMAGENET_TO_SKETCH[name].augment
    copy_of_papers(cache / folder)
    assert open_task(name).outputs() == 2


@pytest.mark.parametrize("name", PUBLISHED)
def test_prepared_into_the_cache(name: str, tmp_path: Path, cache: Path) -> None:
    prepare(name, ORIGINALS[name](tmp_path / "from"), cache / name)
    assert open_task(name).outputs() == 2


@pytest.mark.parametrize("name", PUBLISHED)
def test_fetched_into_a_folder_of_several(name: str, tmp_path: Path) -> None:
    copy_of_papers(tmp_path / name)
    assert open_task(name, tmp_path).outputs() == 2
    assert open_task(name, tmp_path / PUBLISHED[name][3]).outputs() == 2


def test_other_layouts_of_that_name(tmp_path: Path) -> None:
    picture(tmp_path / "a.jpg")
    rows = ["path,label,split", *(f"a.jpg,{c},{s}" for c in "xy" for s in ("train", "test"))]
    (tmp_path / "labels.csv").write_text("\n".join(rows))
    assert open_task("flowers", tmp_path).describe()["classes"] == ["x", "y"]


@pytest.mark.parametrize("name", PUBLISHED)
def test_an_original_is_to_be_prepared(name: str, tmp_path: Path) -> None:
    source = ORIGINALS[name](tmp_path / "as it came")
    command = f"maskpack data prepare {name} --from '{source}'"
    expected = f"as published; run `{command}` first, then leave out --data$"
    for download in (False, True):
        refused(name, source, expected, download)


@pytest.mark.parametrize("name", PUBLISHED)
def test_what_is_not_there_says_how_to_get_it(name: str, tmp_path: Path, cache: Path) -> None:
    refused(name, None, f"{cache / name} is no folder; get .* `maskpack data prepare {name} --from")
    folder = PUBLISHED[name][3]
    expected = f"data/{folder} is no folder; get .* --from DIR --to .*/data/{folder}`$"
    refused(name, tmp_path / "data", expected)
    refused(name, tmp_path / "data" / folder, expected)


def test_the_archive_is_named(cache: Path) -> None:
    refused(
        "cubs", None, r"--download, or by hand: unpack https://data\.caltech\.edu.*CUB_200_2011"
    )
    refused("flowers", None, r"102flowers\.tgz .*imagelabels\.mat .*setid\.mat")
    refused("wikiart", None, "get WikiArt by hand: ")


def test_half_prepared(tmp_path: Path, cache: Path) -> None:
    source = cub(tmp_path / "from")
    first = next((source / "CUB_200_2011/images").rglob("*.jpg"))
    first.write_bytes(b"")
    with pytest.raises(DataError):
        prepare("cubs", source, cache / "cubs")
    refused(
        "cubs", None, "is prepared half-way; run `maskpack data prepare cubs --from DIR` once more"
    )
    copy = tmp_path / "data/cubs_cropped"
    copy.parent.mkdir()
    (cache / "cubs").rename(copy)
    expected = "data/cubs_cropped is prepared half-way; run .* --to .*/data/cubs_cropped` once more"
    refused("cubs", tmp_path / "data", expected)


def test_one_folder_is_not_taken_for_another(tmp_path: Path) -> None:
    prepare("flowers", flowers(tmp_path / "from"), tmp_path / "to")
    refused("cubs", tmp_path / "to", "was prepared as 'flowers', not as 'cubs'")


@pytest.mark.parametrize(
    ("given", "place"), [(None, "cache/cubs"), ("data", "data/cubs_cropped"), ("cubs", "cubs")]
)
def test_download_fetches_what_is_missing(
    given: str | None, place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, Path]] = []

    def fetch(name: str, root: Path) -> Path:
        asked.append((name, root))
        return prepare(name, cub(tmp_path / "from"), root).folder

    monkeypatch.setattr(maskpack.datasets, "fetch_task", fetch)
    root = None if given is None else tmp_path / given
    for _ in range(2):  # fetched once
        assert open_task("cubs", root, download=True).outputs() == 2
        assert asked == [("cubs", tmp_path / place)]


@pytest.mark.parametrize("name", ["stanford_cars", "wikiart"])
def test_download_of_what_nobody_serves(name: str) -> None:
    refused(name, None, f"{name} cannot be fetched: .* `maskpack data prepare {name}", True)


def test_cars_laid_out_for_torchvision(tmp_path: Path) -> None:
    root = cars(tmp_path / "stanford_cars").parent
    task = open_task("stanford_cars", root)
    assert task.augment == TORCHVISION["stanford_cars"].augment
    assert task.dataset("train")[0][0].size == (20, 16)
    # cropped ones come first
    prepare("stanford_cars", root, tmp_path / "stanford_cars_cropped")
    task = open_task("stanford_cars", root)
    assert task.augment.crop_mode == "resize"
    assert task.dataset("train")[0][0].size == (10, 8)
