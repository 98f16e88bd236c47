"""Networks that answer with a picture: ours, and a decoder behind a classifier."""

from __future__ import annotations

import copy
import sys
from pathlib import Path

import pytest
import tiny
import torch
from torch import nn

from maskpack import methods
from maskpack.backbones import (
    DECODERS,
    ENCODER_DECODERS,
    from_module,
    names_code,
    open_backbone,
    resnet_generator,
)
from maskpack.backbones.base import Backbone, make_backbone, replace_head, seeded
from maskpack.backbones.encoder_decoder import ALIASES, NETWORKS, EncoderDecoder
from maskpack.backbones.encoder_taps import cut_to_taps
from maskpack.backbones.layers import find_layers
from maskpack.common.errors import BackboneError, UnknownName
from maskpack.common.preprocess import Preprocess
from maskpack.networks.build import task_network
from maskpack.networks.serialize import pack_task, unpack_task

MB = 1e6
SIZES = [(16, 16), (32, 32), (17, 33), (50, 20)]


def decoder_bytes(backbone: Backbone) -> int:
    prefixes = tuple(f"{name}." for name in backbone.parts["decoder"])
    return sum(4 * t.numel() for name, t in backbone.state().items() if name.startswith(prefixes))


def picture(height: int = 32, width: int = 32, count: int = 1) -> torch.Tensor:
    return torch.randn(count, 3, height, width, generator=torch.Generator().manual_seed(1))


def assert_parts_cover(backbone: Backbone) -> None:
    prefixes = [name for names in backbone.parts.values() for name in names]
    for name in backbone.state():
        assert sum(name.startswith(f"{prefix}.") for prefix in prefixes) == 1, name
    assert not any(f"{backbone.head}.".startswith(f"{prefix}.") for prefix in prefixes)


def assert_packs_bit_for_bit(backbone: Backbone, size: int = 32) -> None:
    """Masks of all ones compute the plain network; trained ones come back exactly."""
    small = Preprocess(img_size=size, mean=(0.5,) * 3, std=(0.5,) * 3)
    backbone = make_backbone(
        backbone.name, backbone.module, small, backbone.head, parts=backbone.parts
    )
    before = dict(backbone.hashes)
    network = task_network(backbone, methods.make("piggyback"), 3)
    plain = replace_head(copy.deepcopy(backbone.module), backbone.head, 3, seed=0)
    x = picture(size, size)
    with torch.no_grad():
        assert torch.equal(network.eval()(x), plain(x))
    network.train()
    optimizer = torch.optim.Adam([p for p in network.parameters() if p.requires_grad], lr=8e-3)
    for number in range(2):
        loss = (network(picture(size, size, 2)) - number).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert all(score.grad is not None for score in network.scores())
    assert min(network.share_of_ones().values()) < 1
    unpacked = unpack_task(pack_task(network, "grey", {}), backbone)
    with torch.no_grad():
        trained = network.eval()(x)
        assert not torch.equal(trained, plain(x))
        assert torch.equal(unpacked(x), trained)
        channels_last = unpacked.to(memory_format=torch.channels_last)
        torch.testing.assert_close(channels_last(x), trained, rtol=1e-3, atol=1e-4)
    assert make_backbone("", backbone.module, small, backbone.head).hashes == before


def test_names_without_torch_are_the_table() -> None:
    assert {*NETWORKS, *ALIASES} == {*ENCODER_DECODERS}


@pytest.mark.parametrize("name", ["unet", "unet-instance"])
def test_unet_has_the_papers_sizes(name: str) -> None:
    backbone = open_backbone(name)
    assert backbone.size_bytes / MB == pytest.approx(56.4, abs=0.05)
    assert decoder_bytes(backbone) / MB == pytest.approx(20.5, abs=0.05)


@pytest.mark.parametrize("name", ENCODER_DECODERS)
def test_ours_open_by_seed(name: str) -> None:
    backbone = open_backbone(name, seed=3)
    assert backbone.name == f"{ALIASES.get(name, name)}/none#3"
    assert backbone.head == "head"
    assert backbone.preprocess == Preprocess(128, 1.0, (0.5,) * 3, (0.5,) * 3)
    assert open_backbone(backbone.name).fingerprint == backbone.fingerprint
    assert_parts_cover(backbone)


def test_plain_name_none_and_seed_0_are_the_same() -> None:
    one, *others = (open_backbone(f"resnet-generator-6{x}") for x in ("", "/none", "/none#0"))
    assert {one.name} == {other.name for other in others}
    assert {one.fingerprint} == {other.fingerprint for other in others}
    assert open_backbone("resnet-generator-6", seed=1).fingerprint != one.fingerprint


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", ["unet", "unet-instance", "resnet-generator-6"])
@torch.no_grad()
def test_any_picture_size_comes_out_as_it_went_in(name: str, size: tuple[int, int]) -> None:
    network = open_backbone(name).module
    for training in (False, True):
        out = network.train(training)(picture(*size))
        assert out.shape == (1, 3, *size)
        assert torch.isfinite(out).all()


def test_every_convolution_but_the_head_is_masked_transposed_ones_too() -> None:
    backbone = open_backbone("unet")
    layers = find_layers(backbone.module, "head", example=picture())
    assert len(layers) == 16 + 5 + 5
    up = layers["decoder.up5.weight"]
    assert (up.kind, up.channel, up.normed) == ("transposed conv", 1, False)
    assert layers["encoder.conv5_1.weight"].normed
    generator = open_backbone("resnet-generator-6").module
    layers = find_layers(generator, "head", example=picture())
    assert len(layers) == 3 + 12 + 2
    assert {layer.kind for layer in layers.values()} == {"conv", "transposed conv"}
    assert all(layer.normed for layer in layers.values())


@torch.no_grad()
def test_untouched_residual_blocks_change_nothing() -> None:
    network = open_backbone("resnet-generator-6").module
    skipped = copy.deepcopy(network)
    skipped.blocks = nn.Identity()
    assert torch.equal(network(picture()), skipped(picture()))


def test_each_residual_block_is_a_name() -> None:
    assert resnet_generator.parts(9)["blocks"] == tuple(f"blocks.{n}" for n in range(9))
    assert open_backbone("resnet-generator").parts == resnet_generator.parts(9)


def test_a_new_head_reflects_at_the_borders_as_the_old_one() -> None:
    network = replace_head(open_backbone("resnet-generator-6").module, "head", 5, seed=0)
    head = network.get_submodule("head")
    assert (head.out_channels, head.padding_mode, head.padding) == (5, "reflect", (3, 3))


def test_a_file_of_weights_keeps_the_networks_name(tmp_path: Path) -> None:
    saved = open_backbone("resnet-generator-6/none#5")
    torch.save(saved.module.state_dict(), tmp_path / "w.pth")
    backbone = open_backbone("resnet-generator-6", weights=tmp_path / "w.pth")
    assert (backbone.name, backbone.fingerprint) == ("resnet-generator-6", saved.fingerprint)
    with pytest.raises(BackboneError, match=r"does not fit UNet.*give the weights of this very"):
        open_backbone("unet", weights=tmp_path / "w.pth")


def test_masks_on_our_networks_pack_bit_for_bit() -> None:
    assert_packs_bit_for_bit(open_backbone("unet"), size=16)
    assert_packs_bit_for_bit(open_backbone("resnet-generator-6"), size=16)


class Reused(nn.Module):
    """One ReLU in place for all layers, pooling between, and two linear layers at the end."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 4, 3, padding=1)
        self.conv2 = nn.Conv2d(4, 6, 3, padding=1)
        self.conv3 = nn.Conv2d(6, 8, 3, padding=1, bias=False)
        self.norm3 = nn.BatchNorm2d(8)
        self.relu = nn.ReLU(inplace=True)
        self.pool = nn.MaxPool2d(2)
        self.fc1 = nn.Linear(8, 8)
        self.fc2 = nn.Linear(8, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.relu(self.conv2(self.pool(self.relu(self.conv1(x)))))
        x = self.relu(self.norm3(self.conv3(self.pool(x))))
        return self.fc2(self.relu(self.fc1(x.mean((2, 3)))))


def reused() -> Reused:
    return Reused()


reused.preprocess = {"img_size": 16, "crop_pct": 1.0}  # type: ignore[attr-defined]


def test_taps_are_the_last_maps_of_each_size_and_what_follows_is_dropped() -> None:
    network = Reused()
    taps = cut_to_taps(network, "fc2", 16, "reused")
    assert [(tap.level, tap.module, tap.call, tap.channels) for tap in taps] == [
        (1, "relu", 1, 6),
        (2, "relu", 2, 8),
    ]
    assert isinstance(network.fc1, nn.Identity)
    assert isinstance(network.fc2, nn.Identity)
    assert not network._forward_hooks
    assert not network.relu._forward_hooks


@torch.no_grad()
def test_the_decoder_gets_the_maps_that_the_encoder_computes() -> None:
    network = Reused().eval()
    whole = copy.deepcopy(network)
    module = EncoderDecoder(network, cut_to_taps(network, "fc2", 16, "reused"), "resize").eval()
    seen: list[list[torch.Tensor | None]] = []
    module.decoder.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    x = picture(20, 28)
    assert module(x).shape == (1, 3, 20, 28)
    relu = torch.relu
    half = relu(whole.conv2(whole.pool(relu(whole.conv1(x)))))
    quarter = relu(whole.norm3(whole.conv3(whole.pool(half))))
    (maps,) = seen
    assert maps[0] is None
    assert torch.equal(maps[1], half)
    assert torch.equal(maps[2], quarter)


@pytest.mark.parametrize(
    ("name", "deepest", "dropped"),
    [
        ("resnet18", 512, "fc"),
        ("mobilenet_v2", 1280, "classifier"),
        ("mobilenet_v3_small", 576, "classifier"),
        ("vgg11_bn", 512, "classifier"),
        ("densenet121", 1024, "classifier"),
        ("efficientnet_b0", 1280, "classifier"),
        ("timm:mobilenetv3_small_050", 288, "conv_head"),
        ("timm:convnext_atto", 320, "head"),
        ("efficientnet_lite0", 1280, "classifier"),
    ],
)
def test_classifiers_get_a_decoder(name: str, deepest: int, dropped: str) -> None:
    backbone = open_backbone(f"{name}/none#2+transposed#4")
    module = backbone.module
    assert backbone.name.endswith("/none#2+transposed#4")
    assert backbone.head == "head"
    assert (module.taps[-1].level, module.taps[-1].channels) == (5, deepest)
    assert [*module.encoder.get_submodule(dropped).parameters()] == []
    assert_parts_cover(backbone)
    with torch.no_grad():
        assert module(picture(32, 64)).shape == (1, 3, 32, 64)
    kinds = {layer.kind for layer in find_layers(module, "head").values()}
    assert {"conv", "transposed conv"} <= kinds


def test_the_encoder_keeps_its_weights_and_its_preprocessing() -> None:
    plain = open_backbone("timm:mobilenetv3_small_050/none#1")
    backbone = open_backbone("timm:mobilenetv3_small_050/none#1+resize")
    assert backbone.preprocess == plain.preprocess
    state, own = backbone.state(), plain.state()
    inside = {name: own[name.removeprefix("encoder.")] for name in state if name[0] == "e"}
    assert inside
    assert all(torch.equal(state[name], tensor) for name, tensor in inside.items())


def test_a_map_of_class_scores_is_no_feature() -> None:
    module = open_backbone("squeezenet1_1/none+resize").module
    assert (module.taps[-1].module, module.taps[-1].channels) == ("features", 512)


def test_names_with_a_decoder_say_both_seeds() -> None:
    def name(*args: str, **kwargs: object) -> str:
        backbone = open_backbone(*args, **kwargs)  # type: ignore[arg-type]
        assert open_backbone(backbone.name).fingerprint == backbone.fingerprint
        return backbone.name

    assert name("squeezenet1_1/none#3+resize", seed=7) == "squeezenet1_1/none#3+resize#7"
    assert name("squeezenet1_1+resize#1", weights="none", seed=7) == "squeezenet1_1/none#7+resize#1"
    assert name("squeezenet1_1+resize/none#2") == "squeezenet1_1/none#2+resize#2"
    one, other = (open_backbone(f"squeezenet1_1/none+{up}") for up in DECODERS)
    assert one.fingerprint != other.fingerprint


def test_weights_of_a_decoder_name_are_the_encoders(tmp_path: Path) -> None:
    encoder = open_backbone("squeezenet1_1/none#5")
    torch.save(encoder.module.state_dict(), tmp_path / "w.pth")
    backbone = open_backbone("squeezenet1_1+resize", weights=tmp_path / "w.pth")
    assert backbone.name == "squeezenet1_1+resize#0"
    assert backbone.source == "file w.pth; decoder random, seed 0"
    assert backbone.fingerprint == open_backbone("squeezenet1_1/none#5+resize").fingerprint


@pytest.mark.parametrize("up", DECODERS)
def test_masks_on_an_encoder_with_a_decoder_pack_bit_for_bit(up: str) -> None:
    assert_packs_bit_for_bit(open_backbone(f"mobilenet_v3_small/none+{up}"))


@pytest.mark.parametrize("up", DECODERS)
def test_a_callable_of_ones_own_gets_a_decoder(up: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "reusing", sys.modules[__name__])
    backbone = open_backbone(f"reusing:reused+{up}")
    assert backbone.name == f"reusing:reused+{up}#0"
    assert backbone.preprocess.img_size == 16
    assert_packs_bit_for_bit(backbone, size=16)


@pytest.mark.parametrize(
    "name", ["vit_b_32", "swin_t", "timm:vit_tiny_patch16_224", "timm:swin_tiny_patch4_window7_224"]
)
def test_networks_that_keep_no_maps_are_refused(name: str) -> None:
    with pytest.raises(BackboneError) as caught:
        open_backbone(f"{name}/none+resize")
    assert "has no maps of (batch, channels, height, width)" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("unet/V1", UnknownName, "weight set of unet 'V1'; known: none"),
        ("unte", UnknownName, "did you mean 'unet'"),
        ("resnet-generator-7", UnknownName, r"did you mean 'resnet-generator-\d"),
        ("resnet18+resise", UnknownName, "decoder of resnet18 'resise'; did you mean 'resize'"),
        ("resnet18+", UnknownName, "decoder of resnet18 ''; known: resize, transposed"),
        ("resnet18+resize+resize", UnknownName, r"decoder of resnet18 'resize\+resize'"),
        ("resnet81+resize", UnknownName, "unknown backbone 'resnet81'; did you mean 'resnet18'"),
        ("unet+resize", BackboneError, r"unet has a decoder already; leave \+resize out"),
        ("./a+b", BackboneError, "is a path, not a name"),
        ("resnet18/IMAGENET1K_V1+resize", BackboneError, "leave one of them out"),
    ],
)
def test_error_lines(name: str, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message) as caught:
        open_backbone(name, weights="none" if "V1+" in name else None)
    assert "\n" not in str(caught.value)


def test_random_encoders_and_files_contradict_each_other() -> None:
    with pytest.raises(BackboneError, match="leave one of them out"):
        open_backbone("resnet18/none+resize", weights="w.pth")


def test_a_network_that_does_not_run_is_refused_in_a_line() -> None:
    with pytest.raises(BackboneError, match="does not run on 3 x 8 x 8 pictures") as caught:
        cut_to_taps(nn.Sequential(nn.Conv2d(4, 4, 3), nn.Linear(4, 2)), "1", 8, "four")
    assert "\n" not in str(caught.value)


def test_names_that_call_the_users_code_with_a_decoder_behind_it() -> None:
    for name in ("mynet:build+resize", "mynet:build/none#2+resize#1", "mynet:build+a+b"):
        assert names_code(name)
    for name in ("timm:resnet18+resize", "unet", "resnet18/none#3+resize", "run:x+resize"):
        assert not names_code(name)


def halves() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ConvTranspose2d(4, 4, 3), nn.Conv2d(4, 3, 1))


halves.parts = {"encoder": ("0",), "decoder": ["1"]}  # type: ignore[attr-defined]


def wrong() -> nn.Sequential:
    return halves()


def test_a_callable_says_its_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "inhalves", sys.modules[__name__])
    backbone = open_backbone("inhalves:halves")
    assert backbone.parts == {"encoder": ("0",), "decoder": ("1",)}
    assert_parts_cover(backbone)
    for parts, message in (
        ({"encoder": ("first",)}, "part 'encoder' names 'first', and the modules are 0, 1, 2"),
        ({"encoder": "0"}, "a dict of tuples of module names is expected"),
        (["encoder"], "a dict of tuples of module names is expected"),
    ):
        wrong.parts = parts  # type: ignore[attr-defined]
        with pytest.raises(BackboneError, match=message):
            open_backbone("inhalves:wrong")


def test_from_module_takes_parts() -> None:
    with seeded(0):
        backbone = from_module(halves(), parts={"encoder": ["0"], "decoder": ["1"]})
    assert backbone.parts == {"encoder": ("0",), "decoder": ("1",)}
    assert from_module(tiny.plain()).parts == {}
    with pytest.raises(BackboneError, match="names 'up'"):
        from_module(halves(), parts={"decoder": ["up"]})
