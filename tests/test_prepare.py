"""What all preparations share: whole or not at all, resumed, never redone."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from originals import ORIGINALS, cub, flowers, picture, sketches, written
from PIL import Image
from shell import ROOT

from maskpack.common.errors import DataError, UnknownName
from maskpack.datasets.prepare import PREPARE, Prepared, finished, half_done, prepare
from maskpack.datasets.prepare import folders as writing
from maskpack.tasks import open_task

COUNTS = {  # train, test
    "cubs": (4, 2),
    "stanford_cars": (4, 2),
    "flowers": (6, 2),
    "sketch": (8, 2),
    "wikiart": (4, 2),
}
LOCKED = """
import fcntl, sys
file = open(sys.argv[1], "a")
fcntl.lockf(file, fcntl.LOCK_EX)
print("held", flush=True)
sys.stdin.read()
"""


def refused(name: str, source: Path, target: Path, match: str) -> None:
    with pytest.raises(DataError, match=match) as caught:
        prepare(name, source, target)
    assert "\n" not in str(caught.value)


def test_every_preparation_is_tried_here() -> None:
    assert set(PREPARE) == set(ORIGINALS) == set(COUNTS)


@pytest.mark.parametrize("name", PREPARE)
def test_an_original_becomes_a_task(name: str, tmp_path: Path) -> None:
    source, target = ORIGINALS[name](tmp_path / "from"), tmp_path / "to"
    heard: list[tuple[int, int]] = []
    done = prepare(name, source, target, lambda *count: heard.append(count))
    train, test = COUNTS[name]
    assert done == Prepared(name, target, {"train": train, "test": test}, 2)
    assert heard == [(number, train + test) for number in range(train + test + 1)]
    assert not half_done(target) and not (target / writing.WORK).exists()
    task = open_task(name, target)
    assert task.outputs() == 2
    assert [len(task.dataset(split)) for split in ("train", "test")] == [train, test]
    assert sorted(set(task.dataset("test").labels)) == [0, 1]
    assert task.dataset("train")[0][0].mode == "RGB"


@pytest.mark.parametrize("name", PREPARE)
def test_a_finished_one_is_not_redone(name: str, tmp_path: Path) -> None:
    source, target = ORIGINALS[name](tmp_path / "from"), tmp_path / "to"
    done = prepare(name, source, target)
    before = {path: (target / path).stat().st_mtime_ns for path in written(target)}
    shutil.rmtree(source)
    assert prepare(name, source, target) == finished(target) == done
    assert {path: (target / path).stat().st_mtime_ns for path in written(target)} == before


@pytest.mark.parametrize("after", [0, 1, 4])
def test_a_stopped_one_goes_on(after: int, tmp_path: Path) -> None:
    class Stop(BaseException):
        pass

    def stop(done: int, total: int) -> None:
        if done == after:
            raise Stop

    source, target = flowers(tmp_path / "from"), tmp_path / "to"
    with pytest.raises(Stop):
        prepare("flowers", source, target, stop)
    assert half_done(target) and not written(target)
    work = target / writing.WORK
    kept = {path: path.stat().st_mtime_ns for path in work.rglob("*.jpg")}
    assert len(kept) >= after
    prepare("flowers", source, target)
    whole = prepare("flowers", source, tmp_path / "at once")
    assert written(target) == written(whole.folder)
    for path, time in kept.items():
        assert (target / path.relative_to(work)).stat().st_mtime_ns == time


def test_a_killed_one_goes_on(tmp_path: Path) -> None:
    source, target = flowers(tmp_path / "from"), tmp_path / "to"
    code = (
        "import os, sys; from pathlib import Path; from maskpack.datasets.prepare import prepare; "
        "prepare('flowers', Path(sys.argv[1]), Path(sys.argv[2]), "
        "lambda done, total: done == 3 and os.kill(os.getpid(), 9))"
    )
    command = [sys.executable, "-c", code, str(source), str(target)]
    killed = subprocess.run(command, env={"PYTHONPATH": str(ROOT)}, check=False)
    assert killed.returncode == -9 and half_done(target) and not written(target)
    assert prepare("flowers", source, target).counts == {"train": 6, "test": 2}
    assert not half_done(target)


def test_a_process_killed_between_the_last_steps_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target = flowers(tmp_path / "from"), tmp_path / "to"

    def killed(path: Path, text: str) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(writing, "write_text", killed)
        with pytest.raises(KeyboardInterrupt):
            prepare("flowers", source, target)
    (target / "train").rename(target / writing.WORK / "train")  # killed before train was moved
    assert half_done(target)
    assert prepare("flowers", source, target).counts == {"train": 6, "test": 2}
    assert (target / "prepared.json").is_file() and not half_done(target)


def test_a_picture_that_is_half_written_is_not_kept(tmp_path: Path) -> None:
    source, target = flowers(tmp_path / "from"), tmp_path / "to"
    (source / "jpg/image_00008.jpg").write_bytes(b"")
    refused("flowers", source, target, r"image_00008\.jpg: cannot be read as an image")
    work = target / writing.WORK / "train/001/image_00001.jpg"
    work.write_bytes(b"")  # a machine that lost power
    picture(source / "jpg/image_00008.jpg")
    prepare("flowers", source, target)
    with Image.open(target / "train/001/image_00001.jpg") as image:
        image.load()


def test_half_of_another_original_is_thrown_away(tmp_path: Path) -> None:
    target = tmp_path / "to"
    source = sketches(tmp_path / "sketches")
    (source / "png/airplane/6.png").write_bytes(b"")
    refused("sketch", source, target, "cannot be read as an image")
    prepare("flowers", flowers(tmp_path / "flowers"), target)
    assert all(path.endswith(".jpg") for path in written(target) if path != "prepared.json")


@pytest.mark.parametrize("cut", [0, 100, -40])
def test_a_damaged_picture_is_found_before_training(cut: int, tmp_path: Path) -> None:
    source = flowers(tmp_path / "from")
    path = source / "jpg/image_00003.jpg"
    picture(path, size=(200, 160))
    path.write_bytes(path.read_bytes()[:cut])
    refused("flowers", source, tmp_path / "to", r"image_00003\.jpg: cannot be read .*unpack it")


def test_missing_pictures_show_before_anything_is_written(tmp_path: Path) -> None:
    source, target = cub(tmp_path / "from"), tmp_path / "to"
    gone = next((source / "CUB_200_2011/images").rglob("*.jpg"))
    gone.unlink()
    refused("cubs", source, target, f"{gone.name}: no such file, but it is listed; the copy is")
    assert not target.exists()


def test_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    source, target = flowers(tmp_path / "from"), tmp_path / "to"
    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        refused("flowers", source, target, r"jpg: cannot be written: No space left on device")
    assert prepare("flowers", source, target).classes == 2  # some room was made


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes anywhere")
def test_target_without_permission(tmp_path: Path) -> None:
    source, target = flowers(tmp_path / "from"), tmp_path / "to"
    target.mkdir(mode=0o500)
    refused("flowers", source, target, "to: cannot be written: Permission denied")


def test_target_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "to").write_text("")
    refused("flowers", flowers(tmp_path / "from"), tmp_path / "to", "to: cannot be written")


def test_target_that_holds_something_else(tmp_path: Path) -> None:
    source, target = flowers(tmp_path / "from"), tmp_path / "to"
    picture(target / "train/mine/1.jpg")
    refused("flowers", source, target, "has train/ that was not prepared here; remove it")
    assert written(target) == ["train/mine/1.jpg"] and not half_done(target)
    prepare("flowers", source, tmp_path / "other")
    refused("cubs", source, tmp_path / "other", "holds 'flowers' already; choose another folder")


def test_damaged_marker(tmp_path: Path) -> None:
    source, target = flowers(tmp_path / "from"), tmp_path / "to"
    prepare("flowers", source, target)
    (target / "prepared.json").write_text('{"name": "flowers"}')
    refused("flowers", source, target, r"prepared\.json: cannot be read .*prepare it again")


def test_two_at_once(tmp_path: Path) -> None:
    source, target = flowers(tmp_path / "from"), tmp_path / "to"
    work = target / writing.WORK
    work.mkdir(parents=True)
    command = [sys.executable, "-c", LOCKED, str(work / "lock")]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdin and other.stdout and other.stdout.readline() == "held\n"
        refused("flowers", source, target, "another process is preparing it; wait")
        other.stdin.close()  # and the lock goes with the process
    assert prepare("flowers", source, target).classes == 2


def test_source_that_is_none(tmp_path: Path) -> None:
    target = tmp_path / "to"
    with pytest.raises(UnknownName, match="did you mean 'flowers'"):
        prepare("flower", tmp_path, target)
    refused("flowers", tmp_path / "no", target, "no: no such folder; expected the unpacked")
    (tmp_path / "102flowers.tgz").write_bytes(b"")
    refused("flowers", tmp_path / "102flowers.tgz", target, "is a file; unpack it and give")
    ready = prepare("flowers", flowers(tmp_path / "from"), target).folder
    refused("flowers", ready, tmp_path / "to 2", "needs no preparing; give it to --task flowers")


@pytest.mark.parametrize("name", PREPARE)
def test_folder_of_something_else(name: str, tmp_path: Path) -> None:
    (tmp_path / "from").mkdir()
    (tmp_path / "from/cat.jpg").touch()
    refused(name, tmp_path / "from", tmp_path / "to", r"found cat\.jpg; expected|has no artist_tr")


def test_listing_needs_no_torch(tmp_path: Path) -> None:
    code = (
        "import sys, maskpack.datasets.prepare, maskpack.tasks; "
        "print([m for m in ('torch', 'PIL', 'scipy') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": str(ROOT)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "[]"
