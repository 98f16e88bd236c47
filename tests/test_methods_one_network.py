"""Two tasks in sequence by each method with one network, from training to the pack of both."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from torch import Tensor

from maskpack.common.preprocess import Augment
from maskpack.networks.serialize import unpack_task
from maskpack.runs.folder import Run
from maskpack.runs.open import open_base, open_pack
from maskpack.tasks import Classification
from maskpack.training.setup import Options, open_session
from maskpack.training.train_run import learn
from maskpack.training.trainer import Stopped

KINDS = ("ewc", "mas", "lwf", "lwm")
# what makes each add nothing, and what makes it add enough
OFF = {"lwm": {"beta": 0, "gamma": 0}}
ON = {
    "ewc": {"strength": 3000},
    "mas": {"strength": 1},
    "lwf": {"strength": 1},
    "lwm": {"beta": 1, "gamma": 0.01},
}
RECIPE = {
    "batch_size": 4,
    "lr": 0.03,
    "weight_decay": 0.0,  # of which each paper has its own
    "head_epochs": 1,
    "sched": "constant",
}


class Turned(tiny.Pictures):
    """The same pictures, each of another class: nothing of the first task is of use."""

    def __init__(self, size: int, seed: int = 0) -> None:
        super().__init__(size, seed)
        self.labels = [(2 * label + 1) % 3 for label in self.labels]


def turned() -> Classification:
    data = {split: Turned(12, seed) for seed, split in enumerate(("train", "val", "test"))}
    return Classification("turned", ("a", "b", "c"), data, Augment("resize", hflip=0.0))


def train(
    path: Path,
    method: str,
    start: Path | None = None,
    tick: Callable[[], None] = lambda: None,
    norms: str | None = None,
    **options: Any,
) -> Run:
    task = turned() if start else tiny.task()
    backbone = f"run:{start}" if start else "tiny:plain"
    asked = Options(
        backbone,
        task.name,
        method=method,
        set=options,
        norms=norms,
        recipe={**RECIPE, "epochs": 10 if start else 8},
        preprocess={"img_size": tiny.SIZE},
        select="last",
    )
    return learn(open_session(asked, None, task), path, resume=True, tick=tick)


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """The run of the first task, made once for each method and norms."""
    folder = tmp_path_factory.mktemp("first")

    @cache
    def made(method: str, norms: str | None = None) -> Path:
        return train(folder / f"{method}-{norms}", method, norms=norms).path

    return made


def outputs(run: Path, task: str = "shades") -> Tensor:
    """Of a task of a run's pack, for pictures that both tasks train on."""
    pack = open_pack(run)
    network = unpack_task(pack.task(task), open_base(pack, pack.task(task), trust_code=True))
    images = torch.stack([tiny_picture(index) for index in range(6)])
    with torch.no_grad():
        return network.eval()(images)


def tiny_picture(index: int) -> Tensor:
    return torch.from_numpy(tiny.Pictures(6).pixels[index]).permute(2, 0, 1) / 127.5 - 1


def forgot(before: Path, after: Path) -> float:
    return float((outputs(before) - outputs(after)).abs().mean())


@pytest.mark.parametrize("method", KINDS)
def test_the_first_task_is_forgotten_less(
    method: str, first: Callable[..., Path], tmp_path: Path
) -> None:
    start = first(method)
    free = train(tmp_path / "free", method, start, **OFF.get(method, {"strength": 0}))
    kept = train(tmp_path / "kept", method, start, **ON[method])
    assert list(open_pack(kept.path).tasks) == ["shades", "turned"]
    assert forgot(start, free.path) > 0.1
    assert forgot(start, kept.path) < 0.7 * forgot(start, free.path)
    assert not torch.equal(outputs(kept.path, "turned"), outputs(free.path, "turned"))


@pytest.mark.parametrize("method", KINDS)
def test_adding_nothing_is_fine_tuning(
    method: str, first: Callable[..., Path], tmp_path: Path
) -> None:
    start = first(method)
    free = train(tmp_path / "free", method, start, **OFF.get(method, {"strength": 0}))
    plain = train(tmp_path / "plain", "fine-tune", start, norms="frozen")
    assert torch.allclose(outputs(free.path, "turned"), outputs(plain.path, "turned"))


@pytest.mark.parametrize("norms", ["frozen", "task"])
@pytest.mark.parametrize("method", KINDS)
def test_an_interrupted_training_goes_on_with_the_very_numbers(
    method: str, norms: str, first: Callable[..., Path], tmp_path: Path
) -> None:
    """What ties the network is what it was at the start, not where the training went on."""
    start = first(method, norms)
    whole = train(tmp_path / "whole", method, start, norms=norms)
    steps = 0

    def stop() -> None:
        nonlocal steps
        steps += 1
        if steps == 11:  # inside the third epoch
            raise Stopped

    with pytest.raises(Stopped):
        train(tmp_path / "broken", method, start, stop, norms=norms)
    broken = train(tmp_path / "broken", method, start, norms=norms)
    for name in ("best", "last", "carried"):
        one, other = (run.path / f"{name}.safetensors" for run in (whole, broken))
        assert one.read_bytes() == other.read_bytes(), name


@pytest.mark.parametrize("method", ["lwf", "lwm"])
def test_earlier_heads_rest_while_the_new_one_warms_up(
    method: str, first: Callable[..., Path], tmp_path: Path
) -> None:
    start = first(method)
    heads = []
    for epochs in (4, 1):
        task = turned()
        asked = Options(
            f"run:{start}",
            task.name,
            method=method,
            recipe={**RECIPE, "epochs": epochs},
            preprocess={"img_size": tiny.SIZE},
            select="last",
        )
        run = learn(open_session(asked, None, task), tmp_path / str(epochs))
        heads.append(open_pack(run.path).task("shades").arrays("head"))
    old = open_pack(start).task("shades").arrays("head")
    longer, warm = heads
    assert all((warm[name] == old[name]).all() for name in old)
    assert all((longer[name] != old[name]).any() for name in old)
