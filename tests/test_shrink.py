"""A task's numbers stored otherwise: what each kind may change, and what it may not."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from torch import Tensor, nn

from maskpack import methods
from maskpack.backbones import from_module
from maskpack.backbones.base import Backbone
from maskpack.common.errors import BackboneError, OptionError, PackFormatError
from maskpack.networks.build import task_network
from maskpack.networks.serialize import info_of, pack_task, unpack_task
from maskpack.packing.smaller import kinds as shrink
from maskpack.packing.smaller.kinds import KINDS, Storage, shrunk
from maskpack.packs import file as packfile
from maskpack.packs.contents import Pack, PackedTask, encode
from maskpack.runs.open import check_base

RELATIVE = {"fp16": 2**-11, "int8": 0.01, "int4": 0.16, "int3": 0.35, "int2": 0.8}
RELATIVE |= {"uint8": 0.01, "uint4": 0.16}


@pytest.fixture
def wide() -> Backbone:
    """Norms of more channels than have a scale each."""
    network = nn.Sequential(
        *(nn.Conv2d(3, 64, 3, stride=2), nn.BatchNorm2d(64), nn.ReLU()),
        *(nn.Conv2d(64, 80, 1, bias=False), nn.BatchNorm2d(80), nn.ReLU()),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(80, 5)),
    )
    return from_module(network, "wide", head="8", preprocess=tiny.PREPROCESS)


def learnt(
    base: Backbone, method: str = "piggyback", norms: str = "task", **more: Any
) -> PackedTask:
    network = task_network(base, methods.make(method, more), 3, norms=norms)
    return pack_task(tiny.train(network, 8), "t", {})


def outputs(task: PackedTask, base: Backbone) -> Tensor:
    images, _ = next(tiny.batches(7))
    with torch.no_grad():
        return unpack_task(task, base)(images)


def stored(task: PackedTask, base: Backbone, **parts: str) -> PackedTask:
    return shrunk(task, Storage(**parts), base)


# ---- which kinds there are


def test_nothing_changes_unasked(everything: Backbone) -> None:
    task = learnt(everything)
    assert shrunk(task, Storage(), everything) == task


@pytest.mark.parametrize(
    ("part", "kind"),
    [
        ("head", "int5"),
        ("head", "rank"),
        ("head", "rank0"),
        ("head", "rank4-fp16"),
        ("head", "rank4-uint8"),
        ("norms", "rank4"),
        ("norms", "uint8"),
        ("weights", "bits"),
        ("coefficients", "int4"),
        ("coefficients", ""),
    ],
)
def test_a_kind_that_a_part_has_not_is_refused(part: str, kind: str) -> None:
    with pytest.raises(OptionError, match=rf"^{part} as '{kind}': expected fp32, fp16, "):
        Storage(**{part: kind})


@pytest.mark.parametrize("kind", ["rank1", "rank64", "rank8-int4", "rank2-int2"])
def test_a_head_may_be_a_product(kind: str) -> None:
    assert Storage(head=kind).changed == {"head": kind}


# ---- each kind's error


@pytest.mark.parametrize("method", ["piggyback", "ksm", "affine", "fine-tune"])
def test_every_kind_is_near_and_smaller_by_its_bits(
    everything: Backbone, method: str, tmp_path: Path
) -> None:
    task = (
        learnt(everything, method, granularity="channel")
        if method == "affine"
        else learnt(everything, method)
    )
    pristine = {name: tensor.numpy() for name, tensor in everything.state().items()}
    for part, kinds in KINDS.items():
        for key in [key for key in task.streams if key in _of(part)]:
            size = task.streams[key].data.nbytes
            for kind in kinds[1:]:
                small = stored(task, everything, **{part: kind})
                assert small.streams[key].data.nbytes < size
                if key == "norms" or (key == "weights" and kind != "fp16"):
                    continue  # differences, below
                for name, array in small.arrays(key).items():
                    _check_near(array, task.arrays(key)[name], kind)
                path = tmp_path / "pack"
                packfile.write(path, Pack(info_of(everything), {"t": small}))
                again = packfile.read(path).task()
                assert again.streams[key].dtype == small.streams[key].dtype
                assert torch.equal(outputs(again, everything), outputs(small, everything))
    for kind in ("int8", "int4", "int3", "int2"):
        if "weights" in task.streams:
            small = stored(task, everything, weights=kind).streams["weights"]
            assert small.delta
            before, after = task.arrays("weights"), _arrays(small)
            for name, change in after.items():
                _check_near(change, before[name] - pristine[name], kind)


def _of(part: str) -> tuple[str, ...]:
    return ("scale", "k0", "k1", "k2", "k3") if part == "coefficients" else (part,)


def _arrays(stream: Any) -> dict[str, Any]:
    return PackedTask("t", "fine-tune", {}, "task", {}, {"weights": stream}).arrays("weights")


def _check_near(array: Any, wanted: Any, kind: str) -> None:
    """In the mean of squares, within the kind's share of the largest value."""
    wanted = wanted.astype(np.float64)
    error = np.sqrt(np.mean((array - wanted) ** 2)) if wanted.size else 0.0
    assert error <= RELATIVE[kind] * np.abs(wanted).max(initial=0) + 1e-7


def test_a_head_of_all_its_ranks_is_itself(plain: Backbone) -> None:
    task = learnt(plain)
    whole = stored(task, plain, head="int8").arrays("head")
    for name, array in stored(task, plain, head="rank9").arrays("head").items():
        assert np.array_equal(array, whole[name]), "3 outputs have no rank 9"
    thin = stored(task, plain, head="rank1").arrays("head")["fc.weight"]
    assert np.linalg.matrix_rank(thin, tol=1e-6) == 1


def test_values_beyond_float16_are_refused_by_name(plain: Backbone) -> None:
    task = learnt(plain)
    head = {name: array * 1e30 for name, array in task.arrays("head").items()}
    large = replace(task, streams={**task.streams, "head": encode(head, "f32")})
    for kind in ("fp16", "int4"):
        with pytest.raises(OptionError, match=r"^t, head: .*; keep it fp32$"):
            stored(large, plain, head=kind)


# ---- coefficients


def test_coefficients_of_either_sign_have_signed_integers(everything: Backbone) -> None:
    task = learnt(everything, "affine", granularity="channel")
    assert (task.values("k2") < 0).any()
    for kind, signed in (("uint8", "int8"), ("uint4", "int4")):
        small = stored(task, everything, coefficients=kind)
        # a value and a scale of its own each: no less than float16
        assert small.streams["k2"].dtype in (signed, "f16")
        for name, array in small.arrays("k2").items():
            _check_near(array, task.arrays("k2")[name], "uint4")


def test_integers_that_save_nothing_are_float16(plain: Backbone) -> None:
    task = learnt(plain, "affine")  # one value a layer and coefficient
    small = stored(task, plain, coefficients="uint8")
    assert {small.streams[key].dtype for key in ("k1", "k2", "k3")} == {"f16"}


def test_a_methods_own_integers_stay(plain: Backbone) -> None:
    task = learnt(plain, "ksm", coefficients="u8")
    for kind in ("fp16", "uint4"):
        assert stored(task, plain, coefficients=kind).streams["scale"] == task.streams["scale"]


def test_soft_coefficients_are_kept_where_the_mask_is_0(everything: Backbone) -> None:
    task = learnt(everything, "ksm")
    small = stored(task, everything, coefficients="uint4")
    assert small.streams["scale"].zeros_of == "mask"
    for name, array in small.arrays("scale").items():
        assert not array[task.arrays("mask")[name]].any()


# ---- norms


@pytest.mark.parametrize("norms", ["task", "stats", "scale"])
def test_folded_norms_compute_the_same(everything: Backbone, norms: str) -> None:
    """Before they are rounded: every value is kept in float32, as a difference."""
    task = learnt(everything, "classifier-only", norms)
    changes = shrink._differences(task, "norms", everything)
    assert not any("running" in name for name in changes)
    kept = replace(encode(changes, "f32"), delta=True)
    folded = replace(task, streams={**task.streams, "norms": kept})
    assert (outputs(folded, everything) - outputs(task, everything)).abs().max() < 1e-5


@pytest.mark.parametrize(
    ("kind", "times", "near"), [("fp16", 2, 1e-3), ("int8", 3, 0.02), ("int4", 4, 0.2)]
)
def test_norms_take_few_bytes_and_are_near(
    wide: Backbone, kind: str, times: int, near: float
) -> None:
    task = learnt(wide)
    small = stored(task, wide, norms=kind)
    kept = small.streams["norms"]
    assert (kept.delta, kept.dtype) == (True, {"fp16": "f16"}.get(kind, kind))
    # half the numbers, in half the bits or fewer
    assert 2 * times * kept.data.nbytes <= task.streams["norms"].data.nbytes
    before = outputs(task, wide)
    assert (outputs(small, wide) - before).std() < near * before.std()


def test_norms_of_a_task_with_all_its_weights_need_no_backbone_in_float16(wide: Backbone) -> None:
    task = learnt(wide, "fine-tune")
    small = stored(task, wide, norms="fp16", weights="fp16")
    assert not small.streams["norms"].delta and not small.streams["weights"].delta
    assert stored(task, wide, norms="int8").streams["norms"].delta


def test_norms_as_the_backbones_take_no_bytes(everything: Backbone) -> None:
    network = task_network(everything, methods.make("classifier-only", {}), 3, norms="scale")
    network.network.layer_norm.bias.data += 1
    task = pack_task(network, "t", {})
    kept = stored(task, everything, norms="fp16").streams["norms"]
    assert [name for name, _ in kept.table] == ["layer_norm.bias"]
    still = pack_task(
        task_network(everything, methods.make("classifier-only", {}), 3, norms="scale"), "t", {}
    )
    small = stored(still, everything, norms="int8")
    assert small.streams["norms"].data.nbytes == 0
    assert torch.equal(outputs(small, everything), outputs(still, everything))


def test_statistics_that_nothing_can_take_up_are_float16() -> None:
    """A norm without weight and bias: a variance rounded to an integer might be negative."""
    network = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, affine=False), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    )
    network.append(nn.Linear(4, 3))
    base = from_module(network, "n", head="4", preprocess=tiny.PREPROCESS)
    kept = stored(learnt(base), base, norms="int2").streams["norms"]
    assert (kept.dtype, kept.delta) == ("f16", False)


def test_differences_are_not_taken_twice(wide: Backbone) -> None:
    once = stored(learnt(wide), wide, norms="int8")
    for kind in ("fp16", "int8", "int4"):
        twice = stored(once, wide, norms=kind)
        assert twice.streams["norms"].delta
        before = outputs(once, wide)
        assert (outputs(twice, wide) - before).std() < 0.2 * before.std()


# ---- whole weights


def test_weights_that_are_the_backbones_are_left_out(everything: Backbone) -> None:
    network = task_network(everything, methods.make("fine-tune", {}), 3)
    network.network.stem.weight.data += torch.randn(6, 3, 3, 3)
    task = pack_task(network, "t", {})
    small = stored(task, everything, weights="int4")
    assert [name for name, _ in small.streams["weights"].table] == ["stem.weight"]
    rebuilt = unpack_task(small, everything).state_dict()
    exact = unpack_task(task, everything).state_dict()
    assert all(torch.equal(rebuilt[n], t) for n, t in exact.items() if n != "stem.weight")


def test_differences_need_the_very_backbone(everything: Backbone) -> None:
    """A fine-tuned task with all its weights is rebuilt on any; one of differences must not be."""
    task = learnt(everything, "fine-tune")
    other = copy.deepcopy(everything.module)
    with torch.no_grad():
        for tensor in other.parameters():
            tensor.add_(1)
    another = from_module(other, everything.name, preprocess=tiny.PREPROCESS)
    pack = Pack(info_of(everything), {"t": task})
    check_base(pack, task, another)
    small = stored(task, everything, weights="int8", norms="int8")
    with pytest.raises(BackboneError, match="these weights are"):
        check_base(pack, small, another)


def test_a_task_of_another_network_is_refused(everything: Backbone, plain: Backbone) -> None:
    task = learnt(everything, "fine-tune")
    with pytest.raises(PackFormatError, match="does not fit the backbone"):
        stored(task, plain, weights="int8")
