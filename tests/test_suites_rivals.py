"""Suites of classification whose networks are shared: sequences, and joint training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import tinyrivals
from test_suites_run import row, rows
from tinyrivals import TEXT

import maskpack
from maskpack.common.errors import OptionError, RunError, UnknownName
from maskpack.evaluation.task_row import score_task
from maskpack.runs.folder import Run
from maskpack.runs.open import open_pack
from maskpack.suites.plan import every_cell
from maskpack.suites.read import parse_suite

EWC = TEXT.replace("[tasks.warm]", "[methods.ewc]\nsequence = true\n[tasks.warm]")


def train(folder: Path, text: str = TEXT, **more: Any) -> dict[str, Any]:
    tinyrivals.write(folder, text)
    suite = parse_suite(text, "rivals.toml")
    return maskpack.run_suite(
        suite, folder / "out", data=folder / "pictures", trust_code=True, **more
    )


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return train(tmp_path_factory.mktemp("rivals"), EWC)


def test_every_task_and_method_has_a_score(found: dict[str, Any]) -> None:
    assert not found["failed"]
    for task in (*tinyrivals.TASKS, "average"):
        ours = row(found, "scores", task=task, figures="ours")
        labels = ("fine-tune", "piggyback", "fine-tune-sequence", "joint", "ewc")
        assert all(0 <= ours[label] <= 1 for label in labels)


def test_a_sequence_has_a_score_for_each_task_after_each_later_one(found: dict[str, Any]) -> None:
    for label in ("fine-tune-sequence", "ewc"):
        table = {r["task"]: r for r in rows(found, "sequences", method=label)}
        assert (
            table["warm"]["when learnt"] == row(found, "scores", task="warm", figures="ours")[label]
        )
        assert table["warm"]["after striped"] is not None
        assert table["striped"]["after dark"] is None
        lost = table["warm"]["when learnt"] - table["warm"]["after striped"]
        assert table["warm"]["lost"] == pytest.approx(lost)
        last = row(found, "scores", task="warm", figures="at the end")
        assert last[label] == table["warm"]["after striped"]
        assert last["piggyback"] is None


def test_the_last_run_of_a_sequence_is_a_pack_of_all_its_tasks(found: dict[str, Any]) -> None:
    cells = [cell for cell in found["cells"] if cell["method"] == "ewc"]
    counts = [len(open_pack(cell["run"]).tasks) for cell in cells]
    assert counts == [1, 2, 3]


def test_the_pack_of_a_sequence_scores_as_the_table_says(found: dict[str, Any]) -> None:
    run = Path(found["cells"][0]["run"]).parents[3]
    for label in ("ewc", "joint"):
        pack = open_pack(run / f"{label}.safetensors")
        assert set(pack.tasks) == set(tinyrivals.TASKS)
        figures = "at the end" if label == "ewc" else "ours"
        for task in tinyrivals.TASKS:
            score = score_task(pack, task, trust_code=True)
            assert score["accuracy"] == row(found, "scores", task=task, figures=figures)[label]


def test_shared_weights_are_counted_once(found: dict[str, Any]) -> None:
    sizes = row(found, "sizes", method="ewc")
    whole = row(found, "sizes", method="fine-tune")["a task"]
    assert sizes["base"] + 3 * sizes["a task"] == pytest.approx(sizes["total"])
    assert sizes["base"] < whole < sizes["total"] < 2 * whole


def test_a_chosen_task_brings_the_sequence_before_it_but_no_joint_training(tmp_path: Path) -> None:
    found = train(tmp_path, tasks=["dark"])
    assert {cell["method"] for cell in found["cells"]} == {
        "fine-tune",
        "piggyback",
        "fine-tune-sequence",
    }
    assert row(found, "scores", task="warm", figures="ours")["fine-tune-sequence"] is not None


def test_with_base_trains_the_base_task_in_the_sequence_too() -> None:
    text = TEXT.replace("[options]", '[base]\ntask = "warm"\n[options]')
    text = text.replace("sequence = true", "sequence = true\nwith-base = true")
    cells = every_cell(parse_suite(text, "rivals.toml"))
    sequence = [cell for cell in cells if cell.label == "fine-tune-sequence"]
    assert [cell.task for cell in sequence] == list(tinyrivals.TASKS)
    assert sequence[0].start == cells[0] and sequence[1].start == sequence[0]


def test_a_teacher_is_trained_first_and_teaches(tmp_path: Path) -> None:
    taught = '[methods.taught]\nmethod = "piggyback"\nteacher = "fine-tune"\n[tasks.warm]'
    found = train(tmp_path, TEXT.replace("[tasks.warm]", taught), methods=["taught"], jobs=2)
    assert not found["failed"]
    labels = [cell["method"] for cell in found["cells"]]
    assert labels == ["fine-tune", "taught"] * 3
    for cell in found["cells"]:
        teacher = Run(cell["run"]).options["teacher"]
        of_task = tmp_path / "out" / "runs" / cell["task"] / "fine-tune" / "seed0"
        assert teacher == (str(of_task) if cell["method"] == "taught" else None)


def test_a_teacher_must_stand_above() -> None:
    with pytest.raises(UnknownName, match=r"teacher of rivals.toml: methods.fine-tune 'piggyback'"):
        parse_suite(
            TEXT.replace("[methods.fine-tune]", '[methods.fine-tune]\nteacher = "piggyback"'),
            "rivals.toml",
        )


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("joint = true", "joint = true\nsequence = true", "leave one of the two out"),
        ("joint = true", "with-base = true", "add sequence = true"),
        ("joint = true", 'joint = true\nteacher = "piggyback"', "joint = true has no teacher"),
        ("[methods.joint]", "[methods.scratch]\nsequence = true\n[methods.joint]", "begins anew"),
        ("[tasks.warm]", '[tasks.all]\ndata = "warm"\n[tasks.warm]', "is joint training's"),
    ],
)
def test_switches_that_do_not_go_together(before: str, after: str, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        parse_suite(TEXT.replace(before, after), "rivals.toml")


def test_a_joint_mask_is_packed_for_every_task(tmp_path: Path) -> None:
    text = TEXT.replace(
        '[methods.joint]\nmethod = "fine-tune"', '[methods.joint]\nmethod = "piggyback"'
    )
    found = train(tmp_path, text, methods=["joint"])
    pack = open_pack(tmp_path / "out" / "joint.safetensors")
    assert {task.streams["mask"].users for task in pack.tasks.values()} == {3}
    for task in tinyrivals.TASKS:
        score = score_task(pack, task, trust_code=True)
        assert score["accuracy"] == row(found, "scores", task=task, figures="ours")["joint"]


def test_what_learns_task_after_task_cannot_learn_jointly(tmp_path: Path) -> None:
    text = TEXT.replace('[methods.joint]\nmethod = "fine-tune"', '[methods.joint]\nmethod = "ewc"')
    with pytest.raises(OptionError, match="ewc learns task after task; joint training is for"):
        train(tmp_path, text, methods=["joint"])


def test_tables_of_a_suite_that_was_stopped(tmp_path: Path) -> None:
    train(tmp_path, methods=["fine-tune"])
    (tmp_path / "out" / "measured.json").unlink()  # written once all is trained
    found = maskpack.suite_results(tmp_path / "out")
    assert row(found, "scores", task="warm", figures="ours")["fine-tune"] is not None
    (tmp_path / "out/runs/warm/fine-tune/seed0/result.json").write_text("{")
    with pytest.raises(RunError, match="remove it: the suite's command writes it again"):
        maskpack.suite_results(tmp_path / "out")


def test_what_a_method_cannot_be_is_said_before_any_training(tmp_path: Path) -> None:
    packnet = "[methods.packnet]\nsequence = true\nepochs = 1\n[tasks.warm]"
    with pytest.raises(OptionError, match="packnet trains, prunes and trains again"):
        train(tmp_path, TEXT.replace("[tasks.warm]", packnet))
    assert not (tmp_path / "out" / "runs").exists()
