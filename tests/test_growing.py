"""CPG's growing: a task that misses its goal is trained again on a wider network."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny
import tinyrivals
import tinywide
import torch
from test_suites_run import rows
from torch import Tensor

import maskpack
from maskpack.backbones import open_backbone
from maskpack.common.errors import OptionError
from maskpack.methods import make
from maskpack.networks.serialize import unpack_task
from maskpack.packs import file as packfile
from maskpack.runs.folder import NARROW, Run
from maskpack.runs.open import open_base, open_pack
from maskpack.runs.sequence import load_sequence
from maskpack.suites.read import parse_suite
from maskpack.training import wider as growing
from maskpack.training.setup import Options, open_session
from maskpack.training.train_run import learn
from maskpack.training.trainer import Stopped

EPOCHS, STEPS = 5, 3  # two epochs to pick, of three steps each
IMAGES = next(tiny.batches())[0]


def session_of(name: str, start: str, **chosen: Any) -> Any:
    recipe = {"epochs": EPOCHS, "batch_size": 4, "lr": 2e-2, "weight_decay": 0.1}
    given = {"mask_lr": 0.01, "frequency": 1, "pick": 0.4, **chosen}
    options = Options(start, name, "cpg", given, recipe=recipe, preprocess={"img_size": tiny.SIZE})
    return open_session(options, None, tiny.task(name))


def stopping(after: float) -> Callable[[], None]:
    left = [after]

    def tick() -> None:
        left[0] -= 1
        if left[0] < 0:
            raise Stopped

    return tick


def train(path: Path, start: str, stops: tuple[int, ...] = (), **chosen: Any) -> Run:
    """A run, stopped after some numbers of steps and gone on with."""
    for stop in (*stops, math.inf):
        try:
            session = session_of(path.name, start, **chosen)
            return learn(session, path, resume=True, tick=stopping(stop))
        except Stopped:
            pass
    raise AssertionError


def outputs(path: Path, name: str) -> Tensor:
    pack = open_pack(path)
    task = pack.task(name)
    with torch.no_grad():
        return unpack_task(task, open_base(pack, task, trust_code=True))(IMAGES)


def state_of(run: Run) -> list[bytes]:
    return [(run.path / f"{name}.safetensors").read_bytes() for name in ("best", "carried")]


@pytest.mark.parametrize("first", [{"keep": 0.0}, {"keep": 0.5}])
def test_a_task_that_misses_its_goal_begins_anew_on_a_wider_network(
    first: dict[str, Any], tmp_path: Path
) -> None:
    told: list[str] = []
    one = train(tmp_path / "first", "tinywide:narrow", **first, tolerance=0.9)
    before = outputs(one.path, "first")
    session = session_of("second", f"run:{one.path}", goal=1.0, grow=1.5, **first)
    two = learn(session, tmp_path / "second", say=told.append)
    result = two.result
    assert result is not None and result["grown"] == [1.0, 1.5]
    assert result["kept"]["missed"]  # there too, and no wider one is to be had
    assert sum("width 1 missed the goal" in line for line in told) == 1
    attempt = two.path / NARROW / "1" / "metrics.jsonl"
    assert len(attempt.read_text().splitlines()) == 2  # to the end of picking
    assert len((two.path / "metrics.jsonl").read_text().splitlines()) == EPOCHS
    assert list(open_pack(two.path).tasks) == ["second"]
    learnt = outputs(two.path, "second")
    three = train(tmp_path / "third", f"run:{two.path}", tolerance=0.9, **first)
    assert three.result is not None and "grown" not in three.result
    pack = open_pack(three.path)
    assert list(pack.tasks) == ["second", "third"]
    assert pack.backbone.name == "tinywide:wide/none#0"
    assert torch.equal(outputs(one.path, "first"), before)
    assert torch.equal(outputs(three.path, "second"), learnt)
    packfile.write(tmp_path / "wide.safetensors", pack)
    assert torch.equal(outputs(tmp_path / "wide.safetensors", "second"), learnt)


@pytest.mark.parametrize("grow", [0.0, 1.0, 1.4])
def test_a_network_grows_no_wider_than_it_may(grow: float, tmp_path: Path) -> None:
    run = train(tmp_path / "first", "tinywide:narrow", goal=1.0, grow=grow)
    assert run.result is not None and run.result["kept"]["missed"] and "grown" not in run.result
    assert not (run.path / NARROW).exists()


def test_a_network_of_one_width_misses_its_goal_and_says_so(tmp_path: Path) -> None:
    told: list[str] = []
    session = session_of("first", "tiny:plain", goal=1.0, grow=1.5)
    run = learn(session, tmp_path / "first", say=told.append)
    assert run.result is not None and run.result["kept"]["missed"]
    assert any("start the sequence on a wider --backbone" in line for line in told)


def test_the_first_task_of_a_sequence_can_grow(tmp_path: Path) -> None:
    run = train(tmp_path / "first", "tinywide:narrow", keep=0.0, goal=1.0, grow=1.5)
    assert run.result is not None and run.result["grown"] == [1.0, 1.5]
    first = outputs(run.path, "first")
    second = train(tmp_path / "second", f"run:{run.path}", keep=0.0)
    assert torch.equal(outputs(second.path, "first"), first)


def test_a_network_grows_step_by_step_and_spent_time_is_counted(tmp_path: Path) -> None:
    one = train(tmp_path / "first", "tinywide:narrow", tolerance=0.9)
    stops = (2 * STEPS + 1, 2 * STEPS + 1)
    run = train(tmp_path / "second", f"run:{one.path}", stops, goal=1.0, grow=2.0, tolerance=0.9)
    assert run.result is not None and run.result["grown"] == [1.0, 1.5, 2.0]
    assert len((run.path / "timing.jsonl").read_text().splitlines()) == 2 + 2 + EPOCHS
    second = outputs(run.path, "second")
    three = train(tmp_path / "third", f"run:{run.path}", goal=1.0, grow=2.0)
    assert torch.equal(outputs(three.path, "second"), second)
    assert open_pack(three.path).backbone.name == "tinywide:wider/none#0"


@pytest.mark.parametrize(
    "stops", [(1, 4, 2), (2 * STEPS + 1, 1, STEPS), (2 * STEPS + 2, STEPS + 1, 5)]
)
def test_a_run_that_was_stopped_grows_as_one_that_was_not(
    stops: tuple[int, ...], tmp_path: Path
) -> None:
    one = train(tmp_path / "first", "tinywide:narrow", tolerance=0.9)
    start = f"run:{one.path}"
    whole = train(tmp_path / "a" / "second", start, goal=1.0, grow=1.5)
    parts = train(tmp_path / "b" / "second", start, stops, goal=1.0, grow=1.5)
    assert state_of(whole) == state_of(parts)
    assert whole.result == parts.result


@pytest.mark.parametrize("moment", ["metrics.jsonl", "last.safetensors", "grown"])
def test_a_kill_between_the_two_attempts_loses_nothing(
    moment: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = train(tmp_path / "first", "tinywide:narrow", tolerance=0.9)
    start = f"run:{one.path}"
    chosen = {"goal": 1.0, "grow": 1.5}
    whole = train(tmp_path / "a" / "second", start, **chosen)
    path = tmp_path / "b" / "second"
    replace = Path.replace

    def killed(*_: object) -> Any:
        raise KeyboardInterrupt

    def moved(self: Path, target: Path) -> Path:
        return killed() if self == path / moment else replace(self, target)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(Path, "replace", moved)
        if moment == "grown":
            patched.setattr("maskpack.training.setup.grown", killed)
        train(path, start, **chosen)
    assert Run(path).begun() and Run(path).result is None
    assert Run(path).narrower() == ([1.0] if moment == "grown" else [])
    assert state_of(train(path, start, **chosen)) == state_of(whole)


def test_a_wider_network_begins_with_what_earlier_tasks_own(tmp_path: Path) -> None:
    one = train(tmp_path / "first", "tinywide:narrow", keep=0.0, tasks=4)
    session = session_of("second", f"run:{one.path}", keep=0.0, grow=1.5, tasks=4)
    carried = session.sequence.carried
    wide, sequence = growing.grown(session.backbone, session.network.method, session.sequence, 0)
    assert sequence.about == () and sequence.root["name"] == "tinywide:wide/none#0"
    assert wide.fingerprint == open_backbone(wide.name).fingerprint
    method, head = session.network.method, wide.head
    keeper = method.keeper(wide.module, head, sequence.carried)
    assert keeper.least == 0.7  # the second of four, as before: two are to come
    for name, weight in keeper.owners.weights.items():
        held, owner = carried.tensors[f"weight/{name}"], carried.tensors[f"owner/{name}"]
        block = tuple(slice(size) for size in held.shape)
        new = keeper.owners.owner[name]
        assert (
            torch.equal(new[block] == 1, owner > 0) and int((new == 1).sum()) == (owner > 0).sum()
        )
        assert torch.equal(weight[block], held)
        assert bool(weight[len(held) :].all())  # fresh, and free
        if name != "stem.weight":  # no old output reads a new input
            assert not weight[: len(held), held.shape[1] :].any()
    assert keeper.owners.first is False and method == session.network.method


def test_its_own_goal_and_width_are_checked() -> None:
    for grow in (-1.0, 0.5, 17.0, math.nan):
        with pytest.raises(OptionError, match="grow="):
            make("cpg", {"grow": grow})


def test_vgg_grows_by_name() -> None:
    narrow = open_backbone("vgg16_bn_cifar-w0.01/none#1")
    assert growing.next_width(narrow.module, make("cpg", {"grow": 1.0}).widest()) == 0.51
    assert growing.next_width(narrow.module, make("cpg", {}).widest()) is None
    assert narrow.module.name_of_width(0.51) == "vgg16_bn_cifar-w0.51"  # type: ignore[operator]


def run_suite(folder: Path, text: str) -> dict[str, Any]:
    tinyrivals.write(folder, text)
    found = maskpack.run_suite(
        parse_suite(text, "grows.toml"),
        folder / "out",
        data=folder / "pictures",
        trust_code=True,
    )
    assert not found["failed"]
    return found


def suite_text() -> str:
    """Three tasks, of which the second misses its goal."""
    text = tinyrivals.TEXT.replace("tiny:everything", "tinywide:narrow")
    methods, tasks = text.index("[methods."), text.index("[tasks.")
    goal = "[tasks.dark.methods.cpg]\nset = { goal = 1.0 }\n"
    added = "[methods.piggyback]\n[methods.cpg]\nsequence = true\nepochs = 5\n"
    added += "set = { keep = 0.0, tolerance = 0.9, grow = 1.5, pick = 0.4, frequency = 1 }\n"
    return (
        text[:methods] + added + text[tasks:].replace("[tasks.striped]", f"{goal}[tasks.striped]")
    )


def test_the_base_of_a_suite_is_answered_by_itself_once_it_grew(tmp_path: Path) -> None:
    text = suite_text().replace("[options]", '[base]\ntask = "warm"\n[options]')
    found = run_suite(tmp_path, text)
    lost = {row["task"]: row["lost"] for row in rows(found, "sequences", method="cpg")}
    assert lost == dict.fromkeys(tinyrivals.TASKS, 0.0)
    assert not (tmp_path / "out" / "cpg-narrow1.safetensors").exists()


def test_a_suite_grows_and_its_tables_are_whole(tmp_path: Path) -> None:
    found = run_suite(tmp_path, suite_text())
    out = tmp_path / "out"
    grown = Run(out / "runs" / "dark" / "cpg" / "seed0").result
    assert grown is not None and grown["grown"] == [1.0, 1.5]
    assert list(packfile.read(out / "cpg-narrow1.safetensors").tasks) == ["warm"]
    assert list(packfile.read(out / "cpg.safetensors").tasks) == ["dark", "striped"]
    lost = {row["task"]: row["lost"] for row in rows(found, "sequences", method="cpg")}
    assert lost == dict.fromkeys(tinyrivals.TASKS, 0.0)
    after = rows(found, "sequences", method="cpg", task="warm")[0]
    assert after["after dark"] == after["after striped"] == after["when learnt"]
    size = rows(found, "sizes", method="cpg")[0]
    both = sum((out / f"{name}.safetensors").stat().st_size for name in ("cpg", "cpg-narrow1"))
    assert size["tasks"] == 3 and math.isclose(size["total, coded"], both / 1e6)
    scopes = {row["scope"]: row for row in rows(found, "bytes", method="cpg")}
    assert scopes["all"]["tasks"] == 3 and scopes["all"]["bytes"] == both
    assert (
        run_suite(tmp_path, suite_text())["tables"] == found["tables"]
    )  # nothing is measured anew
    assert load_sequence(Run(out / "runs" / "striped" / "cpg" / "seed0")) is not None
    assert tinywide.NAMES[1.5] in packfile.read(out / "cpg.safetensors").backbone.name
