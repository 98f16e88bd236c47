"""A suite trained from end to end: its cells, its folder, its tables."""

from __future__ import annotations

import dataclasses
import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tinynet
import tinysuite
from processes import run, start
from tinysuite import METHODS, TEXT

import maskpack
from maskpack.common.errors import MaskpackError, OptionError
from maskpack.evaluation.evaluate import evaluate
from maskpack.evaluation.task_row import Bases, open_exam, score_task
from maskpack.networks.serialize import unpack_task
from maskpack.packs import file as packfile
from maskpack.runs.folder import Run
from maskpack.runs.open import open_pack
from maskpack.suites.read import parse_suite
from maskpack.suites.train import Told
from maskpack.training.trainer import Stopped

CELLS = 11
LINE = "[methods.affine]\n"


def train(folder: Path, text: str = TEXT, output: str = "out", **more: Any) -> dict[str, Any]:
    tinysuite.write(folder, text)
    suite = parse_suite(text, "tiny.toml")
    options = {"data": folder / "pictures", "trust_code": True} | more
    return maskpack.run_suite(suite, folder / output, **options)


def rows(found: dict[str, Any], table: str, **where: object) -> list[dict[str, Any]]:
    listed = found["tables"][table]["rows"]
    return [row for row in listed if all(row[key] == value for key, value in where.items())]


def row(found: dict[str, Any], table: str, **where: object) -> dict[str, Any]:
    (only,) = rows(found, table, **where)
    return only


def moments(out: Path) -> dict[str, tuple[int, str]]:
    """When each run was finished, and how long it took."""
    return {
        str(path.parent.relative_to(out)): (
            path.stat().st_mtime_ns,
            path.with_name("timing.jsonl").read_text(),
        )
        for path in out.glob("runs/*/*/*/result.json")
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("suite")


@pytest.fixture(scope="module")
def found(folder: Path) -> dict[str, Any]:
    return train(folder)


# ---- tables


def test_the_tables_have_every_row_and_column(found: dict[str, Any]) -> None:
    for task in ("auto", "colour", "ab"):
        ours = row(found, "scores", task=task, figures="ours")
        assert all(isinstance(ours[method], float) for method in METHODS)
    assert [r["method"] for r in rows(found, "sizes")] == list(METHODS)
    shared = ("piggyback", "affine")
    pairs = {(r["method"], r["task"]) for r in rows(found, "similarity", figures="ours")}
    assert pairs == {(method, task) for method in shared for task in ("colour", "ab")}
    for method in shared:
        layers = rows(found, "zeros", method=method)
        assert len(layers) == 4
        assert all(0 <= layer["zeros"][task] <= 1 for layer in layers for task in ("colour", "ab"))
    seconds = row(found, "seconds", task="ab")
    assert all(seconds[method] > 0 for method in METHODS) and seconds["base"] is None
    assert row(found, "seconds", task="auto")["base"] > 0
    assert len(found["cells"]) == CELLS and found["failed"] == {}


def test_scores_are_those_of_the_runs(found: dict[str, Any], folder: Path) -> None:
    for cell in found["cells"]:
        assert Run(cell["run"]).result["test"] == cell["test"]
    ours = row(found, "scores", task="colour", figures="ours")
    result = Run(folder / "out/runs/colour/decoder/seed0").result
    assert ours["decoder"] == result["test"]["MSE"] and ours["metric"] == "MSE"
    base = Run(folder / "out/runs/auto/base/seed0").result["test"]["SSIM"]
    assert {row(found, "scores", task="auto", figures="ours")[m] for m in METHODS} == {base}


def test_published_figures_stand_beside_ours(found: dict[str, Any]) -> None:
    assert found["published"] == "Nobody 1999"
    published = row(found, "scores", task="colour", figures="published")
    assert (published["scratch"], published["decoder"], published["theirs"]) == (900, None, 700)
    whole = row(found, "scores", task="auto", figures="published")
    assert (whole["piggyback"], whole["theirs"], whole["affine"]) == (0.5, 0.5, None)
    assert not rows(found, "scores", task="ab", figures="published")
    assert row(found, "forgetting", task="auto", figures="published")["fine-tune"] == 0.1
    sizes = row(found, "sizes", method="piggyback")
    assert (sizes["published"], sizes["as"]) == (65.4, "56.4 + 1.8 x 5")
    similar = row(found, "similarity", method="piggyback", figures="published")
    assert similar["similarity"] == {"auto": 0.4, "colour": 0.5, "ab": None}


def test_tasks_with_masks_are_not_forgotten(found: dict[str, Any]) -> None:
    for task, after in (("auto", "colour"), ("colour", "ab")):
        before = row(found, "scores", task=task, figures="ours")
        again = row(found, "forgetting", task=task, figures="ours")
        assert again["after"] == after
        for method in ("decoder", "piggyback", "affine"):
            assert again[method] == before[method]
        assert again["scratch"] is None
        assert again["fine-tune"] != before["fine-tune"]


def test_a_sequence_is_scored_with_the_earlier_head(found: dict[str, Any], folder: Path) -> None:
    earlier, later = (
        open_pack(folder / "out/runs" / task / "fine-tune/seed0") for task in ("colour", "ab")
    )
    base = Bases().open(later, later.task())
    streams = {**later.task().streams, "head": earlier.task().streams["head"]}
    network = unpack_task(dataclasses.replace(later.task(), streams=streams), base)
    exam = open_exam(earlier, "colour")
    score = evaluate(network, exam.task, exam.pictures("test"), exam.preprocess, exam.augment)
    again = row(found, "forgetting", task="colour", figures="ours")
    assert again["fine-tune"] == score.values["MSE"]


def test_sizes_are_those_of_the_files(found: dict[str, Any], folder: Path) -> None:
    out = folder / "out"
    base = (out / "base.safetensors").stat().st_size
    for method in ("decoder", "piggyback", "affine"):
        sizes = row(found, "sizes", method=method)
        whole = base + (out / f"{method}.safetensors").stat().st_size
        assert round(sizes["total, coded"] * 1e6) == whole
        assert sizes["base"] * 1e6 == base and sizes["tasks"] == 2
        assert sizes["total"] >= sizes["total, coded"]
    scratch, overwritten = (row(found, "sizes", method=m) for m in ("scratch", "fine-tune"))
    assert scratch["tasks"] == 3 and scratch["base"] is None
    assert scratch["total"] > 2.9 * overwritten["total"]
    assert not (out / "scratch.safetensors").exists()


def test_packs_hold_the_tasks_on_the_base(found: dict[str, Any], folder: Path) -> None:
    out = folder / "out"
    pack = packfile.read(out / "piggyback.safetensors")
    assert set(pack.tasks) == {"colour", "ab"}
    assert pack.backbone.name == f"run:{out / 'base.safetensors'}"
    scored = score_task(pack, "ab", bases=Bases(trust_code=True))
    assert scored["SSIM"] == row(found, "scores", task="ab", figures="ours")["piggyback"]


def test_the_tables_are_kept(found: dict[str, Any], folder: Path) -> None:
    assert json.loads((folder / "out/tables.json").read_text()) == json.loads(json.dumps(found))
    text = (folder / "out/tables.md").read_text()
    titles = [table["title"] for table in found["tables"].values() if table["rows"]]
    assert text.startswith("# Tiny\n") and all(f"\n## {title}\n" in text for title in titles)
    assert "| colour | MSE | published |" in text


# ---- again, and more


def test_nothing_finished_is_trained_or_measured_twice(found: dict[str, Any], folder: Path) -> None:
    before = moments(folder / "out")
    assert len(before) == CELLS
    told: list[Told] = []
    nowhere = folder / "nowhere"  # the data are not needed any more either
    assert train(folder, data=nowhere, watch=told.append) == found
    assert moments(folder / "out") == before and told == []


def test_a_suite_that_has_grown_trains_what_is_new(tmp_path: Path) -> None:
    small = TEXT.replace("[methods.decoder]\n", "").replace(LINE, "")
    first = train(tmp_path, small, methods=["piggyback"], tasks=["colour"])
    assert [cell["method"] for cell in first["cells"]] == ["base", "piggyback"]
    before = moments(tmp_path / "out")
    grown = small.replace("[methods.piggyback]", "[methods.piggyback]\n[methods.ksm]\nlr = 1e-3")
    told: list[Told] = []
    second = train(tmp_path, grown, methods=["piggyback", "ksm"], seeds=[0, 1], watch=told.append)
    trained = {(t.cell.task, t.cell.label, t.cell.seed) for t in told if t.kind == "started"}
    assert len(trained) == 2 * 2 * 2 - 1 and ("colour", "piggyback", 0) not in trained
    assert moments(tmp_path / "out").items() >= before.items()
    assert row(second, "scores", task="colour", figures="spread")["ksm"] > 0
    seeds = [
        c["test"]["MSE"] for c in second["cells"] if (c["task"], c["method"]) == ("colour", "ksm")
    ]
    assert row(second, "scores", task="colour", figures="ours")["ksm"] == sum(seeds) / 2
    assert (tmp_path / "out/ksm-seed1.safetensors").is_file()
    with pytest.raises(MaskpackError, match=r"holds a suite with methods\.ksm"):
        train(tmp_path, small)


def _after(kind: str, count: int) -> tuple[Callable[[Told], None], Callable[[], None]]:
    """A watch and a tick that stop a suite once something was told so often."""
    seen = 0

    def watch(told: Told) -> None:
        nonlocal seen
        seen += told.kind == kind

    def tick() -> None:
        if seen >= count:
            raise Stopped

    return watch, tick


def test_stopped_anywhere_it_gives_the_same_in_the_end(
    found: dict[str, Any], tmp_path: Path
) -> None:
    for moment in (("step", 4), ("finished", 2), ("step", 2), ("finished", 3)):
        watch, tick = _after(*moment)
        with pytest.raises(Stopped):
            train(tmp_path, watch=watch, tick=tick)
    before = moments(tmp_path / "out")
    assert 4 < len(before) < CELLS
    again = train(tmp_path)
    assert again["tables"]["scores"] == found["tables"]["scores"]
    assert again["tables"]["forgetting"] == found["tables"]["forgetting"]
    assert moments(tmp_path / "out").items() >= before.items()


def test_a_folder_may_be_moved(tmp_path: Path) -> None:
    watch, tick = _after("finished", 2)
    with pytest.raises(Stopped):
        train(tmp_path, methods=["decoder"], watch=watch, tick=tick)
    watch, tick = _after("step", 1)
    with pytest.raises(Stopped):  # within a run, which then names its base by the old place
        train(tmp_path, methods=["decoder"], watch=watch, tick=tick)
    (tmp_path / "out").rename(tmp_path / "moved")
    again = train(tmp_path, output="moved", methods=["decoder"])
    assert again["failed"] == {} and len(again["cells"]) == 3
    scored = maskpack.read(tmp_path / "moved/decoder.safetensors")
    assert scored.backbone.name == f"run:{tmp_path / 'moved/base.safetensors'}"


def test_what_fails_takes_only_what_starts_from_it(tmp_path: Path) -> None:
    fails = "sequence = true\n[tasks.colour.methods.fine-tune]\nlr = 1e30"
    text = TEXT.replace('metric = "MSE"', 'metric = "MSE"\nmethods.fine-tune = { lr = 1e30 }')
    assert fails not in text
    found = train(tmp_path, text, methods=["fine-tune", "piggyback"])
    assert set(found["failed"]) == {"colour, fine-tune, seed 0", "ab, fine-tune, seed 0"}
    reasons = list(found["failed"].values())
    assert "loss is" in reasons[0] and "needs colour, fine-tune, seed 0" in reasons[1]
    ours = row(found, "scores", task="ab", figures="ours")
    assert ours["fine-tune"] is None and ours["piggyback"] > 0


def test_a_metric_that_is_not_measured_is_one_line(tmp_path: Path) -> None:
    text = TEXT.replace('metric = "MSE"', 'metric = "MES"')
    told: list[Told] = []
    match = r"^tiny.toml: tasks.colour: metric = 'MES', but it measures MSE, SSIM, loss$"
    with pytest.raises(OptionError, match=match):
        train(tmp_path, text, methods=["decoder"], tasks=["colour"], watch=told.append)
    assert not told and not (tmp_path / "out/runs").exists()
    first = train(tmp_path, methods=["decoder"], tasks=["colour"])
    other = train(tmp_path, TEXT.replace('"MSE"', '"SSIM"'), methods=["decoder"], tasks=["colour"])
    ours = [row(f, "scores", task="colour", figures="ours")["decoder"] for f in (first, other)]
    assert ours[0] > 1 > ours[1] > 0
    with pytest.raises(OptionError, match=match):  # nor where all is trained already
        train(tmp_path, text, methods=["decoder"], tasks=["colour"])


def test_classification_on_a_backbone_without_a_base(tmp_path: Path) -> None:
    for name in ("a", "b"):
        tinynet.write_pictures(tmp_path / "pictures" / name)
    text = """
    backbone = "tinynet:build"
    seeds = [0, 1]
    [options]
    epochs = 1
    [methods.piggyback]
    [methods.fine-tune]
    [tasks.a]
    data = "a"
    [tasks.b]
    data = "b"
    [published.scores]
    a = { piggyback = 0.5 }
    b = { piggyback = 0.7 }
    """
    found = maskpack.run_suite(
        parse_suite(text, "two.toml"),
        tmp_path / "out",
        data=tmp_path / "pictures",
        trust_code=True,
    )
    assert len(found["cells"]) == 8 and found["failed"] == {}
    average = row(found, "scores", task="average", figures="ours")
    shares = [row(found, "scores", task=task, figures="ours")["piggyback"] for task in "ab"]
    assert average["piggyback"] == pytest.approx(sum(shares) / 2)
    assert row(found, "scores", task="average", figures="published")["piggyback"] == 0.6
    again = row(found, "forgetting", task="a", figures="ours")
    assert again["piggyback"] == shares[0] and again["fine-tune"] is None
    fine_tuned, masks = (row(found, "sizes", method=m) for m in ("fine-tune", "piggyback"))
    assert fine_tuned["base"] is None and fine_tuned["tasks"] == 2 == masks["tasks"]
    assert masks["base"] * 1e6 == packfile.read(
        tmp_path / "out/piggyback.safetensors"
    ).backbone.size_bytes + 4 * (12 * 10 + 10)


# ---- the command


OPTIONS = ("suite", "tiny.toml", "--data", "pictures", "--trust-code", "-o", "out")


@pytest.mark.slow
def test_killed_at_any_moment_it_goes_on(found: dict[str, Any], tmp_path: Path) -> None:
    tinysuite.write(tmp_path)
    out = tmp_path / "out"
    for number, cells in ((signal.SIGTERM, 2), (signal.SIGKILL, 5), (signal.SIGINT, 8)):
        before = moments(out)
        going = start(tmp_path, *OPTIONS)
        going.wait_until(lambda cells=cells: len(moments(out)) >= cells)
        going.send(number)
        done = going.wait()
        if number == signal.SIGKILL:
            assert done.code == -number
        else:
            assert done.code == 128 + number
            assert "stopped; continue with: maskpack suite tiny.toml --data pictures" in done.err
        assert moments(out).items() >= before.items()
        assert cells <= len(moments(out)) < CELLS
    done = run(tmp_path, *OPTIONS, "--json")
    again = json.loads(done.out)
    assert again["tables"]["scores"] == found["tables"]["scores"]
    assert f"[{CELLS}/{CELLS}] ab, affine, seed 0: SSIM" in done.err


def test_a_suite_in_use_is_refused(tmp_path: Path) -> None:
    tinysuite.write(tmp_path)
    going = start(tmp_path, *OPTIONS)
    going.wait_until(lambda: bool(moments(tmp_path / "out")))
    done = run(tmp_path, *OPTIONS)
    going.send(signal.SIGTERM)
    going.wait()
    assert done.code == 1
    assert done.err == (
        f"error: out is in use by process {going.pid}; wait for it or choose another folder with "
        "-o\n"
    )


@pytest.mark.slow
def test_several_at_once_give_the_same(found: dict[str, Any], tmp_path: Path) -> None:
    tinysuite.write(tmp_path)
    out = tmp_path / "out"
    options = (*OPTIONS, "--methods", "piggyback,fine-tune", "--jobs", "2")
    going = start(tmp_path, *options)
    going.wait_until(lambda: len(moments(out)) >= 2, timeout=300)  # two imports of torch
    going.send(signal.SIGINT)
    done = going.wait(300)
    assert done.code == 130 and "stopped; continue with" in done.err
    before = moments(out)
    assert 2 <= len(before) <= 5
    done = start(tmp_path, *options, "--json").wait(600)
    again = json.loads(done.out)
    for task in ("auto", "colour", "ab"):
        ours, alone = (row(f, "scores", task=task, figures="ours") for f in (again, found))
        assert all(ours[method] == alone[method] for method in ("piggyback", "fine-tune"))
    assert moments(out).items() >= before.items()
