"""A run on disk: whole files, one process at a time, and clear words about damage."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from test_files import largest_file, names
from torch import Tensor

from maskpack.common.errors import MaskpackError, RunError
from maskpack.runs.folder import Run, State, environment, load_state, save_state

OPTIONS = {"backbone": "tiny", "recipe": {"epochs": 3, "lr": 1e-4}, "include": [], "seed": 0}
TENSORS = {"params/a.weight/scores": torch.arange(6.0).reshape(2, 3), "rng/cpu": torch.ones(8)}


@pytest.fixture
def run(tmp_path: Path) -> Run:
    made = Run(tmp_path / "run")
    made.start(OPTIONS)
    return made


def equal(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


# ---- what it keeps


def test_a_run_keeps_its_options(run: Run) -> None:
    assert run.exists()
    assert run.options == OPTIONS
    assert run.result is None
    assert run.load_last() is None
    assert run.seconds() == 0
    assert not run.begun()
    run.save_last(State(TENSORS, {}))
    assert run.begun()


def test_a_state_comes_back_bit_for_bit(run: Run) -> None:
    meta = {"epoch": 2, "loss": 0.1, "name": "V\u00f6gel"}
    column_major = torch.arange(6.0).reshape(2, 3).T
    run.save_last(State(TENSORS | {"t": column_major}, meta))
    back = run.load_last()
    assert back is not None
    assert equal(dict(back.tensors), TENSORS | {"t": column_major})
    assert back.meta == meta


def test_equal_states_are_equal_bytes(tmp_path: Path) -> None:
    turned = dict(reversed(TENSORS.items()))
    save_state(tmp_path / "a", State(TENSORS, {"x": 1, "y": 2}))
    save_state(tmp_path / "b", State(turned, {"y": 2, "x": 1}))
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_metrics_are_rewritten_whole(run: Run) -> None:
    run.write_metrics([{"epoch": 1}, {"epoch": 2}])
    run.write_metrics([{"epoch": 1}])
    assert (run.path / "metrics.jsonl").read_text() == '{"epoch":1}\n'


def test_seconds_of_all_sessions_are_added(run: Run) -> None:
    run.add_timing({"epoch": 1, "seconds": 1.5})
    run.add_timing({"epoch": 1, "seconds": 2.0})
    assert run.seconds() == 3.5


def test_half_a_line_of_timing_does_no_harm(run: Run) -> None:
    run.add_timing({"epoch": 1, "seconds": 1.5})
    with (run.path / "timing.jsonl").open("a") as file:
        file.write('{"epoch":2,"sec')  # killed here
    run.add_timing({"epoch": 2, "seconds": 2.0})
    run.add_timing({"epoch": 3, "seconds": 4.0})
    assert run.seconds() == 5.5


def test_the_environment_is_json(run: Run) -> None:
    kept = json.loads((run.path / "environment.json").read_text())
    assert kept == environment()
    assert torch.__version__.startswith(kept["versions"]["torch"])


# ---- writing that fails


def test_a_full_disk_leaves_the_last_state(run: Run) -> None:
    run.save_last(State(TENSORS, {"epoch": 1}))
    big = {"big": torch.zeros(10_000)}
    with (
        largest_file(2000),
        pytest.raises(MaskpackError, match=r"last\.safetensors: cannot be written: .*too large"),
    ):
        run.save_last(State(big, {"epoch": 2}))
    state = run.load_last()
    assert state is not None
    assert state.meta == {"epoch": 1}
    assert names(run.path) == [
        "environment.json",
        "last.safetensors",
        "options.json",
    ]


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for use in (lambda run: run.start(OPTIONS), lambda run: run.locked().__enter__()):
        with pytest.raises(RunError, match=r"file/run: cannot be (made|used): Not a directory"):
            use(Run(tmp_path / "file" / "run"))


# ---- the lock

HOLD = """
import sys, time
from maskpack.runs.folder import Run
with Run(sys.argv[1]).locked():
    print("locked", flush=True)
    time.sleep(60)
"""

FORK_AND_DIE = """
import os, signal, sys, time
from maskpack.runs.folder import Run
with Run(sys.argv[1]).locked():
    child = os.fork()
    if not child:
        time.sleep(60)
    print(child, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_two_processes_do_not_share_a_run(run: Run) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(run.path)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "locked\n"
        with (
            pytest.raises(RunError, match=rf"in use by process {holder.pid}; wait for it or"),
            run.locked(),
        ):
            pytest.fail("two processes in one run")
    finally:
        holder.kill()
        holder.communicate()
    with run.locked():
        assert (run.path / "lock").read_text() == str(os.getpid())


def test_a_lock_dies_with_its_process_though_its_workers_live(run: Run) -> None:
    held = subprocess.Popen(
        [sys.executable, "-c", FORK_AND_DIE, str(run.path)], stdout=subprocess.PIPE, text=True
    )
    assert held.stdout is not None
    worker = int(held.stdout.readline())
    try:
        assert held.wait() == -9
        with run.locked():
            pass
    finally:
        os.kill(worker, 9)
        held.stdout.close()


def test_locking_removes_what_a_kill_left(run: Run) -> None:
    (run.path / ".last.safetensors.x1.part").mkdir()
    (run.path / ".last.safetensors.x1.part" / ".tmpAbc").write_bytes(b"half")
    with run.locked():
        assert names(run.path) == ["environment.json", "lock", "options.json"]


# ---- the same options


def test_the_same_options_pass(run: Run) -> None:
    run.check_same(json.loads(json.dumps(OPTIONS)))
    run.check_same(OPTIONS | {"seed": 1}, besides=["seed"])
    run.check_same(OPTIONS | {"recipe": OPTIONS["recipe"] | {"lr": 1}}, besides=["recipe.lr"])


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({"seed": 1}, "seed=0, now seed=1"),
        ({"backbone": "other"}, "backbone='tiny', now backbone='other'"),
        ({"recipe": {"epochs": 4, "lr": 1e-4}}, "recipe.epochs=3, now recipe.epochs=4"),
        ({"new": True}, "new=None, now new=True"),
    ],
)
def test_other_options_are_named(run: Run, change: dict[str, object], found: str) -> None:
    with pytest.raises(RunError) as error:
        run.check_same(OPTIONS | change)
    if change != {"recipe": {}}:
        assert f"was started with {found};" in str(error.value)
    assert str(error.value).endswith(
        "resume with the same options, or choose another folder with -o"
    )


# ---- damage


def test_a_folder_that_is_no_run_is_said_to_be_none(tmp_path: Path) -> None:
    for read in (lambda run: run.options, lambda run: run.load_best()):
        with pytest.raises(RunError, match=r"is not a run \(no options.json in it\)"):
            read(Run(tmp_path))
    assert not Run(tmp_path).exists()


def test_a_run_without_an_epoch_has_no_best(run: Run) -> None:
    with pytest.raises(RunError, match="no epoch is finished yet; train on with --resume"):
        run.load_best()


@pytest.mark.parametrize("content", ["", "{", "[]", "null", '{"a": NaN', "\udcff", "[" * 100_000])
def test_damaged_options_are_refused(run: Run, content: str) -> None:
    (run.path / "options.json").write_bytes(content.encode(errors="surrogateescape"))
    with pytest.raises(RunError, match=r"options\.json: ") as error:
        _ = run.options
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "metadata", [None, {}, {"maskpack-run": "{"}, {"maskpack-run": "[]"}, {"maskpack": "{}"}]
)
def test_a_file_that_is_no_state_is_refused(
    tmp_path: Path, metadata: dict[str, str] | None
) -> None:
    save_file(TENSORS, tmp_path / "s", metadata=metadata)
    with pytest.raises(RunError, match="damaged"):
        load_state(tmp_path / "s")


def test_a_damaged_state_is_refused_or_read_and_never_crashes(tmp_path: Path) -> None:
    path = tmp_path / "s"
    save_state(path, State(TENSORS, {"epoch": 1}))
    whole = path.read_bytes()
    rng = random.Random(0)
    refused = 0
    for _ in range(300):
        data = bytearray(whole)
        if rng.random() < 0.3:
            del data[rng.randrange(len(data)) :]
        for _ in range(rng.randint(1, 3)):
            if data:
                data[rng.randrange(len(data))] = rng.randrange(256)
        path.write_bytes(data)
        try:
            load_state(path)
        except RunError as error:
            assert "\n" not in str(error)
            refused += 1
    assert refused > 150
