"""The decathlon's network: its sizes, its weights, masks on it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from maskpack import methods
from maskpack.backbones import open_backbone
from maskpack.backbones.layers import find_layers
from maskpack.common.errors import BackboneError, UnknownName
from maskpack.networks.build import task_network
from maskpack.networks.serialize import pack_task, unpack_task

NAME = "wrn28-decathlon"


def test_it_has_as_many_weights_as_the_published_ratios_need() -> None:
    backbone = open_backbone(NAME)
    convs = {n: m for n, m in backbone.module.named_modules() if isinstance(m, nn.Conv2d)}
    norms = [m for m in backbone.module.modules() if isinstance(m, nn.BatchNorm2d)]
    weights = sum(conv.weight.numel() for conv in convs.values())
    own = sum(p.numel() for norm in norms for p in norm.parameters())
    assert (len(convs), weights, own) == (28, 5_839_280, 8_096)
    masked = find_layers(backbone.module, backbone.head)
    assert set(masked) == {f"{name}.weight" for name in convs}
    # Mancini et al., table 3: ten tasks, one of which is the backbone's
    parameters = weights + own
    assert round(1 + 9 * weights / (32 * parameters), 2) == 1.28
    assert round(1 + 9 * (weights + 32 * own) / (32 * parameters), 2) == 1.29
    assert backbone.module.get_submodule(backbone.head).in_features == 256


@torch.no_grad()
def test_a_picture_of_64_pixels_is_8_wide_after_the_last_stage() -> None:
    backbone = open_backbone(NAME)
    module, seen = backbone.module, []
    for number in (1, 2, 3):
        layer = module.get_submodule(f"layer{number}")
        layer.register_forward_hook(lambda _, __, out: seen.append(tuple(out.shape)))
    out = module(torch.zeros(2, 3, 64, 64))
    assert seen == [(2, 64, 32, 32), (2, 128, 16, 16), (2, 256, 8, 8)]
    assert out.shape == (2, 1000)
    assert module(torch.zeros(1, 3, 72, 72)).shape == (1, 1000)
    found = backbone.preprocess
    assert (found.img_size, round(found.img_size / found.crop_pct)) == (64, 72)


def test_it_opens_by_seed_or_from_a_file(tmp_path: Path) -> None:
    one = open_backbone(NAME, seed=3)
    assert one.name == f"{NAME}/none#3"
    assert open_backbone(one.name).fingerprint == one.fingerprint
    assert open_backbone(NAME).fingerprint != one.fingerprint
    path = tmp_path / "base.safetensors"
    save_file(one.module.state_dict(), path)
    filed = open_backbone(NAME, weights=path)
    assert (filed.name, filed.fingerprint) == (NAME, one.fingerprint)
    state = {k: v for k, v in one.module.state_dict().items() if "layer3.0.downsample" not in k}
    save_file(state, path)
    with pytest.raises(BackboneError, match="does not fit WideResNet: tensors 5 missing"):
        open_backbone(NAME, weights=path)
    with pytest.raises(UnknownName, match="weight set of wrn28-decathlon 'V1'"):
        open_backbone(f"{NAME}/V1")


def test_a_packed_task_computes_what_the_trained_one_did() -> None:
    backbone = open_backbone(NAME)
    network = task_network(backbone, methods.make("affine"), 2, norms="task")
    picture = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    optimizer = torch.optim.Adam([p for p in network.parameters() if p.requires_grad], lr=1e-3)
    network.train()
    for _ in range(2):
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(picture), torch.tensor([0, 1])).backward()
        optimizer.step()
    unpacked = unpack_task(pack_task(network, "two", {}), backbone)
    with torch.no_grad():
        assert torch.equal(unpacked(picture), network.eval()(picture))
