"""The commands' twins: own loops, files, switching, and what is refused."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from torch import Tensor, nn

import maskpack
from maskpack.backbones.base import Backbone
from maskpack.common.errors import (
    BackboneError,
    MaskpackError,
    OptionError,
    PackFormatError,
    UnknownName,
)
from maskpack.common.preprocess import Augment
from maskpack.methods.piggyback import Piggyback
from maskpack.networks.masked import MaskedNetwork
from maskpack.packs.contents import Pack, PackedTask, Stream
from maskpack.runs.folder import Run
from maskpack.tasks import Classification
from maskpack.tasks.transforms import eval_transform

METHODS = ("piggyback", "ksm", "affine", "classifier-only", "fine-tune")


def learnt(
    backbone: Backbone, method: str = "ksm", outputs: int = tiny.OUTPUTS, **options: Any
) -> MaskedNetwork:
    network = maskpack.attach(backbone, outputs, method, seed=outputs, **options)
    tiny.train(network)
    return network.eval()


def images() -> Tensor:
    return torch.randn(4, 3, tiny.SIZE, tiny.SIZE, generator=torch.Generator().manual_seed(5))


@torch.no_grad()
def output(network: nn.Module) -> Tensor:
    return network(images())


def same(a: nn.Module, b: nn.Module) -> bool:
    left, right = a.state_dict(), b.state_dict()
    return left.keys() == right.keys() and all(torch.equal(left[n], right[n]) for n in left)


# ---- an own loop, a file, and back


@pytest.mark.parametrize("method", METHODS)
def test_an_own_loop_packs_and_loads(everything: Backbone, method: str, tmp_path: Path) -> None:
    network = learnt(everything, method)
    path = tmp_path / "zoo.safetensors"
    written = maskpack.pack({"shades": network}, path, info={"shades": {"note": "by hand"}})
    assert written.path == path
    assert written.task().info == {"note": "by hand"}
    for source in (path, str(path), written):
        loaded = maskpack.load(source, backbone=everything)
        assert torch.equal(output(loaded), output(network))


def test_a_loaded_network_has_no_trace_of_maskpack(plain: Backbone, tmp_path: Path) -> None:
    maskpack.pack({"shades": learnt(plain)}, tmp_path / "zoo")
    loaded = maskpack.load(tmp_path / "zoo", backbone=plain)
    modules = {type(module).__module__ for module in loaded.modules()}
    assert not [name for name in modules if name.startswith("maskpack")]
    assert not any("maskpack" in str(vars(module)) for module in loaded.modules())


def test_a_bare_module_can_be_attached_and_loaded(tmp_path: Path) -> None:
    module = tiny.plain().train()  # takes pictures of any size
    before = copy.deepcopy(module)
    network = learnt(module)  # type: ignore[arg-type]
    maskpack.pack({"shades": network}, tmp_path / "zoo")
    loaded = maskpack.load(tmp_path / "zoo", backbone=module)
    assert torch.equal(output(loaded), output(network))
    assert module.training and same(module, before)  # copied, not changed
    assert all(p.requires_grad for p in module.parameters())


def test_what_becomes_of_the_users_module_changes_no_mask(tmp_path: Path) -> None:
    module = tiny.plain()
    network = learnt(module)  # type: ignore[arg-type]
    with torch.no_grad():
        module.conv.weight.zero_()  # type: ignore[operator, union-attr]
    maskpack.pack({"shades": network}, tmp_path / "zoo")
    assert torch.equal(
        output(maskpack.load(tmp_path / "zoo", backbone=tiny.plain())), output(network)
    )


def test_a_name_opens_the_backbone_where_code_is_trusted(tmp_path: Path) -> None:
    network = learnt(tiny.backbone(tiny.plain))
    maskpack.pack({"shades": network}, tmp_path / "zoo")
    with pytest.raises(BackboneError, match=r"import Python code, 'tiny:plain'.*trust_code=True"):
        maskpack.load(tmp_path / "zoo")
    loaded = maskpack.load(tmp_path / "zoo", trust_code=True)
    assert torch.equal(output(loaded), output(network))
    other = maskpack.load(tmp_path / "zoo", backbone="tiny:plain", trust_code=True)
    assert same(loaded, other)


def test_masks_are_bits_to_count_and_combine(plain: Backbone, tmp_path: Path) -> None:
    network = learnt(plain, "piggyback")
    task = maskpack.pack({"shades": network}, tmp_path / "zoo").task("shades")
    shares = network.share_of_ones()
    for layer, mask in task.masks.items():
        assert mask.count() / len(mask) == pytest.approx(shares[layer])
        assert mask == task.mask(layer)
        assert (mask ^ mask).count() == 0
    with pytest.raises(UnknownName, match="masked layer of task shades 'conv'"):
        task.mask("conv")
    with pytest.raises(UnknownName, match="bit stream of task shades 'head'"):
        task.mask("conv.weight", "head")


# ---- many tasks


@pytest.fixture(scope="module")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Backbone, Pack]:
    """Five tasks of five methods with heads of five widths on one backbone."""
    backbone = tiny.backbone(tiny.everything)
    networks = {
        method: learnt(backbone, method, outputs) for outputs, method in enumerate(METHODS, start=3)
    }
    path = tmp_path_factory.mktemp("zoo") / "zoo.safetensors"
    return backbone, maskpack.pack(networks, path)


def test_switching_back_and_forth_does_not_drift(zoo: tuple[Backbone, Pack]) -> None:
    backbone, pack = zoo
    fresh = {name: maskpack.load(pack, name, backbone=backbone) for name in METHODS}
    model = maskpack.load(pack, "ksm", backbone=backbone)
    for number in range(20):
        name = METHODS[number * 2 % 5]
        assert maskpack.switch(model, pack, name) is model
        assert same(model, fresh[name])
        assert torch.equal(output(model), output(fresh[name]))
    assert output(model).shape == (4, 3 + METHODS.index(name))


def test_the_pristine_backbone_survives_switching(zoo: tuple[Backbone, Pack]) -> None:
    backbone, pack = zoo
    model = maskpack.load(pack, "affine", backbone=backbone)
    for name in METHODS:
        maskpack.switch(model, pack, name)
    assert same(backbone.module, tiny.everything())


def test_a_spoilt_model_is_healed_by_switching(zoo: tuple[Backbone, Pack]) -> None:
    backbone, pack = zoo
    model = maskpack.load(pack, "ksm", backbone=backbone)
    with torch.no_grad():
        for tensor in model.state_dict().values():
            tensor.zero_()
    maskpack.switch(model, pack, "ksm")
    fresh = maskpack.load(pack, "ksm", backbone=backbone)
    model.norm.num_batches_tracked.copy_(fresh.norm.num_batches_tracked)  # type: ignore[operator, union-attr]
    model.instance.num_batches_tracked.copy_(fresh.instance.num_batches_tracked)  # type: ignore[operator, union-attr]
    assert same(model, fresh)


def test_a_model_of_other_origin_needs_its_backbone(zoo: tuple[Backbone, Pack]) -> None:
    backbone, pack = zoo
    model = copy.deepcopy(maskpack.load(pack, "ksm", backbone=backbone))
    with pytest.raises(BackboneError, match="tiny:everything"):
        maskpack.switch(model, pack, "affine")
    maskpack.switch(model, pack, "affine", backbone=backbone)
    maskpack.switch(model, pack, "ksm")  # remembered from here on
    assert same(model, maskpack.load(pack, "ksm", backbone=backbone))


def test_a_task_must_be_named_and_known(zoo: tuple[Backbone, Pack]) -> None:
    backbone, pack = zoo
    with pytest.raises(UnknownName, match=r"'affin'; did you mean 'affine'\?; known: affine, cl"):
        maskpack.load(pack, "affin", backbone=backbone)
    with pytest.raises(OptionError, match="say which task; it has affine, classifier-only, fine"):
        maskpack.load(pack, backbone=backbone)
    model = maskpack.load(pack, "ksm", backbone=backbone)
    with pytest.raises(UnknownName, match="unknown task"):
        maskpack.switch(model, pack, "birds")


def _misfits(pack: Pack) -> dict[str, PackedTask]:
    """Tasks that cannot be applied, by what is wrong with them."""
    task = pack.task("ksm")
    streams = dict(task.streams)
    head, norms, mask = streams["head"], streams["norms"], streams["mask"]
    deeper = tuple((name, (1, *shape)) for name, shape in norms.table)
    other_norm = tuple((name.replace("layer_norm", "no_norm"), s) for name, s in norms.table)
    other_layer = tuple((name.replace("stem", "stern"), s) for name, s in mask.table)
    wrong: dict[str, dict[str, Stream]] = {
        "norm.weight: has shape": {"norms": replace(norms, table=deeper)},
        "no_norm.weight: is no such tensor": {"norms": replace(norms, table=other_norm)},
        "stern.weight: is no weight of the backbone": {
            key: replace(streams[key], table=other_layer) for key in ("mask", "scale")
        },
        "fc.bias: is missing from the head": {
            "head": replace(head, table=head.table[:1], data=head.data[:-4])
        },
        "negative: is no part of what ksm stores": {"negative": mask},
    }
    tasks = {why: replace(task, streams=streams | changed) for why, changed in wrong.items()}
    for why, gone in (("fc: no head in the file", "head"), ("stem.weight: has no scale", "scale")):
        left = {key: stream for key, stream in streams.items() if key != gone}
        tasks[why] = replace(task, streams=left)
    return tasks


def test_a_task_that_does_not_fit_leaves_the_model_unchanged(zoo: tuple[Backbone, Pack]) -> None:
    backbone, pack = zoo
    model = maskpack.load(pack, "piggyback", backbone=backbone)
    before = copy.deepcopy(model)
    for why, task in _misfits(pack).items():
        with pytest.raises(PackFormatError, match=f"ksm, {why}"):
            maskpack.switch(model, Pack(pack.backbone, {"ksm": task}), "ksm")
        assert same(model, before)


# ---- the wrong backbone, and tasks that need none


def test_other_weights_are_refused(zoo: tuple[Backbone, Pack]) -> None:
    _, pack = zoo
    other = tiny.everything(seed=1)
    message = rf"zoo.safetensors was made for tiny:everything {pack.backbone.fingerprint[:12]}"
    with pytest.raises(BackboneError, match=message):
        maskpack.load(pack, "ksm", backbone=other)
    model = maskpack.load(pack, "ksm", backbone=tiny.everything())
    with pytest.raises(BackboneError, match=message):
        maskpack.switch(model, pack, "affine", backbone=other)


def test_a_pack_of_other_weights_cannot_be_switched_to(
    zoo: tuple[Backbone, Pack], tmp_path: Path
) -> None:
    backbone, pack = zoo
    other = tiny.backbone(lambda: tiny.everything(seed=1), "tiny:everything")
    foreign = maskpack.pack({"shades": learnt(other)}, tmp_path / "foreign.safetensors")
    model = maskpack.load(pack, "ksm", backbone=backbone)
    before = copy.deepcopy(model)
    with pytest.raises(BackboneError, match=r"foreign.safetensors was made for tiny:everything"):
        maskpack.switch(model, foreign, "shades")
    assert same(model, before)


@pytest.mark.parametrize("norms", ["frozen", "task"])
@pytest.mark.parametrize("method", ["fine-tune", "scratch"])
def test_a_task_with_all_its_weights_loads_on_any(
    everything: Backbone, method: str, norms: str, tmp_path: Path
) -> None:
    network = learnt(everything, method, norms=norms)
    maskpack.pack({"shades": network}, tmp_path / "own")
    loaded = maskpack.load(tmp_path / "own", backbone=tiny.everything(seed=1))
    assert torch.equal(output(loaded), output(network))


def test_one_pack_holds_one_backbone(plain: Backbone, everything: Backbone, tmp_path: Path) -> None:
    networks = {"a": learnt(plain), "b": learnt(everything)}
    with pytest.raises(BackboneError, match="one pack holds tasks of one backbone"):
        maskpack.pack(networks, tmp_path / "zoo")
    assert not (tmp_path / "zoo").exists()


def test_a_copy_of_a_masked_network_has_no_backbone(plain: Backbone, tmp_path: Path) -> None:
    with pytest.raises(BackboneError, match=r"task 'a': .* not a copy"):
        maskpack.pack({"a": copy.deepcopy(learnt(plain))}, tmp_path / "zoo")


def test_a_method_of_ones_own_packs_under_the_name_that_makes_it(
    plain: Backbone, tmp_path: Path
) -> None:
    network = learnt(plain, "test_api:Signs")
    assert maskpack.pack({"a": network}, tmp_path / "zoo").task().method == "test_api:Signs"
    with pytest.raises(BackboneError, match="import Python code, 'test_api:Signs'"):
        maskpack.load(tmp_path / "zoo", backbone=plain)
    loaded = maskpack.load(tmp_path / "zoo", backbone=plain, trust_code=True)
    assert torch.equal(output(loaded), output(network))


@dataclass(frozen=True)
class Signs(Piggyback):
    """A bit that is 0 turns a weight's sign round."""

    def effective_weight(self, weight: Tensor, mask: Any) -> Tensor:
        return weight * (2 * mask["mask"].to(weight.dtype) - 1)


# ---- runs


def pictures(folder: Path) -> Path:
    """The tiny task as a folder: split/class/number.png."""
    task: Classification = tiny.task()
    for split in task.splits():
        data = task.dataset(split)
        for index in range(len(data)):
            picture, label = data[index]
            path = folder / split / task.classes[label] / f"{index}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            picture.save(path)
    return folder


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("scratch")
    return maskpack.fit(
        "tiny:plain",
        "shades",
        "scratch",
        data=str(pictures(folder / "shades")),
        output=folder / "run",
        recipe={"epochs": 2, "batch_size": 4, "opt": "adam", "lr": 1e-2},
        device="cpu",
    )


def test_a_run_is_read_as_a_pack(scratch: Run, tmp_path: Path) -> None:
    task = maskpack.read(scratch.path).task()
    assert (task.name, task.method, task.norms) == ("shades", "scratch", "task")
    loaded = maskpack.load(scratch.path)
    packed = maskpack.pack({"greys": scratch}, tmp_path / "packed")
    assert list(packed.tasks) == ["greys"]
    assert same(maskpack.load(packed, "greys", trust_code=True), loaded)
    assert scratch.result is not None
    assert task.info["test"] == scratch.result["test"]


def test_a_network_from_scratch_is_the_next_backbone(scratch: Run, tmp_path: Path) -> None:
    backbone = maskpack.open_backbone(f"run:{scratch.path}")
    loaded = maskpack.load(scratch.path)
    assert torch.equal(output(backbone.module), output(loaded))
    assert backbone.preprocess.img_size == tiny.SIZE
    network = learnt(backbone, "piggyback")
    pack = maskpack.pack({"second": network}, tmp_path / "second.safetensors")
    assert pack.backbone.name == f"run:{scratch.path}"
    second = maskpack.load(tmp_path / "second.safetensors", trust_code=True)
    assert torch.equal(output(second), output(network))


def test_masks_of_a_run_score_what_training_reported(scratch: Run, tmp_path: Path) -> None:
    data = str(pictures(tmp_path / "shades"))
    run = maskpack.fit(
        maskpack.open_backbone(f"run:{scratch.path}"),
        "shades",
        "ksm",
        data=data,
        output=tmp_path / "run",
        recipe={"epochs": 2, "batch_size": 4, "lr": 8e-3},
        device="cpu",
    )
    assert run.result is not None
    loaded = maskpack.load(run.path)
    test = tiny.task().dataset("test")
    augment = Augment(**maskpack.read(run.path).task().info["augment"])
    transform = eval_transform(tiny.PREPROCESS, augment)
    batch = torch.stack([transform(test[i][0]) for i in range(len(test))])
    with torch.no_grad():
        right = loaded(batch).argmax(1) == torch.tensor(list(test.labels))
    assert run.result["test"]["accuracy"] == pytest.approx(float(right.float().mean()))


def test_errors_have_one_base() -> None:
    for error in (BackboneError, PackFormatError, UnknownName):
        assert issubclass(error, maskpack.MaskpackError)
    assert maskpack.MaskpackError is MaskpackError


def test_another_backbone_is_refused_by_the_tensors_that_differ(tmp_path: Path) -> None:
    first = tiny.backbone()
    maskpack.pack({"shades": maskpack.attach(first, tiny.OUTPUTS)}, tmp_path / "zoo")
    other = tiny.plain()
    with torch.no_grad():
        other.norm.running_mean[0] += 1
    with pytest.raises(BackboneError, match=r"1 of 7 tensors differ: norm\.running_mean\)"):
        maskpack.load(tmp_path / "zoo", backbone=other)
    with pytest.raises(BackboneError, match=r"it had 7 tensors, here are \d+"):
        maskpack.load(tmp_path / "zoo", backbone=tiny.backbone(tiny.everything))
