"""Rows as a program reads them from a pipe, and as a person on a terminal."""

from __future__ import annotations

import json
import re
import sys
from typing import Any

import pytest

from maskpack.tables import print_json, print_rows

ROWS: list[dict[str, Any]] = [
    {"task": "task", "bytes": 1234567, "ones": 0.98765432, "zeros": {"task": 0.25, "bits": None}},
    {"task": "b\tc", "bytes": 8, "shape": (3, 4), "zeros": {"bits": 1.0}},
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


def test_json_is_one_document_in_utf8(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"name": "V\u00f6gel", "rows": [1, None]})
    out = capsys.readouterr().out
    assert "V\u00f6gel" in out
    assert out.endswith("}\n")
    assert json.loads(out) == {"name": "V\u00f6gel", "rows": [1, None]}
