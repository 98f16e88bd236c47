"""A suite whose base is another task than its file's: --first."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import tinysuite
from processes import run

import maskpack
from maskpack.common.errors import MaskpackError, OptionError, RunError, UnknownName
from maskpack.suites.first import beginning_with
from maskpack.suites.plan import every_cell
from maskpack.suites.read import Suite, parse_suite, read_suite
from maskpack.suites.run import planned

TEXT = (
    tinysuite.TEXT
    + """
[published.seconds]
auto = { base = 5 }

[published.first.ab]
scores.colour = { piggyback = 750 }
seconds.colour = { piggyback = 7 }
"""
)


@pytest.fixture
def suite() -> Suite:
    return parse_suite(TEXT, "tiny.toml")


def order(suite: Suite) -> list[str]:
    return list(dict.fromkeys(cell.task for cell in every_cell(suite)))


@pytest.mark.parametrize("first", ["ab", "3"])
def test_that_task_is_the_base_and_the_others_keep_their_order(suite: Suite, first: str) -> None:
    assert order(suite) == ["auto", "colour", "ab"]
    changed = beginning_with(suite, first)
    assert changed.base is not None and changed.base.task == "ab"
    assert changed.base.options == {"epochs": 2}, "the base's own options go with it"
    assert order(changed) == ["ab", "colour", "auto"]
    again = parse_suite(changed.text, "kept.toml")
    assert again.raw == changed.raw and order(again) == order(changed)
    for other in ("1", "colour"):
        assert order(beginning_with(again, other)) == ["colour", "auto", "ab"]


def test_the_usual_first_task_changes_nothing(suite: Suite) -> None:
    assert beginning_with(suite, "auto") is suite
    assert beginning_with(suite, "2") is suite


def test_published_figures_are_those_of_that_first_task(suite: Suite) -> None:
    assert suite.published.seconds == {"auto": {"base": 5}}
    found = beginning_with(suite, "ab").published
    assert found.source == "Nobody 1999"
    assert found.scores == {"colour": {"piggyback": 750}}
    assert found.seconds == {"colour": {"piggyback": 7}}
    assert not found.after and not found.sizes
    assert not beginning_with(suite, "colour").published.scores


@pytest.mark.parametrize(
    ("text", "first", "kind", "expected"),
    [
        (TEXT, "0", OptionError, "--first 0: expected 1 to 3, or a task's name"),
        (TEXT, "4", OptionError, "--first 4: expected 1 to 3, or a task's name"),
        (TEXT, "aut", UnknownName, "unknown task of tiny.toml 'aut'; did you mean 'auto'?"),
        (TEXT.replace('[base]\ntask = "auto"\nepochs = 2', ""), "ab", OptionError, "no [base]"),
        ('first = "aut"\n' + TEXT, "ab", UnknownName, "unknown task of tiny.toml: first 'aut'"),
        ("first = 1\n" + TEXT, "ab", OptionError, "first = 1, expected text"),
        (TEXT + "[published.first.x]", "ab", UnknownName, "unknown task of tiny.toml: published"),
        (TEXT + "[published.first.colour]\nsize = 1", "ab", UnknownName, "unknown key of"),
        (TEXT + "[published.seconds.ab]\nksm = true", "ab", OptionError, "expected a number"),
    ],
)
def test_a_wrong_one_is_one_line(
    text: str, first: str, kind: type[MaskpackError], expected: str
) -> None:
    with pytest.raises(kind) as caught:
        beginning_with(parse_suite(text, "tiny.toml"), first)
    assert expected in str(caught.value) and "\n" not in str(caught.value)


def test_only_the_line_that_says_it_is_changed(suite: Suite) -> None:
    kept = beginning_with(suite, "ab")
    told = kept.text.replace(
        'first = "ab"\n',
        '''about = """
first = of three
"""
first = "ab"
''',
    )
    inner = parse_suite(told, "tiny.toml")
    with pytest.raises(OptionError) as caught:
        beginning_with(inner, "colour")
    expected = "tiny.toml: --first needs a line first = 'ab' to put 'colour' into; change the file"
    assert str(caught.value) == expected
    quoted = parse_suite(kept.text.replace("first =", '"first" =', 1), "tiny.toml")
    with pytest.raises(OptionError, match="--first needs a line"):
        beginning_with(quoted, "colour")


def test_a_folder_refuses_another_first_task(suite: Suite, tmp_path: Path) -> None:
    def plan(first: str | int | None) -> Any:
        _, folder, cells = planned(suite, tmp_path, first=first, trust_code=True)
        return folder, cells

    folder, cells = plan(3)
    folder.keep(beginning_with(suite, "ab"))
    assert [cell.task for cell in plan("ab")[1]] == [cell.task for cell in cells]
    for first, named in ((None, "auto"), ("auto", "auto"), (1, "colour")):
        with pytest.raises(RunError) as caught:
            plan(first)
        line = str(caught.value)
        assert f"holds a suite whose first task is ab, now {named}; choose another folder" in line
        assert "\n" not in line
    kept = read_suite(folder.kept)
    assert planned(kept, tmp_path, trust_code=True)[2] == cells


def test_the_command_begins_with_it(tmp_path: Path) -> None:
    tinysuite.write(tmp_path, TEXT)
    shown = run(tmp_path, "suite", "tiny.toml", "--first", "ab", "--show")
    assert shown.out.startswith('first = "ab"\n') and shown.out.endswith(TEXT)
    listed = run(
        tmp_path, "suite", "tiny.toml", "--data", "pictures", "--first", "3", "--dry-run", "--csv",
        "--trust-code", "--methods", "piggyback",
    )  # fmt: skip
    lines = listed.out.split("task,method,")[1].splitlines()[1:]
    cells = [line.split(",")[:2] for line in lines if line]
    assert cells == [["ab", "base"], ["colour", "piggyback"], ["auto", "piggyback"]]


def test_a_suite_is_trained_from_another_first_task(tmp_path: Path) -> None:
    text = TEXT.replace("[methods.scratch]\n", "").replace("[methods.affine]\n", "")
    text = text.replace("[methods.decoder]\n", "").replace("colour = { scratch = 900, ", "colour={")
    tinysuite.write(tmp_path, text)
    found = maskpack.run_suite(
        tmp_path / "tiny.toml",
        tmp_path / "out",
        data=tmp_path / "pictures",
        first=3,
        trust_code=True,
    )
    assert found["failed"] == {}
    assert [(cell["task"], cell["method"]) for cell in found["cells"]] == [
        ("ab", "base"),
        ("colour", "fine-tune"),
        ("colour", "piggyback"),
        ("auto", "fine-tune"),
        ("auto", "piggyback"),
    ]
    assert (tmp_path / "out/base.safetensors").is_file()
    scores = found["tables"]["scores"]["rows"]
    published = [row for row in scores if row["figures"] == "published"]
    assert [(row["task"], row["piggyback"]) for row in published] == [("colour", 750)]
