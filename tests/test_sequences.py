"""What a run of a sequence hands to the next one, and the pack of all its tasks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from torch import Tensor

from maskpack import methods
from maskpack.backbones.base import Backbone
from maskpack.common.errors import MaskpackError, OptionError, RunError
from maskpack.networks.serialize import unpack_task
from maskpack.packs import file as packfile
from maskpack.runs.folder import Run, State, load_state, save_state
from maskpack.runs.open import merge, open_backbone, open_base, open_pack, pack_run
from maskpack.runs.sequence import FILE, load_sequence, start_of
from maskpack.training.setup import Options, open_session
from maskpack.training.train_run import learn

RECIPE = {"epochs": 2, "batch_size": 4, "lr": 1e-2}


def train(folder: Path, name: str, start: Backbone | str | None = None, **more: Any) -> Run:
    """A run of a tiny task, on the tiny network or on what another run left."""
    backbone = start if isinstance(start, Backbone) else None
    options = Options(
        start if isinstance(start, str) else "tiny:plain",
        name,
        method=more.pop("method", "ewc"),
        recipe=RECIPE,
        preprocess={"img_size": tiny.SIZE},
        **more,
    )
    session = open_session(options, backbone, tiny.task(name))
    return learn(session, folder / name)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    folder = tmp_path_factory.mktemp("sequence")
    found: dict[str, Run] = {}
    start = None
    for name in ("first", "second", "third"):
        found[name] = train(folder, name, start)
        start = f"run:{found[name].path}"
    return found


def outputs(path: Path, name: str) -> Tensor:
    pack = open_pack(path)
    task = pack.task(name)
    with torch.no_grad():
        return unpack_task(task, open_base(pack, task, trust_code=True))(next(tiny.batches())[0])


def test_each_run_knows_the_tasks_before_it(runs: dict[str, Run]) -> None:
    found = load_sequence(runs["third"])
    assert found is not None
    assert [task.name for task in found.carried.tasks] == ["first", "second", "third"]
    assert found.root["name"] == "tiny:plain"  # not run:..., what the first one began with
    assert list(open_pack(runs["second"].path).tasks) == ["first", "second"]


def test_an_earlier_task_keeps_its_head_and_gets_the_last_network(runs: dict[str, Run]) -> None:
    first, third = (open_pack(runs[name].path) for name in ("first", "third"))
    for name, head in first.task("first").arrays("head").items():
        assert (third.task("first").arrays("head")[name] == head).all()
    before, after = first.task("first").arrays("weights"), third.task("first").arrays("weights")
    assert any((after[name] != weight).any() for name, weight in before.items())
    last = third.task("third").arrays("weights")
    assert all((last[name] == weight).all() for name, weight in after.items())


def test_the_last_task_of_the_pack_computes_what_its_run_does(runs: dict[str, Run]) -> None:
    run = runs["third"]
    own = pack_run(run)
    images = next(tiny.batches())[0]
    with torch.no_grad():
        alone = unpack_task(own.task(), open_base(own, own.task()))(images)
    assert torch.equal(outputs(run.path, "third"), alone)


def test_only_the_last_run_has_the_test_score(runs: dict[str, Run]) -> None:
    tasks = open_pack(runs["third"].path).tasks
    assert [("test" in task.info) for task in tasks.values()] == [False, False, True]


def test_shared_weights_stand_in_the_file_once(runs: dict[str, Run], tmp_path: Path) -> None:
    path = tmp_path / "all.safetensors"
    packfile.write(path, open_pack(runs["third"].path))
    kept = packfile.read(path)
    assert {task.streams["weights"].users for task in kept.tasks.values()} == {3}
    assert torch.equal(outputs(path, "first"), outputs(runs["third"].path, "first"))


def test_a_run_is_a_backbone_as_its_own_task_has_it(runs: dict[str, Run]) -> None:
    path = runs["third"].path
    base = open_backbone(f"run:{path}")
    earlier = open_backbone(f"run:{path}#first")
    assert base.fingerprint == earlier.fingerprint  # the trunk is the same, heads are not compared


def test_a_network_of_another_method_begins_a_sequence_of_its_own(
    runs: dict[str, Run], tmp_path: Path
) -> None:
    start = f"run:{runs['first'].path}"
    other = train(tmp_path, "other", start, method="fine-tune")
    assert load_sequence(other) is None
    found = load_sequence(train(tmp_path, "next", f"run:{other.path}"))
    assert found is not None and [task.name for task in found.carried.tasks] == ["next"]


def test_another_method_cannot_go_on_with_a_sequence(runs: dict[str, Run], tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="one of a sequence by ewc; go on with --method ewc"):
        train(tmp_path, "second", f"run:{runs['first'].path}", method="mas")


def test_a_task_cannot_be_learnt_twice(runs: dict[str, Run], tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=r"knows a task 'first' already .* another --name"):
        train(tmp_path, "first", f"run:{runs['second'].path}")


def test_two_runs_of_a_sequence_are_not_packed_together(runs: dict[str, Run]) -> None:
    packs = [open_pack(runs[name].path) for name in ("first", "third")]
    with pytest.raises(MaskpackError, match="holds 3 tasks: leave the other out"):
        merge(packs)


@pytest.mark.parametrize("damage", ["key", "place", "meta", "head", "bytes"])
def test_a_damaged_file_is_one_line(runs: dict[str, Run], tmp_path: Path, damage: str) -> None:
    run = Run(tmp_path / "run")
    run.path.mkdir()
    for path in runs["second"].path.iterdir():
        (run.path / path.name).write_bytes(path.read_bytes())
    state = load_state(run.path / FILE)
    tensors, meta = dict(state.tensors), dict(state.meta)
    if damage == "key":
        tensors["norms/x/weight"] = torch.zeros(1)
    elif damage == "place":
        tensors = {name.replace("head/1/", "head/7/"): t for name, t in tensors.items()}
    elif damage == "meta":
        del meta["tasks"]
    elif damage == "head":
        meta["root"] = {"name": "tiny:plain"}
    save_state(run.path / FILE, State(tensors, meta))
    if damage == "bytes":
        (run.path / FILE).write_bytes(b"\x08")
    with pytest.raises(RunError, match=r"carried.safetensors: .*damaged") as caught:
        open_pack(run.path)
    assert "\n" not in str(caught.value)


def test_a_sequence_goes_on_from_its_last_task(runs: dict[str, Run], tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="from its last task, which is 'second' here"):
        train(tmp_path, "fourth", f"run:{runs['second'].path}#first")
    found = load_sequence(train(tmp_path, "fourth", f"run:{runs['second'].path}#second"))
    assert found is not None and len(found.carried.tasks) == 3


def test_a_sequence_is_not_begun_anew_by_mistake(runs: dict[str, Run], tmp_path: Path) -> None:
    path = tmp_path / "all.safetensors"
    packfile.write(path, pack_run(runs["first"]))
    with pytest.raises(OptionError, match="is a pack; a sequence goes on from its last run's"):
        start_of(Run(path), methods.make("ewc"), "fourth")
    half = Run(tmp_path / "half")
    half.path.mkdir()
    for name in ("options.json", "best.safetensors"):
        (half.path / name).write_bytes((runs["first"].path / name).read_bytes())
    with pytest.raises(OptionError, match="is not finished; train it on with --resume first"):
        start_of(half, methods.make("ewc"), "fourth")
