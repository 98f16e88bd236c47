"""VGG-16 for 32 px pictures: its sizes, its widths, and weights that grow with it."""

from __future__ import annotations

import pytest
import torch

from maskpack.backbones import open_backbone
from maskpack.backbones.vgg_cifar import VGG, Widened, name_of_width, narrowed, widened, width_of
from maskpack.common.errors import BackboneError, MaskpackError

OLD, NEW = 0.01, 0.03  # 6 and 11 channels where the whole network has 64


@pytest.fixture(scope="module")
def old() -> VGG:
    return open_backbone(name_of_width(OLD)).module  # type: ignore[return-value]


@pytest.fixture(scope="module")
def grown(old: VGG) -> Widened:
    return widened(old.state_dict(), OLD, NEW, seed=1)


def loaded(state: dict[str, torch.Tensor], width: float) -> VGG:
    module = VGG(width)
    module.load_state_dict(state)
    return module.eval()


def test_the_whole_network_has_the_layers_of_the_papers() -> None:
    with torch.device("meta"):
        shapes = {name: tuple(t.shape) for name, t in VGG().state_dict().items()}
        wide = {name: tuple(t.shape) for name, t in VGG(1.5).state_dict().items()}
    masked = [shape for name, shape in shapes.items() if len(shape) > 1 and name != "head.weight"]
    assert len(masked) == 15
    assert sum(torch.Size(shape).numel() for shape in masked) == 14_710_464 + 18_874_368
    assert shapes["features.0.weight"] == (64, 3, 3, 3)
    assert shapes["features.40.weight"] == (512, 512, 3, 3)
    assert (shapes["fc6.weight"], shapes["fc7.weight"]) == ((4096, 512), (4096, 4096))
    assert "features.0.bias" not in shapes
    # int(64 * sqrt(1.5)) and so on
    assert wide["features.3.weight"] == (78, 78, 3, 3)
    assert wide["fc6.weight"] == (5016, 627)


def test_a_name_says_the_width_and_the_seed() -> None:
    found = open_backbone("vgg16_bn_cifar-w0.0100/none#3")
    assert found.name == "vgg16_bn_cifar-w0.01/none#3" and found.head == "head"
    assert found.preprocess.img_size == 32
    again = open_backbone(found.name)
    assert again.fingerprint == found.fingerprint
    assert open_backbone("vgg16_bn_cifar-w0.01", seed=4).fingerprint != found.fingerprint
    assert name_of_width(1.0) == "vgg16_bn_cifar" == name_of_width(width_of("vgg16_bn_cifar-w1.0"))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("vgg16_bn_cifar-wide", "the width W a number from 0.001 to 16, as in vgg16_bn_cifar-w1.5"),
        ("vgg16_bn_cifar-w0", "the width W a number from"),
        ("vgg16_bn_cifar-w17", "the width W a number from"),
        ("vgg16_bn_cifar/IMAGENET1K_V1", "unknown weight set of vgg16_bn_cifar"),
        ("vgg16_bn_cifr", "did you mean 'vgg16_bn_cifar'"),
    ],
)
def test_a_wrong_name_is_one_line(name: str, expected: str) -> None:
    with pytest.raises(MaskpackError) as caught:
        open_backbone(name)
    assert expected in str(caught.value) and "\n" not in str(caught.value)


def test_what_has_grown_answers_as_before(old: VGG, grown: Widened) -> None:
    wide = loaded(grown.state, NEW)
    x = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.allclose(wide(x), old(x), rtol=0, atol=1e-6)
        inside = wide.features(x)[:, : old.fc6.in_features]
        assert torch.allclose(inside, old.features(x), rtol=0, atol=1e-6)


def test_old_channels_read_nothing_new_and_new_ones_read_all(old: VGG, grown: Widened) -> None:
    for name, before in old.state_dict().items():
        after, mask = grown.state[name], grown.old[name]
        assert mask.shape == after.shape and int(mask.sum()) == before.numel()
        assert torch.equal(after[mask], before.reshape(-1))
        if before.dim() > 1:
            rows, columns = before.shape[:2]
            assert not after[:rows, columns:].any()
            assert after[rows:].all()
    assert grown.state["features.1.weight"].eq(1).all()
    assert len(grown.state["head.weight"]) == 100


def test_earlier_bits_come_back(old: VGG, grown: Widened) -> None:
    back = narrowed(grown.state, OLD)
    for name, before in old.state_dict().items():
        assert torch.equal(back[name], before)
    part = {name: tensor for name, tensor in grown.state.items() if name.startswith("fc6.")}
    assert narrowed(part, OLD).keys() == part.keys()


def test_growing_hangs_on_the_seed_alone(old: VGG, grown: Widened) -> None:
    again = widened(old.state_dict(), OLD, NEW, seed=1).state
    assert all(torch.equal(again[name], tensor) for name, tensor in grown.state.items())
    other = widened(old.state_dict(), OLD, NEW, seed=2).state
    assert not torch.equal(other["fc6.weight"], again["fc6.weight"])


def test_what_cannot_grow_is_one_line(old: VGG, grown: Widened) -> None:
    state = old.state_dict()
    with pytest.raises(BackboneError, match=r"width 0.03 cannot grow to 0.01"):
        widened(state, NEW, OLD)
    with pytest.raises(BackboneError, match=r"features.0.weight is \(6, 3, 3, 3\), and in .*w0.03"):
        widened(state, NEW, NEW)
    with pytest.raises(BackboneError, match=r"too narrow for vgg16_bn_cifar-w0.03"):
        narrowed(state, NEW)
    with pytest.raises(BackboneError, match=r"conv1.weight: no such tensor"):
        widened({"conv1.weight": torch.zeros(1)}, OLD, NEW)
