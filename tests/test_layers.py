"""Which weights carry a mask, what they are called, and which of them a norm follows."""

from __future__ import annotations

import math

import pytest
import tiny
import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm
from torchvision import models

from maskpack.backbones.layers import Layer, find_layers, norm_layers, norm_tensors
from maskpack.common.errors import OptionError

CONVS = ["stem.weight", "depthwise.weight", "grouped.weight", "up.weight", "squeeze.weight"]
ATTENTION = ["attention.in_proj_weight", "attention.out_proj.weight"]
DEFAULT = [*CONVS, "first.weight", *ATTENTION, "linear.weight"]
EXAMPLE = torch.zeros(1, 3, tiny.SIZE, tiny.SIZE)


def names(*include: str, exclude: tuple[str, ...] = ()) -> list[str]:
    return list(find_layers(tiny.everything(), "fc", include, exclude))


def test_default_is_convolutions_linears_and_attention_in_the_networks_order() -> None:
    assert names() == DEFAULT


def test_head_biases_and_norms_are_never_masked_by_default() -> None:
    assert [n for n in names() if "bias" in n or "norm" in n or n.startswith("fc")] == []


def test_a_shared_weight_is_listed_once_under_its_first_name() -> None:
    assert "second.weight" not in names("*")
    assert names("first.*") == ["first.weight", "first.bias"]


def test_include_lists_exactly_what_matches() -> None:
    assert names("stem.*", "linear.weight") == ["stem.weight", "linear.weight"]
    assert names("attention.*weight") == ATTENTION


def test_include_reaches_biases_and_norms_but_never_the_head() -> None:
    everything = [n for n, _ in tiny.everything().named_parameters() if not n.startswith("fc.")]
    assert names("*") == everything
    assert "norm.weight" in everything


def test_default_stands_for_the_default_in_both_lists() -> None:
    assert sorted(names("default", "norm.weight")) == sorted([*DEFAULT, "norm.weight"])
    assert not set(names("*", exclude=("default",))) & set(DEFAULT)


def test_exclude_is_applied_after_include() -> None:
    assert names(exclude=("attention.*", "stem.weight")) == [
        *CONVS[1:],
        "first.weight",
        DEFAULT[-1],
    ]
    assert names("default", exclude=("*",)) == []


@pytest.mark.parametrize(
    ("include", "exclude", "option"),
    [(("stemm.*",), (), "--include"), ((), ("head.*",), "--exclude"), (("fc.*",), (), "--include")],
)
def test_a_pattern_that_matches_nothing_is_an_error(
    include: tuple[str, ...], exclude: tuple[str, ...], option: str
) -> None:
    pattern = (include + exclude)[0]
    message = f"^{option} '{pattern}' matches no parameter; some: stem.weight, "
    with pytest.raises(OptionError, match=message.replace("*", r"\*")):
        find_layers(tiny.everything(), "fc", include, exclude)


def test_rows_say_kind_shape_channel_and_norm() -> None:
    layers = find_layers(tiny.everything(), "fc", example=EXAMPLE)
    assert list(layers.values()) == [
        Layer("stem.weight", (6, 3, 3, 3), "conv", 0, True),
        Layer("depthwise.weight", (6, 1, 3, 3), "depthwise conv", 0, True),
        Layer("grouped.weight", (8, 3, 3, 3), "grouped conv", 0, False),
        Layer("up.weight", (8, 6, 2, 2), "transposed conv", 1, False),
        Layer("squeeze.weight", (8, 6, 1, 1), "conv", 0, False),
        Layer("first.weight", (8, 8, 1, 1), "conv", 0, False),
        Layer("attention.in_proj_weight", (24, 8), "attention", 0, False),
        Layer("attention.out_proj.weight", (8, 8), "linear", 0, False),
        Layer("linear.weight", (8, 8), "linear", 0, False),
    ]


def test_attention_with_keys_of_another_width_has_three_weights() -> None:
    module = nn.ModuleDict(
        {"a": nn.MultiheadAttention(8, 2, kdim=4, vdim=6), "fc": nn.Linear(8, 2)}
    )
    assert {n: layer.shape for n, layer in find_layers(module, "fc").items()} == {
        "a.q_proj_weight": (8, 8),
        "a.k_proj_weight": (8, 4),
        "a.v_proj_weight": (8, 6),
        "a.out_proj.weight": (8, 8),
    }


def test_a_computed_weight_is_not_masked() -> None:
    network = nn.Sequential(weight_norm(nn.Conv2d(3, 4, 1)), nn.BatchNorm2d(4), nn.Conv2d(4, 2, 1))
    layers = find_layers(network, "2", example=EXAMPLE)
    assert layers == {}


class Chain(nn.Module):
    """The layers one after another, and a head that takes no part."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers)
        self.fc = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


def normed(network: nn.Module) -> list[str]:
    layers = find_layers(network, "fc", example=torch.zeros(1, 3, 8, 8))
    return [name for name, layer in layers.items() if layer.normed]


@pytest.mark.parametrize(
    "norm",
    [
        nn.BatchNorm2d(4),
        nn.InstanceNorm2d(4),
        nn.GroupNorm(2, 4),
        nn.LayerNorm([4, 8, 8]),
        nn.SyncBatchNorm(4),
    ],
    ids=lambda norm: type(norm).__name__,
)
def test_a_norm_right_after_the_layer_counts(norm: nn.Module) -> None:
    assert normed(Chain(nn.Conv2d(3, 4, 1), norm, nn.ReLU())) == ["layers.0.weight"]
    assert normed(Chain(nn.ConvTranspose2d(3, 4, 1), norm)) == ["layers.0.weight"]


@pytest.mark.parametrize("inplace", [False, True])
def test_a_norm_after_an_activation_does_not_count(inplace: bool) -> None:
    assert normed(Chain(nn.Conv2d(3, 4, 1), nn.ReLU(inplace), nn.BatchNorm2d(4))) == []


def test_a_shared_weight_counts_when_every_use_is_normed() -> None:
    first, second = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1)
    second.weight = first.weight
    norms = nn.BatchNorm2d(3), nn.BatchNorm2d(3)
    assert normed(Chain(first, norms[0], second, norms[1])) == ["layers.0.weight"]
    assert normed(Chain(first, norms[0], second, nn.ReLU())) == []
    assert normed(Chain(first, nn.ReLU(), first, norms[0])) == []


def test_looking_for_norms_leaves_the_network_as_it_was() -> None:
    network = Chain(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Dropout()).train()
    network.layers[1].eval()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    assert normed(network) == ["layers.0.weight"]
    assert network.layers[0].training and not network.layers[1].training
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())
    assert not any(module._forward_hooks for module in network.modules())
    assert not any(module._forward_pre_hooks for module in network.modules())


def test_norms_follow_every_convolution_of_resnet18() -> None:
    with torch.device("meta"):
        network, example = models.resnet18(), torch.zeros(1, 3, 32, 32)
    layers = find_layers(network, "fc", example=example)
    assert len(layers) == 20
    assert all(layer.normed and layer.kind == "conv" for layer in layers.values())
    everything = find_layers(network, "none", example=example)
    assert [name for name, layer in everything.items() if not layer.normed] == ["fc.weight"]


def test_norm_tensors_are_all_four_of_every_norm_but_no_counter() -> None:
    network = tiny.everything()
    assert list(norm_layers(network, "fc")) == ["norm", "instance", "layer_norm"]
    four = ["weight", "bias", "running_mean", "running_var"]
    assert list(norm_tensors(network, "fc")) == [
        *(f"norm.{key}" for key in four),
        *(f"instance.{key}" for key in four),
        "layer_norm.weight",
        "layer_norm.bias",
    ]


@pytest.mark.parametrize(
    ("name", "tensors", "bits", "norm_bytes"),
    [
        ("resnet50", 53, 23_454_912, 424_960),
        ("resnet18", 20, 1_395_864 * 8, 76_800),
        ("densenet121", 120, 858_776 * 8, 669_184),
        ("vgg16", 15, 16_781_016 * 8, 0),
    ],
)
def test_masks_and_norms_have_the_papers_sizes(
    name: str, tensors: int, bits: int, norm_bytes: int
) -> None:
    with torch.device("meta"):
        network = models.get_model(name)
    head = {"resnet": "fc", "densen": "classifier", "vgg16": "classifier.6"}[name[:6]]
    layers = find_layers(network, head)
    assert len(layers) == tensors
    assert sum(math.prod(layer.shape) for layer in layers.values()) == bits
    assert sum(4 * tensor.numel() for tensor in norm_tensors(network, head).values()) == norm_bytes


@pytest.mark.parametrize("name", ["vgg16", "vgg16_bn"])
def test_vggs_two_wide_linear_layers_are_masked_and_its_last_is_not(name: str) -> None:
    with torch.device("meta"):
        layers = find_layers(models.get_model(name), "classifier.6")
    assert {key: layer.shape for key, layer in layers.items() if layer.kind == "linear"} == {
        "classifier.0.weight": (4096, 25088),
        "classifier.3.weight": (4096, 4096),
    }


def test_vision_transformers_attention_is_found() -> None:
    with torch.device("meta"):
        layers = find_layers(models.vit_b_32(), "heads.head")
    attention = [layer for layer in layers.values() if layer.kind == "attention"]
    assert sum(math.prod(layer.shape) for layer in attention) == 12 * 3 * 768 * 768  # 21.2 M
    assert len(layers) == 1 + 12 * 4
