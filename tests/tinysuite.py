"""A suite small enough for a test to train in seconds, and its data."""

from __future__ import annotations

from pathlib import Path

import tinydense

TEXT = """
title = "Tiny"
backbone = "tinydense:build"

[base]
task = "auto"
epochs = 2

[options]
epochs = 1
batch-size = 2
opt = "adam"
lr = 1e-2

[methods.scratch]
[methods.fine-tune]
sequence = true
[methods.decoder]
[methods.piggyback]
[methods.affine]

[tasks.colour]
task = "colouring"
data = "photos"
metric = "MSE"

[tasks.auto]
task = "autoencode"
data = "photos"

[tasks.ab]
task = "colouring"
data = "photos"
task-set = { values = "ab" }

[published]
source = "Nobody 1999"

[published.scores]
auto = { base = 0.5 }
colour = { scratch = 900, piggyback = 800, theirs = 700 }

[published.after]
auto = { fine-tune = 0.1, piggyback = 0.5 }

[published.sizes]
piggyback = 65.4

[published.counted]
piggyback = "56.4 + 1.8 x 5"

[published.similarity.piggyback]
ab = { colour = 0.5, auto = 0.4 }
"""
METHODS = ("scratch", "fine-tune", "decoder", "piggyback", "affine")


def write(folder: Path, text: str = TEXT) -> Path:
    """The suite's file in a folder, and the data in its `pictures`; returns the file."""
    if not (folder / "pictures").is_dir():
        tinydense.write_photos(folder / "pictures" / "photos")
    path = folder / "tiny.toml"
    path.write_text(text, encoding="utf-8")
    return path
