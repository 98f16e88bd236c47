"""Rows of `eval`: intervals, bits a weight, and each backbone opened once."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiny
from tinynet import write_pictures

import maskpack
from maskpack.common.errors import BackboneError
from maskpack.evaluation import task_row as score
from maskpack.evaluation.task_row import Bases, masked_weights, score_task
from maskpack.networks.serialize import pack_task
from maskpack.packs.contents import Pack
from maskpack.packs.file import read
from maskpack.reports.describe import wilson
from maskpack.runs.open import open_base

# ---- the interval


@pytest.mark.parametrize(
    ("correct", "count", "low", "high"),
    [
        (82, 100, 0.7333, 0.8830),
        (0, 10, 0.0, 0.2775),
        (10, 10, 0.7225, 1.0),
        (1, 2, 0.0945, 0.9055),
        (870, 1000, 0.8477, 0.8894),
    ],
)
def test_wilsons_interval(correct: int, count: int, low: float, high: float) -> None:
    assert wilson(correct, count) == pytest.approx((low, high), abs=5e-5)


def test_of_no_samples_nothing_is_known() -> None:
    assert wilson(0, 0) == (None, None)


def test_a_metric_that_is_no_share_has_no_interval(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pack = read(place / "zoo")
    share = score_task(pack, "one", trust_code=True)
    correct = round(share["accuracy"] * share["count"])
    assert (share["low"], share["high"]) == wilson(correct, share["count"])
    monkeypatch.setattr(score, "Classification", type(None))
    other = score_task(pack, "one", trust_code=True)
    assert other == share | {"low": None, "high": None}


# ---- bytes as papers count them


def test_a_scope_changes_bytes_and_nothing_else(place: Path) -> None:
    pack = read(place / "zoo")
    every, ksm, piggyback = (
        score_task(pack, "one", trust_code=True, scope=scope)
        for scope in ("all", "ksm", "piggyback")
    )
    head = 4 * (3 * 12 + 3)
    assert (ksm["bytes"], ksm["head"], ksm["MB"]) == (head, head, head / 1e6)
    assert ksm["ratio"] == (pack.backbone.size_bytes + head) / head
    assert "header" not in ksm
    # without its head nothing is left of classifier-only
    assert (piggyback["bytes"], piggyback["head"], piggyback["ratio"]) == (0, None, None)
    sizes = {"bytes", "MB", "MiB", "ratio", "of fine-tuned", "header", "head"}
    for row in (ksm, piggyback):
        assert {key: row[key] for key in row if key not in sizes} == {
            key: every[key] for key in every if key not in sizes
        }


# ---- bits a masked weight


def test_a_bit_of_a_kernel_is_shared_by_its_weights() -> None:
    base = tiny.backbone(tiny.everything)
    for method in ("piggyback", "ksm", "affine"):
        network = maskpack.attach(base, 3, method)
        packed = pack_task(network, "t", {})
        assert masked_weights(packed, base) == sum(
            base.state()[name].numel() for name in network.layers
        )
    bare = pack_task(maskpack.attach(base, 3, "classifier-only"), "t", {})
    assert masked_weights(bare, base) == 0


# ---- backbones


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs on one backbone, as a pack too; and one on the same network with other weights."""
    folder = tmp_path_factory.mktemp("score")
    data = str(write_pictures(folder / "data", each=2))
    more: dict[str, Any] = {"data": data, "recipe": {"epochs": 1}}
    for name in ("one", "two"):
        maskpack.fit("tinynet:build", name, "classifier-only", output=folder / name, **more)
    other = "tinynet:build/none#1"
    maskpack.fit(other, "three", "classifier-only", output=folder / "three", **more)
    maskpack.pack({"one": folder / "one", "two": folder / "two"}, folder / "zoo")
    return folder


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the backbones that were opened."""
    names: list[str] = []
    real = score.open_base

    def noted(pack: Pack, *arguments: Any, **options: Any) -> Any:
        names.append(pack.backbone.name)
        return real(pack, *arguments, **options)

    monkeypatch.setattr(score, "open_base", noted)
    return names


def test_a_backbone_is_opened_once_for_all_that_share_it(place: Path, opened: list[str]) -> None:
    bases = Bases(trust_code=True)
    rows = [
        score_task(pack, name, bases=bases)
        for pack in (read(place / "zoo"), *(maskpack.read(place / n) for n in ("one", "three")))
        for name in pack.tasks
    ]
    assert [row["task"] for row in rows] == ["one", "two", "one", "three"]
    assert opened == ["tinynet:build", "tinynet:build/none#1"]
    assert rows[0]["accuracy"] == rows[2]["accuracy"]


def test_code_that_a_run_may_open_is_not_lent_to_a_pack(place: Path, opened: list[str]) -> None:
    bases = Bases()
    run, pack = maskpack.read(place / "one"), read(place / "zoo")
    bases.open(run, run.task())
    with pytest.raises(BackboneError, match="wants to import Python code, 'tinynet:build'"):
        bases.open(pack, pack.task("one"))
    assert opened == ["tinynet:build"] * 2


def test_an_open_backbone_is_checked_for_every_pack(place: Path) -> None:
    bases = Bases(backbone="tinynet:build")
    pack = read(place / "zoo")
    base = bases.open(pack, pack.task("one"))
    assert bases.open(pack, pack.task("two")) is base
    lie = Pack(replace(pack.backbone, fingerprint="00" * 32), pack.tasks, pack.path)
    with pytest.raises(BackboneError, match="was made for"):
        bases.open(lie, lie.task("one"))


def test_another_network_is_told_as_such_whatever_its_head_is_called(tmp_path: Path) -> None:
    path = tmp_path / "zoo"
    maskpack.pack({"shades": maskpack.attach("squeezenet1_1/none#0", 3)}, path)
    pack = maskpack.read(path)
    with pytest.raises(BackboneError, match=r"was made for squeezenet1_1/none#0 .*it had 50 ten"):
        open_base(pack, pack.task(), backbone="resnet18/none#0")
