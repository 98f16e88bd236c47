"""Strips as a grid: a task a table, a picture a row, methods side by side."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from maskpack.reports.render.wording import count_text, escape, measure_text, score_text
from maskpack.reports.strips import read_part
from maskpack.reports.summary import distinct

if TYPE_CHECKING:
    from PIL.Image import Image

Row = dict[str, Any]
SIDE = 256  # pixels of a picture in the page, at most
LIMIT = 16_000_000  # characters that all pictures of a page may take
JPEG_QUALITY = 90
KEY, TITLE = "pictures", "Pictures"
TEXT = (
    "What went in, what each task made of it, and what should have come out. Rows are pictures of "
    "the split that was scored, in its order."
)


@dataclass(frozen=True)
class Part:
    """One picture of a strip."""

    file: Path
    box: tuple[int, ...]


@dataclass(frozen=True)
class Grid:
    """What was learnt, its columns' names with a line below each, and the pictures' rows."""

    title: str
    columns: tuple[tuple[str, str], ...]
    rows: tuple[tuple[Part | None, ...], ...]


def grids(listed: Sequence[Row]) -> list[Grid]:
    """`strips.read_strips` of a folder, by what was learnt: input, each maker's output, target."""
    by_task: dict[str, list[Row]] = {}
    for row in listed:
        by_task.setdefault(row["learnt"], []).append(row)
    return [_grid(title, rows) for title, rows in by_task.items()]


def _grid(title: str, makers: Sequence[Row]) -> Grid:
    pictures = dict.fromkeys(p["picture"] for row in makers for p in row["pictures"])
    found = [{p["picture"]: (row, p) for p in row["pictures"]} for row in makers]

    def part(place: int, picture: str, name: str) -> Part | None:
        if picture not in found[place] or name not in found[place][picture][1]["parts"]:
            return None
        row, told = found[place][picture]
        return Part(Path(row["folder"]) / told["file"], tuple(told["parts"][name]))

    def first(picture: str, name: str) -> Part | None:
        given = (part(place, picture, name) for place in range(len(makers)))
        return next((one for one in given if one is not None), None)

    rows = []
    for picture in pictures:
        outputs = [part(place, picture, "output") for place in range(len(makers))]
        rows.append((first(picture, "input"), *outputs, first(picture, "target")))
    columns = [("input", ""), *zip(maker_names(makers), map(_score, makers), strict=True)]
    columns.append(("target", ""))
    if not any(row[-1] for row in rows):  # nobody has painted a photo in a style
        columns, rows = columns[:-1], [row[:-1] for row in rows]
    return Grid(title, tuple(columns), tuple(rows))


def maker_names(makers: Sequence[Row]) -> list[str]:
    """What to call those whose pictures stand side by side: method, file, or the folder."""
    methods = [row["method"] for row in makers]
    where = distinct([row["file"] for row in makers])
    both = [f"{row['method']} ({w})" if w else "" for row, w in zip(makers, where, strict=True)]
    for names in (methods, both):
        if len(set(names)) == len(names) and all(names):
            return names
    return [Path(row["folder"]).name for row in makers]


def _score(row: Row) -> str:
    if row["score"] is None or not row["metric"]:
        return ""
    return f"{measure_text(row['metric'], row['lower is better'])} {score_text(row['score'])}"


# ---- as HTML


def draw_gallery(listed: Sequence[Row], limit: int = LIMIT) -> str:
    """The page's section, its pictures in it; of more than `limit` characters the last rows of
    each task are left out, which it says.

    Raises:
        DataError: a strip is gone or damaged.
    """
    found = grids(listed)
    drawn: list[list[str]] = [[] for _ in found]
    room, left_out = limit, 0
    for number in range(max(len(grid.rows) for grid in found)):
        for grid, lines in zip(found, drawn, strict=True):
            if number >= len(grid.rows):
                continue
            line = _line(grid, number) if len(lines) == number else ""
            if line and len(line) <= room:  # a row after one without room is not shown either
                lines.append(line)
                room -= len(line)
            else:
                left_out += 1
    folders = list(dict.fromkeys(str(Path(row["folder"]).parent) for row in listed))
    tables = "".join(_table(grid, lines) for grid, lines in zip(found, drawn, strict=True))
    note = ""
    if left_out:
        size = f"{limit / 1e6:g} MB"
        note = (
            f'<p class="text">{count_text(left_out, "more row")} would not fit into {size}; all '
            f"pictures are in {escape(', '.join(folders))}.</p>"
        )
    return f'<section id="{KEY}"><h2>{TITLE}</h2><p class="text">{TEXT}</p>{tables}{note}</section>'


def _table(grid: Grid, lines: Sequence[str]) -> str:
    head = "".join(
        f'<th scope="col">{escape(name)}{f"<small>{escape(score)}</small>" if score else ""}</th>'
        for name, score in grid.columns
    )
    return (
        f'<div class="scroll" tabindex="0"><table class="pictures">'
        f"<caption>{escape(grid.title)}</caption><thead><tr>{head}</tr></thead>"
        f"<tbody>{''.join(lines)}</tbody></table></div>"
    )


def _line(grid: Grid, number: int) -> str:
    cells = []
    for (name, _), part in zip(grid.columns, grid.rows[number], strict=True):
        if part is None:
            cells.append("<td>-</td>")
            continue
        picture = read_part(part.file, part.box)
        picture.thumbnail((SIDE, SIDE))
        small = ' class="small"' if picture.width < SIDE / 2 else ""
        alt = escape(f"{grid.title}, picture {number + 1}: {name}")
        size = f'width="{picture.width}" height="{picture.height}"'
        cells.append(f'<td><img{small} src="{data_uri(picture)}" alt="{alt}" {size}></td>')
    return f"<tr>{''.join(cells)}</tr>"


def data_uri(picture: Image) -> str:
    """A picture as text that a page can hold: PNG where that is the smaller, else JPEG."""
    png, jpeg = io.BytesIO(), io.BytesIO()
    picture.save(png, "PNG", optimize=True)
    picture.save(jpeg, "JPEG", quality=JPEG_QUALITY, subsampling=0)
    kind, data = min(("png", png.getvalue()), ("jpeg", jpeg.getvalue()), key=lambda x: len(x[1]))
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


# ---- as markdown


def listed_lines(listed: Sequence[Row]) -> list[list[str]]:
    """Task, method, the folder their pictures are in, how many, and the score, for a table."""
    return [
        [
            row["learnt"],
            row["method"],
            row["folder"],
            f"{len(row['pictures']):,}",
            _score(row) or "-",
        ]
        for row in listed
    ]
