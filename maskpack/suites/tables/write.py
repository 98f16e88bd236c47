"""Tables of a suite as files and as what is printed. No torch."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from maskpack.common.errors import OptionError, printable
from maskpack.common.files import write_text
from maskpack.reports.tables import markdown
from maskpack.suites.tables.by_layer import TITLES
from maskpack.suites.tables.long_table import tidy_csv
from maskpack.suites.tables.page import suite_page
from maskpack.suites.tables.protocol import marked

Row = dict[str, Any]
FORMATS = ("html", "md", "json", "csv")


def write_tables(found: Mapping[str, Any], path: Path) -> None:
    """Write what `run_suite` returns as the ending of the file's name says.

    .html is a page with figures, .json all there is, .csv one long table with a row a value.

    Raises:
        OptionError: another ending, or no such folder.
        MaskpackError: it cannot be written.
    """
    check_file(path)
    ending = path.suffix.lower().removeprefix(".")
    if ending == "html":
        text = suite_page(found)
    elif ending == "md":
        text = tables_markdown(found)
    elif ending == "json":
        text = json.dumps(found, indent=2) + "\n"
    else:
        text = tidy_csv(found)
    write_text(path, text)


def check_file(path: Path) -> None:
    """Raise OptionError unless a name ends in one of FORMATS, in a folder that is there."""
    if path.suffix.lower().removeprefix(".") not in FORMATS:
        expected = ", ".join(f".{name}" for name in FORMATS)
        raise OptionError(f"{path}: expected a name that ends in one of {expected}")
    if not path.parent.is_dir():
        raise OptionError(f"{path}: there is no folder {path.parent}; make it first")


def tables_markdown(found: Mapping[str, Any]) -> str:
    """Title, notes and every table."""
    notes = [f"- {printable(note)}\n" for note in found["notes"]]
    texts = [markdown(title, rows) for title, rows in shown_tables(found)]
    head = f"# {found['title']}\n" + (f"\n{''.join(notes)}" if notes else "")
    return "\n".join([head, *texts])


def shown_tables(
    found: Mapping[str, Any], *, layers: bool = True
) -> Iterator[tuple[str, list[Row]]]:
    """Title and rows of every table that has any, as a person reads them; `layers` may be many."""
    for key, table in found["tables"].items():
        rows = marked(table["rows"]) if key == "protocol" else table["rows"]
        if rows and (layers or key not in TITLES):
            yield table["title"], rows
