"""Tiny copies of ImageNet-to-Sketch's data sets, laid out as their publishers' archives unpack."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from scipy.io import savemat

SIZE = (20, 16)  # width, height
CARS = ("AM General Hummer SUV 2000", "Ram C/V Cargo Van Minivan 2012")
ARTISTS = ("Albrecht_Durer", "Claude_Monet")


def picture(path: Path, mode: str = "RGB", size: tuple[int, int] = SIZE) -> None:
    """A picture whose value is its column, so that a crop can be told by what it holds."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.tile(np.arange(size[0], dtype=np.uint8) * 10, (size[1], 1))
    Image.fromarray(pixels).convert(mode).save(path)


def cub(root: Path) -> Path:
    """Two birds, three pictures of each; the third is for testing."""
    base = root / "CUB_200_2011"
    birds = ("001.Black_footed_Albatross", "002.Laysan_Albatross")
    rows: dict[str, list[str]] = {name: [] for name in ("images", "labels", "split", "boxes")}
    for index in range(6):
        bird = birds[index // 3]
        path = f"{bird}/{bird[4:]}_{index:04d}_796{index}.jpg"
        picture(base / "images" / path, "L" if index == 1 else "RGB")
        rows["images"].append(path)
        rows["labels"].append(str(1 + index // 3))
        rows["split"].append(str(int(index % 3 != 2)))
        rows["boxes"].append("4.0 2.0 10.0 8.0" if index else "4.0 2.0 325.0 8.0")
    names = {
        "images": "images",
        "labels": "image_class_labels",
        "split": "train_test_split",
        "boxes": "bounding_boxes",
    }
    for key, name in names.items():
        numbered = [f"{number} {row}\n" for number, row in enumerate(rows[key], start=1)]
        (base / f"{name}.txt").write_text("".join(numbered))
    listed = [f"{number} {bird}\n" for number, bird in enumerate(birds, start=1)]
    (base / "classes.txt").write_text("".join(listed))
    return root


def struct_array(rows: list[dict[str, Any]]) -> Any:
    """What savemat writes as MATLAB's struct array of one row."""
    table = np.empty((1, len(rows)), dtype=[(field, object) for field in rows[0]])
    for index, row in enumerate(rows):
        table[0, index] = tuple(np.uint8(v) if isinstance(v, int) else v for v in row.values())
    return table


def names(*texts: str) -> Any:
    """MATLAB's cell array of strings."""
    cell = np.empty((1, len(texts)), dtype=object)
    cell[0, :] = texts
    return cell


def car_rows(split: str) -> list[dict[str, Any]]:
    box = {"bbox_x1": 5, "bbox_y1": 3, "bbox_x2": 14, "bbox_y2": 10}
    count = 4 if split == "train" else 2
    return [{**box, "class": 1 + i % 2, "fname": f"{i + 1:05d}.jpg"} for i in range(count)]


def cars(root: Path) -> Path:
    """Two cars in the devkit's layout: four pictures for training, two for testing."""
    (root / "devkit").mkdir(parents=True)
    savemat(root / "devkit/cars_meta.mat", {"class_names": names(*CARS)})
    train, test = car_rows("train"), car_rows("test")
    savemat(root / "devkit/cars_train_annos.mat", {"annotations": struct_array(train)})
    bare = [{key: value for key, value in row.items() if key != "class"} for row in test]
    savemat(root / "devkit/cars_test_annos.mat", {"annotations": struct_array(bare)})
    savemat(root / "cars_test_annos_withlabels.mat", {"annotations": struct_array(test)})
    for split, rows in (("train", train), ("test", test)):
        for row in rows:
            picture(root / f"cars_{split}" / row["fname"])
    return root


def old_cars(root: Path) -> Path:
    """The same in one table."""
    rows = []
    for split in ("train", "test"):
        for row in car_rows(split):
            path = f"car_ims/{len(rows) + 1:06d}.jpg"
            picture(root / path)
            box = {key: value for key, value in row.items() if key.startswith("bbox")}
            rows.append(
                {"relative_im_path": path, **box, "class": row["class"], "test": split == "test"}
            )
    rows = [{**row, "test": int(row["test"])} for row in rows]
    table = {"annotations": struct_array(rows), "class_names": names(*CARS)}
    savemat(root / "cars_annos.mat", table)
    return root


def flowers(root: Path) -> Path:
    """Flowers 1 and 102: two pictures each for training, one of each to choose by, one to test."""
    for number in range(1, 9):
        picture(root / f"jpg/image_{number:05d}.jpg")
    labels = np.array([[1, 102] * 4], dtype=np.uint8)
    savemat(root / "imagelabels.mat", {"labels": labels})
    sets = {"trnid": [[1, 2, 3, 4]], "valid": [[5, 6]], "tstid": [[7, 8]]}
    savemat(root / "setid.mat", {k: np.array(v, dtype=np.uint16) for k, v in sets.items()})
    return root


def sketches(root: Path) -> Path:
    """Two classes of five drawings; their numbers go on from class to class."""
    listed = []
    for index in range(10):
        path = f"{'airplane' if index < 5 else 'alarm clock'}/{index + 6}.png"
        picture(root / "png" / path, "L")
        listed.append(path + "\n")
    (root / "png/filelist.txt").write_text("".join(listed))
    return root


def wikiart(root: Path) -> Path:
    """Two artists: two pictures each for training, one for testing, in folders of styles."""
    lists: dict[str, list[str]] = {"train": [], "val": []}
    for index in range(6):
        artist = index % 2
        style = "Realism" if index < 2 else "Impressionism"
        path = f"{style}/{ARTISTS[artist].lower().replace('_', '-')}_title-(1).jpg"
        if index >= 4:
            path = path.replace("title", "later")
        picture(root / "wikiart" / path)
        lists["train" if index < 4 else "val"].append(f"{path},{artist}\n")
    folder = root / "wikiart_csv"
    folder.mkdir()
    for split, rows in lists.items():
        (folder / f"artist_{split}.csv").write_text("".join(rows))
    listed = [f"{number} {name}\n" for number, name in enumerate(ARTISTS)]
    (folder / "artist_class.txt").write_text("".join(listed))
    return root


# name of the task -> maker of its original
ORIGINALS: dict[str, Callable[[Path], Path]] = {
    "cubs": cub,
    "stanford_cars": cars,
    "flowers": flowers,
    "sketch": sketches,
    "wikiart": wikiart,
}


def written(folder: Path) -> list[str]:
    """Every file of a folder that is not hidden, as paths inside it."""
    found = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return sorted(str(path) for path in found if not str(path).startswith("."))
