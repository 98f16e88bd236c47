"""The Visual Decathlon's layout with a few pictures: two classes a task, 72 px high or wide."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from maskpack.datasets.decathlon import TASKS

SIZES = {"train": 4, "val": 2, "test": 2}  # pictures by split, half of them of each class
CLASSES = ("Class110", "Class12")


def write_decathlon(folder: Path, *tasks: str, labelled: bool = False) -> Path:
    """annotations/ and data/ of some tasks, of all without a name; returns the folder.

    Folders of pictures are numbered against the order of the classes. With `labelled` the test
    pictures have labels.
    """
    rng = np.random.default_rng(0)
    (folder / "annotations").mkdir(parents=True, exist_ok=True)
    for number, task in enumerate(TASKS, 1):
        if tasks and task not in tasks:
            continue
        document: dict[str, Any] = {"info": {}, "licenses": []}
        ids = [10**7 * number + 1 + label for label in range(2)]
        document["categories"] = [
            {"id": key, "name": name, "supercategory": task}
            for key, name in zip(ids, CLASSES, strict=True)
        ]
        start = 10**7 * number + 500
        for split, count in SIZES.items():
            images, marks = [], []
            for place in range(count):
                label = place % 2
                inner = "" if split == "test" else f"{2 - label:04}/"
                name = f"data/{task}/{split}/{inner}{place + 1:06}.jpg"
                path = folder / name
                path.parent.mkdir(parents=True, exist_ok=True)
                size = (72, 80) if place % 2 else (90, 72)
                light = rng.integers(0, 90, (size[1], size[0], 3)) + 150 * label
                Image.fromarray(light.astype(np.uint8)).save(path)
                start += 1
                images.append({"id": start, "width": size[0], "height": size[1], "file_name": name})
                marks.append(
                    {
                        "id": start,
                        "image_id": start,
                        "category_id": ids[label],
                        "segmentation": [],
                        "area": 1,
                        "bbox": [0, 0, *size],
                        "iscrowd": 0,
                    }
                )
            whole = {**document, "images": images, "annotations": marks}
            if split != "test" or labelled:
                write_json(folder / "annotations" / f"{task}_{split}.json", whole)
            if split == "test":
                stripped = {**document, "images": images, "annotations": []}
                write_json(folder / "annotations" / f"{task}_test_stripped.json", stripped)
    return folder


def write_json(path: Path, document: Any) -> None:
    path.write_text(json.dumps(document), encoding="utf-8")
