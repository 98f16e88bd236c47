"""The decathlon's suite on a few pictures in the published layout, and the file for its server."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from processes import run_here
from tinydecathlon import write_decathlon, write_json

import maskpack
from maskpack.cli import call
from maskpack.common.errors import DataError, OptionError, RunError, UnknownName
from maskpack.datasets.decathlon import TASKS, decathlon_score
from maskpack.evaluation.decathlon_answers import _accuracy, submit
from maskpack.evaluation.task_row import Bases
from maskpack.packs.file import read
from maskpack.runs.open import open_pack
from maskpack.suites.read import Suite, parse_suite, read_suite
from maskpack.training.setup import Options, open_session
from maskpack.training.train_run import learn

TINY = {"epochs": "1", "batch-size": "2", "decay-epochs": "1"}
METHODS = ["classifier-only", "piggyback"]


def tiny() -> Suite:
    """The built-in suite with epochs and batches of next to nothing, on a network of few layers."""
    text = read_suite("decathlon").text
    for key, value in TINY.items():
        text = re.sub(rf"^{key} = .*", f"{key} = {value}", text, flags=re.MULTILINE)
    text = text.replace('"wrn28-decathlon"', '"tinynet:build"')
    text = text.replace("[options]\n", "[options]\nimg-size = 16\ncrop-pct = 0.8\n")
    return parse_suite(text, "decathlon.toml")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    write_decathlon(folder / "decathlon-1.0")
    return folder


@pytest.fixture(scope="module")
def folder(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A suite's folder with two methods trained."""
    output = tmp_path_factory.mktemp("suite") / "out"
    found = maskpack.run_suite(tiny(), output, data=data, methods=METHODS, trust_code=True)
    assert found["failed"] == {}
    return output


def table(folder: Path, name: str) -> list[dict[str, Any]]:
    return json.loads((folder / "tables.json").read_text())["tables"][name]["rows"]


def test_every_task_has_points_and_the_suite_an_s_score(folder: Path) -> None:
    scores = {row["task"]: row for row in table(folder, "scores") if row["figures"] == "ours"}
    points = {row["task"]: row for row in table(folder, "points") if row["figures"] == "ours"}
    assert [*points] == [*tiny().tasks, "S-score"]
    for label in METHODS:
        errors = {task: 1 - scores[task][label] for task in TASKS}
        assert points["S-score"][label] == pytest.approx(decathlon_score(errors))
        assert sum(points[task][label] for task in TASKS) == pytest.approx(points["S-score"][label])
    assert points["S-score"]["affine"] is None, "a method without scores has none"
    theirs = {row["task"]: row for row in table(folder, "points") if row["figures"] == "published"}
    assert theirs["S-score"]["affine"] == 3497
    assert theirs["gtsrb"]["piggyback (its authors)"] == 200


def test_tables_say_which_split_was_scored(folder: Path) -> None:
    """Only val has labels here, so it is the test split."""
    assert {row["metric"] for row in table(folder, "scores")} == {"accuracy on val"}
    assert {row["metric"] for row in table(folder, "points")} == {"points on val"}


def test_an_s_score_is_of_all_ten_tasks(data: Path, tmp_path: Path) -> None:
    maskpack.run_suite(
        tiny(),
        tmp_path,
        data=data,
        tasks=["dtd"],
        methods=["classifier-only"],
        seeds=[0, 1],
        trust_code=True,
    )
    rows = {(row["task"], row["figures"]): row for row in table(tmp_path, "points")}
    assert rows["dtd", "ours"]["classifier-only"] is not None
    assert rows["dtd", "spread"]["classifier-only"] is not None
    assert rows["S-score", "ours"]["classifier-only"] is None
    assert rows["gtsrb", "ours"]["classifier-only"] is None


def test_wrong_keys_of_the_score_are_one_line() -> None:
    text = read_suite("decathlon").text
    with pytest.raises(UnknownName, match=r"kind of mine.toml: score 'heptathlon'; did you mean"):
        parse_suite(text.replace('kind = "decathlon"', 'kind = "heptathlon"'), "mine.toml")
    with pytest.raises(UnknownName, match=r"kind of mine.toml: score ''"):
        parse_suite(text.replace('kind = "decathlon"', ""), "mine.toml")
    with pytest.raises(UnknownName, match=r"unknown task of mine.toml: published.points 'mnist'"):
        parse_suite(f"{text}\n[published.points.mnist]\naffine = 3\n", "mine.toml")
    with pytest.raises(OptionError, match=r"published.total: affine = '3497', expected a number"):
        parse_suite(text.replace("\naffine = 3497", '\naffine = "3497"'), "mine.toml")


@pytest.mark.slow
def test_the_whole_suite_runs_from_end_to_end(tmp_path: Path) -> None:
    write_decathlon(tmp_path / "decathlon-1.0", labelled=True)
    found = maskpack.run_suite(tiny(), tmp_path / "out", data=tmp_path, trust_code=True)
    assert found["failed"] == {}
    last = [row for row in found["tables"]["points"]["rows"] if row["figures"] == "ours"][-1]
    assert last["metric"] == "points"
    assert all(type(last[label]) is float for label in tiny().methods)


# ---- the file for the server


def test_a_submission_has_a_category_for_every_test_picture(
    folder: Path, data: Path, tmp_path: Path
) -> None:
    root, output = data / "decathlon-1.0", tmp_path / "results.json"
    arguments = ["decathlon", str(folder), "--method", "piggyback", "--trust-code"]
    done = run_here(tmp_path, *arguments, "--data", str(root), "-o", str(output), "--json")
    assert done.code == 0, done.err
    assert "20 answers in" in done.err and "no task for" not in done.err
    results = json.loads(output.read_text())
    listed = {}
    for number, task in enumerate(TASKS, 1):
        path = root / "annotations" / f"{task}_test_stripped.json"
        listed |= {one["id"]: number for one in json.loads(path.read_text())["images"]}
    assert [row["image_id"] for row in results] == [*listed]
    for row in results:
        assert row["category_id"] - 10**7 * listed[row["image_id"]] in (1, 2)
    rows = json.loads(done.out)
    assert [row["task"] for row in rows] == [*TASKS]
    assert {row["accuracy"] for row in rows} == {None}


def test_packs_answer_as_their_runs_do_and_are_scored_where_labels_are(
    folder: Path, tmp_path: Path
) -> None:
    labelled = write_decathlon(tmp_path / "labelled", labelled=True)
    packs = [read(folder / "base.safetensors"), read(folder / "piggyback.safetensors")]
    runs = [
        open_pack(
            folder / "runs" / task / ("base" if task == "imagenet12" else "piggyback/") / "seed0"
        )
        for task in TASKS
    ]
    bases = Bases(trust_code=True)
    made, again = (submit(given, labelled, bases=bases) for given in (packs, runs))
    assert made.results == again.results
    for row in made.rows:
        path = labelled / "annotations" / f"{row['task']}_test.json"
        right = {
            a["image_id"]: a["category_id"] for a in json.loads(path.read_text())["annotations"]
        }
        hits = [
            right[r["image_id"]] == r["category_id"] for r in made.results if r["image_id"] in right
        ]
        assert row["accuracy"] == sum(hits) / len(hits) and len(hits) == row["pictures"] == 2
    errors = {row["task"]: 1 - row["accuracy"] for row in made.rows}
    assert made.score == decathlon_score(errors)


def test_tasks_that_are_missing_are_named(
    folder: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root, run = str(data / "decathlon-1.0"), str(folder / "runs/dtd/piggyback/seed0")
    call(["decathlon", run, "--data", root, "-o", str(tmp_path / "r.json"), "--format", "tsv"])
    out, err = capsys.readouterr()
    assert out.splitlines()[1].split("\t")[:3] == ["task", "method", "pictures"]
    assert out.splitlines()[2].split("\t")[:3] == ["dtd", "piggyback", "2"]
    assert "no task for aircraft, cifar100, " in err and "the server wants all ten" in err
    assert len(json.loads((tmp_path / "r.json").read_text())) == 2


def test_what_cannot_be_answered_is_one_line(folder: Path, data: Path, tmp_path: Path) -> None:
    root = data / "decathlon-1.0"
    run = open_pack(folder / "runs/dtd/piggyback/seed0")
    bases = Bases(trust_code=True)
    with pytest.raises(OptionError, match=r"dtd is in .*piggyback.* and in .*classifier-only"):
        submit([run, open_pack(folder / "runs/dtd/classifier-only/seed0")], root)
    with pytest.raises(DataError, match=r"dtd_test_stripped.json: no such file; expected"):
        submit([run], tmp_path, bases=bases)
    other = write_decathlon(tmp_path / "other", "dtd")
    path = other / "annotations" / "dtd_test_stripped.json"
    document = json.loads(path.read_text())
    write_json(path, {**document, "categories": []})
    assert len(submit([run], other, bases=bases).results) == 2
    document["categories"][0]["name"] = "zebra"
    write_json(path, document)
    with pytest.raises(DataError, match=r"has other categories than dtd of .* was learnt on"):
        submit([run], other, bases=bases)


def test_labels_of_other_pictures_are_one_line(tmp_path: Path) -> None:
    root = write_decathlon(tmp_path, "dtd", labelled=True)
    with pytest.raises(DataError, match=r"dtd_test.json: lists other pictures than dtd_test_str"):
        _accuracy(root, "dtd", {1: 0})


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ([], OptionError, "no --method; it has classifier-only, fine-tune, piggyback,"),
        (["--method", "pb"], OptionError, "no method 'pb'; it has classifier-only"),
        (["--method", "affine"], None, "no task for aircraft"),
        (["--method", "affine", "--seed", "7"], None, "no task for aircraft"),
        (["-o", "nowhere/results.json"], OptionError, "-o nowhere/results.json: no folder"),
    ],
)
def test_a_suites_folder_needs_a_method_that_was_trained(
    folder: Path,
    data: Path,
    arguments: list[str],
    error: type[Exception] | None,
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    root = str(data / "decathlon-1.0")
    given = ["decathlon", str(folder), "--data", root, "--trust-code", *arguments]
    if error is None:  # the base's own task is there whatever the method
        call(given)
        assert message in capsys.readouterr().err
        return
    with pytest.raises(error, match=message):
        call(given)


def test_a_suite_without_finished_tasks_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "suite.toml").write_text(tiny().text)
    with pytest.raises(RunError, match="nothing of affine, seed 0 is finished there"):
        call(["decathlon", str(tmp_path), "--method", "affine"])


def test_a_task_of_another_kind_is_told(tmp_path: Path) -> None:
    from tinynet import write_pictures

    pictures = write_pictures(tmp_path / "pictures", 2)
    options = Options("tinynet:build", "dots", "classifier-only", data=str(pictures))
    options.recipe.update(epochs=1)
    run = learn(open_session(options), tmp_path / "run")
    with pytest.raises(OptionError, match="no task of the decathlon; expected some trained as"):
        submit([open_pack(run.path)], tmp_path)
