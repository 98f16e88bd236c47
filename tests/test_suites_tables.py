"""A small suite's tables: paired tests, protocols, bytes, layers, seconds, and the long one."""

from __future__ import annotations

import csv
import io
import json
import statistics
from pathlib import Path
from typing import Any

import pytest
import tinynet
from test_startup import ask, command

import maskpack
from maskpack.common.errors import MaskpackError, OptionError, RunError, UnknownName
from maskpack.packs import file as packfile
from maskpack.reports.describe import content
from maskpack.reports.paper_sizes import SCOPES, account
from maskpack.suites.read import parse_suite
from maskpack.suites.run import open_suite
from maskpack.suites.tables.long_table import COLUMNS, tidy_csv, tidy_rows
from maskpack.suites.tables.write import shown_tables, write_tables
from maskpack.tasks.answers import FILE, read_answers

TEXT = """
title = "Two"
backbone = "tinynet:build"
seeds = [0, 1]

[options]
epochs = 2
lr = 1e-2
opt = "adam"

[methods.piggyback]
[methods.ksm]
[methods.affine]
[methods.fine-tune]
[methods.ewc]
sequence = true
[methods.overwritten]
method = "fine-tune"
sequence = true
[methods.heads]
method = "classifier-only"
epochs = 1
select = "test"
[methods.joint]
method = "fine-tune"
joint = true

[tasks.a]
data = "a"
[tasks.b]
data = "b"

[published]
source = "Nobody 1999"
[published.scores]
a = { piggyback = 0.5, theirs = 0.4 }
b = { piggyback = 0.7, theirs = 0.5 }
[published.seconds]
fine-tune = 1000
a = { piggyback = 30 }
b = { piggyback = 40 }
"""
METHODS = ("piggyback", "ksm", "affine", "fine-tune", "ewc", "overwritten", "heads", "joint")


def write(folder: Path) -> None:
    for name in ("a", "b"):
        tinynet.write_pictures(folder / "pictures" / name)
    (folder / "two.toml").write_text(TEXT, encoding="utf-8")


def train(folder: Path, text: str = TEXT, **more: Any) -> dict[str, Any]:
    options = {"data": folder / "pictures", "trust_code": True} | more
    return maskpack.run_suite(parse_suite(text, "two.toml"), folder / "out", **options)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tables")


@pytest.fixture(scope="module")
def found(folder: Path) -> dict[str, Any]:
    write(folder)
    found = train(folder)
    assert found["failed"] == {}
    return found


def rows(found: dict[str, Any], table: str, **where: object) -> list[dict[str, Any]]:
    listed = found["tables"][table]["rows"]
    return [row for row in listed if all(row.get(key) == value for key, value in where.items())]


def row(found: dict[str, Any], table: str, **where: object) -> dict[str, Any]:
    (only,) = rows(found, table, **where)
    return only


# ---- scores


def test_the_average_has_a_spread_and_published_figures(found: dict[str, Any]) -> None:
    for method in METHODS:
        cells = {(c["task"], c["seed"]): c["test"] for c in found["cells"] if c["method"] == method}
        if method == "joint":
            cells = {
                (task, seed): {"accuracy": score[f"accuracy/{task}"]}
                for (_, seed), score in cells.items()
                for task in "ab"
            }
        each = [statistics.fmean(cells[task, seed]["accuracy"] for task in "ab") for seed in (0, 1)]
        ours = row(found, "scores", task="average", figures="ours")
        assert ours[method] == pytest.approx(statistics.fmean(each))
        spread = row(found, "scores", task="average", figures="spread")
        assert spread[method] == pytest.approx(statistics.stdev(each))
    published = row(found, "scores", task="average", figures="published")
    assert published["piggyback"] == pytest.approx(0.6)
    assert published["theirs"] == pytest.approx(0.45)
    assert published["ksm"] is None


# ---- paired tests


def test_paired_tests_count_the_pictures_that_runs_answered(
    found: dict[str, Any], folder: Path
) -> None:
    runs = folder / "out" / "runs"
    others = [method for method in METHODS if method != "fine-tune"]
    for task in "ab":
        assert [r["method"] for r in rows(found, "paired", task=task)] == others
    for method, last in (("piggyback", "a"), ("heads", "a"), ("ewc", "b"), ("joint", "all")):
        both = only = other = 0
        for seed in ("seed0", "seed1"):
            ours = read_answers(runs / last / method / seed / FILE)["a"].correct
            theirs = read_answers(runs / "a" / "fine-tune" / seed / FILE)["a"].correct
            both += int((ours & theirs).sum())
            only += int((ours & ~theirs).sum())
            other += int((theirs & ~ours).sum())
        told = row(found, "paired", task="a", method=method)
        assert (told["pictures"], told["seeds"], told["against"]) == (12, 2, "fine-tune")
        assert [told[key] for key in ("both right", "only method", "only against")] == [
            both,
            only,
            other,
        ]


def test_points_are_the_difference_of_the_scores(found: dict[str, Any]) -> None:
    """Of sequences, of what they score after their last task."""
    for task in ("a", "b", "average"):
        ours = row(found, "scores", task=task, figures="ours")
        last = row(found, "scores", task=task, figures="at the end")
        for method in METHODS:
            if method != "fine-tune":
                score = ours[method] if last[method] is None else last[method]
                told = row(
                    found, "paired", task="all tasks" if task == "average" else task, method=method
                )
                assert told["points"] == pytest.approx(100 * (score - ours["fine-tune"]))


def test_answers_that_are_missing_are_asked_for_once(found: dict[str, Any], folder: Path) -> None:
    runs = folder / "out" / "runs"
    lost = [runs / "a/piggyback/seed0", runs / "b/ewc/seed1", runs / "all/joint/seed0"]
    kept = [(path / FILE).read_text() for path in lost]
    for path in lost:
        (path / FILE).unlink()
    assert train(folder) == found
    assert [json.loads((path / FILE).read_text()) for path in lost] == list(map(json.loads, kept))
    # nothing is missing: the data are not needed
    assert train(folder, data=folder / "nowhere") == found


def test_any_method_may_be_the_reference(found: dict[str, Any], folder: Path) -> None:
    other = maskpack.suite_results(folder / "out", against="ksm")
    assert {r["against"] for r in rows(other, "paired")} == {"ksm"}
    a, b = (
        row(other, "paired", task="a", method="fine-tune"),
        row(found, "paired", task="a", method="ksm"),
    )
    assert (a["only method"], a["p"]) == (b["only against"], b["p"])
    assert {**other["tables"], "paired": 0} == {**found["tables"], "paired": 0}
    with pytest.raises(UnknownName, match=r"unknown method of two\.toml 'kms'; did you mean 'ksm'"):
        train(folder, against="kms")


# ---- protocol


def test_protocols_stand_side_by_side(found: dict[str, Any]) -> None:
    protocol = {r["method"]: r for r in rows(found, "protocol")}
    assert list(protocol) == list(METHODS)
    assert protocol["piggyback"]["epochs"] == 2 and protocol["heads"]["epochs"] == 1
    assert protocol["heads"]["selection"] == "TEST SPLIT"
    assert {"epochs", "selection"} <= set(protocol["heads"]["differs"].split(", "))
    starts = {name: r["starts from"] for name, r in protocol.items()}
    assert starts["piggyback"] == starts["joint"] == "the backbone"
    assert starts["ewc"] == starts["overwritten"] == "the task before"
    assert {r["backbone"] for r in protocol.values()} == {"tinynet:build"}
    assert any("TEST SPLIT chose the epoch of heads" in note for note in found["notes"])
    assert "epochs not as the other methods': heads (1)" in found["notes"]
    total = row(found, "seconds", task="total", figures="ours")
    for method in METHODS:
        assert protocol[method]["seconds"] == pytest.approx(total[method], abs=2e-3)


# ---- bytes


def test_every_method_has_its_bytes_in_every_scope(found: dict[str, Any], folder: Path) -> None:
    listed = [(r["method"], r["scope"]) for r in rows(found, "bytes")]
    assert listed == [(method, scope) for method in METHODS for scope in SCOPES]
    for method in ("piggyback", "affine", "ewc", "joint"):
        pack = packfile.read(folder / "out" / f"{method}.safetensors")
        for scope, about in SCOPES.items():
            told = row(found, "bytes", method=method, scope=scope)
            if about.statistics:
                assert told["bytes"] == round(account(pack, scope)["total"] * (about.divisor or 1))
    task = packfile.read(folder / "out/piggyback.safetensors").task("a")
    bits = sum(r["bits"] for r in content(task).layers)
    assert row(found, "bytes", method="piggyback", scope="piggyback")["bytes a task"] == bits / 8


def test_networks_are_compared_with_one_for_each_task(found: dict[str, Any]) -> None:
    """Three networks: what all began with, and one a task; one alone where it is overwritten."""
    norms = 4 * 2 * (8 + 12)  # scales and shifts
    convolutions = 4 * (8 * 3 * 9 + 8 * 9 + 12 * 8)
    network = {"piggyback": convolutions + 2 * norms, "bat": convolutions + norms}
    for scope, size in network.items():
        tuned = row(found, "bytes", method="fine-tune", scope=scope)
        assert (tuned["tasks"], tuned["bytes a task"], tuned["bytes"]) == (3, size, 3 * size)
        assert tuned["of separate"] == 1.0
        for method in ("overwritten", "ewc", "joint"):
            one = row(found, "bytes", method=method, scope=scope)
            assert (one["tasks"], one["bytes"], one["bytes a task"]) == (2, size, 0), method
            assert one["of separate"] == pytest.approx(1 / 3)
        heads = row(found, "bytes", method="heads", scope=scope)
        assert (heads["tasks"], heads["bytes"]) == (3, size)
    head, original = 4 * (12 * 3 + 3), 4 * (12 * 10 + 10)
    tuned = row(found, "bytes", method="fine-tune", scope="ksm")
    assert tuned["bytes"] == 3 * network["piggyback"] + 2 * head + original
    one = row(found, "bytes", method="overwritten", scope="ksm")
    assert (one["bytes"], one["bytes a task"]) == (network["piggyback"] + 2 * head, head)
    assert row(found, "bytes", method="fine-tune", scope="bat")["as printed"] == "3.00"


# ---- layers


def test_layers_are_those_of_the_packs(found: dict[str, Any], folder: Path) -> None:
    for method in ("piggyback", "ksm", "affine"):
        pack = packfile.read(folder / "out" / f"{method}.safetensors")
        for layer in content(pack.task("b")).layers:
            where = {"method": method, "layer": layer["layer"]}
            assert row(found, "ones", **where)["ones"]["b"] == layer["ones"] / layer["bits"]
            assert row(found, "zeros", **where)["zeros"]["b"] == layer["zeros"]
    scales = packfile.read(folder / "out/ksm.safetensors").task("b").arrays("scale")
    for layer, values in scales.items():
        share = row(found, "scaled", method="ksm", layer=layer)["scaled"]["b"]
        assert share == pytest.approx((values != 0).mean())
    assert {r["method"] for r in rows(found, "scaled")} == {"ksm"}
    task = packfile.read(folder / "out/affine.safetensors").task("a")
    for key in ("k1", "k2", "k3"):
        for layer, values in task.arrays(key).items():
            told = row(
                found, "coefficients", layer=layer, coefficient=key, of="mean", method="affine"
            )
            assert told["value"]["a"] == pytest.approx(float(values.mean()))
    assert {r["coefficient"] for r in rows(found, "coefficients", method="affine")} >= {
        "k1",
        "k2",
        "k3",
    }


# ---- seconds


def test_seconds_of_all_tasks_stand_beside_published_ones(found: dict[str, Any]) -> None:
    for method in ("piggyback", "ewc"):
        each = [row(found, "seconds", task=task, figures="ours")[method] for task in "ab"]
        total = row(found, "seconds", task="total", figures="ours")
        assert total[method] == pytest.approx(sum(each))
    assert total["joint"] > 0
    assert row(found, "seconds", task="a", figures="ours")["joint"] is None
    assert row(found, "seconds", task="a", figures="published")["piggyback"] == 30
    published = row(found, "seconds", task="total", figures="published")
    assert (published["piggyback"], published["fine-tune"], published["ksm"]) == (70, 1000, None)


@pytest.mark.parametrize(
    ("seconds", "message"),
    [
        ("fine-tune = true", "two.toml: published.seconds: fine-tune = True, expected a number"),
        ("x = { piggyback = 30 }", "task of two.toml: published.seconds 'x'"),
        ('a = { piggyback = "30" }', "published.seconds.a: piggyback = '30', expected a number"),
    ],
)
def test_published_seconds_are_numbers(seconds: str, message: str) -> None:
    text = TEXT[: TEXT.index("[published.seconds]")] + f"[published.seconds]\n{seconds}\n"
    with pytest.raises((OptionError, UnknownName), match=message):
        parse_suite(text, "two.toml")


# ---- one long table, and files


def test_every_value_has_a_row_of_the_long_table(found: dict[str, Any]) -> None:
    read = list(csv.DictReader(io.StringIO(tidy_csv(found))))
    assert tuple(read[0]) == COLUMNS
    assert {r["table"] for r in read} == {
        "cells",
        *(key for key, table in found["tables"].items() if table["rows"]),
    }
    assert all(bool(r["value"]) != bool(r["text"]) for r in read)
    long = list(tidy_rows(found))
    seen = [tuple(r.get(key) for key in COLUMNS[:-2]) for r in long]
    assert len(set(seen)) == len(seen), "a value is found by what it is of"

    def value(**where: object) -> float:
        (only,) = [r for r in long if all(r.get(key) == v for key, v in where.items())]
        return only["value"]

    scores = {"table": "scores", "task": "b", "quantity": "accuracy"}
    ours = row(found, "scores", task="b", figures="ours")
    assert value(**scores, method="ksm", figures="ours") == ours["ksm"]
    assert value(**scores, method="theirs", figures="published") == 0.5
    paired = row(found, "paired", task="a", method="ksm")
    where = {"table": "paired", "task": "a", "method": "ksm", "other": "fine-tune"}
    assert value(**where, quantity="p") == paired["p"]
    ewc = row(found, "sequences", method="ewc", task="a")
    where = {"table": "sequences", "task": "a", "method": "ewc", "other": "b"}
    assert value(**where) == ewc["after b"]
    where = {"table": "similarity", "method": "ksm", "task": "a", "other": "b", "figures": "ours"}
    assert value(**where) == row(found, "similarity", method="ksm", task="a")["similarity"]["b"]
    cell = {"table": "cells", "task": "a", "method": "affine", "seed": 1, "quantity": "accuracy"}
    (run,) = [
        c for c in found["cells"] if (c["task"], c["method"], c["seed"]) == ("a", "affine", 1)
    ]
    assert value(**cell) == run["test"]["accuracy"]
    where = {"table": "bytes", "method": "heads", "scope": "all", "quantity": "bytes"}
    assert value(**where) == row(found, "bytes", method="heads", scope="all")["bytes"]


def test_the_folder_has_the_tables_in_three_files(found: dict[str, Any], folder: Path) -> None:
    out = folder / "out"
    assert json.loads((out / "tables.json").read_text()) == json.loads(json.dumps(found))
    assert (out / "tables.csv").read_text() == tidy_csv(found)
    text = (out / "tables.md").read_text()
    assert text.startswith("# Two\n\n- the TEST SPLIT chose the epoch of heads: ")
    assert "| TEST SPLIT * |" in text and "| 1 * |" in text
    for table in found["tables"].values():
        assert (f"\n## {table['title']}\n" in text) == bool(table["rows"])


def test_layers_are_printed_on_request(found: dict[str, Any]) -> None:
    few, all_ = (dict(shown_tables(found, layers=on)) for on in (False, True))
    assert set(all_) - set(few) == {
        found["tables"][key]["title"] for key in ("zeros", "ones", "scaled", "coefficients")
    }


def test_a_file_that_cannot_be_is_told_before_anything(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=r"t\.pdf: expected a name that ends in one of \.html"):
        write_tables({}, tmp_path / "t.pdf")
    with pytest.raises(OptionError, match=r"there is no folder .*nowhere; make it first"):
        write_tables({}, tmp_path / "nowhere" / "t.html")


# ---- the tables of a finished folder


def test_tables_of_a_folder_need_neither_training_nor_torch(
    found: dict[str, Any], folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "out").symlink_to(folder / "out")
    before = {path: path.stat().st_mtime_ns for path in (folder / "out").rglob("*")}
    arguments = ("suite", "out", "--tables", "--md", "--report", "report.html")
    code, heavy, text = ask(command(*arguments), tmp_path)
    assert (code, heavy) == (0, []), text
    assert "warning: the TEST SPLIT chose the epoch of heads" in text
    assert "## bytes as each paper counts them" in text and "share of ones" not in text
    assert "| a | accuracy | published | 0.5000 |" in text
    page = (tmp_path / "report.html").read_text()
    assert page.startswith("<!DOCTYPE html>") and "piggyback, published" in page
    code, heavy, text = ask(
        command("suite", "out", "--tables", "--layers", "--csv", "-q"), tmp_path
    )
    assert (code, heavy) == (0, []) and "# share of ones by layer" in text
    assert {path: path.stat().st_mtime_ns for path in (folder / "out").rglob("*")} == before
    assert maskpack.suite_results(folder / "out")["tables"] == found["tables"]


def test_other_published_figures_may_be_shown(found: dict[str, Any], folder: Path) -> None:
    text = TEXT.replace("piggyback = 0.5,", "piggyback = 0.55,")
    other = maskpack.suite_results(folder / "out", parse_suite(text, "two.toml"))
    assert row(other, "scores", task="a", figures="published")["piggyback"] == 0.55
    with pytest.raises(RunError, match=r"holds a suite with options\.epochs = 2, now 3"):
        text = TEXT.replace("epochs = 2", "epochs = 3")
        maskpack.suite_results(folder / "out", parse_suite(text, "two.toml"))


def test_a_folder_without_a_suite_is_one_line(tmp_path: Path) -> None:
    match = r"no suite was trained here; expected .*suite\.toml"
    for call in (maskpack.suite_results, open_suite):
        with pytest.raises(RunError, match=match):
            call(tmp_path)
    code, heavy, text = ask(command("suite", "image-to-image", "--tables", "-o", "x"), tmp_path)
    assert (code, heavy) == (1, [])
    assert text.startswith("error: x: no suite was trained here")
    code, _, text = ask(command("suite", "image-to-image", "--report", "x.pdf"), tmp_path)
    assert code == 1 and "x.pdf: expected a name that ends in one of .html" in text


def test_a_suite_is_known_by_its_folder(found: dict[str, Any], folder: Path) -> None:
    suite, place = open_suite(folder / "out")
    assert (suite.name, suite.title, place) == ("out", "Two", folder / "out")
    assert isinstance(suite.published.seconds["a"], dict)
    assert open_suite("image-to-image")[1] is None
    with pytest.raises(MaskpackError):
        open_suite(folder / "nothing.toml")
