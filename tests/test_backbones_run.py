"""`run:PATH`: a network somebody trained, as the backbone of the next tasks."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from maskpack import methods
from maskpack.backbones import open_backbone
from maskpack.common.preprocess import Preprocess
from maskpack.networks.build import task_network
from maskpack.networks.serialize import info_of, pack_task
from maskpack.packs import file as packfile
from maskpack.packs.contents import Pack
from maskpack.runs.open import open_backbone as resolve

OWN = Preprocess(img_size=24, crop_pct=1.0, mean=(0.1, 0.2, 0.3), std=(1.0, 1.0, 1.0))


def halves() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ConvTranspose2d(4, 4, 3), nn.Conv2d(4, 3, 1))


halves.parts = {"encoder": ("0",), "decoder": ("1",)}  # type: ignore[attr-defined]
halves.preprocess = {"img_size": 16}  # type: ignore[attr-defined]


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A function: what a task's info says -> the name of a pack with that task."""
    monkeypatch.setitem(sys.modules, "inhalves", sys.modules[__name__])

    def write(info: dict[str, Any]) -> str:
        base = open_backbone("inhalves:halves")
        task = pack_task(task_network(base, methods.make("piggyback"), 2), "first", info)
        packfile.write(tmp_path / "first.safetensors", Pack(info_of(base), {"first": task}))
        return f"run:{tmp_path / 'first.safetensors'}"

    return write


def test_a_run_keeps_its_parts_and_its_own_preprocessing(written: Any) -> None:
    given = dataclasses.asdict(OWN)
    backbone = resolve(written({"preprocess": given}), trust_code=True)
    assert backbone.preprocess == OWN
    assert backbone.parts == {"encoder": ("0",), "decoder": ("1",)}
    assert backbone.module(torch.zeros(1, 3, 16, 16)).shape == (1, 2, 16, 16)


@pytest.mark.parametrize(
    "info",
    [
        {},
        {"preprocess": None},
        {"preprocess": "small"},
        {"preprocess": {"img_size": 10**9}},
        {"preprocess": {"img_size": 24, "mean": 3}},
        {"preprocess": {"img_size": 24, "colour": "grey"}},
        {"preprocess": {"img_size": [24]}},
    ],
)
def test_preprocessing_that_is_none_leaves_the_networks_own(
    written: Any, info: dict[str, Any]
) -> None:
    backbone = resolve(written(info), trust_code=True)
    assert backbone.preprocess == Preprocess(img_size=16)
