"""torchvision's segmentation networks, with random weights."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path
from urllib.error import URLError

import pytest
import torch
import torchvision.models
from test_backbones_encoder_decoder import (
    assert_packs_bit_for_bit,
    assert_parts_cover,
    picture,
)

from maskpack.backbones import open_backbone, segmentation
from maskpack.backbones.base import seeded
from maskpack.common.errors import BackboneError, UnknownName
from maskpack.common.preprocess import Preprocess

LRASPP = "lraspp_mobilenet_v3_large"
DEEPLAB = "deeplabv3_mobilenet_v3_large"


@pytest.fixture(autouse=True)
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty torch.hub folder and no network."""

    def refuse(*args: object, **kwargs: object) -> None:
        raise URLError("no route to host")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr(torch.hub, "download_url_to_file", refuse)


def original(name: str, **options: object) -> torch.nn.Module:
    """torchvision's own module with random weights."""
    with seeded(9):
        module = torchvision.models.get_model(
            name, weights=None, weights_backbone=None, num_classes=21, **options
        )
        for key, tensor in module.state_dict().items():
            if key.endswith("running_mean"):
                tensor.normal_(0, 0.1)
    return module.eval()


@pytest.mark.parametrize(("name", "head"), [(LRASPP, "classifier.head"), (DEEPLAB, "classifier.4")])
def test_they_answer_with_one_map_of_classes(name: str, head: str) -> None:
    backbone = open_backbone(name, weights="none", seed=2)
    assert (backbone.name, backbone.head) == (f"{name}/none#2", head)
    assert open_backbone(backbone.name).fingerprint == backbone.fingerprint
    assert backbone.preprocess == Preprocess(img_size=520, crop_pct=1.0)
    assert_parts_cover(backbone)
    with torch.no_grad():
        assert backbone.module(picture(32, 48)).shape == (1, 21, 32, 48)


@pytest.mark.parametrize("name", [LRASPP, DEEPLAB, "fcn_resnet50"])
@torch.no_grad()
def test_files_of_torchvision_compute_what_torchvision_computes(name: str, tmp_path: Path) -> None:
    options = {} if name == LRASPP else {"aux_loss": True}
    theirs = original(name, **options)
    assert name == LRASPP or any(key.startswith("aux_") for key in theirs.state_dict())
    torch.save(theirs.state_dict(), tmp_path / "w.pth")
    backbone = open_backbone(name, weights=tmp_path / "w.pth")
    assert backbone.name == name
    assert_parts_cover(backbone)
    own = theirs.state_dict()
    for key, tensor in backbone.state().items():
        assert torch.equal(tensor, own[key]), key
    x = picture(32, 40)
    torch.testing.assert_close(backbone.module(x), theirs(x)["out"], rtol=1e-5, atol=1e-5)


def test_a_saved_state_of_ones_own_is_read_back(tmp_path: Path) -> None:
    saved = open_backbone(f"{LRASPP}/none#4")
    torch.save(saved.module.state_dict(), tmp_path / "w.pth")
    backbone = open_backbone(LRASPP, weights=tmp_path / "w.pth")
    assert backbone.fingerprint == saved.fingerprint
    assert torch.equal(
        backbone.module.get_submodule("classifier.head").weight,
        saved.module.get_submodule("classifier.head").weight,
    )


def test_a_file_of_other_classes_is_read_without_its_last_layer() -> None:
    branches = {
        f"{branch}.{key}": torch.ones(shape)
        for branch, width in zip(segmentation.BRANCHES, (40, 128), strict=True)
        for key, shape in (("weight", (3, width, 1, 1)), ("bias", (3,)))
    }
    merged = segmentation.translate(OrderedDict(branches))
    assert {key: tuple(tensor.shape) for key, tensor in merged.items()} == {
        "classifier.head.weight": (3, 168, 1, 1),
        "classifier.head.bias": (3,),
    }
    damaged = OrderedDict(branches, **{f"{segmentation.BRANCHES[0]}.bias": torch.ones(2)})
    assert segmentation.translate(damaged) == {}


def test_masks_pack_bit_for_bit() -> None:
    assert_packs_bit_for_bit(open_backbone(f"{LRASPP}/none"))


def test_weights_that_cannot_be_fetched_and_wrong_names() -> None:
    with pytest.raises(BackboneError, match=rf"{LRASPP}/COCO_WITH_VOC_LABELS_V1 could not be .*d4"):
        open_backbone(LRASPP)
    with pytest.raises(UnknownName, match="known: COCO_WITH_VOC_LABELS_V1, none"):
        open_backbone(f"{DEEPLAB}/IMAGENET1K_V1")
    with pytest.raises(BackboneError, match="leave one of them out"):
        open_backbone(f"{DEEPLAB}/COCO_WITH_VOC_LABELS_V1", weights="none")
    with pytest.raises(UnknownName, match="did you mean 'fcn_resnet50'"):
        open_backbone("fcn_resnet5")
    with pytest.raises(BackboneError, match="has a decoder already"):
        open_backbone(f"{LRASPP}/none+resize")
