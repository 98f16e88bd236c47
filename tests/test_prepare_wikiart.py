"""WikiArt by artist: ArtGAN's lists and others', right and wrong."""

from __future__ import annotations

from pathlib import Path

import pytest
from originals import picture, wikiart, written

from maskpack.common.errors import DataError
from maskpack.datasets.prepare import prepare
from maskpack.datasets.prepare.wikiart import pictures


def refused(source: Path, match: str) -> None:
    with pytest.raises(DataError, match=match) as caught:
        prepare("wikiart", source, source.parent / "to")
    assert "\n" not in str(caught.value)


def test_paintings_are_copied_and_sorted(tmp_path: Path) -> None:
    source = wikiart(tmp_path / "from")
    prepare("wikiart", source, tmp_path / "to")
    # one name in two styles stays two pictures
    assert written(tmp_path / "to") == [
        "prepared.json",
        "test/Albrecht_Durer/Impressionism_albrecht-durer_later-(1).jpg",
        "test/Claude_Monet/Impressionism_claude-monet_later-(1).jpg",
        "train/Albrecht_Durer/Impressionism_albrecht-durer_title-(1).jpg",
        "train/Albrecht_Durer/Realism_albrecht-durer_title-(1).jpg",
        "train/Claude_Monet/Impressionism_claude-monet_title-(1).jpg",
        "train/Claude_Monet/Realism_claude-monet_title-(1).jpg",
    ]
    copied = tmp_path / "to/train/Claude_Monet/Realism_claude-monet_title-(1).jpg"
    original = source / "wikiart/Realism/claude-monet_title-(1).jpg"
    assert copied.read_bytes() == original.read_bytes()


def test_lists_as_they_lie_on_github(tmp_path: Path) -> None:
    source = wikiart(tmp_path)
    before = pictures(source)
    folder = source / "Artist"
    (source / "wikiart_csv").rename(folder)
    for split in ("train", "val"):
        rows = (folder / f"artist_{split}.csv").read_text().replace(",", ",,")
        (folder / f"artist_{split}.csv").unlink()
        (folder / f"artist_{split}").write_text(f"(Path to image),, (Class)\n\n{rows}")
    (folder / "artist_class.txt").rename(folder / "artist_class")
    assert pictures(source) == before


def test_other_lists_with_numbers_and_with_names(tmp_path: Path) -> None:
    for name in ("a, b.jpg", "c.jpg", "d.jpg", "e.jpg"):
        picture(tmp_path / "images" / name)
    (tmp_path / "train.txt").write_text("a, b.jpg\t17\nc.jpg 194\n")
    (tmp_path / "test.txt").write_text("d.jpg 17\ne.jpg 194\n")
    found = pictures(tmp_path)
    assert [(p.split, p.label, p.name) for p in found] == [
        ("train", "017", "a, b.jpg"),
        ("train", "194", "c.jpg"),
        ("test", "017", "d.jpg"),
        ("test", "194", "e.jpg"),
    ]
    (tmp_path / "train.txt").write_text("c.jpg Monet\n")
    (tmp_path / "test.txt").write_text("d.jpg Monet\n")
    assert [p.label for p in pictures(tmp_path)] == ["Monet", "Monet"]


@pytest.mark.parametrize(
    ("row", "match"),
    [
        ("Realism/later.jpg,2", r"artist_val\.csv: line 3 is of class 2, but there are 2 names"),
        ("Realism/later.jpg,Goya", "line 3 has class 'Goya'; expected a number"),
        ("Realism/later.jpg", "line 3 is 'Realism/later.jpg'; expected a path and a label"),
        (",1", "line 3 is ',1'; expected a path and a label"),
        ("../../etc/passwd,1", r"line 3 has '\.\./.*'; expected the path of a picture"),
        ("/etc/passwd,1", "line 3 has '/etc/passwd'; expected the path of a picture"),
        ("Realism/gone.jpg,1", r"gone\.jpg: no such file, but it is listed; the copy is inc"),
        ("Realism/claude-monet_title-(1).jpg,1", "is listed twice; a picture belongs to one"),
    ],
)
def test_rows_that_are_wrong(row: str, match: str, tmp_path: Path) -> None:
    source = wikiart(tmp_path / "from")
    with (source / "wikiart_csv/artist_val.csv").open("a") as file:
        file.write(row + "\n")
    refused(source, match)


def test_lists_without_pictures(tmp_path: Path) -> None:
    source = wikiart(tmp_path / "from")
    (source / "wikiart").rename(tmp_path / "elsewhere")
    refused(source, r"artist_train\.csv: lists 'Realism/.*', which is not in .*; unpack wikiart")


def test_pictures_without_lists(tmp_path: Path) -> None:
    source = wikiart(tmp_path / "from")
    (source / "wikiart_csv/artist_val.csv").unlink()
    refused(source, r"has no artist_val\.csv, there or in wikiart_csv/; expected it with a path")


def test_a_list_that_is_empty(tmp_path: Path) -> None:
    source = wikiart(tmp_path / "from")
    (source / "wikiart_csv/artist_val.csv").write_text("\n")
    refused(source, r"artist_val\.csv: is empty; unpack the archive again")
    (source / "wikiart_csv/artist_val.csv").write_text("(path),, (class)\n")
    refused(source, r"artist_val\.csv: lists no pictures")


def test_an_artist_who_is_only_tested(tmp_path: Path) -> None:
    source = wikiart(tmp_path / "from")
    path = source / "wikiart_csv/artist_train.csv"
    path.write_text(path.read_text().replace(",1", ",0"))
    refused(source, "class 'Claude_Monet' has pictures for test, but none for train")
