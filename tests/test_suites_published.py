"""The built-in suites on tiny data in the published layouts, on a network of four layers."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tinydense
from PIL import Image
from safetensors.torch import save_file
from test_tasks_coco import coco
from test_tasks_edges import write_pairs
from test_tasks_voc import devkit

import maskpack
from maskpack.backbones.base import seeded
from maskpack.suites.read import Suite, parse_suite, read_suite
from maskpack.tasks.dense.perceptual_loss import VGG16Features, open_features

# on a picture or two a split: all of them train, and none is left to choose the epoch by
TINY = """
img-size = 32
epochs = 1
batch-size = 2
opt = "adam"
lr = 1e-2
select = "test"
"""


FEATURES = "vgg16_features.safetensors"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Every folder that the built-in suites want, with a few small pictures in each."""
    folder = tmp_path_factory.mktemp("published")
    coco(folder / "coco")
    devkit(folder)
    write_pairs(folder / "edges2handbags", {"train": 2, "val": 1})
    (folder / "styles").mkdir()
    (folder / "paintings" / "train").mkdir(parents=True)
    pixels = np.random.default_rng(0).integers(0, 255, (20, 24, 3), dtype=np.uint8)
    for name in ("styles/gogh", "styles/munch", "paintings/train/436535", "paintings/train/437654"):
        Image.fromarray(pixels).save(folder / f"{name}.jpg")
    with seeded(0):
        save_file(VGG16Features().state_dict(), folder / FEATURES)
    tinydense.write_photos(folder / "color_photos", 2, 1)
    for split, count in (("train", 2), ("test", 1)):
        for kind in ("images", "masks"):
            (folder / "seg_lungs" / split / kind).mkdir(parents=True)
            for number in range(count):
                bits = pixels[..., 0] > 100 if kind == "masks" else pixels[..., 0]
                picture = Image.fromarray(
                    (bits * 255).astype(np.uint8) if kind == "masks" else bits
                )
                picture.save(folder / "seg_lungs" / split / kind / f"{number}.png")
    yield folder
    open_features.cache_clear()


def tiny(name: str) -> Suite:
    """A built-in suite with TINY for its options, none of its own, on the tiny network."""
    text = read_suite(name).text
    text = re.sub(r'backbone = "[^"]*"', 'backbone = "tinydense:build"', text)
    text = re.sub(r"\nfeatures = .*", "", text)
    text = re.sub(r"(\nstyle = .*)", rf'\1\nfeatures = "{FEATURES}"', text)
    text = re.sub(r"\[options\]\n(.+\n)*", f"[options]{TINY}", text)
    return parse_suite(re.sub(r"\nepochs = \d+(?=\n(?!batch-size))", "", text), f"{name}.toml")


def trained(name: str, place: Path, output: Path) -> dict[str, Any]:
    suite = tiny(name)
    found = maskpack.run_suite(suite, output, data=place, trust_code=True)
    assert found["failed"] == {}
    assert all(cell["test"] for cell in found["cells"])
    rows = [row for row in found["tables"]["scores"]["rows"] if row["figures"] == "ours"]
    assert [row["task"] for row in rows] == list(suite.tasks)
    for row in rows:
        assert all(type(row[label]) is float for label in suite.methods), row
    return found


@pytest.mark.slow
@pytest.mark.parametrize("name", ["image-to-image", "image-to-image-small", "residual-blocks"])
def test_a_suite_runs_from_end_to_end(name: str, place: Path, tmp_path: Path) -> None:
    found = trained(name, place, tmp_path / "out")
    tables = {key: table["rows"] for key, table in found["tables"].items()}
    kept = [label for label in tiny(name).methods if label not in ("scratch", "fine-tune")]
    scores = {row["task"]: row for row in tables["scores"] if row["figures"] == "ours"}
    again = [row for row in tables["forgetting"] if row["figures"] == "ours"]
    assert len(again) == len(scores) - 1
    for row in again:
        for label in kept:
            assert row[label] == scores[row["task"]][label], "measured again, it is the same"
    assert {row["method"] for row in tables["sizes"]} >= {*tiny(name).methods}
    masked = name != "residual-blocks"
    assert bool(tables["similarity"]) == bool(tables["zeros"]) == masked
