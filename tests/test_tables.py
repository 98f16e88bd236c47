"""Rows as a program reads them from a pipe, and as a person on a terminal."""

from __future__ import annotations

import csv
import json
import re
import sys
from typing import Any

import pytest

from maskpack.reports.tables import print_json, print_jsonl, print_rows

ROWS: list[dict[str, Any]] = [
    {"task": "task", "bytes": 1234567, "ones": 0.98765432, "zeros": {"task": 0.25, "bits": None}},
    {"task": "b\tc", "bytes": 8, "zeros": {"bits": 1.0}, "shape": (3, 4)},
]


def test_a_pipe_gets_tabs_and_every_digit_that_counts(capsys: pytest.CaptureFixture[str]) -> None:
    print_rows("a title", ROWS)
    assert capsys.readouterr().out == (
        "# a title\n"
        "task\tbytes\tones\ttask\tbits\tshape\n"
        "task\t1234567\t0.987654\t0.25\t\t\n"
        "b\\tc\t8\t\t\t1\t3x4\n"
        "\n"
    )


def test_no_rows_print_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    print_rows("a title", [])
    assert capsys.readouterr().out == ""


def test_a_terminal_gets_a_table(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "dumb")
    print_rows("a title", ROWS)
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == ["a", "title"]
    assert lines[1] == ["task", "bytes", "ones", "task", "bits", "shape"]
    assert lines[2] == ["task", "1,234,567", "98.77%", "25.00%", "-", "-"]
    assert lines[3] == ["b\\tc", "8", "-", "-", "100.00%", "3x4"]


def test_a_narrow_terminal_gets_every_digit(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "30")
    monkeypatch.setenv("TERM", "xterm")
    print_rows("a title longer than a line", ROWS)
    out = re.sub(r"\x1b\[[\d;]*m", "", capsys.readouterr().out)
    assert [line.split() for line in out.splitlines()] == [
        ["a", "title", "longer", "than", "a", "line"],
        ["task", "bytes", "ones"],
        ["task", "1,234,567", "98.77%"],
        ["b\\tc", "8", "-"],
        [],
        ["task", "task", "bits", "shape"],
        ["task", "25.00%", "-", "-"],
        ["b\\tc", "-", "100.00%", "3x4"],
        [],
    ]


def test_csv_is_read_by_a_csv_reader(capsys: pytest.CaptureFixture[str]) -> None:
    print_rows("a title", [{"task": 'a, "b"', "ones": 0.25, "none": None}], "csv")
    assert list(csv.reader(capsys.readouterr().out.splitlines())) == [
        ["# a title"],
        ["task", "ones", "none"],
        ['a, "b"', "0.25", ""],
        [],
    ]


def test_markdown_has_its_title_as_a_heading(capsys: pytest.CaptureFixture[str]) -> None:
    print_rows("a title", [{"task": "a|b", "ones": 0.25, "bytes": 1234}], "md")
    assert capsys.readouterr().out == (
        "## a title\n"
        "\n"
        "| task | ones | bytes |\n"
        "| --- | ---: | ---: |\n"
        "| a\\|b | 25.00% | 1,234 |\n"
        "\n"
    )


def test_a_table_drawn_into_a_pipe_is_as_wide_as_it_must_be(
    capsys: pytest.CaptureFixture[str],
) -> None:
    rows = [{f"column {i}": "x" * 30 for i in range(9)}]
    print_rows("a title", rows, "table")
    title, header, line, *rest = capsys.readouterr().out.splitlines()
    assert (title, header.split("  ")[0], rest) == ("a title", "column 0", [""])
    assert line.split() == ["x" * 30] * 9


@pytest.mark.parametrize(
    ("column", "value", "shown"),
    [
        ("ratio", 29.04, "29.0x"),
        ("MB", 0.470316, "0.470"),
        ("MiB", 1234.5, "1,234.500"),
        ("entropy bytes", 30688.88, "30,689"),
        ("jaccard", 0.5, "50.00%"),
        ("chance", 0.25, "25.00%"),
        ("entropy", 0.97096, "0.9710"),
        ("SSIM", 0.0, "0.0000"),
        ("total loss", 447480.0, "447,480"),
        ("total loss", 4021.34, "4,021.3"),
        ("MSE", 57.3124, "57.31"),
        ("MSE", 312.456, "312.46"),
        ("loss", 0.0000123, "1.23e-05"),
        ("loss", 3.21e15, "3.21e+15"),
        ("MSE", -12.5, "-12.50"),
        ("ratio", float("inf"), "infx"),
        ("MSE", float("nan"), "nan"),
    ],
)
def test_numbers_for_a_person_have_their_unit(
    capsys: pytest.CaptureFixture[str], column: str, value: float, shown: str
) -> None:
    print_rows("a title", [{column: value}], "md")
    assert capsys.readouterr().out.splitlines()[-2] == f"| {shown} |"


def test_metrics_of_different_tasks_stand_together(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [
        {"task": "birds", "split": "test", "accuracy": 0.75, "low": 0.7, "bytes": 3},
        {"task": "lungs", "split": "test", "mIoU": 0.5, "low": None, "bytes": 4},
        {"task": "oil", "split": "test", "total loss": 447480.0, "SSIM": 0.2, "low": None}
        | {"bytes": 5, "x": 1},
    ]
    print_rows("a title", rows)
    lines = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert lines[1:5] == [
        ["task", "split", "accuracy", "mIoU", "total loss", "SSIM", "low", "bytes", "x"],
        ["birds", "test", "0.75", "", "", "", "0.7", "3", ""],
        ["lungs", "test", "", "0.5", "", "", "", "4", ""],
        ["oil", "test", "", "", "447480", "0.2", "", "5", "1"],
    ]


def test_jsonl_is_a_document_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    print_jsonl([{"a": "x\ny"}, {"b": [1]}])
    lines = capsys.readouterr().out.splitlines()
    assert [json.loads(line) for line in lines] == [{"a": "x\ny"}, {"b": [1]}]


def test_json_is_one_document_in_utf8(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"name": "V\u00f6gel", "rows": [1, None]})
    out = capsys.readouterr().out
    assert "V\u00f6gel" in out
    assert out.endswith("}\n")
    assert json.loads(out) == {"name": "V\u00f6gel", "rows": [1, None]}
