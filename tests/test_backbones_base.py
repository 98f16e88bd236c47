"""Fingerprints and heads."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
import torch
import torchvision.models
from torch import nn

from maskpack.backbones import from_module
from maskpack.backbones.base import (
    fingerprint,
    replace_head,
    root_hash,
    seeded,
    tensor_hash,
    tensor_hashes,
)
from maskpack.common.errors import BackboneError


def small() -> nn.Sequential:
    with seeded(0):
        return nn.Sequential(
            nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2)
        )


def test_fingerprint_by_the_documented_recipe() -> None:
    """Only numpy and hashlib, as another program would do it."""
    module = small()
    text = ""
    for name, tensor in sorted(module.state_dict().items()):
        if name.startswith("3.") or name.endswith("num_batches_tracked"):
            continue
        array = tensor.numpy().astype("<f4")
        shape = ",".join(str(side) for side in array.shape)
        line = f"float32 [{shape}]\n".encode()
        text += hashlib.sha256(line + np.ascontiguousarray(array).tobytes()).hexdigest()
        text += f"  {name}\n"
    assert from_module(module).fingerprint == hashlib.sha256(text.encode()).hexdigest()


def test_fingerprint_is_the_root_of_the_tensor_hashes() -> None:
    state = {"b": torch.arange(3), "a": torch.ones(2), "bn.num_batches_tracked": torch.tensor(3)}
    hashes = tensor_hashes(state)
    assert list(hashes) == ["a", "b"]
    assert fingerprint(state) == root_hash(dict(reversed(hashes.items())))


def test_tensor_hash_on_literal_bytes() -> None:
    expected = hashlib.sha256(b"int64 []\n" + bytes([3, 0, 0, 0, 0, 0, 0, 0])).hexdigest()
    assert tensor_hash(torch.tensor(3)) == expected
    assert tensor_hash(torch.zeros(0, 2)) == hashlib.sha256(b"float32 [0,2]\n").hexdigest()
    assert (
        tensor_hash(torch.tensor([1.0], dtype=torch.bfloat16))
        == hashlib.sha256(b"bfloat16 [1]\n\x80\x3f").hexdigest()
    )


def test_fingerprint_sees_every_value_name_and_shape() -> None:
    state = {"a": torch.zeros(2, 3)}
    base = fingerprint(state)
    assert fingerprint({"b": torch.zeros(2, 3)}) != base
    assert fingerprint({"a": torch.zeros(3, 2)}) != base
    assert fingerprint({"a": torch.zeros(2, 3, dtype=torch.float64)}) != base
    changed = torch.zeros(2, 3)
    changed[1, 2] = 1e-30
    assert fingerprint({"a": changed}) != base


def test_fingerprint_does_not_see_memory_format_head_or_counters() -> None:
    base = from_module(small()).fingerprint
    assert from_module(small().to(memory_format=torch.channels_last)).fingerprint == base
    assert from_module(replace_head(small(), "3", 7, seed=1)).fingerprint == base
    counted = small()
    counted[1].num_batches_tracked += 5
    assert from_module(counted).fingerprint == base
    counted[1].running_mean += 1
    assert from_module(counted).fingerprint != base


def test_size_counts_shared_weights_once() -> None:
    shared = nn.Linear(4, 4, bias=False)
    module = nn.Sequential(shared, nn.Sequential(shared), nn.Linear(4, 2))
    backbone = from_module(module)
    assert set(backbone.state()) == {"0.weight", "1.0.weight"}
    assert backbone.size_bytes == 4 * 4 * 4


def test_a_new_head_is_torchs_own_and_comes_from_its_seed_alone() -> None:
    before = torch.get_rng_state()
    module = replace_head(small(), "3", 5, seed=11)
    assert torch.equal(before, torch.get_rng_state())
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(11)
        expected = nn.Linear(4, 5)
    assert torch.equal(module[3].weight, expected.weight)
    assert torch.equal(module[3].bias, expected.bias)
    assert not torch.equal(replace_head(small(), "3", 5, seed=12)[3].weight, expected.weight)


def test_a_new_head_keeps_bias_and_mode() -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Linear(4, 2, bias=False)).eval()
    replace_head(module, "1", 3)
    assert module[1].bias is None
    assert not module[1].training


def test_squeezenets_head_is_a_convolution() -> None:
    with seeded(0):
        module = torchvision.models.squeezenet1_1(weights=None)
    replace_head(module.eval(), from_module(module).head, 7)
    assert module.num_classes == 7
    with torch.no_grad():
        assert module(torch.zeros(2, 3, 64, 64)).shape == (2, 7)


def test_only_linear_and_convolution_can_be_replaced() -> None:
    with pytest.raises(BackboneError, match="head '1' is a BatchNorm2d"):
        replace_head(small(), "1", 3)
