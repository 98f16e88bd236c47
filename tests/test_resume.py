"""Training that is killed, stopped and continued gives the bytes of training left alone."""

from __future__ import annotations

import contextlib
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from processes import TESTS, Done, run, run_here, start
from tinynet import write_pictures

EPOCHS = "3"
BASE = ("train-mask", "--backbone", "tinynet:build", "--task", "colours", "--data", "data")
COMMON = ("-b", "8", "--lr", "0.01", "--head-lr", "0.01", "-j", "0")
VARIANTS = {
    "piggyback": ("--method", "piggyback", "--set", "init=uniform"),
    "ksm": ("--method", "ksm", "--set", "gumbel=true", "--norms", "task"),
    "affine": ("--method", "affine", "--norms", "stats", "--sched", "cosine"),
    "fine-tune": ("--method", "fine-tune", "--opt", "sgd", "--momentum", "0.9"),
}
FILES = ("best.safetensors", "last.safetensors", "metrics.jsonl", "result.json")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("resume")
    write_pictures(folder / "data")
    return folder


def options(variant: str, epochs: str = EPOCHS, *more: str) -> tuple[str, ...]:
    return (*BASE, *COMMON, "--epochs", epochs, *VARIANTS[variant], *more)


def ok(done: Done) -> Done:
    assert done.code == 0, done.err
    return done


def whole(place: Path, variant: str, epochs: str = EPOCHS) -> Path:
    """A run that nothing has interrupted, made once for all tests."""
    path = place / f"whole-{variant}-{epochs}"
    if not path.exists():
        assert ok(run(place, *options(variant, epochs), "-o", path.name)).out == f"{path.name}\n"
    return path


def resume_until_done(place: Path, *arguments: str) -> None:
    assert ok(run(place, *arguments, "--resume")).out


def assert_same_bytes(place: Path, one: Path, other: Path) -> None:
    for name in FILES:
        assert (one / name).read_bytes() == (other / name).read_bytes(), name
    packs = [place / f"{path.name}.safetensors" for path in (one, other)]
    for path, pack in zip((one, other), packs, strict=True):
        ok(run_here(place, "pack", path.name, "-o", pack.name, "--force"))
    assert packs[0].read_bytes() == packs[1].read_bytes()
    assert not [path for path in other.iterdir() if path.name.startswith(".")], "litter"


def kill_at_random(
    place: Path, arguments: tuple[str, ...], path: Path, seed: int, kills: int
) -> int:
    """Start, SIGKILL, continue, SIGKILL, ...: how many sessions it took to the end."""
    rng = random.Random(seed)
    for session in range(1, kills + 1):
        running = start(place, *arguments, "--resume")
        running.wait_until((path / "lock").exists)
        time.sleep(rng.uniform(0, 0.08 * session))  # the first dies for sure
        with contextlib.suppress(ProcessLookupError):  # it was done before
            running.send(signal.SIGKILL)
        if running.wait().code == 0:
            return session
    resume_until_done(place, *arguments)
    return kills + 1


# ---- SIGKILL


@pytest.mark.parametrize("moment", [2, 9])
def test_a_run_killed_between_two_files_continues_with_the_same_bytes(
    place: Path, moment: int
) -> None:
    path = place / f"killed-{moment}"
    arguments = (*options("piggyback"), "-o", path.name)
    assert start(place, *arguments, die_at_write=moment).wait().code == -signal.SIGKILL
    resume_until_done(place, *arguments)
    assert_same_bytes(place, whole(place, "piggyback"), path)


@pytest.mark.slow
def test_a_run_killed_around_any_file_continues_with_the_same_bytes(place: Path) -> None:
    moment = 0
    while True:
        path = place / f"around-{moment}"
        arguments = (*options("ksm", "2"), "-o", path.name)
        done = start(place, *arguments, die_at_write=moment).wait()
        if done.code == 0:
            break
        assert done.code == -signal.SIGKILL
        resume_until_done(place, *arguments)
        assert_same_bytes(place, whole(place, "ksm", "2"), path)
        moment += 1
    assert moment >= 2 * 8, "two files at the start, two or three an epoch, and the result"


@pytest.mark.slow
@pytest.mark.parametrize("workers", ["0", "1"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_a_run_killed_at_random_continues_with_the_same_bytes(
    place: Path, variant: str, workers: str
) -> None:
    path = place / f"random-{variant}-{workers}"
    arguments = (*options(variant), "-o", path.name, "-j", workers)
    sessions = kill_at_random(place, arguments, path, seed=len(path.name), kills=5)
    assert sessions > 1
    assert_same_bytes(place, whole(place, variant), path)


@pytest.mark.slow
def test_a_process_of_its_own_gives_the_same_bytes(place: Path) -> None:
    """`python -m maskpack` as a user types it, killed with its workers alive."""
    path = place / "own"
    command = [sys.executable, "-m", "maskpack", *options("piggyback"), "-o", path.name, "-j", "1"]
    env = {"PYTHONPATH": f"{TESTS.parent}:{TESTS}", "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, cwd=place, env=env, stderr=subprocess.DEVNULL)
    while process.poll() is None and not (path / "last.safetensors").exists():
        time.sleep(0.01)
    process.kill()
    process.wait()
    again = subprocess.run(
        [*command, "--resume"], cwd=place, env=env, capture_output=True, text=True, check=False
    )
    assert (again.returncode, again.stdout) == (0, "own\n"), again.stderr
    assert_same_bytes(place, whole(place, "piggyback"), path)


# ---- SIGINT and SIGTERM


@pytest.mark.parametrize(
    ("number", "code", "variant"),
    [(signal.SIGINT, 130, "piggyback"), (signal.SIGTERM, 143, "fine-tune")],
)
def test_a_signal_saves_and_says_how_to_continue(
    place: Path, number: signal.Signals, code: int, variant: str
) -> None:
    path = place / f"stopped-{code}"
    running = start(place, *options(variant, "12"), "-o", path.name)
    running.wait_until((path / "last.safetensors").exists)
    running.send(number)
    done = running.wait()
    assert (done.code, done.out) == (code, "")
    said = f"stopped; continue with: maskpack train-mask --resume -o {path.name}\n"
    assert done.err.endswith(said)
    assert "Traceback" not in done.err
    again = ok(run(place, *said.partition("maskpack ")[2].split(), "-j", "0"))
    assert again.out == f"{path.name}\n"
    assert "continuing" in again.err
    assert_same_bytes(place, whole(place, variant, "12"), path)


# ---- who may continue what


def test_a_finished_run_is_left_alone(place: Path) -> None:
    path = whole(place, "piggyback")
    before = {file.name: file.stat().st_mtime_ns for file in path.iterdir() if file.name in FILES}
    done = ok(run(place, *options("piggyback"), "-o", path.name, "--resume"))
    assert done.out == f"{path.name}\n"
    assert "is finished already" in done.err
    assert before == {name: (path / name).stat().st_mtime_ns for name in before}


def test_a_run_is_not_overwritten(place: Path) -> None:
    path = whole(place, "piggyback")
    done = run_here(place, *options("piggyback"), "-o", path.name)
    assert (done.code, done.out) == (1, "")
    assert done.err == (
        f"error: {path.name} exists; --resume continues it, -o OTHER starts another run\n"
    )


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (("--epochs", "4"), "recipe.epochs=3, now recipe.epochs=4"),
        (("--seed", "1"), "seed=0, now seed=1"),
        (("--norms", "task"), "norms='frozen', now norms='task'"),
        (("--set", "threshold=0.01"), "set.threshold=0.005, now set.threshold=0.01"),
        (("--exclude", "stem*"), "exclude=[], now exclude=['stem*']"),
    ],
)
def test_a_run_is_not_continued_with_other_options(
    place: Path, change: tuple[str, ...], found: str
) -> None:
    path = whole(place, "piggyback")
    done = run_here(place, *options("piggyback"), *change, "-o", path.name, "--resume")
    assert (done.code, done.out) == (1, "")
    assert done.err == (
        f"error: {path.name} was started with {found}; resume with the same options, or choose "
        "another folder with -o\n"
    )


def test_only_one_process_trains_in_a_folder(place: Path) -> None:
    path = place / "shared"
    first = start(place, *options("piggyback", "100"), "-o", path.name)
    first.wait_until((path / "metrics.jsonl").exists)
    for arguments in (options("piggyback", "100"), ("train-mask",)):
        second = run(place, *arguments, "-o", path.name, "--resume")
        assert (second.code, second.out) == (1, "")
        assert second.err == (
            f"error: {path.name} is in use by process {first.pid}; wait for it or choose another "
            "folder with -o\n"
        )
    first.send(signal.SIGTERM)
    assert first.wait().code == 143


def test_resume_starts_what_was_not_begun(place: Path) -> None:
    path = place / "fresh"
    ok(run(place, *options("piggyback"), "-o", path.name, "--resume"))
    assert_same_bytes(place, whole(place, "piggyback"), path)


def test_resume_alone_needs_a_run(place: Path) -> None:
    done = run_here(place, "train-mask", "--resume", "-o", "nowhere")
    assert (done.code, done.out) == (1, "")
    assert done.err == "error: nowhere is not a run (no options.json in it)\n"


def test_resume_alone_takes_no_other_option(place: Path) -> None:
    path = whole(place, "piggyback")
    done = run_here(place, "train-mask", "--resume", "-o", path.name, "--epochs", "9")
    assert (done.code, done.out) == (2, "")
    assert "leave out --epochs, or give --backbone and --task too" in done.err


@pytest.mark.parametrize("name", ["options.json", "last.safetensors"])
@pytest.mark.parametrize("content", [b"", b"{}", b'{"backbone": "x", "include": 1}'])
def test_a_damaged_run_is_named(place: Path, name: str, content: bytes) -> None:
    path = place / "damaged"
    path.mkdir(exist_ok=True)
    for kept in ("options.json", "last.safetensors", "best.safetensors"):
        (path / kept).write_bytes((whole(place, "piggyback") / kept).read_bytes())
    (path / name).write_bytes(content)
    done = run_here(place, "train-mask", "--resume", "-o", path.name, "-j", "0")
    assert (done.code, done.out) == (1, "")
    assert done.err.splitlines()[-1].startswith(f"error: {path.name}/{name}"), done.err
    assert "Traceback" not in done.err


def test_a_state_of_another_network_is_refused(place: Path) -> None:
    path = place / "mixed"
    path.mkdir()
    other = whole(place, "fine-tune")
    (path / "options.json").write_bytes((whole(place, "piggyback") / "options.json").read_bytes())
    (path / "last.safetensors").write_bytes((other / "last.safetensors").read_bytes())
    done = run_here(place, "train-mask", "--resume", "-o", path.name, "-j", "0")
    assert (done.code, done.out) == (1, "")
    assert "mixed/last.safetensors" in done.err.splitlines()[-1]
    assert "Traceback" not in done.err
