"""The critic beside training: what it sees, what it learns, and that it goes no further."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import tinydense
import torch
from safetensors.torch import load_file
from torch import Tensor

from maskpack.common.errors import OptionError
from maskpack.packs.file import write
from maskpack.runs.open import open_pack
from maskpack.training.critic import SMALLEST, Critic, PatchGAN
from maskpack.training.setup import Options, Session, open_session
from maskpack.training.train_run import learn
from maskpack.training.trainer import Stopped

CPU = torch.device("cpu")
FILES = ("best.safetensors", "last.safetensors", "metrics.jsonl", "result.json")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return tinydense.write_photos(tmp_path / "photos", train=8, test=2)


def pictures(seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Input, and made and real pictures that can be told apart: (4, 3, 32, 32) each."""
    generator = torch.Generator().manual_seed(seed)
    images, made, real = torch.rand(3, 4, 3, SMALLEST, SMALLEST, generator=generator)
    return images, made * 0.5, real * 0.5 + 0.5


# ---- what it sees


def test_a_judgement_is_of_70_pixels() -> None:
    network = PatchGAN(6).eval()  # in training a batch norm sees the whole picture
    pair = torch.rand(1, 6, 256, 256, requires_grad=True)
    logits = network(pair)
    assert logits.shape == (1, 1, 30, 30)
    logits[0, 0, 15, 15].backward()
    assert pair.grad is not None
    rows = pair.grad.abs().sum((0, 1, 3)).nonzero()
    columns = pair.grad.abs().sum((0, 1, 2)).nonzero()
    assert len(rows) == len(columns) == 70


def test_the_smallest_picture_has_several_patches() -> None:
    assert PatchGAN(6)(torch.rand(2, 6, SMALLEST, SMALLEST)).shape == (2, 1, 2, 2)


def test_pictures_too_small_for_it_are_refused(photos: Path) -> None:
    with pytest.raises(OptionError, match="--img-size 16: a critic needs 32 pixels or more"):
        session(photos, size=16)


# ---- what it learns


def test_a_critic_in_doubt_costs_the_logarithm_of_two() -> None:
    critic = Critic(6, CPU, seed=0)
    torch.nn.init.zeros_(critic.network.layers[-1].weight)
    torch.nn.init.zeros_(critic.network.layers[-1].bias)
    images, made, _ = pictures()
    assert float(critic.loss(images, made).detach()) == pytest.approx(math.log(2))


def test_a_critic_learns_to_tell() -> None:
    critic = Critic(6, CPU, seed=0)
    for seed in range(8):
        critic.learn(*pictures(seed))
    images, made, real = pictures(99)
    with torch.no_grad():
        assert critic.loss(images, real) < math.log(2) < critic.loss(images, made)


def test_judging_teaches_the_network_not_the_critic() -> None:
    critic = Critic(6, CPU, seed=0)
    images, made, _ = pictures()
    made.requires_grad_()
    critic.loss(images, made).backward()
    assert made.grad is not None and made.grad.abs().sum() > 0
    assert all(p.grad is None and p.requires_grad for p in critic.network.parameters())


def test_learning_gives_the_network_no_gradient() -> None:
    critic = Critic(6, CPU, seed=0)
    images, made, real = pictures()
    made.requires_grad_()
    critic.learn(images, made, real)
    assert made.grad is None


def test_a_restored_critic_goes_on_as_if_nothing_had_been() -> None:
    whole, first, second = (Critic(6, CPU, seed) for seed in (0, 0, 1))
    for seed in range(4):
        whole.learn(*pictures(seed))
    for seed in range(2):
        first.learn(*pictures(seed))
    kept = {name: value.clone() for name, value in first.state().items()}
    first.learn(*pictures(2))  # what was kept is a copy's
    second.restore(kept)
    for seed in range(2, 4):
        second.learn(*pictures(seed))
    ours, theirs = whole.state(), second.state()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


# ---- in a run


def session(photos: Path, size: int = SMALLEST, method: str = "piggyback") -> Session:
    options = Options(
        "tinydense:build",
        "colouring",
        method,
        data=str(photos),
        task_set={"loss": "adversarial"},
        preprocess={"img_size": size},
        recipe={"epochs": 2, "batch_size": 2, "opt": "adam", "lr": 1e-2},
    )
    return open_session(options, tinydense.backbone())


def stop_after(steps: int) -> Callable[[], None]:
    left = steps

    def tick() -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise Stopped

    return tick


def test_a_run_stopped_anywhere_continues_with_the_same_bytes(photos: Path, tmp_path: Path) -> None:
    whole = learn(session(photos), tmp_path / "whole")
    parts = tmp_path / "parts"
    for steps in (2, 3, 1):  # within the first epoch, within the second, and while it validates
        with pytest.raises(Stopped):
            learn(session(photos), parts, resume=True, tick=stop_after(steps))
        assert any("critic/" in name for name in load_file(parts / "last.safetensors"))
    learn(session(photos), parts, resume=True)
    for name in FILES:
        assert (parts / name).read_bytes() == (whole.path / name).read_bytes(), name


@pytest.mark.parametrize("method", ["piggyback", "fine-tune"])
def test_no_critic_is_packed(photos: Path, tmp_path: Path, method: str) -> None:
    run = learn(session(photos, method=method), tmp_path / "run")
    assert not [name for name in load_file(run.path / "best.safetensors") if "critic" in name]
    pack = open_pack(run.path)
    write(tmp_path / "pack.safetensors", pack)
    assert not [name for name in load_file(tmp_path / "pack.safetensors") if "critic" in name]
    critic = sum(p.numel() for p in PatchGAN(6).parameters())
    assert (tmp_path / "pack.safetensors").stat().st_size < critic
