"""Sequences by PackNet and CPG: earlier tasks that answer the very same for ever."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import tiny
import tinyrivals
import torch
from test_suites_run import rows
from torch import Tensor

import maskpack
from maskpack.common.errors import MaskpackError
from maskpack.methods.base import Recipe
from maskpack.networks.serialize import unpack_task
from maskpack.packs import file as packfile
from maskpack.runs.folder import Run
from maskpack.runs.open import open_base, open_pack, pack_run
from maskpack.suites.read import parse_suite
from maskpack.training.setup import Options, open_session
from maskpack.training.train_run import learn
from maskpack.training.trainer import Stopped

NAMES = ("first", "second", "third")
IMAGES = next(tiny.batches())[0]


def session_of(name: str, start: str, line: str) -> Any:
    method, *words = line.split()
    given = dict(word.split("=") for word in words)
    recipe: dict[str, Any] = {"epochs": 3 if method == "packnet" else 5, "batch_size": 4}
    recipe |= {"lr": 2e-2, "weight_decay": 0.1, "opt": given.pop("opt", "sgd")}
    norms = given.pop("norms", None)
    options = Options(
        start,
        name,
        method,
        given,
        recipe=recipe,
        norms=norms,
        preprocess={"img_size": tiny.SIZE},
    )
    return open_session(options, None, tiny.task(name))


def train(path: Path, start: str, line: str, stops: tuple[int, ...] = ()) -> Run:
    """A run, stopped after some numbers of steps and gone on with."""
    for stop in (*stops, None):
        left = [math.inf if stop is None else stop]

        def tick(left: list[float] = left) -> None:
            left[0] -= 1
            if left[0] < 0:
                raise Stopped

        try:
            return learn(session_of(path.name, start, line), path, resume=True, tick=tick)
        except Stopped:
            pass
    raise AssertionError


def outputs(path: Path, name: str) -> Tensor:
    pack = open_pack(path)
    task = pack.task(name)
    with torch.no_grad():
        return unpack_task(task, open_base(pack, task, trust_code=True))(IMAGES)


def trained_output(run: Run) -> Tensor:
    """What the network itself computes, as it was trained: no mask is involved."""
    pack = pack_run(run)
    with torch.no_grad():
        return unpack_task(pack.task(), open_base(pack, pack.task(), trust_code=True))(IMAGES)


SEQUENCES = (
    "packnet",
    "packnet opt=adam keep=0 tasks=3",
    "packnet opt=adamw norms=task",
    "cpg mask_lr=0.01 frequency=1",
    "cpg mask_lr=0.01 keep=0 tasks=3 opt=adam",
    "cpg mask_lr=0.01 tolerance=0.9 norms=frozen",
)


@pytest.mark.parametrize("line", SEQUENCES)
def test_a_task_answers_the_same_to_the_last_bit_whatever_is_learnt_later(
    line: str, tmp_path: Path
) -> None:
    start, learnt = "tiny:everything", {}
    for place, name in enumerate(NAMES):
        # the second is stopped in the middle, between two epochs, and before pruning
        run = train(tmp_path / name, start, line, (1, 4, 2, 3) if place == 1 else ())
        start = f"run:{run.path}"
        learnt[name] = trained_output(run)
        for known, output in learnt.items():
            assert torch.equal(outputs(run.path, known), output), f"{known} after {name}"
        assert run.result is not None and "owned" in run.result["kept"]
    assert len({tuple(output.flatten().tolist()) for output in learnt.values()}) == 3
    pack = open_pack(run.path)
    packfile.write(tmp_path / "all.safetensors", pack)
    for name, output in learnt.items():
        assert torch.equal(outputs(tmp_path / "all.safetensors", name), output)


@pytest.mark.parametrize("line", SEQUENCES[:1] + SEQUENCES[3:4])
def test_a_run_that_was_stopped_ends_as_one_that_was_not(line: str, tmp_path: Path) -> None:
    first = train(tmp_path / "first", "tiny:everything", line)
    start = f"run:{first.path}"
    runs = [
        train(tmp_path / n / "second", start, line, s) for n, s in (("a", ()), ("b", (1, 4, 3)))
    ]
    for file in ("best.safetensors", "carried.safetensors"):
        assert len({(run.path / file).read_bytes() for run in runs}) == 1


def test_packnet_keeps_the_owners_once_for_all_tasks(tmp_path: Path) -> None:
    start = "tiny:everything"
    for name in NAMES:
        start = f"run:{train(tmp_path / name, start, 'packnet').path}"
    packfile.write(tmp_path / "all.safetensors", open_pack(tmp_path / "third"))
    pack = packfile.read(tmp_path / "all.safetensors")
    for task in pack.tasks.values():
        planes = [key for key in task.streams if key.startswith("owner")]
        assert planes == ["owner0", "owner1", "owner2"]  # backbone and three tasks: 0 .. 4
        assert all(task.streams[key].users == 3 for key in [*planes, "weights"])


def test_a_sequence_of_one_epoch_is_refused(tmp_path: Path) -> None:
    session = session_of("first", "tiny:plain", "packnet")
    object.__setattr__(session, "recipe", Recipe(epochs=1))
    with pytest.raises(MaskpackError, match="--epochs 1: packnet"):
        learn(session, tmp_path / "first")


def test_a_suite_of_both_forgets_nothing(tmp_path: Path) -> None:
    text = tinyrivals.TEXT.replace("[options]", '[base]\ntask = "warm"\n[options]')
    methods, tasks = text.index("[methods."), text.index("[tasks.")
    added = "".join(
        f"[methods.{name}]\nsequence = true\nwith-base = true\nepochs = {epochs}\n"
        "set = { keep = 0.0, tasks = 3 }\n"
        for name, epochs in (("packnet", 3), ("cpg", 4))
    )
    text = text[:methods] + added + text[tasks:]
    tinyrivals.write(tmp_path, text)
    found = maskpack.run_suite(
        parse_suite(text, "rivals.toml"),
        tmp_path / "out",
        data=tmp_path / "pictures",
        trust_code=True,
    )
    assert not found["failed"]
    for label in ("packnet", "cpg"):
        lost = {row["task"]: row["lost"] for row in rows(found, "sequences", method=label)}
        assert lost == dict.fromkeys(tinyrivals.TASKS, 0.0)
