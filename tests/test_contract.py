"""What every method and variant promises, each tried on every kind of layer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
import tiny
import torch
from torch import Tensor, nn

from maskpack import methods
from maskpack.backbones.base import Backbone, replace_head, seeded
from maskpack.backbones.layers import norm_tensors
from maskpack.networks.build import task_network
from maskpack.networks.masked import MaskedNetwork
from maskpack.networks.serialize import info_of, pack_task, unpack_task
from maskpack.packs import file as packfile
from maskpack.packs.contents import Pack
from maskpack.reports import describe as report

# A method, its options, and its norms where they are not the paper's. Any two values of two
# options stand together in some line.
VARIANTS = """
piggyback
piggyback gradient_scaling=average
piggyback gradient_scaling=individual
piggyback init=uniform
piggyback init=uniform gradient_scaling=average
piggyback init=weight-based gradient_scaling=individual
piggyback init=weight-based
piggyback values=ternary
piggyback values=ternary gradient_scaling=average
piggyback values=ternary init=uniform gradient_scaling=individual
piggyback values=ternary init=weight-based gradient_scaling=average
ksm
ksm gumbel=true
ksm gradient=ste coefficients=fp16
ksm gradient=ste soft=false gumbel=true
ksm coefficients=fp16 gumbel=true
ksm coefficients=u8
ksm soft=false
ksm granularity=element
ksm granularity=element gradient=ste gumbel=true coefficients=u8
ksm granularity=element coefficients=fp16
ksm granularity=element soft=false
ksm granularity=channel gumbel=true
ksm granularity=channel gradient=ste
ksm granularity=channel coefficients=fp16
ksm granularity=channel coefficients=u8 gradient=ste
ksm granularity=channel soft=false
affine
affine k0=learned
affine k0=1 surrogate=sigmoid
affine k0=0.5 granularity=channel
affine surrogate=sigmoid k0=learned granularity=channel
affine form=simple
affine form=simple k0=learned granularity=channel
affine form=simple k0=1 granularity=channel
affine form=simple surrogate=sigmoid k0=0.5
affine granularity=channel surrogate=sigmoid
affine init=zeros
affine init=zeros granularity=channel surrogate=sigmoid
affine init=zeros k0=1 norms=scale
lora
lora rank=3 alpha=2 dtype=fp32 norms=scale
lora rank=1 dtype=fp16 norms=task
piggyback norms=scale
ksm norms=scale
fine-tune norms=scale
decoder
decoder norms=task
residual-blocks
residual-blocks norms=stats
residual-blocks training=alternate
scratch without=blocks
scratch without=decoder norms=frozen
classifier-only norms=scale
classifier-only
fine-tune
scratch
piggyback norms=stats
piggyback norms=task
piggyback values=ternary norms=task
ksm norms=frozen
ksm norms=stats
affine norms=frozen
affine norms=stats
classifier-only norms=stats
classifier-only norms=task
fine-tune norms=frozen
fine-tune norms=stats
scratch norms=frozen
"""


@dataclass(frozen=True)
class Case:
    """A variant, trained for two steps; `trained` after one more, which leaves gradients."""

    backbone: Backbone
    state: Mapping[str, Tensor]  # the backbone's, before anything happened
    start: MaskedNetwork
    trained: MaskedNetwork
    path: Path

    @property
    def pack(self) -> Pack:
        return packfile.read(self.path)


def _make(line: str, path: Path) -> Case:
    name, *words = line.split()
    options = dict(word.split("=") for word in words)
    norms = options.pop("norms", None)
    backbone = tiny.backbone(tiny.everything)
    state = {key: tensor.clone() for key, tensor in backbone.module.state_dict().items()}
    method = methods.make(name, options)
    start, trained = (
        task_network(backbone, method, tiny.OUTPUTS, norms=norms, seed=1) for _ in range(2)
    )
    with seeded(0):  # Gumbel noise
        tiny.train(trained, steps=3)
    packed = pack_task(trained, "shades", {"task": tiny.task().describe()})
    packfile.write(path, Pack(info_of(backbone), {packed.name: packed}))
    return Case(backbone, state, start, trained, path)


@pytest.fixture(scope="module", params=VARIANTS.strip().splitlines())
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    return _make(request.param, tmp_path_factory.getbasetemp() / "contract.safetensors")


def _images() -> Tensor:
    return torch.randn(5, 3, tiny.SIZE, tiny.SIZE, generator=torch.Generator().manual_seed(9))


def _starts_as_backbone(network: MaskedNetwork) -> bool:
    """Piggyback's uniform scores and a k0 that is fixed elsewhere than at 1 do not."""
    options = methods.options_of(network.method)
    return options.get("init") != "uniform" and options.get("k0") != 0.5


def test_starts_as_the_backbone_where_its_paper_does(case: Case) -> None:
    plain = replace_head(tiny.everything(), case.backbone.head, tiny.OUTPUTS, seed=1).eval()
    with torch.no_grad():
        same = torch.equal(case.start.eval()(_images()), plain(_images()))
    assert same == _starts_as_backbone(case.start)


def test_a_gradient_reaches_every_trainable(case: Case) -> None:
    trained = [(n, p) for n, p in case.trained.named_parameters() if p.requires_grad]
    assert trained
    assert [n for n, p in trained if p.grad is None or not p.grad.any()] == []
    assert [n for n, p in trained if not p.grad.isfinite().all()] == []  # type: ignore[union-attr]


def test_training_moves_every_trainable(case: Case) -> None:
    start = dict(case.start.named_parameters())
    still = [
        name
        for name, parameter in case.trained.named_parameters()
        if parameter.requires_grad == torch.equal(parameter, start[name])
    ]
    assert still == []


def test_the_backbone_stays_bit_identical(case: Case) -> None:
    assert _differing(case.state, case.backbone.module.state_dict()) == []
    network = case.trained
    own = {name for tensors in network.own_tensors().values() for name in tensors}
    if "first.weight" in own:
        own.add("second.weight")  # the same tensor under its second name
    counters = {name for name in case.state if name.endswith("num_batches_tracked")}
    # the step counters go with the statistics
    own |= {n for n in counters if network.norms != "frozen" or _in_own_part(network, n)}
    kept = {name: t for name, t in case.state.items() if name not in own}
    assert _differing(kept, network.network.state_dict()) == []


def _in_own_part(network: MaskedNetwork, name: str) -> bool:
    """Whether a tensor lies in a part, not all, of the network that is the task's own."""
    return any(part and name.startswith(f"{part}.") for part in network.trained)


def test_norms_move_as_their_mode_says(case: Case) -> None:
    head, mode = case.backbone.head, case.trained.norms
    before = norm_tensors(case.start.network, head)
    after = norm_tensors(case.trained.network, head)
    inside = {name for name in before if _in_own_part(case.trained, name)}
    moved = set(_differing(before, after))
    assert inside <= moved, "those of the task's own part are trained whatever the mode"
    statistics, affine = {"running_mean", "running_var"}, {"weight", "bias"}
    both = statistics | affine
    expected = {"frozen": set(), "scale": affine, "stats": statistics, "task": both}
    if inside == set(before):
        mode = "frozen"  # no norm is left that it could be about
    assert {name.rpartition(".")[2] for name in moved - inside} == expected[mode]
    kept = set(case.trained.own_tensors().get("norms", {}))
    assert inside <= kept
    expected = expected if "" not in case.trained.trained else dict.fromkeys(expected, both)
    found = {name.rpartition(".")[2] for name in kept - inside}
    assert found == expected[mode], "and is all that is kept"


def test_packed_task_equals_trained_task(case: Case) -> None:
    images, trained = _images(), case.trained.eval()
    for packed in (pack_task(trained, "shades", {}), case.pack.task()):
        loaded = unpack_task(packed, case.backbone)
        with torch.no_grad():
            expected = trained(images)
            assert expected.isfinite().all()
            assert torch.equal(loaded(images), expected)
            assert torch.equal(trained.baked()(images), expected)
        assert _differing(trained.baked().state_dict(), loaded.state_dict(), counters=False) == []


def test_packed_task_equals_trained_task_in_channels_last(case: Case) -> None:
    images = _images().to(memory_format=torch.channels_last)
    network = task_network(
        case.backbone, case.trained.method, tiny.OUTPUTS, norms=case.trained.norms
    )
    network.load_state_dict(case.trained.state_dict())
    network.to(memory_format=torch.channels_last).eval()
    loaded = unpack_task(pack_task(network, "shades", {}), case.backbone)
    assert (
        _differing(loaded.state_dict(), unpack_task(case.pack.task(), case.backbone).state_dict())
        == []
    )
    with torch.no_grad():
        expected = network(images)
        assert torch.equal(loaded.to(memory_format=torch.channels_last)(images), expected)


def test_a_loaded_network_is_plain(case: Case) -> None:
    loaded = unpack_task(case.pack.task(), case.backbone)
    assert {type(m) for m in loaded.modules()} == {type(m) for m in case.backbone.module.modules()}
    assert not any(p.requires_grad for p in loaded.parameters())
    assert not any(m.training for m in loaded.modules())


def test_declared_size_equals_file_size(case: Case) -> None:
    assert report.describe(case.pack)["bytes"] == case.path.stat().st_size


def test_equal_packs_are_equal_bytes(case: Case, tmp_path: Path) -> None:
    packed = pack_task(case.trained, "shades", {"task": tiny.task().describe()})
    packfile.write(tmp_path / "again", Pack(info_of(case.backbone), {"shades": packed}))
    assert (tmp_path / "again").read_bytes() == case.path.read_bytes()


def test_a_pack_read_and_written_again_is_the_same_bytes(case: Case, tmp_path: Path) -> None:
    packfile.write(tmp_path / "again", case.pack)
    assert (tmp_path / "again").read_bytes() == case.path.read_bytes()


def test_masks_of_whole_bytes_are_views_of_the_file(case: Case) -> None:
    task = case.pack.task()
    if "mask" not in case.trained.method.stores:
        assert not task.masks
        return
    assert set(task.masks) == set(case.trained.layers)
    data = task.streams["mask"].data
    begin, end = data.ctypes.data, data.ctypes.data + data.nbytes
    shared = {name: begin <= mask.buffer_info().address < end for name, mask in task.masks.items()}
    assert shared == {name: len(mask) % 8 == 0 for name, mask in task.masks.items()}
    kept = case.trained.masks()
    assert {n: m.tolist() for n, m in task.masks.items()} == {
        n: kept[n]["mask"].flatten().int().tolist() for n in kept
    }


def _differing(
    a: Mapping[str, Tensor], b: Mapping[str, Tensor], counters: bool = True
) -> list[str]:
    assert a.keys() <= b.keys()
    return [
        name
        for name in a
        if (counters or not name.endswith("num_batches_tracked"))
        and not torch.equal(a[name], b[name])
    ]


def test_the_networks_hold_every_kind_of_layer() -> None:
    backbone = tiny.backbone(tiny.everything)
    network = task_network(backbone, methods.make("piggyback"), tiny.OUTPUTS)
    kinds = {layer.kind for layer in network.layers.values()}
    assert kinds == {
        "attention",
        "conv",
        "depthwise conv",
        "grouped conv",
        "linear",
        "transposed conv",
    }
    assert isinstance(backbone.module, nn.Module)
