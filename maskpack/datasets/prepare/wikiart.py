"""WikiArt's paintings by artist, copied as they are, from two lists of pictures.

ArtGAN's refined WikiArt (Tan et al. 2019): `Style/artist_title.jpg,7` in artist_train.csv and
artist_val.csv, names in artist_class.txt as `7 Gustave_Dore`, 23 artists. Papers on masks use 195
artists (42,129 / 10,628 pictures) by lists of their own: such lists, as train.txt and test.txt
with `path label` a line, are read too, and a label may be a name instead of a number.
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from maskpack.common.errors import DataError, one_line
from maskpack.datasets.prepare.listing import Picture, class_folder, inside
from maskpack.datasets.prepare.text_lists import by_number, lines

LISTS = {"train": ("train",), "test": ("val", "test")}
FOLDERS = ("", "wikiart_csv", "Artist", "wikiart", "wikiart/wikiart_csv", "wikiart/Artist")
PLACES = ("", "wikiart", "images", "wikiart/wikiart", "wikiart/images")


def pictures(source: Path) -> list[Picture]:
    """Every picture of both lists; `source` holds the lists and the folders of styles."""
    listings = {split: _listing(source, split) for split in LISTS}
    entries = {split: _entries(path) for split, path in listings.items()}
    names = _names(listings["train"])
    every = [path for split in entries for _, path, _ in entries[split]]
    root = next((p for p in (source / place for place in PLACES) if (p / every[0]).is_file()), None)
    if root is None:
        raise DataError(
            one_line(f"{listings['train']}: lists {every[0]!r}, which is not in {source}")
            + " or its wikiart/ or images/; unpack wikiart.zip there"
        )
    found = []
    for split, listing in listings.items():
        for number, path, label in entries[split]:
            where = f"{listing}: line {number}"
            # a picture of one name is in two styles now and then
            name = "_".join(PurePosixPath(path).parts)
            found.append(Picture(split, _class(where, label, names), name, root / path))
    return found


def _listing(source: Path, split: str) -> Path:
    """The list of a split: artist_train.csv, train.txt, ... there or in one of FOLDERS."""
    wanted = [
        f"{prefix}{stem}{suffix}"
        for prefix in ("artist_", "wikiart_", "")
        for stem in LISTS[split]
        for suffix in (".csv", ".txt", "")
    ]
    for folder in FOLDERS:
        for name in wanted:
            if (source / folder / name).is_file():
                return source / folder / name
    raise DataError(
        f"{source}: has no {wanted[0]}, there or in wikiart_csv/; expected it with a path and a "
        f"label a line (or {split}.txt)"
    )


def _entries(listing: Path) -> list[tuple[int, str, str]]:
    """Line number, path and label of each picture."""
    found: list[tuple[int, str, str]] = []
    for number, line in lines(listing):
        # ArtGAN's lists on GitHub have two commas, and a line above that says what is in them
        if line.startswith("(") and not found:
            continue
        words = line.rsplit(None if listing.suffix == ".txt" else ",", 1)
        path, label = words[0].rstrip(", "), words[-1].strip()
        if len(words) < 2 or not path or not label:
            raise DataError(
                one_line(f"{listing}: line {number} is {line!r}; expected a path and a label")
            )
        found.append((number, inside(f"{listing}: line {number}", path), label))
    if not found:
        raise DataError(f"{listing}: lists no pictures")
    return found


def _names(listing: Path) -> dict[str, list[str]]:
    """Names by number, where a list of them lies beside the pictures' list."""
    for name in ("artist_class.txt", "artist_class", "classes.txt"):
        if (listing.parent / name).is_file():
            return by_number(listing.parent / name, "number name")
    return {}


def _class(where: str, label: str, names: dict[str, list[str]]) -> str:
    if not (label.isascii() and label.isdigit()):
        if names:
            raise DataError(one_line(f"{where} has class {label!r}; expected a number"))
        return class_folder(where, label)
    if not names:
        return f"{int(label):03d}"
    if label not in names:
        raise DataError(f"{where} is of class {label}, but there are {len(names)} names of artists")
    return class_folder(where, names[label][0])
