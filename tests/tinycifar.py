"""A few pictures of each class of CIFAR-100, in the two layouts that it is published in."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from maskpack.tasks.classes.split_cifar100 import CLASSES, SUPERCLASSES

COUNTS = {"train": 4, "test": 2}  # pictures a class


def pictures(
    split: str, superclasses: tuple[str, ...] = tuple(SUPERCLASSES)
) -> Iterator[tuple[str, str, np.ndarray]]:
    """Superclass, class and pixels (32, 32, 3); every class has a colour of its own under noise."""
    colours = np.random.default_rng(0).integers(40, 215, (len(CLASSES), 3))
    rng = np.random.default_rng(list(COUNTS).index(split))
    for superclass in superclasses:
        for name in SUPERCLASSES[superclass]:
            for _ in range(COUNTS[split]):
                noisy = rng.normal(colours[CLASSES.index(name)], 40, (32, 32, 3))
                yield superclass, name, noisy.clip(0, 255).astype(np.uint8)


def write_folders(root: Path, superclasses: tuple[str, ...] = tuple(SUPERCLASSES)) -> Path:
    """{train,test}/SUPERCLASS/CLASS/NUMBER.png"""
    for split in COUNTS:
        for number, (superclass, name, pixels) in enumerate(pictures(split, superclasses)):
            path = root / split / superclass / name / f"{number:04d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(path)
    return root


def write_binary(root: Path) -> Path:
    """train.bin and test.bin, a picture of each class after the other, as shuffled ones are."""
    root.mkdir(parents=True, exist_ok=True)
    order = list(SUPERCLASSES)
    for split, count in COUNTS.items():
        records = [
            bytes([order.index(superclass), CLASSES.index(name)])
            + pixels.transpose(2, 0, 1).tobytes()
            for superclass, name, pixels in pictures(split)
        ]
        mixed = [record for start in range(count) for record in records[start::count]]
        (root / f"{split}.bin").write_bytes(b"".join(mixed))
    return root
