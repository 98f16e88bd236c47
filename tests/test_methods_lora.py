"""LoRA's factors and layers are peft's; what a pack keeps of them is checked when it is read."""

from __future__ import annotations

import copy
import dataclasses
import math
import sys
import warnings
from collections.abc import Mapping

import numpy as np
import pytest
import tiny
import torch
from peft import LoraConfig, inject_adapter_in_model
from torch import Tensor, nn

from maskpack import methods
from maskpack.backbones.layers import Layer, find_layers
from maskpack.common.errors import OptionError, PackFormatError
from maskpack.methods.lora import LoRA
from maskpack.networks.build import task_network
from maskpack.networks.serialize import pack_task, unpack_task
from maskpack.packs.contents import PackedTask, Stream, encode
from maskpack.training.setup import Options, open_session
from maskpack.training.train_run import learn

MODULES = {
    "1x1": nn.Conv2d(6, 5, 1),
    "3x3": nn.Conv2d(6, 5, 3, stride=2, padding=1, bias=False),
    "oblong": nn.Conv2d(3, 4, (1, 3)),
    "1d": nn.Conv1d(3, 4, 5),
    "3d": nn.Conv3d(2, 3, 2),
    "linear": nn.Linear(7, 5),
}


def by_peft(module: nn.Module, rank: int = 3, alpha: int = 5) -> nn.Module:
    config = LoraConfig(r=rank, lora_alpha=alpha, target_modules=["0"])
    return inject_adapter_in_model(config, nn.Sequential(copy.deepcopy(module)))[0]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def layer_of(weight: Tensor) -> Layer:
    return Layer("w", tuple(weight.shape), "linear" if weight.dim() == 2 else "conv")


@pytest.mark.parametrize("name", MODULES)
def test_the_effective_weight_is_what_peft_merges(name: str) -> None:
    adapted = by_peft(MODULES[name])
    a, b = adapted.lora_A["default"].weight, adapted.lora_B["default"].weight
    nn.init.normal_(b, generator=generator())
    method = LoRA(rank=3, alpha=5.0, dtype="fp32")
    weight = adapted.base_layer.weight.detach().clone()
    assert method.shapes(tuple(weight.shape)) == {"lora_A": a.shape, "lora_B": b.shape}
    with torch.no_grad():
        found = method.effective_weight(weight, {"lora_A": a, "lora_B": b})
        torch.testing.assert_close(found - weight, adapted.get_delta_weight("default"))
        adapted.merge()
        torch.testing.assert_close(found, adapted.base_layer.weight.detach())


def test_of_an_attention_the_joint_weight_is_adapted_as_peft_does() -> None:
    adapted = by_peft(nn.MultiheadAttention(8, 2))
    a, b = adapted.lora_A["default"].weight, adapted.lora_B["default"].weight
    nn.init.normal_(b, generator=generator())
    method = LoRA(rank=3, alpha=5.0, dtype="fp32")
    weight = adapted.in_proj_weight.detach()
    with torch.no_grad():
        found = method.effective_weight(weight, {"lora_A": a, "lora_B": b})
        torch.testing.assert_close(found - weight, adapted.get_delta_weight("default"))


def _peft_merges(module: nn.Module) -> bool:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that convolutions with groups cannot be merged
            by_peft(module, rank=24).merge()
    except (ValueError, NotImplementedError):
        return False
    return True


def test_the_layers_left_out_are_those_that_peft_cannot_merge() -> None:
    network = tiny.everything()
    layers = find_layers(network, "fc")
    kinds = {
        layer.kind: (_peft_merges(network.get_submodule(name.rpartition(".")[0])), layer)
        for name, layer in layers.items()
    }
    assert {kind: merges for kind, (merges, _) in kinds.items()} == {
        kind: LoRA().adapts(layer) for kind, (_, layer) in kinds.items()
    }
    assert sum(merges for merges, _ in kinds.values()) == 3 < len(kinds)


def test_apart_queries_keys_and_values_are_left_out() -> None:
    apart = nn.ModuleDict({"attention": nn.MultiheadAttention(8, 2, kdim=4, vdim=4)})
    assert not _peft_merges(apart["attention"])
    layers = find_layers(apart, "fc").values()
    assert [layer.name for layer in layers if LoRA().adapts(layer)] == ["attention.out_proj.weight"]


@pytest.mark.parametrize("name", MODULES)
def test_factors_start_as_pefts_own(name: str) -> None:
    weight = MODULES[name].weight.detach()
    before = torch.get_rng_state()
    params = LoRA().init_params(weight, layer_of(weight), generator(3))
    assert torch.equal(torch.get_rng_state(), before)
    again = LoRA().init_params(weight, layer_of(weight), generator(3))
    other = LoRA().init_params(weight, layer_of(weight), generator(4))
    assert torch.equal(params["lora_A"], again["lora_A"])
    assert not torch.equal(params["lora_A"], other["lora_A"])
    assert not params["lora_B"].any()
    bound = 1 / math.sqrt(math.prod(weight.shape[1:]))  # of nn.Linear's and nn.Conv2d's own start
    assert 0.5 * bound < params["lora_A"].abs().max() <= bound
    assert torch.equal(LoRA().effective_weight(weight, params), weight)


def test_what_training_sees_is_what_the_file_keeps() -> None:
    weight = MODULES["3x3"].weight.detach()
    params = LoRA(rank=2).init_params(weight, layer_of(weight), generator())
    params = {key: nn.Parameter(value.detach() + 1e-5) for key, value in params.items()}
    mask = LoRA(rank=2).mask(params)
    for key, value in mask.items():
        assert torch.equal(value, params[key].half().float()) and value.dtype == torch.float32
    sum(value.sum() for value in mask.values()).backward()
    assert all(torch.equal(p.grad, torch.ones_like(p)) for p in params.values())
    exact = LoRA(rank=2, dtype="fp32").mask(params)
    assert all(torch.equal(exact[key], params[key]) for key in params)


@pytest.mark.parametrize("options", [{"rank": 0}, {"rank": -1}, {"alpha": 0}, {"dtype": "int8"}])
def test_options_that_make_no_sense_are_refused(options: Mapping[str, object]) -> None:
    with pytest.raises(OptionError):
        methods.make("lora", options)


def test_without_peft_the_extra_is_named_and_packs_are_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    backbone = tiny.backbone()
    network = task_network(backbone, LoRA(rank=2), tiny.OUTPUTS)
    packed = pack_task(tiny.train(network), "shades", {})
    monkeypatch.setitem(sys.modules, "peft", None)
    unpack_task(packed, backbone)
    with pytest.raises(OptionError, match=r"lora needs peft.*pip install 'maskpack\[lora\]'"):
        task_network(backbone, LoRA(rank=2), tiny.OUTPUTS)


def test_training_says_which_weights_are_left(tmp_path: object) -> None:
    options = Options("tiny:everything", "shades", "lora", recipe={"epochs": 1, "batch_size": 6})
    session = open_session(options, tiny.backbone(tiny.everything), tiny.task())
    said: list[str] = []
    run = learn(session, f"{tmp_path}/run", say=said.append)
    assert said[0] == (
        "lora leaves 3 of 9 weights the backbone's: depthwise.weight, grouped.weight, up.weight"
    )
    assert "ones" not in run.result["best"]


# ---- what a file may say of them


def _packed() -> PackedTask:
    network = task_network(tiny.backbone(), LoRA(rank=2), tiny.OUTPUTS)
    return pack_task(tiny.train(network), "shades", {})


def _factors(shape: tuple[int, ...], name: str = "conv.weight") -> Stream:
    return encode({name: np.ones(shape, np.float16)}, "f16")


@pytest.mark.parametrize(
    ("streams", "message"),
    [
        ({"lora_A": _factors((3, 3, 3, 3))}, r"lora_A has shape \(3, 3, 3, 3\), \(2, 3, 3, 3\)"),
        ({"lora_A": _factors((2, 27))}, r"lora_A has shape \(2, 27\), \(2, 3, 3, 3\) expected"),
        ({"lora_A": _factors((1, 1, 1, 1))}, r"lora_A has shape \(1, 1, 1, 1\)"),
        ({"lora_B": _factors((8, 3, 3, 3))}, r"lora_B has shape \(8, 3, 3, 3\), \(8, 2, 1, 1\)"),
        ({"lora_B": _factors((8, 2, 1, 1))}, "last.weight: has no lora_B"),
        ({"lora_A": _factors((2, 3, 3, 3), "nowhere")}, "has no lora_A|no weight of the backbone"),
        ({"lora_A": _factors((2,), "norm.weight")}, "has no lora_"),
        ({"mask": encode({"conv.weight": np.ones((8, 3, 3, 3), bool)}, "bits")}, "no part of what"),
    ],
)
def test_factors_that_do_not_fit_are_a_damaged_file(
    streams: dict[str, Stream], message: str
) -> None:
    packed = _packed()
    wrong = dataclasses.replace(packed, streams={**packed.streams, **streams})
    with pytest.raises(PackFormatError, match=message) as raised:
        unpack_task(wrong, tiny.backbone())
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("options", [{"rank": 3}, {"rank": 0}, {"rank": 1 << 40}, {"alpha": "x"}])
def test_options_that_do_not_fit_are_a_damaged_file(options: dict[str, object]) -> None:
    packed = _packed()
    wrong = dataclasses.replace(packed, options={**packed.options, **options})
    with pytest.raises(PackFormatError):
        unpack_task(wrong, tiny.backbone())


def test_factors_of_any_weight_are_read() -> None:
    """A file may adapt what peft would not, a norm's weight among them: the product is defined."""
    packed = _packed()
    added = {"norm.weight": np.ones((2,), np.float16)}, {"norm.weight": np.ones((8, 2), np.float16)}
    streams = {
        key: encode(packed.arrays(key) | more, "f16")
        for key, more in zip(("lora_A", "lora_B"), added, strict=True)
    }
    both = dataclasses.replace(packed, streams={**packed.streams, **streams})
    found = unpack_task(both, tiny.backbone()).norm.weight
    torch.testing.assert_close(found, tiny.plain().norm.weight.detach() + 8 / 2 * 2)
