"""Rows -> tables for a person (drawn, or markdown) or for a program (tsv, csv, JSON)."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TextIO

from maskpack.common.errors import printable
from maskpack.reports.render.wording import score_text

Row = dict[str, Any]
Column = tuple[str, str | None]  # a key, and one of the keys of its cells where they are tables
FORMATS = ("table", "json", "jsonl", "csv", "tsv", "md")
SHARES = (
    "of fine-tuned",
    "of separate",
    "ones",
    "zeros",
    "scaled",
    "similarity",
    "jaccard",
    "chance",
)
MEGA = ("MB", "MiB")


def print_json(value: Any) -> None:
    """JSON on stdout, one document."""
    json.dump(value, sys.stdout, indent=2, ensure_ascii=False)
    sys.stdout.write("\n")


def print_jsonl(values: Iterable[Any]) -> None:
    """JSON on stdout, one document a line."""
    for value in values:
        print(json.dumps(value, ensure_ascii=False))


def print_rows(title: str, rows: Sequence[Row], format: str | None = None) -> None:
    """A table on stdout, under its title: drawn ("table"), "csv", "tsv" or "md".

    Without a format, drawn on a terminal and tab-separated in a pipe. A cell that is a table
    itself ({"birds": 0.1, "cars": 0.2}) takes a column per key.
    """
    if not rows:
        return
    format = format or ("table" if sys.stdout.isatty() else "tsv")
    columns = _columns(rows)
    names = [key if inner is None else inner for key, inner in columns]
    if format == "table":
        _draw(title, names, columns, rows, sys.stdout)
        return
    if format == "md":
        print(markdown(title, rows), end="")
    else:
        lines = [names, *([_plain(_cell(row, column)) for column in columns] for row in rows)]
        if format == "csv":
            csv.writer(sys.stdout, lineterminator="\n").writerows([[f"# {title}"], *lines])
        else:
            print(f"# {title}")
            sys.stdout.writelines("\t".join(line) + "\n" for line in lines)
    print()


def draw_rows(title: str, rows: Sequence[Row]) -> None:
    """A table on stderr, drawn."""
    columns = _columns(rows)
    names = [key if inner is None else inner for key, inner in columns]
    _draw(title, names, columns, rows, sys.stderr)


def _draw(
    title: str, names: list[str], columns: list[Column], rows: Sequence[Row], file: TextIO
) -> None:
    """On a terminal too narrow for all columns they go on below, the first one repeated."""
    from rich.cells import cell_len
    from rich.console import Console
    from rich.table import Table

    cells = [[_pretty(column[0], _cell(row, column)) for row in rows] for column in columns]
    widths = [max(map(cell_len, [n, *c])) for n, c in zip(names, cells, strict=True)]
    # a file or a pipe has no width; nothing is wrapped there
    room = None if file.isatty() else sum(widths) + 2 * len(widths)
    console = Console(file=file, highlight=False, markup=False, width=room)
    console.print(title, style="bold", soft_wrap=True)
    for block in _blocks(widths, console.width):
        table = Table(box=None, pad_edge=False)
        for place in block:
            justify: Any = "right" if _numeric(rows, columns[place]) else "left"
            table.add_column(names[place], justify=justify, overflow="fold")
        for line in zip(*(cells[place] for place in block), strict=True):
            table.add_row(*line)
        console.print(table)
        console.print()


def markdown(title: str, rows: Sequence[Row]) -> str:
    """A table in markdown, under its title."""
    columns = _columns(rows)
    names = [key if inner is None else inner for key, inner in columns]
    rules = ["---:" if _numeric(rows, column) else "---" for column in columns]
    cells = [[_pretty(column[0], _cell(row, column)) for column in columns] for row in rows]
    lines = [
        "| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |\n"
        for line in (names, rules, *cells)
    ]
    return f"## {title}\n\n{''.join(lines)}"


def _numeric(rows: Sequence[Row], column: Column) -> bool:
    return any(isinstance(_cell(row, column), (int, float)) for row in rows)


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


def _columns(rows: Sequence[Row]) -> list[Column]:
    """Every row's, each before those that follow it in its row: metrics of rows with different
    ones stand together.
    """
    keys: list[str] = []
    for row in rows:
        if row.keys() <= set(keys):
            continue
        place = len(keys)
        for key in reversed(row):
            if key in keys:
                place = keys.index(key)
            else:
                keys.insert(place, key)
    cells = [(key, row[key]) for key in keys for row in rows if key in row]
    return list(
        dict.fromkeys(
            (key, inner)
            for key, value in cells
            for inner in (value if isinstance(value, dict) else (None,))
        )
    )


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
        if column == "ratio":
            return f"{value:.1f}x"
        if column == "entropy bytes":
            return f"{value:,.0f}"
        if column in MEGA:
            return f"{value:,.3f}"
        return f"{value:.2%}" if column in SHARES else score_text(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return _plain(value)
