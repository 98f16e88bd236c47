"""What a report tells, counted by hand."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from report_packs import (
    SHAPES,
    affine,
    info,
    ksm,
    masks,
    pack,
    piggyback,
    plain,
    style_info,
)

from maskpack.packs.contents import encode
from maskpack.reports.describe import compare, describe, wilson
from maskpack.reports.summary import distinct, original_name, pareto_front, scores, summarize

# ---- the front


@pytest.mark.parametrize(
    ("points", "front"),
    [
        ([], []),
        ([(10, 0.5)], [0]),
        ([(10, 0.5), (20, 0.6), (30, 0.6), (40, 0.9)], [0, 1, 3]),
        ([(40, 0.9), (10, 0.95)], [1]),
        ([(10, 0.5), (10, 0.7)], [1]),
        ([(20, 0.7), (10, 0.7), (10, 0.7)], [1, 2]),  # equal points are both kept
        ([(10, 0.7), (5, 0.0)], [1, 0]),  # by size
    ],
)
def test_pareto_front_by_hand(points: list[tuple[float, float]], front: list[int]) -> None:
    assert pareto_front(points) == front


@given(st.lists(st.tuples(st.integers(1, 6), st.integers(0, 6)), max_size=12))
def test_pareto_front_is_what_no_other_point_beats(points: list[tuple[int, int]]) -> None:
    def beaten(n: int) -> bool:
        size, score = points[n]
        return any(a <= size and b >= score and (a, b) != (size, score) for a, b in points)

    expected = {n for n in range(len(points)) if not beaten(n)}
    found = pareto_front([(float(size), float(score)) for size, score in points])
    assert set(found) == expected and len(found) == len(expected)
    assert [points[n] for n in found] == sorted(points[n] for n in found)
    turned = pareto_front([(float(size), -float(score)) for size, score in points], lower=True)
    assert turned == found


def test_where_lower_is_better_the_front_is_turned_round() -> None:
    points = [(10, 900.0), (20, 500.0), (30, 700.0), (40, 100.0), (40, 100.0)]
    assert pareto_front(points, lower=True) == [0, 1, 3, 4]
    assert pareto_front(points) == [0]


def style(name: str, loss: float | None, classes: int, lower: object = True) -> Any:
    return piggyback(name, about=style_info(loss, lower), classes=classes)


def test_the_lowest_loss_is_best() -> None:
    tasks = [
        style("a", 447480.0, 1),
        style("b", 523000.0, 2),
        style("c", 401000.5, 3),
        style("untested", None, 4),
    ]
    summary = summarize([pack(*tasks)])
    (about,) = summary["originals"]
    assert (about["metric"], about["lower is better"]) == ("total loss", True)
    assert about["tasks"] == ["a", "b", "c", "untested"]  # by size, as ever
    assert (about["front"], about["best"], about["smallest"]) == (["a", "c"], "c", None)
    rows = {row["label"]: row for row in summary["tasks"]}
    assert (rows["a"]["test"], rows["a"]["val"], rows["a"]["low"]) == (447480.0, 894960.0, None)


def test_a_share_may_be_better_the_lower_too() -> None:
    """With 100 pictures the interval of .10 is .055 to .174."""
    about = [info(score) for score in (0.15, 0.30, 0.10)]
    for one in about:
        one["task"]["lower is better"] = True
    tasks = [piggyback(f"t{n}", about=one, classes=n + 1) for n, one in enumerate(about)]
    (found,) = summarize([pack(*tasks)])["originals"]
    assert (found["best"], found["smallest"]) == ("t2", "t0")


@pytest.mark.parametrize("lower", [None, 1, "true", [True], {}, False])
def test_only_a_plain_true_turns_a_front_round(lower: object) -> None:
    summary = summarize([pack(style("a", 3.0, 1, lower), style("b", 2.0, 2, lower))])
    (about,) = summary["originals"]
    assert (about["lower is better"], about["best"]) == (False, "a")
    mixed = summarize([pack(style("a", 3.0, 1, lower), style("b", 2.0, 2))])["originals"]
    assert [one["best"] for one in mixed] == ["a", "b"]  # they do not compete


def test_best_and_smallest_within_its_interval() -> None:
    """With 100 pictures the interval of .90 is .826 to .945."""
    tasks = [
        plain("a", 0.60),
        piggyback("b", 0.83),
        affine("c", 0.90),
        affine("d", 0.86),
        piggyback("untested", None),
    ]
    summary = summarize([pack(*tasks)])
    (about,) = summary["originals"]
    assert (about["task"], about["metric"]) == ("birds", "accuracy")
    assert about["front"] == ["a", "b", "c"]
    assert (about["best"], about["smallest"]) == ("c", "b")
    assert {row["label"] for row in summary["tasks"] if row["on front"]} == {"a", "b", "c"}
    sizes = {row["label"]: row["total"] for row in summary["tasks"]}
    assert about["tasks"] == sorted(sizes, key=lambda label: (sizes[label], label))


def test_tasks_are_compared_with_those_that_learnt_the_same() -> None:
    tasks = piggyback("one", 0.5), piggyback("other", 0.9, original="cars"), plain("two", 0.4)
    abouts = summarize([pack(*tasks)])["originals"]
    assert [(about["task"], about["front"]) for about in abouts] == [
        ("birds", ["two", "one"]),
        ("cars", ["other"]),
    ]


def test_a_task_learnt_once_has_beaten_nothing() -> None:
    summary = summarize([pack(piggyback("one"), plain("untested", None))])
    assert summary["originals"][0]["best"] == "one"
    assert not any(row["on front"] for row in summary["tasks"])


# ---- names


@pytest.mark.parametrize(
    ("paths", "expected"),
    [
        (["zoo.safetensors"], [""]),
        (["runs/a/x", "runs/b/x"], ["a", "b"]),
        (["/tmp/z/small.safetensors", "/tmp/z/large.safetensors"], ["small", "large"]),
        (["m/1/s0", "m/2/s0", "e/1/s1"], ["m/1/s0", "m/2/s0", "e/1/s1"]),
        (["x", "runs/y"], ["x", "runs/y"]),
        (["", "a"], ["", "a"]),
    ],
)
def test_paths_are_told_apart_by_what_differs(paths: list[str], expected: list[str]) -> None:
    assert distinct(paths) == expected


def test_labels_are_the_names_where_these_tell_tasks_apart() -> None:
    packs = [pack(piggyback("a"), path="x/1.st"), pack(piggyback("b"), path="x/2.st")]
    assert [row["label"] for row in summarize(packs)["tasks"]] == ["a", "b"]


def test_labels_are_never_the_same() -> None:
    packs = [
        pack(piggyback("a"), path="runs/s0"),
        pack(piggyback("a"), path="runs/s1"),
        pack(piggyback("a"), path="runs/s1"),
        pack(piggyback("a (s1)"), piggyback("a (s1) #2"), path="p"),
        pack(piggyback("a"), path=None),
    ]
    labels = [row["label"] for row in summarize(packs)["tasks"]]
    assert len(set(labels)) == len(labels) == 6
    assert labels[0] == "a (runs/s0)"


# ---- scores


def test_interval_is_wilsons() -> None:
    row = scores(piggyback(score=0.8))
    assert (row["test"], row["count"], row["val"], row["metric"]) == (0.8, 100, 0.5, "accuracy")
    assert (row["low"], row["high"]) == wilson(80, 100)


def test_an_untested_task_has_no_score_but_that_on_validation() -> None:
    row = scores(piggyback(score=None))
    assert [row[key] for key in ("test", "low", "high", "count")] == [None] * 4
    assert row["val"] == 0.5


@pytest.mark.parametrize(
    ("about", "test", "low"),
    [
        ({}, None, None),
        ({"test": 3, "best": [], "task": "x"}, None, None),
        (info(0.5) | {"test": {"accuracy": 0.5}}, 0.5, None),
        (info(0.5) | {"test": {"accuracy": 0.5, "count": True}}, 0.5, None),
        (info(0.5) | {"test": {"accuracy": 0.5, "count": -3}}, 0.5, None),
        (info(0.5) | {"test": {"accuracy": 0.5, "count": 10**400}}, 0.5, None),
        (info(0.5) | {"test": {"accuracy": 0.5, "count": "9"}}, 0.5, None),
        (info(0.5) | {"test": {"accuracy": 1e999, "count": 9}}, None, None),
        (info(0.5) | {"test": {"accuracy": 7, "count": 9}}, 7.0, None),  # no share
        (info(0.5) | {"test": {"accuracy": "high", "count": 9}}, None, None),
    ],
)
def test_a_header_that_makes_no_sense_is_no_score(
    about: dict[str, Any], test: float | None, low: float | None
) -> None:
    row = scores(piggyback(about=about))
    assert (row["test"], row["low"]) == (test, low)
    read = dataclasses.replace(pack(piggyback(about=about)), header_bytes=9)  # as from a file
    summarize([read])


def test_only_a_share_has_an_interval() -> None:
    about = {"task": {"name": "x", "kind": "segmentation", "metric": "mIoU"}}
    row = scores(piggyback(about=about | {"test": {"mIoU": 0.5, "count": 100}}))
    assert (row["metric"], row["test"], row["low"]) == ("mIoU", 0.5, None)


@pytest.mark.parametrize(
    "about", [{}, {"task": {"name": "\n"}}, {"task": {"name": 3}}, {"task": 1}]
)
def test_without_a_name_of_what_was_learnt_the_tasks_own_counts(about: dict[str, Any]) -> None:
    assert original_name(piggyback("mine", about=about)) == "mine"


# ---- layers


def test_zeros_and_entropy_are_those_of_inspect() -> None:
    zoo = pack(piggyback("a"), ksm("b"))
    about = describe(zoo)
    for row, sizes in zip(summarize([zoo])["tasks"], about["tasks"], strict=True):
        assert (row["total"], row["entropy bytes"]) == (sizes["total"], sizes["entropy bytes"])
        assert sum(row["bytes"].values()) == row["total"]
        assert [layer["zeros"] for layer in row["layers"]] == [
            layer["zeros"][row["task"]] for layer in about["layers"]
        ]


def test_scaled_share_leaves_out_what_is_removed() -> None:
    (row,) = summarize([pack(ksm(seed=1))])["tasks"]
    bits = masks(0.4, 1)
    stem, middle, _ = row["layers"]
    zeros = (~bits["stem.weight"]).sum()
    assert stem["scaled"] == (zeros - zeros // 2) / bits["stem.weight"].size
    assert middle["scaled"] == middle["zeros"] > 0
    scale = stem["coefficients"]["scale"]
    assert (scale["min"], scale["max"]) == (0.0, 0.25)
    assert scale["mean"] == pytest.approx(0.25 * (zeros - zeros // 2) / zeros)


def test_coefficients_by_channel_have_mean_and_range() -> None:
    (row,) = summarize([pack(affine())])["tasks"]
    stem, middle, last = (layer["coefficients"] for layer in row["layers"])
    assert stem == {
        "k0": {"min": 0.0, "max": 7.0, "mean": 3.5},
        "k1": {"min": 0.0, "max": 7.0, "mean": 3.5},
    }
    assert middle == {"k1": {"min": 0.0, "max": 11.0, "mean": 5.5}}
    assert last["k1"]["mean"] == 2.0
    assert not any("scaled" in layer for layer in row["layers"])


def test_a_task_without_masks_has_no_layers() -> None:
    (row,) = summarize([pack(plain())])["tasks"]
    assert (row["layers"], row["ones"]) == ([], None)


# ---- similarity


def test_similarity_is_told_across_files_by_backbone() -> None:
    a, b, other = piggyback("a", seed=1), piggyback("b", seed=2), piggyback("a", seed=3)
    elsewhere = pack(other, path="elsewhere")
    base = dataclasses.replace(elsewhere.backbone, fingerprint="cd" * 32)
    packs = [pack(a, plain()), pack(b, path="b"), dataclasses.replace(elsewhere, backbone=base)]
    first, second = summarize(packs)["similarity"]
    assert first["tasks"] == ["a (zoo)", "b"] and second["tasks"] == ["a (elsewhere)"]
    for key, value in compare(a, b).items():
        assert first[key][0][1] == first[key][1][0] == value
    assert second["similarity"] == [[1.0]]


# ---- all


def test_it_is_json_the_same_twice_and_of_any_iterator() -> None:
    zoo = pack(piggyback(), ksm(), affine(), plain())
    first, second = summarize([zoo]), summarize(iter([zoo]))
    assert json.loads(json.dumps(first, allow_nan=False)) == second
    assert [layer["shape"] for layer in first["tasks"][0]["layers"]] == [
        list(shape) for shape in SHAPES.values()
    ]
    assert first["packs"][0]["tasks"] == [row["label"] for row in first["tasks"]]


def test_nothing_is_decoded_for_good() -> None:
    zoo = pack(piggyback(), ksm())
    summarize([zoo])
    assert not any(task._decoded for task in zoo.tasks.values())


def test_no_packs_and_an_empty_one() -> None:
    assert summarize([])["tasks"] == []
    empty = summarize([pack()])
    assert (empty["tasks"], empty["originals"], empty["packs"][0]["tasks"]) == ([], [], [])


def test_empty_layers_divide_nothing_by_zero() -> None:
    task = piggyback()
    streams = {"mask": encode({"w": np.zeros((0, 3), np.bool_)}, "bits")}
    (row,) = summarize([pack(dataclasses.replace(task, streams=streams))])["tasks"]
    assert row["layers"][0]["zeros"] == 0.0
