"""Sizes as the papers print them, from the shapes of the networks they used."""

from __future__ import annotations

import dataclasses
import functools
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from processes import run_here
from torch import Tensor, nn
from torchvision import models

import maskpack
from maskpack.backbones.base import backbone_state, find_head, replace_head
from maskpack.backbones.layers import find_layers, norm_tensors
from maskpack.common.errors import UnknownName
from maskpack.packs import file as packfile
from maskpack.packs.contents import NUMPY, BackboneInfo, Pack, PackedTask, Stream
from maskpack.reports.paper_sizes import (
    SCOPES,
    account,
    account_rows,
    counted_bytes,
    find_scope,
    separate_bytes,
    shown_parts,
)
from maskpack.runs.open import recoded

SKETCH = (200, 196, 102, 195, 250)  # classes of ImageNet-to-Sketch's five tasks


class WideResNet(nn.Module):
    """The BAT paper's network for the Decathlon: 28 layers, four blocks in each of three stages."""

    def __init__(self) -> None:
        super().__init__()

        def unit(inside: int, out: int, size: int) -> nn.Sequential:
            return nn.Sequential(nn.Conv2d(inside, out, size, bias=False), nn.BatchNorm2d(out))

        layers, width = [unit(3, 16, 3)], 16
        for wide in (64, 128, 256):
            layers.append(unit(width, wide, 1))  # the shortcut of the stage's first block
            for _ in range(4):
                layers += [unit(width, wide, 3), unit(wide, wide, 3)]
                width = wide
        self.layers = nn.ModuleList(layers)
        self.fc = nn.Linear(256, 1000)


NETWORKS = {
    "vgg16": models.vgg16,
    "resnet50": models.resnet50,
    "densenet121": models.densenet121,
    "wrn28": WideResNet,
}


@functools.cache
def network(name: str) -> nn.Module:
    with torch.device("meta"):  # shapes without values
        return NETWORKS[name]()


def blank(tensors: Mapping[str, tuple[int, ...]], dtype: str = "f32", users: int = 1) -> Stream:
    """A stream that has all its bytes, all of them zero; bits have whole bytes a row."""
    sizes = [math.prod(shape) for shape in tensors.values()]
    size = sum(-(-n // 8) for n in sizes) if dtype == "bits" else sum(sizes)
    kind = NUMPY["U8" if dtype == "bits" else "F32"]
    return Stream(tuple(tensors.items()), dtype, np.zeros(size, kind), users=users)


def shapes(tensors: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}


def numbers(tensors: Mapping[str, Tensor]) -> int:
    return sum(tensor.numel() for tensor in tensors.values())


def zoo(
    name: str, outputs: tuple[int, ...] = SKETCH, norms: bool = False, kernels: bool = False
) -> Pack:
    """A pack of masks for a network: layers, norms and heads as the package finds them."""
    module = network(name)
    head = find_head(module)
    masks = {key: layer.shape for key, layer in find_layers(module, head).items()}
    if kernels:
        masks = {key: (*s[:2], *(1 for _ in s[2:])) for key, s in masks.items()}
    own = {"mask": blank(masks, "bits")}
    if norms:
        own["norms"] = blank(shapes(norm_tensors(module, head)))
    original = numbers(module.get_submodule(head).state_dict())
    size = 4 * numbers(backbone_state(module, head))
    tasks = {}
    for place, count in enumerate(outputs):
        replace_head(module, head, count)
        layer = module.get_submodule(head)
        heads = {f"{head}.{key}": shape for key, shape in shapes(layer.state_dict()).items()}
        streams = own | {"head": blank(heads)}
        task = f"task{place}"
        tasks[task] = PackedTask(task, "piggyback", {}, "task" if norms else "frozen", {}, streams)
    replace_head(module, head, 1000)
    return Pack(BackboneInfo(name, "00" * 32, size, head, {}, head_bytes=4 * original), tasks)


def divided(name: str, outputs: tuple[int, ...] = (1000, *SKETCH), norms: bool = False) -> Pack:
    """A pack of PackNet: the pretraining task first, weights and their owners shared by all."""
    pack, module = zoo(name, outputs, norms), network(name)
    own = norm_tensors(module, pack.backbone.head)
    trunk = shapes(backbone_state(module, pack.backbone.head))
    users = len(outputs)
    weights = {key: shape for key, shape in trunk.items() if not norms or key not in own}
    masks = dict(pack.task("task0").streams["mask"].table)
    planes = len(outputs).bit_length()  # of an owner: one of the tasks, or nobody
    shared = {"weights": blank(weights, users=users)}
    shared |= {f"owner{bit}": blank(masks, "bits", users) for bit in range(planes)}
    tasks = {}
    for key, task in pack.tasks.items():
        streams = {kind: stream for kind, stream in task.streams.items() if kind != "mask"}
        tasks[key] = dataclasses.replace(task, method="packnet", streams=streams | shared)
    return dataclasses.replace(pack, tasks=tasks)


# ---- what the papers print


def test_vgg16_with_five_masks_is_621_mb() -> None:
    found = account(zoo("vgg16"), "piggyback")
    assert found["headline"] == "621 MB"
    assert found["parts"]["backbone"] == pytest.approx(537.04, abs=0.005)
    assert found["parts"]["masks"] == pytest.approx(83.91, abs=0.005)
    assert found["total"] == pytest.approx(620.95, abs=0.005)
    assert round(found["separate"]) == 3222  # six networks
    assert found["parts"]["heads"] is None


def test_resnet50_with_six_tasks_is_121_mib() -> None:
    found = account(zoo("resnet50", norms=True), "ksm")
    assert found["headline"] == "121 MiB"
    assert {part: round(size, 2) for part, size in found["parts"].items()} == {
        "backbone": 89.88,
        "original head": 7.82,
        "masks": 13.98,
        "coefficients": 0.0,
        "norms": 2.03,
        "heads": 7.37,
    }
    assert round(found["total"], 2) == 121.07
    assert round(found["separate"], 2) == 554.46


def test_packnet_owners_take_3_bits_a_weight_once() -> None:
    found = account(divided("vgg16"), "piggyback")
    assert found["headline"] == "587 MB"
    assert found["parts"]["backbone"] is None
    assert found["parts"]["weights"] == pytest.approx(537.04, abs=0.005)
    assert found["parts"]["masks"] == pytest.approx(50.34, abs=0.005)
    assert found["total"] == pytest.approx(587.39, abs=0.005)
    assert (found["tasks"], round(found["separate"])) == (6, 3222)


def test_packnet_on_resnet50_is_115_mib() -> None:
    """As the KSM paper has it, with norms for each task, which PackNet itself shares."""
    found = account(divided("resnet50", norms=True), "ksm")
    assert found["headline"] == "115 MiB"
    assert round(found["total"], 2) == 115.48
    assert round(found["parts"]["masks"], 2) == 8.39
    assert round(found["parts"]["heads"], 2) == round(7.82 + 7.37, 2)
    assert round(found["separate"], 2) == 554.46


@pytest.mark.parametrize(("name", "share"), [("resnet50", 1.0935), ("densenet121", 1.0926)])
def test_packnet_is_smaller_than_the_ratios_printed_for_it(name: str, share: float) -> None:
    """Mancini et al. print 1.10 and 1.11, which 3 bits a weight do not make."""
    found = account(divided(name, norms=True), "bat")
    norms = found["parts"]["norms"] * 5 / 6  # those that are not shared here
    assert round(found["total"] - norms, 4) == share


def test_a_task_of_resnet50_with_200_classes() -> None:
    element, kernel = (
        counted_bytes(zoo("resnet50", (200,), True, kernels).task(), "all")
        for kernels in (False, True)
    )
    assert element["masks"] == 2_931_864 and kernel["masks"] == 1_673_240
    assert (element["norms"], element["head"]) == (424_960, 1_639_200)


def test_kernel_bitmaps_make_it_115() -> None:
    found = account(zoo("resnet50", norms=True, kernels=True), "ksm")
    assert round(found["parts"]["masks"], 2) == 7.98
    assert found["total"] == pytest.approx(115.08, abs=0.01)


def test_ksm_prints_146_where_an_eighth_of_the_kernels_is_off() -> None:
    """The paper does not say how many are; its 146 amounts to 12.1 % of them."""
    pack = zoo("resnet50", norms=True, kernels=True)
    mask = pack.task("task0").streams["mask"]
    data = np.full(mask.data.size, 255, np.uint8)
    data[: round(0.121 * data.size)] = 0
    off = 8 * int((data == 0).sum())
    streams = {
        "mask": dataclasses.replace(mask, data=data),
        "scale": Stream(mask.table, "f32", np.zeros(off, np.float32), "mask"),
    }
    tasks = {
        name: dataclasses.replace(task, streams=dict(task.streams) | streams)
        for name, task in pack.tasks.items()
    }
    found = account(dataclasses.replace(pack, tasks=tasks), "ksm")
    assert found["parts"]["coefficients"] == 5 * 4 * off / 2**20
    assert found["headline"] == "146 MiB"


@pytest.mark.parametrize(
    ("name", "tasks", "norms", "ratio", "headline"),
    [
        ("resnet50", 6, False, 1.1555, "1.16"),  # 1.1559 of parameters alone
        ("resnet50", 6, True, 1.1672, "1.17"),
        ("densenet121", 6, False, 1.1525, "1.15"),
        ("densenet121", 6, True, 1.2145, "1.21"),
        ("wrn28", 10, False, 1.2805, "1.28"),
        ("wrn28", 10, True, 1.2933, "1.29"),
    ],
)
def test_ratios_of_parameters_are_those_of_the_bat_paper(
    name: str, tasks: int, norms: bool, ratio: float, headline: str
) -> None:
    found = account(zoo(name, (10,) * (tasks - 1), norms), "bat")
    assert found["tasks"] == found["separate"] == tasks
    assert round(found["total"], 4) == ratio
    assert found["headline"] == headline


def test_parameters_are_counted_exactly_where_a_task_has_norms() -> None:
    pack = zoo("resnet50")
    normed = zoo("resnet50", (10,), norms=True).task("task0")
    both = Pack(pack.backbone, dict(pack.tasks) | {"normed": normed})
    alone = account(Pack(pack.backbone, {"normed": normed}), "bat")["total"] - 1
    assert round(account(both, "bat")["total"] - alone, 4) == 1.1559


def test_the_wide_networks_layout_is_the_papers() -> None:
    module = network("wrn28")
    masked = sum(math.prod(layer.shape) for layer in find_layers(module, "fc").values())
    norms = norm_tensors(module, "fc")
    assert masked == 5_839_280
    assert sum(t.numel() for name, t in norms.items() if "running" not in name) == 8_096


# ---- what each counts, on a small network


def learnt(tmp_path: Path, method: str, **options: Any) -> Pack:
    base = tiny.backbone()
    masked = maskpack.attach(base, 3, method, norms="task", **options)
    return maskpack.pack({"shades": tiny.train(masked)}, tmp_path / f"{method}.safetensors")


BITS = 8 * 3 * 9 + 8 * 8 * 9  # of Plain's two convolutions
OWN_HEAD = 3 * 8 + 3


def test_plain_numbers_by_hand(tmp_path: Path) -> None:
    pack = learnt(tmp_path, "piggyback")
    task = pack.task("shades")
    masks = {"masks": BITS / 8, "coefficients": 0.0, "weights": 0.0}
    assert counted_bytes(task, "piggyback") == masks | {"norms": 4 * 4 * 8}
    assert counted_bytes(task, "ksm") == masks | {"norms": 4 * 4 * 8, "head": 4 * OWN_HEAD}
    assert counted_bytes(task, "bat") == masks | {"norms": 4 * 2 * 8}
    base = 4 * (BITS + 4 * 8 + 8)  # convolutions, norm, the second convolution's bias
    assert separate_bytes(pack, task, "piggyback") == base
    assert separate_bytes(pack, task, "ksm") == base + 4 * OWN_HEAD
    assert separate_bytes(pack, task, "bat") == base - 4 * 2 * 8
    assert account(pack, "ksm")["parts"]["original head"] == 4 * (5 * 8 + 5) / 2**20


def test_mask_bits_are_not_rounded_up_to_bytes() -> None:
    task = PackedTask("t", "piggyback", {}, "frozen", {}, {"mask": blank({"w": (3, 3)}, "bits")})
    assert counted_bytes(task, "ksm")["masks"] == 9 / 8
    assert counted_bytes(task, "all")["masks"] == 2


@pytest.mark.parametrize("coefficients", ["fp32", "fp16", "u8"])
def test_scales_count_four_bytes_for_each_kernel_that_is_off(
    coefficients: str, tmp_path: Path
) -> None:
    pack = learnt(tmp_path, "ksm", coefficients=coefficients)
    task = pack.task("shades")
    off = sum(mask.count(0) for mask in task.masks.values())
    assert off
    for scope in ("piggyback", "ksm", "bat"):
        counted = counted_bytes(task, scope)
        assert counted["coefficients"] == 4 * off
        assert counted["masks"] == (8 * 3 + 8 * 8) / 8


def test_affine_counts_its_scalars(tmp_path: Path) -> None:
    task = learnt(tmp_path, "affine").task("shades")
    scalars = 3 * 2 + 1  # k1 to k3 of two layers; k0 of the one that no norm follows
    assert counted_bytes(task, "bat")["coefficients"] == 4 * scalars


def test_fine_tuned_tasks_are_networks_of_their_own(tmp_path: Path) -> None:
    for scope in ("piggyback", "ksm"):
        found = account(learnt(tmp_path, "fine-tune"), scope)
        assert found["total"] == pytest.approx(found["separate"])


def test_coding_and_rounding_change_no_papers_count(tmp_path: Path) -> None:
    pack = learnt(tmp_path, "piggyback")
    task = pack.task("shades")
    half = dataclasses.replace(
        task.streams["head"], dtype="f16", data=task.streams["head"].data.astype("<f2")
    )
    small = dataclasses.replace(task, streams=dict(task.streams) | {"head": half})
    coded = recoded(dataclasses.replace(pack, tasks={"shades": small}), True)
    packfile.write(tmp_path / "small", coded)
    read = packfile.read(tmp_path / "small")
    for scope in ("piggyback", "ksm", "bat"):
        assert counted_bytes(read.task(), scope) == counted_bytes(task, scope)
    assert account(read, "all")["total"] < account(pack, "all")["total"]


def test_all_is_the_file_and_the_backbone(tmp_path: Path) -> None:
    pack = learnt(tmp_path, "ksm")
    assert pack.path is not None
    found = account(pack, "all")
    whole = pack.backbone.size_bytes + 4 * (5 * 8 + 5)
    assert found["total"] == whole + pack.path.stat().st_size
    assert found["headline"] == f"{found['total']:,} bytes"
    twice = {"shades": pack.task("shades"), "again": dataclasses.replace(pack.task(), name="again")}
    packfile.write(tmp_path / "twice", Pack(pack.backbone, twice))
    read = packfile.read(tmp_path / "twice")
    assert account(read, "all")["total"] == whole + (tmp_path / "twice").stat().st_size
    last = account_rows(found)[-2]
    assert last["part"] == "total"
    assert last["MB"] == found["total"] / 1e6
    assert last["MiB"] == found["total"] / 2**20
    assert last["backbones"] == found["total"] / pack.backbone.size_bytes


def test_a_pack_that_is_no_file_is_counted_as_the_file_it_would_be(tmp_path: Path) -> None:
    pack = learnt(tmp_path, "piggyback")
    unwritten = Pack(pack.backbone, pack.tasks)
    assert account(unwritten, "all")["total"] == account(pack, "all")["total"]
    assert account(unwritten, "all")["file"] is None


def test_shown_parts_leave_out_what_the_paper_does(tmp_path: Path) -> None:
    pack = learnt(tmp_path, "piggyback")
    assert shown_parts(pack, "shades", "piggyback") == {
        "masks": BITS // 8,
        "coefficients": 0,
        "norms": 128,
        "head": None,
    }
    everything = shown_parts(pack, "shades", "all")
    assert pack.path is not None
    assert sum(size or 0 for size in everything.values()) == pack.path.stat().st_size


def test_an_unknown_scope_is_named() -> None:
    with pytest.raises(UnknownName, match="unknown scope 'papers'; known: all, bat"):
        find_scope("papers")


# ---- the command


def test_inspect_prints_one_table_with_the_headline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    learnt(tmp_path, "piggyback")
    for scope in SCOPES:
        done = run_here(tmp_path, "inspect", "piggyback.safetensors", "--scope", scope)
        assert done.code == 0, done.err
        title, columns, *rows = done.out.splitlines()
        about = json.loads(
            run_here(tmp_path, "inspect", "piggyback.safetensors", "--scope", scope, "--json").out
        )
        assert title.startswith(f"# piggyback.safetensors: {about['headline']} for 2 tasks, ")
        assert columns.split("\t")[:2] == ["part", about["unit"]]
        parts = [row.split("\t")[0] for row in rows if row]
        assert parts == [*about["parts"], "total", "separate networks"]
        lines = run_here(
            tmp_path, "inspect", "piggyback.safetensors", "--scope", scope, "--format", "jsonl"
        ).out.splitlines()
        assert [json.loads(line) for line in lines] == [about]
    done = run_here(tmp_path, "inspect", "piggyback.safetensors", "--scope", "papers")
    assert done.code == 1
    assert done.err.startswith("error: unknown scope 'papers'")
