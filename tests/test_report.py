"""Sizes, sparsity and similarity, counted by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from maskpack.packfile import Array, BackboneInfo, Pack, PackedTask, encode, read, write
from maskpack.report import (
    describe,
    fine_tuned_bytes,
    layer_rows,
    recorded_scores,
    share_of_ones,
    similarity,
    similarity_rows,
    size_rows,
    sparsity_rows,
    task_bytes,
)

BACKBONE = BackboneInfo("tiny", "00" * 32, 1000, "fc", {})


def bits(*values: int) -> Array:
    return np.array(values, np.bool_)


def task(name: str, masks: dict[str, Array], **more: Any) -> PackedTask:
    head = {"fc.weight": np.ones((2, 3), np.float32), "fc.bias": np.ones(2, np.float32)}
    streams = {"mask": encode(masks, "bits"), "head": encode(head, "f32")}
    return PackedTask(name, "piggyback", {}, "frozen", more, streams)


@pytest.fixture
def pack() -> Pack:
    """Two tasks on layers of 5 and 8 bits, and one that has no masks.

    birds: 1 0 1 1 0 | 1 1 1 1 0 0 0 0
    cars:  1 1 1 0 0 | 1 1 1 1 1 1 0 0      two of five and two of eight bits differ
    """
    birds = task(
        "birds",
        {"a": bits(1, 0, 1, 1, 0), "b": bits(1, 1, 1, 1, 0, 0, 0, 0).reshape(2, 4)},
        task={"metric": "accuracy"},
        best={"val_accuracy": 0.5, "val_loss": 2.0},
        test={"accuracy": 0.25, "loss": 1.0},
    )
    cars = task("cars", {"a": bits(1, 1, 1, 0, 0), "b": bits(1, 1, 1, 1, 1, 1, 0, 0).reshape(2, 4)})
    head = {"fc.weight": np.ones((5, 3), np.float16)}
    plain = PackedTask("plain", "classifier-only", {}, "frozen", {}, {"head": encode(head, "f16")})
    return Pack(BACKBONE, {"birds": birds, "cars": cars, "plain": plain})


# ---- sizes


def test_bytes_are_counted_by_part() -> None:
    masks = {"w": bits(1, 0, 0, 1, 1, 1, 1, 1, 0)}  # 9 bits: 2 bytes; 3 zeros
    values = {"w": np.arange(9)}
    streams = {
        "mask": encode(masks, "bits"),
        "negative": encode(masks, "bits"),
        "scale": encode(values, "f16", masks, "mask"),
        "k0": encode({"w": np.ones(1)}, "f32"),
        "levels": encode(values, "u8"),
        "norms": encode({"n.weight": np.ones(7)}, "f16"),
        "head": encode({"fc.weight": np.ones((2, 3))}, "f32"),
        "weights": encode({"n.bias": np.ones(5)}, "f32"),
    }
    assert task_bytes(PackedTask("t", "m", {}, "task", {}, streams)) == {
        "masks": 2 + 2,
        "coefficients": 3 * 2 + 4 + 9,
        "norms": 14,
        "head": 24,
        "weights": 20,
    }


def test_a_row_of_sizes_by_hand(pack: Pack) -> None:
    birds, cars, plain = size_rows(pack)
    assert birds == {
        "task": "birds",
        "method": "piggyback",
        "norms mode": "frozen",
        "masks": 1 + 1,
        "coefficients": 0,
        "norms": 0,
        "head": 32,
        "total": 34,
        "of fine-tuned": 34 / 1032,
        "ones": 7 / 13,
        "val accuracy": 0.5,
        "test accuracy": 0.25,
    }
    assert (cars["ones"], "test accuracy" in cars) == (9 / 13, False)
    assert (plain["total"], plain["ones"]) == (30, None)


def test_a_fine_tuned_copy_is_float32_whatever_the_head_is_stored_in(pack: Pack) -> None:
    assert fine_tuned_bytes(pack, pack.task("birds")) == 1000 + 4 * 8
    assert fine_tuned_bytes(pack, pack.task("plain")) == 1000 + 4 * 15


@pytest.mark.parametrize(
    "info",
    [
        {},
        {"task": 3, "best": [], "test": "x"},
        {"task": {"metric": ["a"]}, "best": {}, "test": {}},
        {"task": {"metric": "\x1b[2J"}, "test": {"\x1b[2J": 1.0}},
        {"best": {"val_accuracy": "\x1b[2J"}, "test": {"accuracy": None}},
        {"best": {"val_accuracy": True}, "test": {"accuracy": [1]}},
    ],
)
def test_records_that_are_no_numbers_are_not_shown(info: dict[str, Any]) -> None:
    assert recorded_scores(task("t", {"a": bits(1)}, **info)) == {}


def test_a_metric_of_another_name_is_shown() -> None:
    info = {"task": {"metric": "iou"}, "best": {"val_iou": 0.5}, "test": {"iou": 1}}
    assert recorded_scores(task("t", {"a": bits(1)}, **info)) == {"val iou": 0.5, "test iou": 1}


# ---- ones and zeros


def test_layers_by_hand(pack: Pack) -> None:
    assert layer_rows(pack.task("birds")) == [
        {"layer": "a", "shape": (5,), "bits": 5, "ones": 3, "zeros": 2 / 5},
        {"layer": "b", "shape": (2, 4), "bits": 8, "ones": 4, "zeros": 4 / 8},
    ]
    assert layer_rows(pack.task("plain")) == []
    assert share_of_ones(pack.task("birds")) == 7 / 13


def test_zeros_of_every_task_stand_side_by_side(pack: Pack) -> None:
    extra = task("extra", {"c": bits(0, 0)})
    both = Pack(BACKBONE, dict(pack.tasks) | {"extra": extra})
    assert sparsity_rows(both) == [
        {"layer": "a", "bits": 5, "zeros": {"birds": 2 / 5, "cars": 2 / 5}},
        {"layer": "b", "bits": 8, "zeros": {"birds": 4 / 8, "cars": 2 / 8}},
        {"layer": "c", "bits": 2, "zeros": {"extra": 1.0}},
    ]


def test_a_layer_without_elements_counts_nothing() -> None:
    empty = task("t", {"a": np.zeros((0, 3), np.bool_)})
    assert layer_rows(empty) == [
        {"layer": "a", "shape": (0, 3), "bits": 0, "ones": 0, "zeros": 0.0}
    ]
    assert share_of_ones(empty) is None
    assert similarity(empty, empty) is None
    assert size_rows(Pack(BackboneInfo("t", "", 0, "fc", {}), {"t": empty}))[0]["total"] == 32


# ---- similarity


def test_similarity_by_hand(pack: Pack) -> None:
    expected = (3 + 6) / 13
    assert similarity(pack.task("birds"), pack.task("cars")) == expected
    assert similarity_rows(pack) == [
        {"task": "birds", "similarity": {"birds": 1.0, "cars": expected}},
        {"task": "cars", "similarity": {"birds": expected, "cars": 1.0}},
    ]


def test_similarity_is_over_the_weights_both_mask() -> None:
    a = task("a", {"x": bits(1, 1, 0), "y": bits(1, 0), "z": bits(1, 1).reshape(2, 1)})
    b = task("b", {"z": bits(1, 1).reshape(1, 2), "y": bits(1, 1), "w": bits(0)})
    assert similarity(a, b) == similarity(b, a) == 1 / 2, "z has two shapes, only y is shared"
    c = task("c", {"v": bits(1)})
    assert similarity(a, c) is None
    assert similarity_rows(Pack(BACKBONE, {"a": a, "c": c})) == [
        {"task": "a", "similarity": {"a": 1.0, "c": None}},
        {"task": "c", "similarity": {"a": None, "c": 1.0}},
    ]


def test_similarity_is_the_same_by_table_and_by_layer() -> None:
    rng = np.random.default_rng(0)
    masks = [
        {f"w{i}": rng.random(shape) < 0.6 for i, shape in enumerate([(), (3, 5), (8,), (0,)])}
        for _ in range(2)
    ]
    a, b = task("a", masks[0]), task("b", masks[1])
    turned = task("b", dict(reversed(masks[1].items())))
    share = np.mean(np.concatenate([(masks[0][k] == masks[1][k]).ravel() for k in masks[0]]))
    assert similarity(a, b) == similarity(a, turned) == pytest.approx(float(share))
    inverse = task("c", {key: ~mask for key, mask in masks[0].items()})
    assert similarity(a, inverse) == 0.0


# ---- the whole


def test_the_description_is_json_and_its_bytes_are_the_files(pack: Pack, tmp_path: Path) -> None:
    path = tmp_path / "zoo.safetensors"
    write(path, pack)
    about = describe(read(path))
    assert about["bytes"] == path.stat().st_size
    assert about["header_bytes"] + sum(row["total"] for row in about["tasks"]) == about["bytes"]
    assert about["file"] == str(path)
    assert about["backbone"] == {"name": "tiny", "fingerprint": "00" * 32, "bytes": 1000}
    assert [row["task"] for row in about["tasks"]] == ["birds", "cars", "plain"]
    assert json.loads(json.dumps(about, allow_nan=False)) == about


def test_a_pack_without_tasks_is_described(tmp_path: Path) -> None:
    write(tmp_path / "p", Pack(BACKBONE))
    about = describe(read(tmp_path / "p"))
    assert about["bytes"] == about["header_bytes"] == (tmp_path / "p").stat().st_size
    assert about["tasks"] == about["similarity"] == about["layers"] == []
