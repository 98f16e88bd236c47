"""Weight files: hostile, damaged, nested, old; and what fits."""

from __future__ import annotations

import argparse
import os
import pickle
from pathlib import Path

import pytest
import torch
import torchvision.models
from safetensors.torch import save_file
from torch import Tensor, nn

from maskpack.backbones.base import seeded
from maskpack.backbones.weights import fit_weights, read_weights
from maskpack.common.errors import BackboneError


def small(classes: int = 2) -> nn.Sequential:
    with seeded(0):
        return nn.Sequential(
            nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4), nn.Linear(4, classes)
        )


def other(classes: int = 2) -> dict[str, Tensor]:
    with seeded(1):
        own = small(classes).state_dict()
        return {k: torch.rand_like(t) if t.is_floating_point() else t for k, t in own.items()}


class Evil:
    """Runs a command when it is unpickled the careless way."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple[object, ...]:
        return os.system, (self.command,)


@pytest.mark.parametrize("how", ["torch", "pickle", "nested"])
def test_code_in_a_pickle_is_refused_and_not_run(tmp_path: Path, how: str) -> None:
    path, witness = tmp_path / "evil.pth", tmp_path / "witness"
    evil = Evil(f"touch {witness}")
    if how == "pickle":
        path.write_bytes(pickle.dumps(evil))
    else:
        torch.save({"state_dict": {"a": evil}} if how == "nested" else evil, path)
    with pytest.raises(BackboneError, match=r"running code.*refused; save module\.state_dict"):
        read_weights(path)
    assert not witness.exists()


def test_a_whole_pickled_module_is_refused_by_name(tmp_path: Path) -> None:
    torch.save(small(), tmp_path / "net.pt")
    with pytest.raises(BackboneError, match=r"\(torch\.nn\.modules\.\w+\.\w+\)"):
        read_weights(tmp_path / "net.pt")


def test_damaged_and_foreign_files_are_one_line(tmp_path: Path) -> None:
    torch.save(small().state_dict(), tmp_path / "whole.pth")
    save_file(small().state_dict(), tmp_path / "whole.safetensors")
    for suffix in ("pth", "safetensors"):
        data = (tmp_path / f"whole.{suffix}").read_bytes()
        for name, content in {
            "cut": data[: len(data) // 2],
            "empty": b"",
            "text": b"<html>not found</html>",
        }.items():
            path = tmp_path / f"{name}.{suffix}"
            path.write_bytes(content)
            with pytest.raises(BackboneError, match="is not a whole") as caught:
                read_weights(path)
            assert str(caught.value).startswith(str(path))
            assert "\n" not in str(caught.value)


def test_what_is_not_a_table_of_tensors_is_refused(tmp_path: Path) -> None:
    for content, message in [
        ([torch.ones(1)], "holds a list"),
        ({}, "holds no tensors"),
        ({"epoch": 3, "optimizer": {}}, "epoch, optimizer is something else"),
        ({"a": torch.eye(2).to_sparse()}, "a is something else"),
    ]:
        torch.save(content, tmp_path / "odd.pth")
        with pytest.raises(BackboneError, match=message):
            read_weights(tmp_path / "odd.pth")
    with pytest.raises(BackboneError, match="no such file"):
        read_weights(tmp_path / "absent.pth")
    (tmp_path / "w.onnx").touch()
    with pytest.raises(BackboneError, match=r"read from \.safetensors, \.pth.*not '\.onnx'"):
        read_weights(tmp_path / "w.onnx")


def test_checkpoints_of_training_scripts_are_opened(tmp_path: Path) -> None:
    state = other()
    averaged = {f"module.{name}": tensor + 1 for name, tensor in state.items()}
    for content, plus in [
        (state, 0),
        ({"state_dict": {f"module.{k}": v for k, v in state.items()}, "epoch": 3}, 0),
        ({"model": {f"_orig_mod.{k}": v for k, v in state.items()}}, 0),
        ({"model": state, "model_ema": {**averaged, "n_averaged": torch.tensor(3)}}, 1),
        ({"model": state, "args": argparse.Namespace(lr=0.1)}, 0),
    ]:
        torch.save(content, tmp_path / "w.tar")
        read = read_weights(tmp_path / "w.tar")
        assert list(read) == list(state)
        assert all(torch.equal(read[name], state[name] + plus) for name in state)


def test_a_table_that_contains_itself_is_refused(tmp_path: Path) -> None:
    content: dict[str, object] = {}
    content["model"] = content
    torch.save(content, tmp_path / "w.pth")
    with pytest.raises(BackboneError, match="model is something else"):
        read_weights(tmp_path / "w.pth")


def test_safetensors_and_pickles_read_alike(tmp_path: Path) -> None:
    state = other()
    save_file(state, tmp_path / "w.safetensors")
    torch.save(state, tmp_path / "w.bin")
    one, two = read_weights(tmp_path / "w.safetensors"), read_weights(tmp_path / "w.bin")
    assert set(one) == set(two)
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_everything_but_the_head_must_fit() -> None:
    for classes in (2, 9):  # a head that fits is taken, another left alone
        module, state = small(), other(classes)
        fit_weights(module, state, "2", "w.pth")
        assert torch.equal(module[0].weight, state["0.weight"])
        assert torch.equal(module[2].weight, state["2.weight"]) == (classes == 2)
    state = {k: v for k, v in other().items() if not k.startswith("2.") and "num_batch" not in k}
    fit_weights(small(), state, "2", "w.pth")


def test_misfits_are_counted_and_named_in_one_line() -> None:
    state = other()
    del state["1.running_var"], state["1.bias"]
    state["extra"] = torch.ones(1)
    with pytest.raises(
        BackboneError,
        match=r"^w\.pth: does not fit Sequential: tensors 2 missing \(1\.bias, 1\.running_var\); "
        r"1 not in the network \(extra\)",
    ):
        fit_weights(small(), state, "2", "w.pth")
    state = other() | {"0.weight": torch.ones(4, 3, 5, 5)}
    with pytest.raises(BackboneError, match=r"0\.weight is \(4, 3, 5, 5\) and should be \(4, 3, 3"):
        fit_weights(small(), state, "2", "w.pth")
    state = other() | {"0.weight": torch.ones(4, 3, 3, 3, dtype=torch.int8)}
    with pytest.raises(BackboneError, match=r"0\.weight is int8 and should be float32"):
        fit_weights(small(), state, "2", "w.pth")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("name", ["0.weight", "1.running_var"])
def test_values_that_are_no_numbers_are_refused(name: str, value: float) -> None:
    state = other()
    state[name].view(-1)[0] = value
    with pytest.raises(BackboneError, match=f"{name} has values that are NaN or infinite"):
        fit_weights(small(), state, "2", "w.pth")


def test_half_precision_files_fit_full_precision_networks() -> None:
    module, state = small(), {name: tensor.half() for name, tensor in other().items()}
    fit_weights(module, state, "2", "w.pth")
    assert module[0].weight.dtype == torch.float32
    assert torch.equal(module[0].weight, state["0.weight"].float())


def test_old_vision_transformer_names_are_read_without_layer_versions() -> None:
    with seeded(0):
        module = torchvision.models.VisionTransformer(32, 16, 1, 2, 8, 16)
    renamed = {
        name.replace("mlp.0.", "mlp.linear_1.").replace("mlp.3.", "mlp.linear_2."): tensor + 1
        for name, tensor in module.state_dict().items()
    }
    fit_weights(module, renamed, "heads.head", "w.safetensors")
    name = "encoder.layers.encoder_layer_0.mlp.3.bias"
    assert torch.equal(module.state_dict()[name], renamed[name.replace("mlp.3", "mlp.linear_2")])


def test_mnasnet_insists_on_a_version_that_safetensors_do_not_carry() -> None:
    with seeded(0):
        module = torchvision.models.mnasnet0_5(weights=None)
    fit_weights(module, dict(module.state_dict()), "classifier.1", "w.safetensors")
