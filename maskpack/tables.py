"""Rows -> a table for a person (a terminal) or for a program (a pipe, --json)."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Any

Row = dict[str, Any]
SHARES = ("of fine-tuned", "ones", "zeros")


def print_json(value: Any) -> None:
    """JSON on stdout, one document."""
    json.dump(value, sys.stdout, indent=2, ensure_ascii=False)
    sys.stdout.write("\n")


def print_rows(title: str, rows: Sequence[Row]) -> None:
    """A table on stdout: drawn on a terminal, tab-separated under a `# title` line in a pipe."""
    if not rows:
        return
    columns = list(dict.fromkeys(key for row in rows for key in row))
    if not sys.stdout.isatty():
        print(f"# {title}")
        print("\t".join(columns))
        for row in rows:
            print("\t".join(_plain(row.get(column)) for column in columns))
        print()
        return
    from rich.console import Console
    from rich.table import Table

    numeric = {c for c in columns if any(isinstance(row.get(c), (int, float)) for row in rows)}
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    for column in columns:
        table.add_column(column, justify="right" if column in numeric else "left")
    for row in rows:
        table.add_row(*(_pretty(column, row.get(column)) for column in columns))
    Console(highlight=False, markup=False).print(table)


def _plain(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, (list, tuple)):
        return "x".join(map(str, value))
    return str(value)


def _pretty(column: str, value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.2%}" if column in SHARES else f"{value:.4f}"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return _plain(value)
