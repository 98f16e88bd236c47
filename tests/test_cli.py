"""The commands as a user types them: whole output, exit codes, and one line for what is wrong."""
# ruff: noqa: E501 - a message, or a row of a table, is read as one line

from __future__ import annotations

import csv
import json
import os
import re
import select
import subprocess
import sys
from pathlib import Path

import pytest
from processes import TESTS, Done, run, run_here, start
from shell import ROOT
from tinynet import write_pictures

import maskpack
from maskpack.packs import file as packfile
from maskpack.packs.file import read

GOLDEN = TESTS / "data" / "format1" / "pack.safetensors"
TRAIN = (
    *("train-mask", "--backbone", "tinynet:build", "--data", "data"),
    *("--epochs", "1", "-b", "8", "--lr", "0.01", "-j", "0"),
)
EVAL = ("eval", "--trust-code", "-j", "0")
COMMANDS = ("train-mask", "pack", "eval", "inspect", "report", "suite", "decathlon", "demo", "env")
COMMANDS += ("data",)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with pictures, two runs (birds by piggyback, cars by ksm) and their pack."""
    folder = tmp_path_factory.mktemp("cli")
    write_pictures(folder / "data")
    write_pictures(folder / "others", classes=("a", "b", "c"))
    for name, method in (("birds", "piggyback"), ("cars", "ksm")):
        done = run(folder, *TRAIN, "--task", name, "--method", method, "-o", f"runs/{name}")
        assert (done.code, done.out) == (0, f"runs/{name}\n"), done.err
    done = run(folder, "pack", "runs/birds", "runs/cars", "-o", "zoo.safetensors")
    assert (done.code, done.out) == (0, "zoo.safetensors\n"), done.err
    size = (folder / "zoo.safetensors").stat().st_size
    assert done.err == f"2 tasks, {size:,} bytes\n"
    return folder


def ok(done: Done) -> Done:
    assert done.code == 0, done.err
    return done


def failed(done: Done, code: int = 1) -> str:
    """The one line that says what was wrong."""
    assert (done.code, done.out) == (code, ""), done
    line = done.err.splitlines()[-1]
    assert line.startswith("error: "), done.err
    assert "Traceback" not in done.err
    return line.removeprefix("error: ")


def numbers(text: str) -> str:
    """Text with N for each number: scores may differ in their last digits between machines."""
    return re.sub(r"\d[\d,.e-]*(?=\b)", "N", text)


def shell(line: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """A line of bash in which `maskpack` is this one."""
    command = f'maskpack() {{ "{sys.executable}" -m maskpack "$@"; }}; {line}'
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(
        ["bash", "-c", command], cwd=folder, env=env, capture_output=True, text=True, check=False
    )


# ---- train-mask


def test_training_says_what_it_does_on_stderr_and_its_folder_on_stdout(place: Path) -> None:
    done = ok(run(place, *TRAIN, "--task", "birds", "-o", "runs/again"))
    assert done.out == "runs/again\n"
    assert numbers(done.err) == (
        "a mask bit can flip after about N optimiser steps; N are planned\n"
        "epoch N/N: loss N, accuracy N, val loss N, val accuracy N, ones N%, N s, best so far\n"
        "test accuracy N\n"
    )


def test_the_result_of_training_as_json(place: Path) -> None:
    done = ok(run(place, *TRAIN, "--task", "birds", "-o", "runs/json", "--json"))
    found = json.loads(done.out)
    assert found.keys() == {"run", "seconds", "best", "test", "metric"}
    assert found["run"] == "runs/json"
    assert found["test"].keys() == {"accuracy", "loss", "count"}
    kept = json.loads((place / "runs" / "json" / "result.json").read_text())
    assert kept == {key: found[key] for key in ("best", "test", "metric")}
    assert kept["metric"] == "accuracy"


def test_without_output_the_run_is_named_after_task_and_method(place: Path) -> None:
    done = ok(run(place, *TRAIN, "--task", "bees", "--name", "b", "--method", "classifier-only"))
    assert done.out == "runs/b-classifier-only\n"


def test_quiet_leaves_warnings_only(place: Path) -> None:
    quiet = run(place, "-q", *TRAIN, "--task", "birds", "-o", "runs/quiet")
    assert (ok(quiet).out, quiet.err) == ("runs/quiet\n", "")
    done = ok(run(place, "-q", *TRAIN, "--lr", "0", "--task", "birds", "-o", "runs/still"))
    assert done.err == (
        "warning: the mask is all ones in 3 of 3 layers: stem.weight, depthwise.weight, "
        "pointwise.weight\n"
    )


def test_too_few_steps_are_warned_of(place: Path) -> None:
    done = ok(run(place, *TRAIN, "--lr", "1e-4", "--task", "birds", "-o", "runs/short"))
    assert "warning: with this schedule no bit can flip; train longer or raise --lr" in done.err


def test_a_dry_run_tells_the_bytes_of_the_real_one(place: Path) -> None:
    done = ok(run(place, *TRAIN, "--task", "birds", "--dry-run", "-o", "runs/dry"))
    head = 4 * (3 * 12 + 3)
    header = int(done.out.splitlines()[-2].split("\t")[7])
    assert 1000 < header < 4000
    total = 48 + head + header
    assert done.out == (
        "# masked weights\n"
        "layer\tkind\tshape\tbits\tmask\n"
        "stem.weight\tconv\t8x3x3x3\t216\t8x3x3x3\n"
        "depthwise.weight\tdepthwise conv\t8x1x3x3\t72\t8x1x3x3\n"
        "pointwise.weight\tconv\t12x8x1x1\t96\t12x8x1x1\n"
        "\n"
        "# expected bytes in a pack\n"
        "task\tmethod\tnorms mode\tmasks\tcoefficients\tnorms\thead\theader\ttotal\tof fine-tuned\n"
        f"birds\tpiggyback\tfrozen\t48\t0\t0\t{head}\t{header}\t{total}\t{total / 2012:.6g}\n"
        "\n"
    )
    assert not (place / "runs" / "dry").exists()


def test_a_dry_run_as_json_equals_the_packed_sizes(place: Path) -> None:
    expected = json.loads(ok(run_here(place, "inspect", "zoo.safetensors", "--json")).out)["tasks"]
    for row, method in zip(expected, ("piggyback", "ksm"), strict=True):
        arguments = ("--task", row["task"], "--method", method, "--dry-run", "--json")
        plan = json.loads(ok(run(place, *TRAIN, *arguments)).out)
        for part in ("masks", "norms", "head"):
            assert plan["size"][part] == row[part], part
        assert sum(-(-layer["bits"] // 8) for layer in plan["layers"]) == row["masks"]
    assert plan["note"] == "plus the scale of every mask bit that training turns to 0"


def test_include_and_exclude_choose_the_weights(place: Path) -> None:
    def masked(*arguments: str) -> list[str]:
        done = ok(run_here(place, *TRAIN, "--task", "birds", "--dry-run", "--json", *arguments))
        return [layer["layer"] for layer in json.loads(done.out)["layers"]]

    assert masked("--exclude", "stem*") == ["depthwise.weight", "pointwise.weight"]
    assert masked("--include", "stem*") == ["stem.weight"]
    assert masked("--include", "default", "--include", "norm1.*") == [
        "stem.weight", "norm1.weight", "norm1.bias", "depthwise.weight", "pointwise.weight",
    ]  # fmt: skip


def test_on_a_terminal_there_is_a_bar(place: Path) -> None:
    leader, follower = os.openpty()
    running = start(place, *TRAIN, "--task", "birds", "-o", "runs/tty", stderr=os.ttyname(follower))
    shown = b""
    while running.process.is_alive() or select.select([leader], [], [], 0)[0]:
        if select.select([leader], [], [], 0.05)[0]:
            shown += os.read(leader, 10_000)
    os.close(leader)
    os.close(follower)
    assert (running.process.exitcode, running.out.read_text()) == (0, "runs/tty\n")
    assert b"images/s" in shown
    assert b"test accuracy" in shown
    assert b"Traceback" not in shown


# ---- what is wrong, in one line


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("--method", "pigyback"), "unknown method 'pigyback'; did you mean 'piggyback'?; known: affine,"),
        (("--set", "tau=1"), "unknown option of piggyback 'tau'; known: gradient_scaling, init,"),
        (("--set", "threshold"), "--set 'threshold': expected key=value"),
        (("--set", "threshold=low"), "threshold='low': expected a number"),
        (("--set", "values=many"), "values='many': expected one of binary, ternary"),
        (("--norms", "tsak"), "unknown norms mode 'tsak'; did you mean 'task'?; known: frozen, scale, stats"),
        (("--backbone", "resnet5"), "unknown backbone 'resnet5'; did you mean 'resnet50'?; known: "),
        (("--backbone", "tinynet:bild"), "unknown function of tinynet 'bild'; did you mean 'build'?"),
        (("--backbone", "gone:build"), "backbone 'gone:build': no module 'gone' in the current folder"),
        (
            ("--backbone", "./net.pth"),
            "backbone './net.pth' is a path, not a name; for a file of weights: --backbone NAME "
            "--weights ./net.pth; for a run or pack: --backbone run:./net.pth",
        ),
        (("--backbone", "runs"), "backbone 'runs' is a path, not a name; for a file of weights: "),
        (("--weights", "gone.pth"), "gone.pth"),
        (("--head", "stem9"), "unknown head 'stem9'; did you mean 'stem'?; known: fc,"),
        (("--data", "gone"), "task 'birds': no folder 'gone'"),
        (("--include", "gone*"), "--include 'gone*' matches no parameter; some: stem.weight,"),
        (("--exclude", "*"), "no weight of the network is masked; see --include and --exclude"),
        (("--epochs", "0"), "--epochs 0: expected 1 or more"),
        (("--batch-size", "0"), "--batch-size 0: expected 1 or more"),
        (("--lr", "nan"), "--lr nan: expected 0 or more"),
        (("--lr", "-1"), "--lr -1.0: expected 0 or more"),
        (("--opt", "sdg"), "--opt 'sdg': expected one of adam, adamw, sgd"),
        (("--sched", "linear"), "--sched 'linear': expected one of step, multistep, cosine"),
        (("--select", "best"), "--select 'best': expected one of val, test, last"),
        (("--device", "tpu"), "--device 'tpu': expected auto, cpu, cuda or mps"),
        (("--seed", "-1"), "--seed -1: expected 0 to 2**63 - 1"),
        (("--seed", "9" * 30), "--seed 999999999999999999999999999999: expected 0 to 2**63 - 1"),
        (("--workers", "-1"), "--workers -1: expected 0 or more"),
        (("--val-fraction", "1"), "--val-fraction 1.0: expected a share of 1"),
        (("--name", "a/b"), "task name 'a/b': expected printable characters without '/' and '='"),
        (("--img-size", "4"), "--img-size 4: expected at least 8"),
        (("--crop-pct", "0"), "crop_pct is 0.0; expected a share, 0.01 to 1"),
        (("--std", "0", "1", "1"), "std is (0.0, 1.0, 1.0); expected numbers above 0"),
        (("--interpolation", "cubic"), "interpolation is 'cubic'; known: bicubic, bilinear,"),
        (("--hflip", "2"), "hflip is 2.0; a probability lies between 0 and 1"),
        (("--aa", "auto"), "auto_augment is 'auto'; known: randaugment, trivialaugment, augmix"),
        (("-o", "data/train/dark/0.png"), "data/train/dark/0.png: cannot be used: File exists"),
    ],
)  # fmt: skip
def test_a_slip_is_named_and_nothing_is_written(
    place: Path, arguments: tuple[str, ...], line: str
) -> None:
    done = run_here(place, *TRAIN, "--task", "birds", "-o", "runs/slip", *arguments)
    assert failed(done).startswith(line), done.err
    assert not (place / "runs" / "slip").exists()


def test_an_unknown_task_lists_the_known_ones(place: Path) -> None:
    line = failed(run(place, "train-mask", "--backbone", "tinynet:build", "--task", "fashoin"))
    assert line.startswith(
        "unknown task 'fashoin'; did you mean 'fashion'?; known: autoencode, cifar10, "
    )
    assert line.endswith("voc-segmentation, wikiart; or give --data DIR")


def test_a_loss_that_is_no_number_stops_and_leaves_nothing_in_the_way(place: Path) -> None:
    fine = (*TRAIN, "--task", "birds", "--method", "fine-tune", "-o", "runs/nan")
    line = failed(run(place, *fine, "--lr", "1e30"))
    assert re.match(r"loss is (nan|inf) at epoch 1, step \d; a lower --lr may help", line)
    line = failed(run(place, *fine, "--lr", "1e30", "-b", "64"))
    assert re.match(r"validation loss is (nan|inf) after epoch 1; a lower --lr may help", line)
    assert ok(run(place, *fine)).out == "runs/nan\n", "no epoch was lost by starting anew"


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ((), "Error: Invalid value: --backbone and --task missing (or --resume -o RUN)"),
        (("--backbone", "x"), "Error: Invalid value: --task missing (or --resume -o RUN)"),
        (("--resume",), "Error: Invalid value: --backbone and --task missing (or --resume -o RUN)"),
        (("--epochs", "x"), "Error: Invalid value for '--epochs': "),
        (("--epoch", "3"), "Error: No such option: --epoch "),
    ],
)
def test_wrong_usage_ends_with_2(place: Path, arguments: tuple[str, ...], line: str) -> None:
    done = run_here(place, "train-mask", *arguments)
    assert (done.code, done.out) == (2, "")
    assert done.err.splitlines()[-1].startswith(line)


def test_verbose_shows_where_an_error_came_from(place: Path) -> None:
    done = run(place, "-v", "inspect", "gone")
    assert done.code == 1
    assert "Traceback" in done.err
    assert "PackFormatError: gone: cannot be read" in done.err
    assert "Traceback" in run(place, "inspect", "gone", "--verbose").err


# ---- pack


def test_packing_is_the_same_whatever_the_order(place: Path) -> None:
    ok(run(place, "pack", "runs/cars", "runs/birds", "-o", "turned.safetensors"))
    ok(run(place, "pack", "zoo.safetensors", "-o", "copied.safetensors"))
    expected = (place / "zoo.safetensors").read_bytes()
    assert (place / "turned.safetensors").read_bytes() == expected
    assert (place / "copied.safetensors").read_bytes() == expected


def test_a_pack_is_not_overwritten_unasked(place: Path) -> None:
    path = place / "kept.safetensors"
    ok(run(place, "pack", "runs/birds", "-o", path.name))
    before = path.read_bytes()
    assert failed(run_here(place, "pack", "runs/cars", "-o", path.name)) == (
        f"{path.name} exists; --append adds to it, --force replaces it"
    )
    assert path.read_bytes() == before
    ok(run(place, "pack", "runs/cars", "-o", path.name, "--append"))
    assert path.read_bytes() == (place / "zoo.safetensors").read_bytes()
    ok(run(place, "pack", "runs/birds", "-o", path.name, "--append"))
    assert path.read_bytes() == (place / "zoo.safetensors").read_bytes(), "named again: replaced"
    ok(run(place, "pack", "runs/birds", "-o", path.name, "--force"))
    assert path.read_bytes() == before


def test_tasks_can_be_renamed(place: Path) -> None:
    done = ok(run(place, "pack", "a=runs/birds", "\u00fc b=runs/birds", "-o", "named", "--json"))
    assert [row["task"] for row in json.loads(done.out)["tasks"]] == ["a", "\u00fc b"]


def test_a_path_with_an_equals_sign_is_a_path(place: Path) -> None:
    (place / "lr=1").symlink_to("runs/birds")
    done = ok(run(place, "pack", "lr=1", "x=lr=1", "-o", "equals", "--json"))
    assert [row["task"] for row in json.loads(done.out)["tasks"]] == ["birds", "x"]


def test_the_same_name_twice_is_refused(place: Path) -> None:
    assert failed(run_here(place, "pack", "runs/birds", "zoo.safetensors", "-o", "twice")) == (
        "task 'birds' is in runs/birds and in zoo.safetensors; name one anew: NEW=zoo.safetensors"
    )
    assert failed(run_here(place, "pack", "x=zoo.safetensors", "-o", "twice")) == (
        "zoo.safetensors: say which task; it has birds, cars"
    )


def test_two_backbones_do_not_share_a_pack(place: Path) -> None:
    other = (*TRAIN, "--task", "birds", "--weights", "none", "--seed", "1", "-o", "runs/other")
    ok(run(place, *other))
    line = failed(run_here(place, "pack", "runs/birds", "x=runs/other", "-o", "two"))
    assert re.fullmatch(
        r"runs/other is for tinynet:build/none#1 \w{12}, runs/birds for tinynet:build \w{12}; "
        "one pack holds tasks of one backbone",
        line,
    )
    assert not (place / "two").exists()


@pytest.mark.parametrize(
    ("source", "line"),
    [
        ("gone", "gone: no such file; expected a pack or a run's folder"),
        ("data", "data is not a run (no options.json in it)"),
        ("data/train/dark/0.png", "data/train/dark/0.png is not a pack or is damaged: "),
        ("a=b=runs/birds", "b=runs/birds: no such file; expected a pack or a run's folder"),
        ("=runs/birds", "task name '': expected printable characters"),
        ("a/b=runs/birds", "task name 'a/b': expected printable characters"),
    ],
)
def test_what_cannot_be_packed_is_named(place: Path, source: str, line: str) -> None:
    assert failed(run_here(place, "pack", source, "-o", "no")).startswith(line)
    assert not (place / "no").exists()


HALF = ("--head-dtype", "fp16", "--norm-dtype", "fp16")


def test_fp16_keeps_heads_and_norms_in_two_bytes_and_says_what_it_did(place: Path) -> None:
    done = ok(run(place, "pack", "runs/birds", "runs/cars", "-o", "half", *HALF, "--json"))
    assert numbers(done.err) == (
        "birds, head fpN: test accuracy N -> N\ncars, head fpN, norms fpN: test accuracy N -> N\n"
    )
    half = json.loads(done.out)["tasks"]
    full = json.loads(ok(run_here(place, "inspect", "zoo.safetensors", "--json")).out)["tasks"]
    for a, b in zip(half, full, strict=True):
        assert (2 * a["head"], a["masks"]) == (b["head"], b["masks"])
        assert 4 * a["norms"] == b["norms"], "half the numbers, of half the bytes"
    birds = read(place / "half").task("birds").info
    before = json.loads((place / "runs" / "birds" / "result.json").read_text())["test"]
    assert birds["storage"]["before"]["accuracy"] == before["accuracy"]
    assert (birds["storage"]["head"], birds["storage"].get("norms")) == ("fp16", None)
    scored = json.loads(ok(run(place, *EVAL, "half", "--json")).out)
    assert [row["accuracy"] for row in scored] == [row["recorded"] for row in scored]


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (
            ("--head-dtype", "int5"),
            "head as 'int5': expected fp32, fp16, int8, int4, int3, int2, rank8",
        ),
        (("--norm-dtype", "rank8"), "norms as 'rank8': expected fp32, fp16, int8"),
        (("--coefficient-dtype", "u8"), "coefficients as 'u8': expected fp32, fp16, uint8, uint4"),
        (("--weight-dtype", ""), "weights as '': expected fp32"),
        (("--budget", "lots"), "--budget 'lots': expected a size like 500KB"),
        (("--max-drop", "-1"), "--max-drop -1: expected points, 0 to 100"),
        (("--budget", "1MB", "--codec", "zip"), "--codec 'zip': expected auto or bits"),
    ],
)
def test_what_no_number_can_be_stored_as_is_named(
    place: Path, options: tuple[str, ...], line: str
) -> None:
    done = run_here(place, "pack", "runs/birds", "-o", "no", *options)
    assert done.code == 2
    assert line in " ".join(done.err.split())
    assert not (place / "no").exists()


def test_the_smallest_within_a_drop_and_the_table_it_is_chosen_from(place: Path) -> None:
    done = ok(run(place, "pack", "runs/cars", "-o", "small", "--max-drop", "50"))
    assert done.out == "small\n"
    lines = done.err.splitlines()
    assert re.fullmatch(
        r"cars, head \S+, norms \S+, coefficients \S+: test accuracy \S+ -> \S+", lines[0]
    )
    assert lines[1] == "cars: ways to store it"
    columns = ("head", "norms", "coefficients", "bytes", "val accuracy", "val loss", "drop")
    assert re.split(r"  +", lines[2].strip()) == [*columns, "chosen"]
    rows = [line.split() for line in lines[3:-2]]
    assert rows[0][:3] == ["fp32"] * 3
    assert [row[-1] for row in rows].count("*") == 1
    size = (place / "small").stat().st_size
    assert lines[-1] == f"1 task, {size:,} bytes"
    assert size < (place / "zoo.safetensors").stat().st_size


def test_a_budget_is_for_the_whole_file(place: Path) -> None:
    quiet = ("-q", "--codec", "bits", "--trust-code")
    ok(run(place, "pack", "runs/birds", "-o", "both", *quiet))
    first = (place / "both").stat().st_size
    more = ("pack", "runs/cars", "-o", "both", "--append", *quiet)
    failed_ = run(place, *more, "--budget", f"{first + 100}")
    assert failed(failed_).startswith(f"--budget {first + 100:,} bytes: the smallest file is ")
    assert (place / "both").stat().st_size == first
    done = ok(run(place, *more, "--budget", f"{(first + 1100) / 1000}KB", "--json"))
    assert done.err == ""
    assert (place / "both").stat().st_size <= first + 1100
    both = read(place / "both")
    assert both.task("birds").streams["head"].dtype == "f32", "it stays as it was"
    assert not both.task("cars").streams["mask"].coded
    about = json.loads(done.out)
    assert about["choices"].keys() == {"cars"}
    [taken] = [row for row in about["choices"]["cars"] if row["chosen"]]
    assert taken["head"] == both.task("cars").info["storage"]["head"]


def test_pictures_that_are_elsewhere_now_are_found_to_choose_by(place: Path) -> None:
    elsewhere = ("--max-drop", "100", "--data", "cars=others")
    done = run(place, "pack", "runs/cars", "-o", "no", *elsewhere)
    assert "have other classes than the task was learnt on" in failed(done)
    done = run(place, "pack", "runs/cars", "-o", "no", "--max-drop", "1", "--data", "owls=data")
    assert failed(done) == "unknown task of --data 'owls'; known: cars"
    done = run(place, "pack", "runs/cars", "-o", "no", "--data", "data")
    assert (done.code, "--data goes with --from-checkpoint" in done.err) == (2, True)
    ok(
        run(
            place, "pack", "runs/cars", "-o", "here", "--head-dtype", "int8", "--data", "data", "-q"
        )
    )


def test_one_task_of_several_is_taken_renamed_or_left_out(place: Path) -> None:
    ok(run(place, "pack", "owls=zoo.safetensors#birds", "-o", "one"))
    assert list(read(place / "one").tasks) == ["owls"]
    ok(run(place, "pack", "zoo.safetensors", "--drop", "birds", "-o", "less"))
    assert list(read(place / "less").tasks) == ["cars"]
    for arguments in (("zoo.safetensors#owls",), ("zoo.safetensors", "--drop", "owls")):
        failed = run(place, "pack", *arguments, "-o", "none")
        assert (failed.code, failed.err.count("\n")) == (1, 1)
        assert "known: birds, cars" in failed.err
        assert not (place / "none").exists()


# ---- eval


def test_scores_are_those_of_training(place: Path) -> None:
    done = ok(run(place, *EVAL, "zoo.safetensors"))
    assert done.err == "scoring birds ...\nscoring cars ...\n"
    title, header, *rows = done.out.splitlines()[:-1]
    assert title == "# size against accuracy"
    columns = header.split("\t")
    for name, line in zip(("birds", "cars"), rows, strict=True):
        row = dict(zip(columns, line.split("\t"), strict=True))
        assert (row["task"], row["split"], row["count"]) == (name, "test", "12")
        assert row["accuracy"] == row["recorded"]
        result = json.loads((place / "runs" / name / "result.json").read_text())
        assert float(row["accuracy"]) == pytest.approx(result["test"]["accuracy"], abs=1e-6)


def test_a_row_of_eval_counts_the_file_and_tells_the_interval(place: Path) -> None:
    done = ok(run(place, "eval", "zoo.safetensors", *EVAL[1:], "-q", "--json"))
    assert done.err == "", "-q may stand after the command"
    birds, cars = json.loads(done.out)
    assert birds["bytes"] + cars["bytes"] == (place / "zoo.safetensors").stat().st_size
    for row in (birds, cars):
        parts = [row[part] for part in ("masks", "coefficients", "norms", "head", "header")]
        assert row["bytes"] == sum(parts)
        assert (row["MB"], row["MiB"]) == (row["bytes"] / 1e6, row["bytes"] / 2**20)
        assert row["ratio"] == pytest.approx(1 / row["of fine-tuned"])
        assert row["of fine-tuned"] == row["bytes"] / 2012
        assert 0 <= row["low"] < row["accuracy"] < row["high"] <= 1
    weights = 216 + 72 + 96
    assert birds["bits per weight"] == 8 * 48 / weights == 1.0
    # a bit a kernel: 24 + 8 + 96 bits, and the scales of the zeros
    assert cars["masks"] == 3 + 1 + 12
    assert cars["bits per weight"] == 8 * (16 + cars["coefficients"]) / weights


def test_a_run_beside_its_pack_costs_what_its_own_file_would(place: Path) -> None:
    ok(run(place, "pack", "runs/birds", "-o", "alone.safetensors", "--force"))
    done = ok(run(place, *EVAL, "alone.safetensors", "runs/birds", "--json"))
    alone, birds = json.loads(done.out)
    assert alone == birds
    assert birds["bytes"] == (place / "alone.safetensors").stat().st_size


def test_eval_as_csv_and_markdown(place: Path) -> None:
    done = ok(run(place, *EVAL, "zoo.safetensors", "--task", "birds", "--csv"))
    title, names, values, end = csv.reader(done.out.splitlines())
    assert (title, end) == (["# size against accuracy"], [])
    row = dict(zip(names, values, strict=True))
    assert (row["task"], row["masks"], row["bits per weight"]) == ("birds", "48", "1")
    done = ok(run(place, *EVAL, "zoo.safetensors", "--task", "birds", "--md"))
    lines = done.out.splitlines()
    assert lines[0] == "## size against accuracy"
    assert lines[2].split(" | ")[1:4] == names[1:4]
    done = ok(run(place, *EVAL, "zoo.safetensors", "--format", "jsonl"))
    assert [json.loads(line)["task"] for line in done.out.splitlines()] == ["birds", "cars"]


def test_a_task_need_not_be_in_every_pack(place: Path) -> None:
    ok(run(place, "pack", "owls=runs/birds", "-o", "owls.safetensors", "--force"))
    files = ("owls.safetensors", "zoo.safetensors")
    done = ok(run(place, *EVAL, *files, "--task", "owls", "--task", "cars", "--json"))
    assert [row["task"] for row in json.loads(done.out)] == ["owls", "cars"]
    assert failed(run_here(place, *EVAL, *files, "--task", "card")) == (
        "unknown task in the packs given 'card'; did you mean 'cars'?; known: birds, cars, owls"
    )


@pytest.mark.parametrize("command", ["eval", "inspect"])
@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("--format", "xml"), "--format 'xml': expected one of table, json, jsonl, csv, tsv, md"),
        (("--format", "md", "--json"), "two formats asked for: json and md"),
    ],
)
def test_a_wrong_format_ends_with_2(
    place: Path, command: str, arguments: tuple[str, ...], line: str
) -> None:
    done = run_here(place, command, "zoo.safetensors", *arguments)
    assert (done.code, done.out) == (2, "")
    assert done.err.splitlines()[-1] == f"Error: Invalid value: {line}"


def test_scores_as_json(place: Path) -> None:
    done = ok(run(place, "-q", *EVAL, "zoo.safetensors", "runs/birds", "--json", "--split", "val"))
    assert done.err == ""
    rows = json.loads(done.out)
    assert [row["task"] for row in rows] == ["birds", "cars", "birds"]
    for row, name in zip(rows, ("birds", "cars", "birds"), strict=True):
        result = json.loads((place / "runs" / name / "result.json").read_text())
        assert row["accuracy"] == result["best"]["val_accuracy"]
        assert row["recorded"] is None, "the recorded score is of the test split"


def test_pictures_may_have_moved(place: Path) -> None:
    (place / "moved").mkdir()
    (place / "moved" / "data").symlink_to(place / "data")
    (place / "moved" / "zoo").symlink_to(place / "zoo.safetensors")
    away = place / "moved"
    for given in (("--data", "data"), ("--data", "birds=data", "--data", "cars=data")):
        ok(run(away, *EVAL, "zoo", *given))
    assert "other classes than the task was learnt on; give the right folder" in failed(
        run(place, *EVAL, "zoo.safetensors", "--data", "cars=others")
    )
    assert failed(run_here(place, *EVAL, "zoo.safetensors", "--data", "card=data")) == (
        "unknown task of --data 'card'; did you mean 'cars'?; known: birds, cars"
    )
    assert failed(run_here(place, *EVAL, "zoo.safetensors", "--data", "gone")) == (
        "task 'birds': no folder 'gone'"
    )


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("--task", "card"), "unknown task in zoo.safetensors 'card'; did you mean 'cars'?; known: "),
        (("--split", "tset"), "task 'birds' has no tset split, only train, val, test"),
        (("--backbone", "tinynet:build/none#1"), "zoo.safetensors was made for tinynet:build "),
        (("--backbone", "resnet5"), "unknown backbone 'resnet5'; did you mean 'resnet50'?"),
        (("-b", "0"), "batch size is 0; expected 1 or more"),
        (("--device", "tpu"), "--device 'tpu': expected auto, cpu, cuda or mps"),
    ],
)  # fmt: skip
def test_what_cannot_be_scored_is_named(place: Path, arguments: tuple[str, ...], line: str) -> None:
    assert failed(run_here(place, *EVAL, "zoo.safetensors", *arguments)).startswith(line)


def test_code_that_a_pack_names_is_not_run_unasked(place: Path) -> None:
    line = failed(run(place, "eval", "zoo.safetensors", "-j", "0"))
    assert line.startswith("zoo.safetensors wants to import Python code, 'tinynet:build'; if you ")
    ok(run(place, "eval", "zoo.safetensors", "-j", "0", "--backbone", "tinynet:build"))


# ---- inspect


INSPECTED = """\
# pack
file\tbytes\theader\tbackbone\tfingerprint\tbackbone bytes
zoo\t2394\t2044\tresnet50/IMAGENET1K_V2\t00ff00ff00ff\t94032000

# bytes by task
task\tmethod\tnorms mode\tmasks\tcoefficients\tnorms\thead\theader\ttotal\tof fine-tuned\tones\tentropy bytes\tval accuracy\ttest accuracy
Blüten\tksm\ttask\t4\t14\t16\t24\t511\t569\t6.05113e-06\t0.770492\t5.6726\t0.75\t0.5
birds\tpiggyback\tfrozen\t8\t0\t0\t32\t511\t551\t5.85971e-06\t0.770492\t12.8689\t0.75\t0.5
cars\tksm\tstats\t4\t152\t32\t32\t511\t731\t7.77395e-06\t0.377049\t7.19625\t0.75\t0.5
plain\tclassifier-only\tfrozen\t0\t0\t0\t32\t511\t543\t5.77463e-06\t\t0\t0.75\t0.5

# share of equal mask bits
task\tBlüten\tbirds\tcars
Blüten\t1\t1\t0.606557
birds\t1\t1\t0.606557
cars\t0.606557\t0.606557\t1

# share of equal mask bits by chance
task\tBlüten\tbirds\tcars
Blüten\t0.663631\t0.663631\t0.433515
birds\t0.663631\t0.663631\t0.433515
cars\t0.433515\t0.433515\t0.535519

# Jaccard index of the zeros
task\tBlüten\tbirds\tcars
Blüten\t1\t1\t0.368421
birds\t1\t1\t0.368421
cars\t0.368421\t0.368421\t1

# share of zeros by layer
layer\tshape\tbits\tBlüten\tbirds\tcars
stem.weight\t2x3x3x3\t54\t0.203704\t0.203704\t0.611111
blocks.0.weight\t3x2\t6\t0.5\t0.5\t0.666667
scalar\t\t1\t0\t0\t1
empty\t0x3\t0\t0\t0\t0

# entropy by layer (bits a bit)
layer\tshape\tbits\tBlüten\tbirds\tcars
stem.weight\t2x3x3x3\t54\t0.729274\t0.729274\t0.964079
blocks.0.weight\t3x2\t6\t1\t1\t0.918296
scalar\t\t1\t0\t0\t0
empty\t0x3\t0\t0\t0\t0

# coefficients by layer (as stored)
task\tlayer\tcoefficient\tmin\tmax
Blüten\tstem.weight\tscale\t6\t221
cars\tstem.weight\tscale\t0\t0.484375
Blüten\tblocks.0.weight\tscale\t73\t191
cars\tblocks.0.weight\tscale\t0\t0.453125
cars\tscalar\tscale\t0\t0

"""


def test_the_whole_of_inspect(tmp_path: Path) -> None:
    (tmp_path / "zoo").symlink_to(GOLDEN)
    done = ok(run_here(tmp_path, "inspect", "zoo"))
    assert (done.out, done.err) == (INSPECTED, "")


def test_inspect_in_every_format(tmp_path: Path) -> None:
    (tmp_path / "zoo").symlink_to(GOLDEN)

    def inspected(name: str) -> str:
        return ok(run_here(tmp_path, "inspect", "zoo", "--format", name)).out

    assert inspected("tsv") == INSPECTED
    lines = [line.split("\t") if line else [] for line in INSPECTED.splitlines()]
    assert list(csv.reader(inspected("csv").splitlines())) == lines
    titles = [line[0] for line in lines if line and line[0].startswith("# ")]
    found = inspected("md").splitlines()
    assert [line[1:] for line in found if line.startswith("#")] == titles
    about = json.loads(inspected("json"))
    assert about == json.loads(ok(run_here(tmp_path, "inspect", "zoo", "--json")).out)
    rows = [json.loads(line) for line in inspected("jsonl").splitlines()]
    assert [row["task"] for row in rows] == [row["task"] for row in about["tasks"]]
    assert rows[1]["similarity"] == about["similarity"][1]["similarity"]
    assert [layer["layer"] for layer in rows[1]["layers"]] == [
        layer["layer"] for layer in about["layers"]
    ]
    drawn = inspected("table")
    shown = [line for line in drawn.splitlines() if f"# {line}" in titles]
    assert [f"# {line}" for line in shown] == titles
    assert "\u2026" not in drawn, "nothing is cut off in a pipe"


def test_hashes_are_compared_on_demand(tmp_path: Path) -> None:
    data = bytearray(GOLDEN.read_bytes())
    (tmp_path / "zoo").write_bytes(data)
    done = ok(run_here(tmp_path, "inspect", "zoo", "zoo", "--verify", "--no-layers"))
    assert done.err == "all 24 hashes match\n"
    assert done.out == ok(run_here(tmp_path, "inspect", "zoo", "zoo", "--no-layers")).out
    assert ok(run_here(tmp_path, "-q", "inspect", "zoo", "--verify")).err == ""
    pack = packfile.read(GOLDEN)
    head = pack.task("birds").streams["head"].data.tobytes()
    assert data.count(head) == 1
    data[data.index(head)] ^= 1  # the lowest bit of a number: nothing else can notice
    (tmp_path / "zoo").write_bytes(data)
    ok(run_here(tmp_path, "inspect", "zoo"))
    assert failed(run_here(tmp_path, "inspect", "zoo", "--verify")).startswith("zoo: birds, head: ")


def test_inspect_as_json_counts_the_files_bytes(place: Path) -> None:
    about = json.loads(ok(run_here(place, "inspect", "zoo.safetensors", "--json")).out)
    assert about.keys() == {
        "file", "bytes", "header_bytes", "backbone", "tasks", "similarity", "layers",
    }  # fmt: skip
    assert about["bytes"] == (place / "zoo.safetensors").stat().st_size
    both = json.loads(
        ok(run_here(place, "inspect", "zoo.safetensors", "zoo.safetensors", "--json")).out
    )
    assert both == [about, about]


def test_layers_and_similarity_can_be_left_out(place: Path) -> None:
    done = ok(run(place, "inspect", "zoo.safetensors", "--no-layers"))
    titles = [line for line in done.out.splitlines() if line.startswith("#")]
    assert titles == [
        "# pack",
        "# bytes by task",
        "# share of equal mask bits",
        "# share of equal mask bits by chance",
        "# Jaccard index of the zeros",
    ]
    done = ok(run(place, "inspect", "zoo.safetensors", "--no-similarity", "--no-layers", "--json"))
    assert json.loads(done.out).keys() == {"file", "bytes", "header_bytes", "backbone", "tasks"}


def test_what_cannot_be_inspected_is_named(place: Path) -> None:
    assert (
        failed(run_here(place, "inspect", "gone"))
        == "gone: cannot be read: No such file or directory"
    )
    assert failed(run_here(place, "inspect", "runs/birds")) == (
        "runs/birds is a folder; make a pack of it: maskpack pack runs/birds"
    )


# ---- the shell


def test_a_dash_reads_paths_from_stdin(place: Path) -> None:
    done = ok(run(place, "pack", "-", "-o", "piped", stdin="runs/birds\n\nx=runs/cars\n"))
    assert done.out == "piped\n"
    out = ok(run(place, "inspect", "-", "--json", stdin="piped\nzoo.safetensors\n")).out
    assert [about["file"] for about in json.loads(out)] == ["piped", "zoo.safetensors"]
    done = ok(run(place, *EVAL, "-", "--json", stdin="piped\n"))
    assert [row["task"] for row in json.loads(done.out)] == ["birds", "x"]
    assert failed(run(place, "pack", "-", "-o", "none")) == (
        "nothing to pack: no run and no pack given"
    )


def test_output_can_be_cut_short(place: Path) -> None:
    paths = " ".join([str(GOLDEN)] * 200)  # more than a pipe holds
    done = shell(f"maskpack inspect {paths} | head -1", place)
    assert (done.returncode, done.stdout, done.stderr) == (0, "# pack\n", "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
@pytest.mark.parametrize("format", ["json", "tsv"])
def test_a_full_disk_is_told_in_one_line(place: Path, format: str) -> None:
    done = shell(f"maskpack inspect '{GOLDEN}' --format {format} >/dev/full", place)
    assert (done.returncode, done.stderr) == (1, "error: cannot write: No space left on device\n")


def test_nothing_is_coloured_in_a_pipe_or_with_no_color(place: Path) -> None:
    for environment in ({}, {"NO_COLOR": "1"}):
        for arguments in (("inspect", str(GOLDEN)), ("--help",), ("inspect", "gone"), ("pack",)):
            done = run(place, *arguments, environment=environment)
            assert "\x1b" not in done.out + done.err


def test_python_dash_m_is_the_command(place: Path) -> None:
    done = shell(f"maskpack --version && maskpack inspect '{GOLDEN}' --json", place)
    version, _, text = done.stdout.partition("\n")
    assert re.fullmatch(r"maskpack \d+\.\d+\.\d+", version)
    assert json.loads(text)["backbone"]["name"] == "resnet50/IMAGENET1K_V2"


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_has_an_example(tmp_path: Path, command: str) -> None:
    for flag in ("--help", "-h"):
        done = ok(run_here(tmp_path, *command.split(), flag))
        assert done.err == ""
        assert re.search(rf"Example: maskpack {command}", done.out), done.out


def test_help_lists_every_command(tmp_path: Path) -> None:
    out = ok(run_here(tmp_path, "--help")).out
    found = re.findall(r"^  ([a-z-]+)  ", out.partition("Commands:")[2], re.MULTILINE)
    assert tuple(found) == COMMANDS
    bare = run(tmp_path)
    assert (bare.code, bare.out) == (2, "")
    assert "Usage: maskpack" in bare.err
    assert "train-mask" in bare.err


def test_the_environment_is_told(tmp_path: Path) -> None:
    about = json.loads(ok(run_here(tmp_path, "env", "--json")).out)
    assert about["versions"].keys() >= {"maskpack", "torch", "numpy", "safetensors"}
    assert about["versions"]["maskpack"] == maskpack.__version__
    assert about["folders"]["weights"].endswith("checkpoints")
    lines = ok(run_here(tmp_path, "env")).out.splitlines()
    assert f"data folder\t{about['folders']['data']}" in lines
    assert lines[:2] == ["# environment", "what\tfound"]
    assert f"python\t{about['python']}" in lines
