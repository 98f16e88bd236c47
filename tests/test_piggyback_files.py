"""Files of Piggyback's published code, made here in that layout; and pickles that would run code."""
# ruff: noqa: E501 - a message is read as one line

from __future__ import annotations

import argparse
import copyreg
import io
import os
import pickle
import random
import struct
import sys
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from torch import Tensor, nn

from maskpack.backbones import from_module
from maskpack.backbones.base import Backbone, seeded
from maskpack.common.errors import BackboneError, MaskpackError, OptionError, PackFormatError
from maskpack.networks.serialize import info_of, unpack_task
from maskpack.packing.convert.convert import Conversion, convert
from maskpack.packing.convert.piggyback_files import is_published, read_published
from maskpack.packs import file as packfile
from maskpack.packs.contents import Pack, PackedTask

FORMS = (True, False)  # torch.save's zip, and what it wrote before 1.6


# ---- the published code's classes, as far as a pickle sees them


class Binarizer:
    def __init__(self, threshold: float) -> None:
        self.threshold = threshold


class Ternarizer(Binarizer):
    pass


class ElementWiseConv2d(nn.Module):
    def __init__(self, conv: nn.Conv2d, scores: Tensor, function: Binarizer) -> None:
        super().__init__()
        ternary = isinstance(function, Ternarizer)
        self.info = {
            "threshold_fn": "ternarizer" if ternary else "binarizer",
            "threshold": function.threshold,
        }
        # neither parameters nor buffers
        self.weight = conv.weight.detach().clone()
        if conv.bias is None:
            self.register_parameter("bias", None)
        else:
            self.bias = conv.bias.detach().clone()
        self.mask_real = nn.Parameter(scores)
        self.threshold_fn = function


class ModifiedNet(nn.Module):
    def __init__(self, shared: nn.Module, outputs: int) -> None:
        super().__init__()
        self.datasets = ["imagenet", "cubs_cropped"]
        self.classifiers = nn.ModuleList([nn.Linear(8, 5), nn.Linear(8, outputs)])
        self.shared = shared
        self.classifier = None  # as the published code does: an attribute, then a module
        self.classifier = self.classifiers[1]


@pytest.fixture(autouse=True)
def published_modules(monkeypatch: pytest.MonkeyPatch) -> None:
    """The modules these classes stood in, while a test writes files."""
    homes = {
        "modnets": [],
        "modnets.layers": [Binarizer, Ternarizer, ElementWiseConv2d],
        "networks": [ModifiedNet],
    }
    for name, classes in homes.items():
        module = ModuleType(name)
        monkeypatch.setitem(sys.modules, name, module)
        for kind in classes:
            setattr(module, kind.__name__, kind)
            monkeypatch.setattr(kind, "__module__", name)


def model(
    backbone: Backbone, kind: type[Binarizer] = Binarizer, threshold: float = 5e-3
) -> ModifiedNet:
    """The published code's form of `tiny.plain`, its scores around the threshold."""
    own: Any = backbone.module
    with seeded(4):
        convs = [
            ElementWiseConv2d(conv, 0.02 * torch.rand_like(conv.weight) - 0.01, kind(threshold))
            for conv in (own.conv, own.last)
        ]
        norm = nn.BatchNorm2d(8)
        norm.load_state_dict(own.norm.state_dict())
        shared = nn.Sequential(convs[0], norm, nn.ReLU(inplace=True), nn.Sequential(convs[1]))
        return ModifiedNet(shared, tiny.OUTPUTS)


def checkpoint(network: nn.Module) -> dict[str, Any]:
    args = argparse.Namespace(arch="vgg16", dataset="cubs", threshold_fn="binarizer")
    return {"args": args, "epoch": 3, "accuracy": 81.8, "errors": [18.2, 4.5], "model": network}


def masks_only(network: ModifiedNet, name: str = "cubs") -> dict[str, Any]:
    masks = {}
    for place, module in enumerate(network.shared.modules()):
        if isinstance(module, ElementWiseConv2d):
            mask = (module.mask_real.detach() > module.info["threshold"]).float()
            if isinstance(module.threshold_fn, Ternarizer):
                mask[module.mask_real.detach() < 0] = -1
            # the published code's cast of -1 to a byte, 255
            masks[place] = mask.to(torch.int8).view(torch.uint8)
    return {"dataset2masks": {name: masks}, "dataset2classifiers": {name: network.classifier}}


@pytest.fixture(params=FORMS, ids=["zip", "legacy"])
def save(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    def saved(content: object, name: str = "cubs.pt") -> Path:
        path = tmp_path / name
        with warnings.catch_warnings():
            # the old form wants the classes' source text, which a class of two modules has not
            warnings.simplefilter("ignore")
            torch.save(content, path, _use_new_zipfile_serialization=request.param)
        return path

    return saved


def adopted(path: Path, backbone: Backbone, name: str | None = None) -> PackedTask:
    return convert([(name, path)], backbone, Conversion()).task()


# ---- what is read


@pytest.mark.parametrize("threshold", [5e-3, 2e-3])
@pytest.mark.parametrize("kind", [Binarizer, Ternarizer])
@pytest.mark.parametrize("form", [checkpoint, masks_only])
def test_a_published_file_computes_what_its_network_did(
    plain: Backbone, save: Any, form: Any, kind: type[Binarizer], threshold: float, tmp_path: Path
) -> None:
    network = model(plain, kind, threshold)
    path = save(form(network))
    assert is_published(path)
    task = adopted(path, plain, "birds")
    packfile.write(tmp_path / "zoo", Pack(info_of(plain), {task.name: task}))
    loaded: Any = unpack_task(packfile.read(tmp_path / "zoo").task("birds"), plain)
    for own, module in ((loaded.conv, network.shared[0]), (loaded.last, network.shared[3][0])):
        scores = module.mask_real.detach()
        values = (scores > threshold).float()
        if kind is Ternarizer:
            values[scores < 0] = -1
        assert torch.equal(own.weight, module.weight * values)
    assert torch.equal(loaded.fc.weight, network.classifier.weight)
    assert torch.equal(loaded.fc.bias, network.classifier.bias)
    assert (task.method, task.norms) == ("piggyback", "frozen")
    assert task.options["values"] == ("ternary" if kind is Ternarizer else "binary")
    assert task.options["threshold"] == (threshold if form is checkpoint else 5e-3)


def test_tasks_are_called_as_the_file_says(plain: Backbone, save: Any) -> None:
    network = model(plain)
    assert adopted(save(checkpoint(network)), plain).name == "cubs_cropped"
    both = masks_only(network)
    for key, other in masks_only(network, "flowers").items():
        both[key] |= other
    pack = convert([(None, save(both))], plain, Conversion())
    assert set(pack.tasks) == {"cubs", "flowers"}
    with pytest.raises(OptionError, match=r"has 2 tasks \(cubs, flowers\); leave birds= out"):
        adopted(save(both), plain, "birds")


def test_norms_that_were_trained_are_kept(plain: Backbone, save: Any) -> None:
    network = model(plain)
    with torch.no_grad():
        network.shared[1].running_mean += 1  # type: ignore[operator]
    task = adopted(save(checkpoint(network)), plain)
    assert task.norms == "stats"
    assert [name for name, _ in task.streams["norms"].table] == ["norm.running_mean"]
    network.shared[1].weight.data += 1  # type: ignore[operator]
    assert adopted(save(checkpoint(network)), plain).norms == "task"


def test_variables_of_torch_02_are_tensors(
    plain: Backbone, save: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = model(plain)
    home = ModuleType("torch.autograd.variable")

    class Variable:
        """torch 0.2 pickled class, tensor and a state of three."""

        def __new__(cls, data: Tensor) -> Any:
            made = object.__new__(cls)
            made.data = data
            return made

        def __reduce_ex__(self, protocol: Any) -> Any:
            return copyreg.__newobj__, (Variable, self.data), (False, False, None)  # type: ignore[attr-defined]

    Variable.__module__, Variable.__qualname__ = home.__name__, "Variable"
    home.Variable = Variable  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, home.__name__, home)
    for module in (network.shared[0], network.shared[3][0]):
        module.__dict__["weight"] = Variable(module.weight)
    task = adopted(save(checkpoint(network)), plain)
    assert task.name == "cubs_cropped"


def test_views_of_one_storage_are_read(plain: Backbone, save: Any) -> None:
    network = model(plain)
    content = masks_only(network)
    masks = content["dataset2masks"]["cubs"]
    expected = {place: mask.clone() for place, mask in masks.items()}
    whole = torch.cat(
        [
            torch.ones(3, dtype=torch.uint8),
            *(mask.transpose(0, 1).reshape(-1) for mask in masks.values()),
        ]
    )
    offset = 3
    for place, mask in list(masks.items()):
        turned = whole[offset : offset + mask.numel()].view(mask.transpose(0, 1).shape)
        masks[place] = turned.transpose(0, 1)
        offset += mask.numel()
    found = read_published(save(content))[0]
    for layer, mask in zip(found.layers, expected.values(), strict=True):
        assert np.array_equal(layer.mask, mask.numpy().astype(np.int8))


# ---- what does not fit


def test_masks_of_another_network_are_refused(
    plain: Backbone, everything: Backbone, save: Any
) -> None:
    path = save(masks_only(model(plain)))
    with pytest.raises(BackboneError, match="has 2 masks, tiny:everything has 9 weights to mask"):
        adopted(path, everything)

    class Wide(tiny.Plain):
        def __init__(self) -> None:
            super().__init__()
            self.last = nn.Conv2d(8, 8, 1)

    wide = from_module(Wide(), "wide", preprocess=tiny.PREPROCESS)
    with pytest.raises(
        BackboneError, match=r"mask 2 is \(8, 8, 3, 3\), last.weight of wide is \(8, 8, 1, 1\)"
    ):
        adopted(path, wide)


def test_masks_of_other_weights_are_refused(plain: Backbone, save: Any) -> None:
    network = model(plain)
    network.shared[3][0].weight[0, 0, 0, 0] += 0.1  # type: ignore[index]
    with pytest.raises(
        BackboneError, match=r"was trained on another last\.weight than this backbone's"
    ):
        adopted(save(checkpoint(network)), plain)
    network.shared[3][0].weight[0, 0, 0, 0] -= 0.1  # type: ignore[index]
    network.shared[3][0].bias += 0.1  # type: ignore[index, operator]
    with pytest.raises(
        BackboneError, match=r"was trained on another last\.bias than this backbone's"
    ):
        adopted(save(checkpoint(network)), plain)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (
            lambda c: c["dataset2masks"]["cubs"].update(
                {1: torch.full((8, 3, 3, 3), 7, dtype=torch.uint8)}
            ),
            "a mask has values besides -1, 0 and 1",
        ),
        (lambda c: c["dataset2classifiers"].clear(), "KeyError: 'cubs'"),
        (
            lambda c: c["dataset2masks"]["cubs"].update({1: "text"}),
            "a str stands where a tensor should",
        ),
        (lambda c: c["dataset2masks"].update({"cubs": 3}), "is damaged, or no file of Piggyback's"),
    ],
)
def test_a_damaged_file_is_told_in_one_line(
    save: Any, plain: Backbone, spoil: Any, message: str
) -> None:
    content = masks_only(model(plain))
    spoil(content)
    with pytest.raises(PackFormatError, match=message) as caught:
        read_published(save(content))
    assert str(caught.value).isprintable()


def test_a_score_that_is_no_number_is_refused(save: Any, plain: Backbone) -> None:
    network = model(plain)
    network.shared[0].mask_real.data[0] = torch.nan  # type: ignore[index, union-attr]
    with pytest.raises(PackFormatError, match="a score is NaN or infinite"):
        read_published(save(checkpoint(network)))


# ---- what is hostile


class Runs:
    """A pickle of it calls a function."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


@pytest.mark.parametrize(
    ("hostile", "named"),
    [
        (Runs(os.system, "touch run"), f"{os.system.__module__}.system"),
        (Runs(eval, "open('run', 'w')"), r"__builtin__.eval"),
        (Runs(exec, "open('run', 'w')"), r"__builtin__.exec"),
        (Runs(getattr, Runs(__import__, "os"), "system"), r"__builtin__.getattr"),
        (Runs(map, Runs(os.system, "touch run"), [1]), r"\w+.(map|system|imap)"),
        (Runs(torch.load, "run"), "torch.serialization.load"),
        (Runs(torch.hub.load, "run"), "torch.hub.load"),
        (Runs(io.open, "run", "w"), "(io|_io).open"),
        (Path("run"), "pathlib.*"),
    ],
)
def test_a_pickle_that_names_other_code_runs_nothing(
    save: Any,
    plain: Backbone,
    hostile: Any,
    named: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    content = masks_only(model(plain)) | {"more": {"deep": [hostile]}}
    path = save(content)
    assert is_published(path)
    for read in (lambda: read_published(path), lambda: adopted(path, plain)):
        with pytest.raises(
            PackFormatError, match=rf"cubs.pt names {named}, which is not run; the file is refused"
        ):
            read()
    assert not (tmp_path / "run").exists()


def forge(path: Path, pickled: bytes) -> Path:
    """A zip of torch.save with this pickle and no storage."""
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("archive/data.pkl", pickled)
        file.writestr("archive/version", "3\n")
    return path


MARK = b"X\x0d\x00\x00\x00dataset2masks0"  # the text, and off the stack again


@pytest.mark.parametrize(
    ("opcodes", "message"),
    [
        (b"cos\nsystem\n(S'touch run'\ntR.", "names os.system"),
        (b"(S'touch run'\nios\nsystem\n.", "has the opcode"),
        (b"\x8c\x02os\x8c\x06system\x93(X\x09\x00\x00\x00touch runtR.", "has the opcode"),
        (b"\x82\x01.", "has the opcode EXT1"),
        (b"}r\xff\xff\xff\x7f.", "has the opcode LONG_BINPUT"),
        (b"})" + b"\x85" * 2_000_000 + b"Ns.", "has 2000000 tuples"),
        (b"\x96" + struct.pack("<Q", 1 << 40) + b".", "is damaged"),
        (b"X" + struct.pack("<I", 1 << 31) + b".", "is damaged"),
        (b"ctorch\n_C._nn.gelu\n.", "names torch._C._nn.gelu"),
        (
            b"cmodnets.layers\nBinarizer\n}(X\x0c\x00\x00\x00__setstate__X\x01\x00\x00\x00aub.",
            "is damaged",
        ),
        (b"ctorch._utils\n_rebuild_tensor\nN}(X\x0c\x00\x00\x00__defaults__)s\x86b.", "is damaged"),
        (b"c__builtin__\nset\n]]a\x85R.", "is damaged"),
        (b"}X\x0d\x00\x00\x00dataset2masksh\x00s.", "is damaged"),
    ],
)
def test_forged_opcodes_are_refused(
    tmp_path: Path, opcodes: bytes, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = forge(tmp_path / "cubs.pt", b"\x80\x02" + MARK + opcodes)
    with pytest.raises(PackFormatError, match=message) as caught:
        read_published(path)
    assert str(caught.value).isprintable()
    assert not (tmp_path / "run").exists()


def test_a_tensor_beyond_its_storage_is_refused(tmp_path: Path, plain: Backbone) -> None:
    path = tmp_path / "cubs.pt"
    torch.save(masks_only(model(plain)), path)
    with zipfile.ZipFile(path) as file:
        entries = {name: file.read(name) for name in file.namelist()}
    for name in [n for n in entries if "/data/" in n]:
        short = {n: data[:-1] if n == name else data for n, data in entries.items()}
        with zipfile.ZipFile(path, "w") as file:
            for key, data in short.items():
                file.writestr(key, data)
        with pytest.raises(PackFormatError, match="is damaged"):
            read_published(path)


def test_a_compressed_zip_is_refused(tmp_path: Path, plain: Backbone) -> None:
    path = tmp_path / "cubs.pt"
    torch.save(masks_only(model(plain)), path)
    with zipfile.ZipFile(path) as file:
        entries = {name: file.read(name) for name in file.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, data in entries.items():
            file.writestr(name, data)
    with pytest.raises(PackFormatError, match="is compressed"):
        read_published(path)


@pytest.mark.parametrize("seed", range(40))
def test_flipped_and_cut_files_give_one_line(save: Any, plain: Backbone, seed: int) -> None:
    path = save(masks_only(model(plain)))
    data = bytearray(path.read_bytes())
    rng = random.Random(seed)
    if seed % 4 == 0:
        del data[rng.randrange(len(data)) :]
    for _ in range(1 + seed % 3):
        if data:
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    path.write_bytes(data)
    try:
        convert([("own", path)], plain, Conversion())
    except MaskpackError as error:
        assert str(error).isprintable(), error


def test_an_ordinary_checkpoint_is_not_taken_for_one(
    save: Any, plain: Backbone, tmp_path: Path
) -> None:
    assert not is_published(save(plain.module.state_dict()))
    assert not is_published(save({"model": plain.module.state_dict(), "epoch": 1}))
    assert not is_published(tmp_path / "nowhere")
    (tmp_path / "pickle").write_bytes(pickle.dumps({"mask_real": 1}))
    assert not is_published(tmp_path / "pickle")
    (tmp_path / "empty").write_bytes(b"")
    assert not is_published(tmp_path / "empty")


@pytest.fixture(autouse=True)
def _no_torch_load(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nothing here may reach torch's own unpickler, except with weights_only."""
    real = torch.load

    def load(*arguments: Any, **options: Any) -> Any:
        assert options.get("weights_only") is True
        return real(*arguments, **options)

    monkeypatch.setattr(torch, "load", load)
    yield
