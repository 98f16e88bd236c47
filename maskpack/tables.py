"""Rows -> a table for a person (a terminal) or for a program (a pipe, --json)."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from typing import Any

from maskpack.errors import printable

Row = dict[str, Any]
Column = tuple[str, str | None]  # a key, and one of the keys of its cells where they are tables
SHARES = ("of fine-tuned", "ones", "zeros", "similarity")


def print_json(value: Any) -> None:
    """JSON on stdout, one document."""
    json.dump(value, sys.stdout, indent=2, ensure_ascii=False)
    sys.stdout.write("\n")


def print_rows(title: str, rows: Sequence[Row]) -> None:
    """A table on stdout: drawn on a terminal, tab-separated under a `# title` line in a pipe.

    A cell that is a table itself ({"birds": 0.1, "cars": 0.2}) takes a column per key. On a
    terminal too narrow for all columns they go on below, the first one repeated.
    """
    if not rows:
        return
    columns = list(dict.fromkeys(column for row in rows for column in _columns(row)))
    names = [key if inner is None else inner for key, inner in columns]
    if not sys.stdout.isatty():
        print(f"# {title}")
        print("\t".join(names))
        for row in rows:
            print("\t".join(_plain(_cell(row, column)) for column in columns))
        print()
        return
    from rich.cells import cell_len
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False, markup=False)
    console.print(title, style="bold", soft_wrap=True)
    cells = [[_pretty(column[0], _cell(row, column)) for row in rows] for column in columns]
    widths = [max(map(cell_len, [n, *c])) for n, c in zip(names, cells, strict=True)]
    for block in _blocks(widths, console.width):
        table = Table(box=None, pad_edge=False)
        for place in block:
            numeric = any(isinstance(_cell(row, columns[place]), (int, float)) for row in rows)
            table.add_column(names[place], justify="right" if numeric else "left", overflow="fold")
        for line in zip(*(cells[place] for place in block), strict=True):
            table.add_row(*line)
        console.print(table)
        console.print()


def _blocks(widths: Sequence[int], room: int) -> Iterator[list[int]]:
    """Places of the columns that fit beside one another, two spaces apart, the first in each."""
    block, used = [0], widths[0]
    for place in range(1, len(widths)):
        if len(block) > 1 and used + 2 + widths[place] > room:
            yield block
            block, used = [0], widths[0]
        block.append(place)
        used += 2 + widths[place]
    yield block


def _columns(row: Row) -> Iterator[Column]:
    for key, value in row.items():
        if isinstance(value, dict):
            yield from ((key, inner) for inner in value)
        else:
            yield key, None


def _cell(row: Row, column: Column) -> Any:
    key, inner = column
    return row.get(key) if inner is None else row.get(key, {}).get(inner)


def _plain(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, (list, tuple)):
        return "x".join(map(str, value))
    return printable(str(value))


def _pretty(column: str, value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.2%}" if column in SHARES else f"{value:.4f}"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return _plain(value)
