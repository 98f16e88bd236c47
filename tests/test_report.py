"""Sizes, sparsity and similarity, counted by hand."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from maskpack.packs import mask_codec as codec
from maskpack.packs.contents import Array, BackboneInfo, Pack, PackedTask, Stream, encode
from maskpack.packs.file import read, write
from maskpack.reports import describe as report
from maskpack.reports.describe import (
    by_task,
    coefficient_rows,
    compare,
    content,
    describe,
    entropy_bytes,
    fine_tuned_bytes,
    header_shares,
    layer_rows,
    recorded_scores,
    share_of_ones,
    similarity_rows,
    size_rows,
    sparsity_rows,
    task_bytes,
)

NONE: dict[str, Any] = {"coefficients": {}}
BACKBONE = BackboneInfo("tiny", "00" * 32, 1000, "fc", {})


def bits(*values: int) -> Array:
    return np.array(values, np.bool_)


def task(name: str, masks: dict[str, Array], **more: Any) -> PackedTask:
    head = {"fc.weight": np.ones((2, 3), np.float32), "fc.bias": np.ones(2, np.float32)}
    streams = {"mask": encode(masks, "bits"), "head": encode(head, "f32")}
    return PackedTask(name, "piggyback", {}, "frozen", more, streams)


def entropy(count: int, ones: int) -> float:
    """H(p) by its definition, in bits."""
    shares = (ones / count, 1 - ones / count)
    return -sum(p * math.log2(p) for p in shares if p)


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
    pack = Pack(pack.backbone, pack.tasks, header_bytes=902)
    birds, cars, plain = size_rows(pack)
    assert birds.pop("entropy bytes") == pytest.approx((5 * entropy(5, 3) + 8 * 1) / 8)
    assert birds == {
        "task": "birds",
        "method": "piggyback",
        "norms mode": "frozen",
        "masks": 1 + 1,
        "coefficients": 0,
        "norms": 0,
        "head": 32,
        "header": 301,
        "total": 335,
        "of fine-tuned": 335 / 1032,
        "ones": 7 / 13,
        "val accuracy": 0.5,
        "test accuracy": 0.25,
    }
    assert (cars["ones"], "test accuracy" in cars) == (9 / 13, False)
    assert (cars["header"], plain["header"]) == (301, 300)
    assert (plain["total"], plain["ones"], plain["entropy bytes"]) == (330, None, 0)


def test_the_header_is_shared_by_the_tasks_to_the_last_byte(pack: Pack, tmp_path: Path) -> None:
    write(tmp_path / "p", pack)
    written = read(tmp_path / "p")
    shares = header_shares(written)
    assert sum(shares.values()) == written.header_bytes
    assert max(shares.values()) - min(shares.values()) <= 1
    assert header_shares(pack) == shares, "a pack that is no file yet"
    assert header_shares(Pack(BACKBONE)) == {}


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
    a, b = layer_rows(pack.task("birds"))
    # - 0.6 log2 0.6 - 0.4 log2 0.4
    assert a.pop("entropy") == pytest.approx(0.9709505944546686)
    assert a == {"layer": "a", "shape": (5,), "bits": 5, "ones": 3, "zeros": 2 / 5} | NONE
    expected = {"layer": "b", "shape": (2, 4), "bits": 8, "ones": 4, "zeros": 4 / 8}
    assert b == expected | {"entropy": 1.0} | NONE
    assert layer_rows(pack.task("plain")) == []
    assert share_of_ones([a, b]) == 7 / 13
    assert share_of_ones([]) is None


def test_entropy_counts_every_bit_stream() -> None:
    masks, signs = {"w": bits(1, 1, 1, 0)}, {"w": bits(1, 0, 0, 0)}
    streams = {"mask": encode(masks, "bits"), "negative": encode(signs, "bits")}
    one = -(0.75 * math.log2(0.75) + 0.25 * math.log2(0.25))
    found = entropy_bytes(PackedTask("t", "piggyback", {}, "frozen", {}, streams))
    assert found == pytest.approx(2 * 4 * one / 8)


def test_coefficients_range_over_the_values_that_are_kept() -> None:
    masks = {"a": bits(1, 0, 0), "b": bits(1, 1)}
    scale = {"a": np.array([9.0, -0.5, 0.25]), "b": np.zeros(2)}
    k1 = {"a": np.full((1,), 2.0), "b": np.array([3.0, -3.0])}
    streams = {
        "mask": encode(masks, "bits"),
        "scale": encode(scale, "f16", masks, "mask"),
        "k1": encode(k1, "f32"),
        "norms": encode({"a": np.ones(1)}, "f32"),
    }
    one = PackedTask("t", "affine", {}, "frozen", {}, streams)
    found = {row["layer"]: row["coefficients"] for row in layer_rows(one)}
    assert found == {
        "a": {"scale": {"min": -0.5, "max": 0.25}, "k1": {"min": 2.0, "max": 2.0}},
        "b": {"k1": {"min": -3.0, "max": 3.0}},
    }, "b keeps no scale: it has no zeros"
    rows = sparsity_rows({"t": content(one)})
    assert rows[0]["coefficients"] == {"t": found["a"]}
    assert coefficient_rows(rows) == [
        {"task": "t", "layer": "a", "coefficient": "scale", "min": -0.5, "max": 0.25},
        {"task": "t", "layer": "a", "coefficient": "k1", "min": 2.0, "max": 2.0},
        {"task": "t", "layer": "b", "coefficient": "k1", "min": -3.0, "max": 3.0},
    ]


def test_zeros_of_every_task_stand_side_by_side(pack: Pack) -> None:
    extra = task("extra", {"c": bits(0, 0), "b": bits(1, 0).reshape(2, 1)})
    both = dict(pack.tasks) | {"extra": extra}
    rows = sparsity_rows({name: content(one) for name, one in both.items()})
    fifth = pytest.approx(0.9709505944546686)
    assert [(row["layer"], row["shape"], row["bits"]) for row in rows] == [
        ("a", [5], 5), ("b", [2, 4], 8), ("c", [2], 2), ("b", [2, 1], 2),
    ]  # fmt: skip
    assert [row["zeros"] for row in rows] == [
        {"birds": 2 / 5, "cars": 2 / 5},
        {"birds": 4 / 8, "cars": 2 / 8},
        {"extra": 1.0},
        {"extra": 1 / 2},
    ]
    assert [row["ones"] for row in rows][:2] == [
        {"birds": 3 / 5, "cars": 3 / 5},
        {"birds": 4 / 8, "cars": 6 / 8},
    ]
    assert rows[0]["entropy"] == {"birds": fifth, "cars": fifth}
    assert rows[1]["entropy"] == {"birds": 1.0, "cars": pytest.approx(entropy(8, 6))}
    assert rows[2]["entropy"] == {"extra": 0.0}


def test_a_layer_without_elements_counts_nothing() -> None:
    empty = task("t", {"a": np.zeros((0, 3), np.bool_)})
    expected = {"layer": "a", "shape": (0, 3), "bits": 0, "ones": 0, "zeros": 0.0, "entropy": 0.0}
    assert layer_rows(empty) == [expected | NONE]
    assert share_of_ones(layer_rows(empty)) is None
    assert compare(empty, empty) == {"similarity": None, "jaccard": None, "chance": None}
    pack = Pack(BackboneInfo("t", "", 0, "fc", {}), {"t": empty}, header_bytes=8)
    assert size_rows(pack)[0]["total"] == 40


# ---- similarity


def test_two_masks_compared_by_hand(pack: Pack) -> None:
    expected = {
        "similarity": (3 + 6) / 13,
        # zeros in both: the last of a, the last two of b; in either: three of a, four of b
        "jaccard": (1 + 2) / (3 + 4),
        "chance": (5 * (0.6 * 0.6 + 0.4 * 0.4) + 8 * (0.5 * 0.75 + 0.5 * 0.25)) / 13,
    }
    found = compare(pack.task("birds"), pack.task("cars"))
    assert found == pytest.approx(expected)
    assert compare(pack.task("cars"), pack.task("birds")) == found
    itself = {
        "birds": (5 * (0.6**2 + 0.4**2) + 8 * 0.5) / 13,
        "cars": (5 * (0.6**2 + 0.4**2) + 8 * (0.75**2 + 0.25**2)) / 13,
    }
    rows = similarity_rows(pack)
    assert [row["task"] for row in rows] == ["birds", "cars"]
    for row, other in zip(rows, ("cars", "birds"), strict=True):
        name = row["task"]
        for key in ("similarity", "jaccard"):
            assert row[key] == pytest.approx({name: 1.0, other: expected[key]})
        assert row["chance"] == pytest.approx({name: itself[name], other: expected["chance"]})


def test_masks_without_zeros_agree_on_them() -> None:
    a, b = task("a", {"x": bits(1, 1, 1)}), task("b", {"x": bits(1, 1, 1)})
    assert compare(a, b) == {"similarity": 1.0, "jaccard": 1.0, "chance": 1.0}
    c = task("c", {"x": bits(0, 1, 1)})
    assert compare(a, c)["jaccard"] == 0.0


def test_masks_are_compared_over_the_weights_both_mask() -> None:
    a = task("a", {"x": bits(1, 1, 0), "y": bits(1, 0), "z": bits(1, 1).reshape(2, 1)})
    b = task("b", {"z": bits(1, 1).reshape(1, 2), "y": bits(1, 1), "w": bits(0)})
    expected = {"similarity": 1 / 2, "jaccard": 0.0, "chance": 1 / 2}
    assert compare(a, b) == compare(b, a) == expected, "z has two shapes, only y is shared"
    c = task("c", {"v": bits(1)})
    assert compare(a, c) == {"similarity": None, "jaccard": None, "chance": None}
    rows = similarity_rows(Pack(BACKBONE, {"a": a, "c": c}))
    assert [row["similarity"] for row in rows] == [{"a": 1.0, "c": None}, {"a": None, "c": 1.0}]


def test_comparing_is_the_same_by_table_and_by_layer() -> None:
    rng = np.random.default_rng(0)
    masks = [
        {f"w{i}": rng.random(shape) < 0.6 for i, shape in enumerate([(), (3, 5), (8,), (0,)])}
        for _ in range(2)
    ]
    a, b = task("a", masks[0]), task("b", masks[1])
    turned = task("b", dict(reversed(masks[1].items())))
    left, right = (np.concatenate([mask[k].ravel() for k in masks[0]]) for mask in masks)
    found = compare(a, b)
    assert found == pytest.approx(compare(a, turned))
    assert found["similarity"] == pytest.approx((left == right).mean())
    assert found["jaccard"] == pytest.approx((~left & ~right).sum() / (~left | ~right).sum())
    inverse = task("c", {key: ~mask for key, mask in masks[0].items()})
    assert compare(a, inverse)["similarity"] == 0.0


def test_many_coded_masks_are_compared_without_keeping_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each is coded; with two in memory at once the numbers are those of all at once."""
    rng = np.random.default_rng(1)
    tasks = {}
    for name in "abcde":
        packed = task(name, {"w": rng.random((40, 50)) < 0.97})
        raw = packed.streams["mask"]
        coded = Stream(raw.table, "bits", codec.encode(raw.data, [2000]), coded=True)
        tasks[name] = PackedTask(name, "piggyback", {}, "frozen", {}, {"mask": coded})
    pack = Pack(BACKBONE, tasks)
    expected = similarity_rows(pack)
    monkeypatch.setattr(report, "HELD", 2)
    assert similarity_rows(pack) == expected
    assert expected[0]["similarity"]["e"] == compare(tasks["a"], tasks["e"])["similarity"]
    describe(pack)
    assert not any(packed._decoded for packed in tasks.values())


# ---- the whole


def test_the_description_is_json_and_its_bytes_are_the_files(pack: Pack, tmp_path: Path) -> None:
    path = tmp_path / "zoo.safetensors"
    write(path, pack)
    about = describe(read(path))
    assert about["bytes"] == path.stat().st_size
    assert sum(row["total"] for row in about["tasks"]) == about["bytes"]
    assert sum(row["header"] for row in about["tasks"]) == about["header_bytes"]
    assert about["file"] == str(path)
    assert about["backbone"] == {"name": "tiny", "fingerprint": "00" * 32, "bytes": 1000}
    assert [row["task"] for row in about["tasks"]] == ["birds", "cars", "plain"]
    assert json.loads(json.dumps(about, allow_nan=False)) == about


def test_parts_can_be_left_out(pack: Pack) -> None:
    whole = describe(pack)
    for key in ("layers", "similarity"):
        rest = {other: value for other, value in whole.items() if other != key}
        assert describe(pack, **{key: False}) == rest


def test_the_description_turned_round_has_a_row_a_task(pack: Pack) -> None:
    about = describe(pack)
    birds, cars, plain = by_task(about)
    assert birds.items() >= about["tasks"][0].items()
    assert birds["jaccard"] == about["similarity"][0]["jaccard"]
    assert [layer["zeros"] for layer in cars["layers"]] == [2 / 5, 2 / 8]
    assert cars["layers"][1]["shape"] == [2, 4]
    assert (plain["layers"], "similarity" in plain) == ([], False)
    bare = by_task(describe(pack, layers=False, similarity=False))
    assert not any(key in row for row in bare for key in ("layers", "similarity"))


def test_a_pack_without_tasks_is_described(tmp_path: Path) -> None:
    write(tmp_path / "p", Pack(BACKBONE))
    about = describe(read(tmp_path / "p"))
    assert about["bytes"] == about["header_bytes"] == (tmp_path / "p").stat().st_size
    assert about["tasks"] == about["similarity"] == about["layers"] == []
