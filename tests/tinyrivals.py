"""A suite of classification in which networks are shared, and its data: three small tasks."""

from __future__ import annotations

from pathlib import Path

import torch
from PIL import Image

SIZE = 8
TASKS = ("warm", "dark", "striped")
TEXT = """
title = "Rivals"
backbone = "tiny:everything"

[options]
epochs = 2
batch-size = 4
img-size = 8
lr = 1e-2
train-crop-mode = "resize"

[methods.fine-tune]
[methods.piggyback]
[methods.fine-tune-sequence]
method = "fine-tune"
sequence = true
[methods.joint]
method = "fine-tune"
joint = true

[tasks.warm]
data = "warm"
[tasks.dark]
data = "dark"
[tasks.striped]
data = "striped"
"""


def write(folder: Path, text: str = TEXT) -> Path:
    """The suite's file in a folder, and its tasks' pictures in `pictures`; returns the file."""
    for place, task in enumerate(TASKS):
        if not (folder / "pictures" / task).is_dir():
            _write_task(folder / "pictures" / task, classes=2 + place % 2, seed=place)
    path = folder / "rivals.toml"
    path.write_text(text, encoding="utf-8")
    return path


def _write_task(folder: Path, classes: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for split, count in (("train", 6), ("test", 3)):
        for label in range(classes):
            kind = folder / split / f"class{label}"
            kind.mkdir(parents=True)
            for number in range(count):
                noise = torch.randint(0, 60, (SIZE, SIZE, 3), generator=generator)
                noise[:, :, (label + seed) % 3] += 150  # a colour for each class
                Image.fromarray(noise.to(torch.uint8).numpy()).save(kind / f"{number}.png")
