"""examples/benchmarks/size.py: the paired interval, and that each way to store gives the network
back; what it trains is left to who runs it."""

from __future__ import annotations

import argparse
import importlib
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import tiny
import torch
from shell import ROOT

import maskpack


@pytest.fixture
def size(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(ROOT / "examples" / "benchmarks")
    return importlib.import_module("size")


@pytest.fixture
def stored(size: ModuleType) -> ModuleType:
    return size.stored


@pytest.fixture
def tuned() -> maskpack.MaskedNetwork:
    return tiny.train(maskpack.attach(tiny.backbone(), 3, "fine-tune"))


@pytest.fixture
def trained(stored: ModuleType, tuned: maskpack.MaskedNetwork, tmp_path: Path) -> object:
    maskpack.pack({"shades": tuned}, tmp_path / "tuned.safetensors")
    session = SimpleNamespace(
        backbone=tiny.backbone(), task=tiny.task(), options=SimpleNamespace(seed=0)
    )
    return stored.Trained(session, tmp_path / "tuned.safetensors")


def test_seeds_are_averaged_before_pictures_are_paired(size: ModuleType) -> None:
    def points(*marks: str) -> list[dict[str, str]]:
        return [{"correct": one} for one in marks]

    # changes of the four pictures, mean of two seeds: 0, 50, -100, 50 points
    found = size.paired(points("1101", "1101"), points("1110", "1011"))
    deviation = (sum(x**2 for x in (0, 50, -100, 50)) / 3) ** 0.5
    margin = 1.96 * deviation / 2
    assert found == pytest.approx((0.0, -margin, margin))
    assert size.paired(points("1010"), points("1010")) == (0.0, 0.0, 0.0)


def test_float32_checkpoint_gives_the_very_network(
    stored: ModuleType, trained: object, tuned: torch.nn.Module, tmp_path: Path
) -> None:
    network = stored.checkpoint(trained, tmp_path / "whole.safetensors")
    images = torch.randn(2, 3, tiny.SIZE, tiny.SIZE)
    assert torch.equal(network(images), tuned.eval()(images))
    numbers = sum(tensor.numel() for tensor in network.state_dict().values())
    assert (tmp_path / "whole.safetensors").stat().st_size > 4 * numbers


@pytest.mark.parametrize("way", ["checkpoint", "difference", "packed"])
def test_halves_give_nearly_the_network(
    way: str, stored: ModuleType, trained: object, tuned: torch.nn.Module, tmp_path: Path
) -> None:
    how = {"dtype": "float16"} if way == "checkpoint" else {}
    network = getattr(stored, way)(trained, tmp_path / "half.safetensors", **how)
    images = torch.randn(2, 3, tiny.SIZE, tiny.SIZE)
    torch.testing.assert_close(network(images), tuned.eval()(images), atol=5e-3, rtol=5e-3)


def test_bitdelta_moves_the_backbone_towards_the_network(
    stored: ModuleType, trained: object, tuned: torch.nn.Module, tmp_path: Path
) -> None:
    network = stored.bitdelta(trained, tmp_path / "signs.safetensors", per="channel")
    streams = maskpack.read(tmp_path / "signs.safetensors").task().streams
    assert {key: stream.dtype for key, stream in streams.items()} == {
        "mask": "bits",
        "k1": "f16",
        "k2": "f16",
        "head": "f16",
        "norms": "f16",
        "weights": "f16",
    }
    wanted, pristine = tuned.network.conv.weight, tiny.backbone().module.conv.weight
    assert (network.conv.weight - wanted).norm() < (pristine - wanted).norm()


def test_every_row_has_a_file_of_its_own(size: ModuleType, tmp_path: Path) -> None:
    args = argparse.Namespace(output=tmp_path, backbone="net", img_size=64, epochs=10)
    paths = {size.point_path((label, "shades", 0), args) for label in size.ROWS}
    assert len(paths) == len(size.ROWS)
    assert len({row.described() for row in size.ROWS.values()}) == len(size.ROWS)


def test_runs_are_called_as_those_of_accuracy(size: ModuleType) -> None:
    names = [("piggyback", ""), ("piggyback", "frozen"), ("piggyback", "task"), ("ksm", "task")]
    found = [size.Training(method, 1e-3, norms).name for method, norms in names]
    assert found == ["piggyback", "piggyback", "piggyback-task-norms", "ksm"]
    small = size.Training("piggyback", 1e-3, "scale", recipe={"size_penalty": 0.02}, teacher=1)
    assert small.name == "piggyback-scale-norms-taught-size-penalty-0.02"


def test_an_adapter_in_pefts_own_format_gives_the_same_network(
    stored: ModuleType, tmp_path: Path
) -> None:
    network = tiny.train(maskpack.attach(tiny.backbone(), 3, "lora", rank=2, alpha=6.0))
    maskpack.pack({"shades": network}, tmp_path / "lora.safetensors")
    session = SimpleNamespace(backbone=tiny.backbone(), task=tiny.task())
    trained = stored.Trained(session, tmp_path / "lora.safetensors")
    by_peft = stored.adapter(trained, tmp_path / "adapter.safetensors")
    images = torch.randn(2, 3, tiny.SIZE, tiny.SIZE)
    with torch.no_grad():
        expected = network.eval()(images)
        assert not torch.equal(tiny.plain()(images)[:, :3], expected)
        torch.testing.assert_close(by_peft(images), expected, atol=2e-3, rtol=2e-3)
    assert 0 < (tmp_path / "adapter.safetensors").stat().st_size < 4000
