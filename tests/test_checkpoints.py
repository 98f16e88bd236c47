"""Fine-tuned networks as people keep them -> packs: what is read, kept, scored and refused."""
# ruff: noqa: E501 - a message is read as one line

from __future__ import annotations

import copy
import os
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from processes import Done, run_here
from safetensors.torch import save_file
from test_cli import failed
from tinynet import TinyNet, write_pictures
from torch import Tensor, nn

import maskpack
from maskpack.backbones import from_module
from maskpack.backbones.base import Backbone, replace_head, seeded
from maskpack.common.errors import BackboneError, MaskpackError, OptionError
from maskpack.evaluation.task_row import score_task
from maskpack.networks.serialize import unpack_task
from maskpack.packing.convert.checkpoints import read_checkpoint
from maskpack.packing.convert.convert import Conversion, convert
from maskpack.packs import file as packfile

State = OrderedDict[str, Tensor]
FITS = [
    ("bitdelta", "layer"),
    ("bitdelta", "channel"),
    ("affine", "layer"),
    ("affine", "channel"),
    ("piggyback", "layer"),
]


def tuned(
    backbone: Backbone, seed: int = 1, by: float = 0.05, outputs: int = tiny.OUTPUTS
) -> nn.Module:
    """The backbone's network with a head of its own and every tensor moved a little."""
    network = replace_head(copy.deepcopy(backbone.module), backbone.head, outputs, seed=seed)
    with seeded(seed), torch.no_grad():
        for tensor in network.state_dict(keep_vars=True).values():
            if tensor.is_floating_point():
                tensor.add_(by * torch.randn_like(tensor))
    return network.eval()


def images(size: int = tiny.SIZE) -> Tensor:
    return torch.randn(5, 3, size, size, generator=torch.Generator().manual_seed(9))


def one(source: Any, backbone: Backbone, *conversion: Any) -> Any:
    return convert([("own", source)], backbone, Conversion(*conversion)).task("own")


# ---- what is kept


@pytest.mark.parametrize(("fit", "per"), FITS)
def test_a_pack_has_the_masks_and_exactly_all_else(
    everything: Backbone, fit: str, per: str
) -> None:
    network = tuned(everything)
    packed = one(network, everything, fit, per)
    loaded = unpack_task(packed, everything)
    masked = {name for name, _ in packed.streams["mask"].table}
    assert "attention.in_proj_weight" in masked and "first.weight" in masked
    for name, tensor in network.state_dict().items():
        same = torch.equal(loaded.state_dict()[name], tensor)
        counter = name.endswith("num_batches_tracked")
        assert same or counter or name in masked | {"second.weight"}, name
    weights = {name for name, _ in packed.streams["weights"].table}
    assert "depthwise.bias" in weights and "attention.in_proj_bias" in weights
    assert not weights & masked
    assert packed.norms == "task"
    assert {name.rpartition(".")[2] for name, _ in packed.streams["norms"].table} == {
        "weight",
        "bias",
        "running_mean",
        "running_var",
    }


@pytest.mark.parametrize(("fit", "per"), FITS)
def test_the_squared_error_told_is_that_of_the_loaded_network(
    everything: Backbone, fit: str, per: str, tmp_path: Path
) -> None:
    network = tuned(everything)
    path = tmp_path / "own.safetensors"
    pack = maskpack.from_checkpoint({"own": network}, path, backbone=everything, fit=fit, per=per)
    about = pack.task().info["checkpoint"]
    assert (about["fit"], about["per"]) == (fit, per)
    loaded = unpack_task(packfile.read(path).task(), everything).state_dict()
    error = change = 0.0
    for name, _ in pack.task().streams["mask"].table:
        own = network.state_dict()[name].double()
        error += float((loaded[name].double() - own).square().sum())
        change += float((everything.state()[name].double() - own).square().sum())
    assert about["squared_error"] == pytest.approx(error / change, rel=1e-6)
    assert fit == "piggyback" or about["squared_error"] < 0.5


def test_nearer_fits_cost_more_and_err_less(everything: Backbone) -> None:
    found = {
        (fit, per): one(tuned(everything), everything, fit, per).info["checkpoint"]["squared_error"]
        for fit, per in FITS
    }
    assert found["affine", "channel"] < found["affine", "layer"] < found["bitdelta", "layer"]
    assert found["affine", "channel"] < found["bitdelta", "channel"] < found["bitdelta", "layer"]


def test_only_what_changed_is_kept(plain: Backbone) -> None:
    network = tuned(plain, by=0.0)
    with torch.no_grad():
        network.last.weight[0, 0] += 1
        network.norm.running_mean += 1
    packed = one(network, plain)
    assert {key: [name for name, _ in stream.table] for key, stream in packed.streams.items()} == {
        "head": ["fc.weight", "fc.bias"],
        "k1": ["last.weight"],
        "k2": ["last.weight"],
        "mask": ["last.weight"],
        "norms": ["norm.running_mean"],
    }
    assert packed.norms == "stats"


def test_a_network_with_only_a_new_head_needs_no_mask(plain: Backbone) -> None:
    packed = one(tuned(plain, by=0.0), plain, "affine")
    assert (packed.method, packed.norms, set(packed.streams)) == (
        "classifier-only",
        "frozen",
        {"head"},
    )
    assert packed.info["checkpoint"]["squared_error"] == 0


def test_tall_keeps_one_delta_for_all(everything: Backbone, tmp_path: Path) -> None:
    networks = {name: tuned(everything, seed) for seed, name in enumerate(("a", "b", "c"))}
    pack = maskpack.from_checkpoint(networks, tmp_path / "zoo", backbone=everything, fit="tall")
    deltas = [task.streams["delta"] for task in pack.tasks.values()]
    assert all((delta.data == deltas[0].data).all() for delta in deltas)
    assert {task.method for task in pack.tasks.values()} == {"tall"}
    for name, network in networks.items():
        assert 0 < pack.task(name).info["checkpoint"]["squared_error"] < 1
        loaded = maskpack.load(pack, name, backbone=everything)
        assert torch.equal(loaded.fc.weight, network.fc.weight)
        delta = pack.task(name).arrays("delta")["linear.weight"]
        bits = pack.task(name).arrays("mask")["linear.weight"]
        expected = everything.state()["linear.weight"] + torch.from_numpy(bits * delta.astype("f4"))
        assert torch.equal(loaded.linear.weight, expected)


def test_tall_cannot_be_trained(plain: Backbone) -> None:
    with pytest.raises(
        OptionError, match="tall is fitted to two or more fine-tuned networks, not trained"
    ):
        maskpack.attach(plain, 3, "tall")


def test_masks_need_the_backbone_though_some_weights_are_whole(
    plain: Backbone, tmp_path: Path
) -> None:
    pack = maskpack.from_checkpoint({"own": tuned(plain)}, tmp_path / "p", backbone=plain)
    assert "weights" in pack.task().streams
    other = from_module(tiny.plain(seed=5), preprocess=tiny.PREPROCESS)
    with pytest.raises(BackboneError, match="masks fit only the weights they were trained on"):
        maskpack.load(pack, backbone=other)


def test_a_task_that_brings_every_weight_needs_no_backbone(
    everything: Backbone, tmp_path: Path
) -> None:
    masked = maskpack.attach(everything, 3, "fine-tune")
    pack = maskpack.pack({"own": tiny.train(masked)}, tmp_path / "p")  # type: ignore[dict-item]
    other = from_module(tiny.everything(seed=5), preprocess=tiny.PREPROCESS)
    loaded = maskpack.load(pack, backbone=other)
    with torch.no_grad():
        assert torch.equal(loaded(images()), masked.eval()(images()))


# ---- what is read


def nested(state: State) -> object:
    return {"epoch": 3, "state_dict": state, "optimizer": {"lr": 0.1}}


def prefixed(*prefixes: str) -> Callable[[State], object]:
    return lambda state: OrderedDict(("".join(prefixes) + name, t) for name, t in state.items())


def head_beside(state: State) -> object:
    return OrderedDict((n if n.startswith("fc.") else f"backbone.{n}", t) for n, t in state.items())


def other_head(state: State) -> object:
    return OrderedDict((n.replace("fc.", "classifier.1."), t) for n, t in state.items())


def without_counters(state: State) -> object:
    return OrderedDict((n, t) for n, t in state.items() if not n.endswith("num_batches_tracked"))


@pytest.mark.parametrize(
    "form",
    [
        OrderedDict,
        nested,
        prefixed("module."),
        prefixed("module.", "model."),
        prefixed("backbone."),
        head_beside,
        other_head,
        without_counters,
    ],
)
def test_a_checkpoint_is_read_however_it_was_saved(
    plain: Backbone, form: Callable[[State], object], tmp_path: Path
) -> None:
    network = tuned(plain)
    torch.save(form(OrderedDict(network.state_dict())), tmp_path / "own.pth")
    found = read_checkpoint(tmp_path / "own.pth", plain)
    assert torch.equal(found.network(images()), network(images()))
    assert found.name == "own"


def test_safetensors_and_half_precision_are_read(plain: Backbone, tmp_path: Path) -> None:
    state = {
        name: t.half() if t.is_floating_point() else t
        for name, t in tuned(plain).state_dict().items()
    }
    save_file(state, tmp_path / "own.safetensors")
    network = read_checkpoint(tmp_path / "own.safetensors", plain).network
    assert torch.equal(network.last.weight, state["last.weight"].float())


def test_a_head_without_bias_adds_nothing(plain: Backbone, tmp_path: Path) -> None:
    state = tuned(plain).state_dict()
    del state["fc.bias"]
    torch.save(state, tmp_path / "own.pth")
    assert not read_checkpoint(tmp_path / "own.pth", plain).network.fc.bias.any()


def _without(name: str) -> Callable[[State], None]:
    return lambda state: state.__delitem__(name)


def _as(name: str, value: Callable[[Tensor], Tensor]) -> Callable[[State], None]:
    return lambda state: state.__setitem__(name, value(state[name]))


def _added(name: str) -> Callable[[State], None]:
    return lambda state: state.__setitem__(name, torch.zeros(2))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_without("conv.weight"), r"1 missing \(conv.weight\)"),
        (
            _as("last.weight", lambda t: t[:4]),
            r"last.weight is \(4, 8, 3, 3\) and should be \(8, 8, 3, 3\)",
        ),
        (_as("last.weight", lambda t: t * torch.nan), "last.weight has values that are NaN"),
        (
            _as("fc.weight", lambda t: t * torch.inf),
            "fc.weight has values that are NaN or infinite",
        ),
        (_as("fc.bias", lambda t: t[:2]), r"fc.bias is \(2,\) and should be \(3,\)"),
        (
            _without("fc.weight"),
            "no tensor fc.weight, the head of tiny:plain; found no other last layer",
        ),
        (_as("fc.weight", lambda t: t[:, :4]), r"fc.weight is \(3, 4\) and should be \(3, 8\)"),
        (_added("fc.scale"), "fc.scale is in the file, not in tiny:plain's head"),
        (_added("layer9.weight"), r"1 not in the network \(layer9.weight\)"),
        (lambda state: state.clear(), "holds no tensors"),
    ],
)
def test_what_does_not_fit_is_told_in_one_line(
    plain: Backbone, spoil: Callable[[State], None], message: str, tmp_path: Path
) -> None:
    state = OrderedDict(tuned(plain).state_dict())
    spoil(state)
    torch.save(state, tmp_path / "own.pth")
    with pytest.raises(MaskpackError, match=message) as caught:
        read_checkpoint(tmp_path / "own.pth", plain)
    assert str(caught.value).startswith(f"{tmp_path}/own.pth: ")
    assert str(caught.value).isprintable()


def test_a_checkpoint_of_another_architecture_is_refused(plain: Backbone, tmp_path: Path) -> None:
    torch.save(TinyNet().state_dict(), tmp_path / "own.pth")
    with pytest.raises(BackboneError, match="give the checkpoint of this very architecture"):
        read_checkpoint(tmp_path / "own.pth", plain)


class _Hostile:
    def __reduce__(self) -> Any:
        return os.system, ("touch run",)


def test_a_pickle_that_runs_code_is_refused(
    plain: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": _Hostile()}, "own.pth")
    with pytest.raises(BackboneError, match="can only be read by running code it names"):
        convert([(None, "own.pth")], plain, Conversion())
    assert not Path("run").exists()


# ---- scored and distilled


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with pictures, a fine-tuned network of `tinynet:frozen` and its weights."""
    folder = tmp_path_factory.mktemp("checkpoint")
    write_pictures(folder / "data")
    with seeded(3):
        base = TinyNet()
    torch.save(base.state_dict(), folder / "base.pth")
    backbone = from_module(base, "tinynet:build")
    torch.save(tuned(backbone).state_dict(), folder / "own.pth")
    return folder


PACK = (
    "pack",
    "--from-checkpoint",
    "own.pth",
    "--backbone",
    "tinynet:build",
    "--weights",
    "base.pth",
    "--force",
)
TAUGHT = ("--task", "shades", "--data", "data", "--device", "cpu")


def packed(place: Path, *more: str, out: str = "own.safetensors") -> tuple[Done, maskpack.Pack]:
    done = run_here(place, *PACK, *more, "-o", out)
    assert (done.code, done.out) == (0, f"{out}\n"), done.err
    return done, packfile.read(place / out)


def backbone_of(place: Path) -> Backbone:
    return from_module(_tinynet(place), "tinynet:build")


def _tinynet(place: Path) -> TinyNet:
    network = TinyNet()
    network.load_state_dict(torch.load(place / "base.pth"))
    return network


def test_the_command_packs_and_says_how_it_scores(place: Path) -> None:
    done, pack = packed(place, *TAUGHT, "--img-size", "16", "--train-crop-mode", "resize")
    info = pack.task("own").info
    before, now = info["checkpoint"]["before"]["accuracy"], info["test"]["accuracy"]
    size = (place / "own.safetensors").stat().st_size
    assert done.err == f"own: test accuracy {before:.4f} -> {now:.4f}\n1 task, {size:,} bytes\n"
    assert info["task"]["name"] == "shades"
    assert (info["preprocess"]["img_size"], info["augment"]["crop_mode"]) == (16, "resize")
    row = score_task(
        pack,
        "own",
        bases=None,
        backbone="tinynet:build",
        weights=str(place / "base.pth"),
        data=str(place / "data"),
    )
    assert row["accuracy"] == now == row["recorded"]


def test_without_a_task_eval_says_what_is_missing(place: Path) -> None:
    done, pack = packed(place)
    assert done.err.count("\n") == 1
    assert set(pack.task().info) == {"checkpoint"}
    scored = run_here(
        place, "eval", "own.safetensors", "--backbone", "tinynet:build", "--weights", "base.pth"
    )
    assert "own does not say what it was taught" in failed(scored)


def test_distilling_lowers_the_logits_difference_and_keeps_the_bits(place: Path) -> None:
    fitted = packed(place, *TAUGHT)[1].task()
    done, pack = packed(place, *TAUGHT, "--distill", "20")
    task, told = pack.task(), pack.task().info["checkpoint"]["distill"]
    assert told["pictures"] == 20
    assert told["after"] < told["before"]
    assert "own: squared logit difference on held-out pictures" in done.err
    assert (task.streams["mask"].data == fitted.streams["mask"].data).all()
    assert (task.streams["k2"].data != fitted.streams["k2"].data).any()
    assert (task.streams["norms"].data == fitted.streams["norms"].data).all()
    again = packed(place, *TAUGHT, "--distill", "20", out="again.safetensors")[1]
    assert (place / "again.safetensors").read_bytes() == (place / "own.safetensors").read_bytes()
    assert again.task().info == task.info


def test_checkpoints_and_packs_go_into_one_file(place: Path) -> None:
    packed(place, out="first.safetensors")
    both = packed(
        place, "old=first.safetensors", "--from-checkpoint", "new=own.pth", out="both.safetensors"
    )[1]
    assert list(both.tasks) == ["new", "old", "own"]


def test_a_fine_tune_run_brings_its_task(place: Path) -> None:
    train = (
        "train-mask",
        "--backbone",
        "tinynet:build",
        "--weights",
        "base.pth",
        "--data",
        "data",
        "--task",
        "shades",
    )
    done = run_here(place, *train, "--method", "fine-tune", "--epochs", "1", "-j", "0", "-o", "run")
    assert done.code == 0, done.err
    command = (
        "pack",
        "--from-checkpoint",
        "run",
        "--backbone",
        "tinynet:build",
        "--weights",
        "base.pth",
    )
    done = run_here(place, *command, "--distill", "12", "-o", "run.safetensors")
    assert (done.code, done.out) == (0, "run.safetensors\n"), done.err
    info = packfile.read(place / "run.safetensors").task("shades").info
    assert info["checkpoint"]["before"]["count"] == info["test"]["count"] == 12


def test_tasks_and_folders_are_given_by_name(place: Path) -> None:
    _, pack = packed(
        place,
        *(
            "--from-checkpoint",
            "b=own.pth",
            "--task",
            "shades",
            "--data",
            "data",
            "--task",
            "b=hues",
        ),
        out="named.safetensors",
    )
    found = {name: task.info["task"]["name"] for name, task in pack.tasks.items()}
    assert found == {"b": "hues", "own": "shades"}


def test_python_and_command_line_are_twins(place: Path) -> None:
    packed(place, *TAUGHT, "--fit", "affine", "--per", "channel")
    maskpack.from_checkpoint(
        place / "own.pth", place / "twin.safetensors",
        backbone=maskpack.open_backbone("tinynet:build", weights=place / "base.pth"),
        fit="affine", per="channel", task="shades", data=str(place / "data"),
    )  # fmt: skip
    twin, own = (packfile.read(place / f"{name}.safetensors").task() for name in ("twin", "own"))
    assert {k: s.data.tobytes() for k, s in twin.streams.items()} == {
        k: s.data.tobytes() for k, s in own.streams.items()
    }
    assert twin.info["test"] == own.info["test"]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (
            ("--fit", "bitdelt"),
            "unknown fit 'bitdelt'; did you mean 'bitdelta'?; known: affine, bitdelta, piggyback, tall",
        ),
        (("--per", "row"), "per 'row': expected layer or channel"),
        (
            ("--fit", "piggyback", "--per", "channel"),
            "--per channel: piggyback has no coefficients",
        ),
        (
            ("--fit", "piggyback", "--distill", "20"),
            "--distill: piggyback has no coefficients; bitdelta and affine have",
        ),
        (
            ("--fit", "tall"),
            "--fit tall merges two or more checkpoints; give --from-checkpoint again",
        ),
        (("--distill", "20"), "own: --distill needs its pictures; give --task"),
        ((*TAUGHT, "--distill", "5"), "--distill 5: expected 10 pictures or more"),
        (("--task", "birds=shades"), "unknown checkpoint 'birds'; known: own"),
        (("--from-checkpoint", "own.pth"), "two checkpoints are called 'own'; name one: NAME=FILE"),
        (("--from-checkpoint", "nowhere.pth"), "nowhere.pth: no such file of weights"),
        (("--task", "shades", "--data", "nowhere"), "nowhere"),
    ],
)
def test_what_is_wrong_is_told_in_one_line(
    place: Path, more: tuple[str, ...], message: str
) -> None:
    assert message in failed(run_here(place, *PACK, *more, "-o", "never.safetensors"))
    assert not (place / "never.safetensors").exists()


def test_another_number_of_classes_is_told(place: Path) -> None:
    write_pictures(place / "two", each=2, classes=("a", "b"))
    done = run_here(place, *PACK, "--task", "pair", "--data", "two", "-o", "never.safetensors")
    assert "own: the checkpoint's head has 3 outputs, task 'pair' has 2 classes" in failed(done)


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (("pack", "--from-checkpoint", "own.pth"), "--from-checkpoint needs --backbone"),
        (("pack", "--distill", "20", "x"), "--distill goes with --from-checkpoint"),
    ],
)
def test_options_that_do_not_go_together(
    place: Path, command: tuple[str, ...], message: str
) -> None:
    done = run_here(place, *command, "-o", "never.safetensors")
    assert done.code == 2
    assert message in " ".join(done.err.split())
