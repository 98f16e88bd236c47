"""All tables of a suite as one long one, a row a value: what a data frame is made of. No torch."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping
from typing import Any

Row = dict[str, Any]
WHAT = ("task", "method", "seed", "figures", "other", "layer", "scope")
COLUMNS = ("table", *WHAT, "quantity", "value", "text")
# columns of the tables that say what a value is of, and where they stand here
ABOUT = {key: key for key in WHAT} | {"after": "other", "against": "other", "of": "figures"}
ASIDE = ("metric", "coefficient", "shape", "run", "starts from", "test")
AFTER = "after "


def tidy_rows(found: Mapping[str, Any]) -> Iterator[Row]:
    """A row for each value of each table, and under "cells" for each test score of each seed.

    `other` is the later task of forgetting, the second of a similarity, or the method compared
    with. Numbers are in `value`, what is no number in `text`.
    """
    for key, table in found["tables"].items():
        for row in table["rows"]:
            yield from _values(key, row)
    for cell in found["cells"]:
        scores = {name: value for name, value in cell["test"].items() if name != "count"}
        yield from _values("cells", {**cell, **scores})


def tidy_csv(found: Mapping[str, Any]) -> str:
    """The same as CSV, under COLUMNS."""
    file = io.StringIO()
    writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(tidy_rows(found))
    return file.getvalue()


def _values(table: str, row: Row) -> Iterator[Row]:
    about: Row = {"table": table} | {
        place: row[key] for key, place in ABOUT.items() if row.get(key) is not None
    }
    of_row = row.get("coefficient") or row.get("metric")
    for column, cell in row.items():
        if column in ABOUT or column in ASIDE or cell is None:
            continue
        if isinstance(cell, dict):  # by task
            place = "other" if "task" in row else "task"
            for name, value in cell.items():
                if value is not None:
                    yield {**about, place: name, "quantity": of_row or column, **_told(value)}
        elif "method" not in row:  # a column a method
            yield {**about, "method": column, "quantity": of_row or table, **_told(cell)}
        elif column.startswith(AFTER):
            other = column.removeprefix(AFTER)
            yield {**about, "other": other, "quantity": of_row, **_told(cell)}
        else:
            yield {**about, "quantity": column, **_told(cell)}


def _told(value: Any) -> Row:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return {"value": value} if is_number else {"text": str(value)}
