"""Opening backbones by name: torchvision's, one's own, and the errors on the way."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path
from urllib.error import URLError

import pytest
import torch
from torch import nn

from maskpack.backbones import (
    RUN_PREFIX,
    from_module,
    imagenet,
    names_code,
    open_backbone,
)
from maskpack.backbones.base import find_head
from maskpack.common.errors import BackboneError, UnknownName
from maskpack.common.preprocess import IMAGENET_MEAN, Preprocess

SQUEEZENET_FILE = "squeezenet1_1-b8a52dc0.pth"


@pytest.fixture(autouse=True)
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty torch.hub folder and no network."""

    def refuse(*args: object, **kwargs: object) -> None:
        raise URLError("no route to host")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr(torch.hub, "download_url_to_file", refuse)
    return tmp_path / "torch" / "hub" / "checkpoints"


def one_line(caught: pytest.ExceptionInfo[BaseException]) -> str:
    text = str(caught.value)
    assert "\n" not in text
    return text


def test_names_and_help_need_no_torch() -> None:
    code = "import sys, maskpack.backbones; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_random_weights_come_from_the_seed_and_the_name_reopens_them() -> None:
    before = torch.get_rng_state()
    backbone = open_backbone("squeezenet1_1", weights="none", seed=3)
    assert torch.equal(before, torch.get_rng_state())
    assert backbone.name == "squeezenet1_1/none#3"
    again = open_backbone(backbone.name)
    assert again.name == backbone.name
    assert again.fingerprint == backbone.fingerprint
    assert open_backbone("squeezenet1_1/none").fingerprint != backbone.fingerprint
    assert open_backbone("squeezenet1_1/none").name == "squeezenet1_1/none#0"


@pytest.mark.parametrize(
    ("name", "head"),
    [
        ("resnet18", "fc"),
        ("squeezenet1_1", "classifier.1"),
        ("mobilenet_v3_small", "classifier.3"),
        ("shufflenet_v2_x0_5", "fc"),
        ("mnasnet0_5", "classifier.1"),
        ("googlenet", "fc"),
    ],
)
def test_torchvision_networks_open_ready_to_freeze(name: str, head: str) -> None:
    backbone = open_backbone(f"{name}/none")
    assert backbone.head == head
    assert backbone.preprocess == Preprocess()
    assert not any(module.training for module in backbone.module.modules())
    assert {p.dtype for p in backbone.module.parameters()} == {torch.float32}
    assert all(p.requires_grad for p in backbone.module.parameters())
    with torch.no_grad():
        assert backbone.module(torch.zeros(1, 3, 64, 64)).shape == (1, 1000)


def test_the_papers_weights_are_meant_by_the_bare_name() -> None:
    sets = imagenet.torchvision.models.get_model_weights("resnet50")
    assert sets.DEFAULT.name == "IMAGENET1K_V2"
    with pytest.raises(BackboneError, match=r"weights of resnet50/IMAGENET1K_V1 .*0676ba61\.pth"):
        open_backbone("resnet50")
    with pytest.raises(BackboneError, match=r"resnet50/IMAGENET1K_V2 .*11ad3fa6\.pth"):
        open_backbone("resnet50/IMAGENET1K_V2")


def test_weights_that_cannot_be_fetched_say_which_file_goes_where(hub: Path) -> None:
    with pytest.raises(BackboneError) as caught:
        open_backbone("squeezenet1_1")
    text = one_line(caught)
    assert f"https://download.pytorch.org/models/{SQUEEZENET_FILE}" in text
    assert str(hub / SQUEEZENET_FILE) in text
    assert "--weights FILE" in text


def test_a_cached_file_is_checked_against_the_hash_in_its_name(hub: Path) -> None:
    hub.mkdir(parents=True)
    torch.save(open_backbone("squeezenet1_1/none").module.state_dict(), hub / SQUEEZENET_FILE)
    found = hashlib.sha256((hub / SQUEEZENET_FILE).read_bytes()).hexdigest()[:8]
    with pytest.raises(BackboneError, match=f"begins with {found}, its name says b8a52dc0"):
        open_backbone("squeezenet1_1")


def test_a_cached_file_is_used(hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.mkdir(parents=True)
    saved = open_backbone("squeezenet1_1/none#5")
    torch.save(saved.module.state_dict(), hub / SQUEEZENET_FILE)
    monkeypatch.setattr(imagenet, "check_hash", lambda path: None)
    backbone = open_backbone("squeezenet1_1")
    assert backbone.name == "squeezenet1_1/IMAGENET1K_V1"
    assert backbone.fingerprint == saved.fingerprint
    assert torch.equal(
        backbone.module.get_submodule("classifier.1").weight,
        saved.module.get_submodule("classifier.1").weight,
    )


def test_a_file_of_weights_keeps_the_networks_name(tmp_path: Path) -> None:
    saved = open_backbone("squeezenet1_1/none#5")
    torch.save(saved.state(), tmp_path / "mine.pth")
    backbone = open_backbone("squeezenet1_1", weights=tmp_path / "mine.pth")
    assert (backbone.name, backbone.fingerprint) == ("squeezenet1_1", saved.fingerprint)


def test_hash_in_name() -> None:
    assert imagenet.hash_in_name(Path("resnet18-f37072fd.pth")) == "f37072fd"
    assert imagenet.hash_in_name(Path("mnasnet0.5_top1_67.823-3ffadce67e.pth")) == "3ffadce67e"
    assert imagenet.hash_in_name(Path("weights.pth")) is None


def test_old_densenet_names_are_translated_and_auxiliary_heads_dropped() -> None:
    old = {
        "features.denseblock1.denselayer1.norm.1.weight": torch.ones(1),
        "features.denseblock1.denselayer1.conv.2.weight": torch.ones(1),
        "features.norm5.weight": torch.ones(1),
    }
    assert set(imagenet._translate("densenet121", old)) == {
        "features.denseblock1.denselayer1.norm1.weight",
        "features.denseblock1.denselayer1.conv2.weight",
        "features.norm5.weight",
    }
    auxiliary = {"aux1.fc1.weight": torch.ones(1), "fc.weight": torch.ones(1)}
    assert set(imagenet._translate("googlenet", auxiliary)) == {"fc.weight"}


def test_preprocessing_and_picture_size_are_the_weight_sets_own() -> None:
    sets = imagenet.torchvision.models.get_model_weights("vit_b_16")
    swag = sets["IMAGENET1K_SWAG_E2E_V1"]
    wanted = imagenet._preprocess(swag)
    assert (wanted.img_size, wanted.interpolation) == (384, "bicubic")
    assert imagenet._arguments("vit_b_16", swag) == {"image_size": 384}
    v2 = imagenet.torchvision.models.get_model_weights("resnet50")["IMAGENET1K_V2"]
    assert round(224 / imagenet._preprocess(v2).crop_pct) == 232
    assert imagenet._preprocess(v2).mean == IMAGENET_MEAN


def test_unknown_names_list_the_nearest() -> None:
    with pytest.raises(UnknownName, match=r"'resnet51'; did you mean 'resnet50'\?.*resnet101"):
        open_backbone("resnet51")
    with pytest.raises(UnknownName) as caught:
        open_backbone("qqqq")
    assert "more of torchvision's" in one_line(caught)
    assert len(str(caught.value)) < 300
    with pytest.raises(UnknownName, match="IMAGENET1K_V1, IMAGENET1K_V2, none"):
        open_backbone("resnet50/IMAGENET1K_V3")
    with pytest.raises(UnknownName, match="weight set of resnet50 'DEFAULT'"):
        open_backbone("resnet50/DEFAULT")
    with pytest.raises(UnknownName, match="weight set of efficientnet_lite0 'V1'; known: none"):
        open_backbone("efficientnet_lite0/V1")
    with pytest.raises(UnknownName, match="unknown backbone 'xxx"):
        open_backbone("x" * 5000)
    with pytest.raises(UnknownName, match="weight set of resnet18 'none#9999"):
        open_backbone("resnet18/none#" + "9" * 30)


@pytest.mark.parametrize("name", ["./w.pth", "runs/birds", "w.safetensors", "~/x", "C:\\w.pt"])
def test_a_path_as_a_name_is_refused_with_both_spellings(name: str) -> None:
    with pytest.raises(BackboneError) as caught:
        open_backbone(name)
    assert f"--backbone NAME --weights {name};" in one_line(caught)
    assert f"--backbone run:{name}" in str(caught.value)


def test_an_existing_folder_is_a_path_unless_a_network_has_that_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "birds").mkdir()
    (tmp_path / "squeezenet1_1").mkdir()
    with pytest.raises(BackboneError, match="is a path"):
        open_backbone("birds")
    assert open_backbone("squeezenet1_1", weights="none").head == "classifier.1"


def test_runs_are_left_to_the_caller() -> None:
    with pytest.raises(BackboneError, match="is a run or a pack"):
        open_backbone(f"{RUN_PREFIX}runs/scratch")


def test_contradicting_requests_are_refused() -> None:
    with pytest.raises(BackboneError, match="leave one of them out"):
        open_backbone("resnet18/IMAGENET1K_V1", weights="none")
    with pytest.raises(BackboneError, match="leave one of them out"):
        open_backbone("resnet18/none#2", weights="w.pth")


def test_the_head_can_be_named() -> None:
    backbone = open_backbone("squeezenet1_1/none", head="features.12.expand3x3")
    assert backbone.head == "features.12.expand3x3"
    assert "classifier.1.weight" in backbone.state()
    with pytest.raises(UnknownName, match=r"unknown head 'fc'.*classifier\.1"):
        open_backbone("squeezenet1_1/none", head="fc")
    with pytest.raises(BackboneError, match=r"is a Sequential.*inside it: classifier\.1"):
        open_backbone("squeezenet1_1/none", head="classifier")


def test_names_that_run_the_users_code_can_be_told() -> None:
    assert names_code("mynet:build")
    assert names_code("pkg.mynet:Nets.build/none#3")
    for name in ("resnet50", "timm:resnet18", "run:birds", "resnet18/none#3", "C:\\w.pt"):
        assert not names_code(name)


MYNET = """
from torch import nn

def build():
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))

build.preprocess = {"img_size": 32, "mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}

def broken():
    raise ValueError("too few layers\\nsecond line")

def text():
    return "a network"

def odd():
    return build()

odd.preprocess = {"size": 32}

number = 3
"""


@pytest.fixture
def mynet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A user's module in the current folder, which is not on the path."""
    (tmp_path / "mynet.py").write_text(MYNET)
    (tmp_path / "fails.py").write_text("import a_package_nobody_has\n")
    (tmp_path / "syntax.py").write_text("def build(:\n")
    monkeypatch.chdir(tmp_path)
    for name in ("mynet", "fails", "syntax"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return "mynet"


def test_a_callable_of_ones_own_opens_alike_each_time(mynet: str) -> None:
    path, before = list(sys.path), torch.get_rng_state()
    backbone = open_backbone("mynet:build", seed=7)
    assert (backbone.name, backbone.head) == ("mynet:build", "3")
    assert backbone.preprocess == Preprocess(32, mean=(0.5,) * 3, std=(0.5,) * 3)
    assert open_backbone("mynet:build").fingerprint == backbone.fingerprint
    assert (sys.path, torch.equal(torch.get_rng_state(), before)) == (path, True)
    seeded = open_backbone("mynet:build", weights="none", seed=7)
    assert seeded.name == "mynet:build/none#7"
    assert seeded.fingerprint != backbone.fingerprint
    assert open_backbone(seeded.name).fingerprint == seeded.fingerprint


def test_a_callable_takes_a_file_of_weights(mynet: str, tmp_path: Path) -> None:
    seeded = open_backbone("mynet:build/none#7")
    torch.save(seeded.module.state_dict(), tmp_path / "w.pth")
    backbone = open_backbone("mynet:build", weights=tmp_path / "w.pth")
    assert (backbone.name, backbone.fingerprint) == ("mynet:build", seeded.fingerprint)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nosuch:build", "no module 'nosuch' in the current folder"),
        ("mynet.sub:build", "importing|no module"),
        ("fails:build", "importing fails raised ModuleNotFoundError: No module named 'a_package"),
        ("syntax:build", "importing syntax raised SyntaxError"),
        ("mynet:biuld", "unknown function of mynet 'biuld'; did you mean 'build'"),
        ("mynet:number", "number is a int"),
        ("mynet:broken", "raised ValueError: too few layers$"),
        ("mynet:text", "returned a str, and an nn.Module is expected"),
        ("mynet:odd", "its preprocess raised TypeError"),
    ],
)
def test_what_can_go_wrong_with_a_callable_is_one_line(mynet: str, name: str, message: str) -> None:
    with pytest.raises((BackboneError, UnknownName), match=message) as caught:
        open_backbone(name)
    one_line(caught)


def test_any_module_is_a_backbone_and_is_not_copied() -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2))
    module.double().train()
    module[0].weight.requires_grad_(False)
    backbone = from_module(module, name="mine", preprocess=Preprocess(32))
    assert backbone.module is module
    assert (backbone.name, backbone.head, backbone.preprocess.img_size) == ("mine", "3", 32)
    assert module[0].weight.dtype == torch.float32
    assert not module.training
    assert not module[0].weight.requires_grad
    assert module[0].bias.requires_grad
    assert set(backbone.state()) == {
        *("0.weight", "0.bias"),
        *("1.weight", "1.bias", "1.running_mean", "1.running_var"),
    }
    assert backbone.size_bytes == 4 * (4 * 3 * 9 + 4 + 4 * 4)


def test_modules_without_values_or_head_are_refused() -> None:
    with pytest.raises(BackboneError, match="no shape yet"):
        from_module(nn.Sequential(nn.LazyConv2d(4, 3), nn.Linear(4, 2)))
    with pytest.raises(BackboneError, match="meta device"):
        from_module(nn.Sequential(nn.Conv2d(3, 4, 3), nn.Linear(4, 2)).to("meta"))
    with pytest.raises(BackboneError, match="--head NAME"):
        from_module(nn.Sequential(nn.Conv2d(3, 4, 3)))
    with pytest.raises(BackboneError, match="no weights besides its head"):
        from_module(nn.Sequential(nn.Flatten(), nn.Linear(4, 2)))


def test_find_head_agrees_with_every_family() -> None:
    assert find_head(nn.Sequential(nn.Linear(2, 2), nn.Sequential(nn.Linear(2, 2)))) == "1.0"
