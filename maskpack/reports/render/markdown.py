"""A summary as markdown tables: for a README, a pull request, a notebook."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from maskpack.reports.describe import PARTS
from maskpack.reports.render.figures import Heat, Lines, Scatter
from maskpack.reports.render.gallery import TITLE, listed_lines
from maskpack.reports.render.sections import Section, sections, series_of
from maskpack.reports.render.wording import (
    bytes_text,
    escape_markdown,
    fraction_text,
    measure_text,
    score_text,
    share_text,
    significant,
)

Row = dict[str, Any]


def markdown(summary: Mapping[str, Any]) -> str:
    """The whole text; the same for the same summary."""
    parts = ["# maskpack report", *_tasks(summary)]
    if summary["pictures"]:
        columns = ["task", "method", "folder", "pictures", "score"]
        parts += [f"## {TITLE}", table(columns, listed_lines(summary["pictures"]), 3)]
    for section in sections(summary):
        if section.key != "size":
            parts += _section(section)
    files = []
    for pack in summary["packs"]:
        base = pack["backbone"]
        sizes = f"{pack['bytes']:,}", f"{pack['header_bytes']:,}"
        files.append([pack["file"] or "-", base["name"], base["fingerprint"][:12], *sizes])
    parts += ["## Files", table(["file", "backbone", "fingerprint", "bytes", "header"], files, 3)]
    return "\n\n".join(parts) + "\n"


def table(columns: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1) -> str:
    """Names and cells are escaped here; all columns but the first `left` stand to the right."""
    rules = ["---" if n < left else "---:" for n in range(len(columns))]
    cells = [[escape_markdown(cell) for cell in row] for row in (columns, *rows)]
    return "\n".join("| " + " | ".join(row) + " |" for row in (cells[0], rules, *cells[1:]))


def _tasks(summary: Mapping[str, Any]) -> Iterator[str]:
    rows = {row["label"]: row for row in summary["tasks"]}
    series = series_of(summary["tasks"])
    used = [part for part in (*PARTS, "header") if any(r["bytes"].get(part) for r in rows.values())]
    columns = ["task", "method", "front", "bytes", "of fine-tuned"]
    more = ["95 % interval", "val", "ones", "entropy", *used]
    for about in summary["originals"]:
        yield f"## {escape_markdown(about['task'])}"
        yield _verdict(about)
        lines = []
        for row in (rows[label] for label in about["tasks"]):
            interval = f"{score_text(row['low'])} to {score_text(row['high'])}"
            lines.append(
                [row["label"], series[row["label"]][1], "yes" if row["on front"] else ""]
                + [f"{row['total']:,}", fraction_text(row["of fine-tuned"])]
                + [score_text(row["test"]), "-" if row["low"] is None else interval]
                + [score_text(row["val"]), share_text(row["ones"])]
                + ["-" if row["ones"] is None else bytes_text(row["entropy bytes"])]
                + [f"{row['bytes'].get(part, 0):,}" for part in used]
            )
        name = measure_text(about["metric"], about["lower is better"])
        yield table([*columns, f"test {name}", *more], lines, 3)


def _verdict(about: Row) -> str:
    if about["best"] is None:
        return "Not scored."
    text = f"Best: {escape_markdown(about['best'])}."
    if about["smallest"] and about["smallest"] != about["best"]:
        text += f" Smallest within its 95 % interval: {escape_markdown(about['smallest'])}."
    return text


def _section(section: Section) -> Iterator[str]:
    yield f"## {section.title}"
    yield section.text
    for figure in section.figures:
        if isinstance(figure, Scatter):
            continue
        yield f"### {escape_markdown(figure.title)}"
        told = share_text if "Share" in figure.value else _number
        if isinstance(figure, Lines):
            columns = ["layer", *(line.label for line in figure.lines)]
            rows = [
                [name, *(told(line.values[n]) for line in figure.lines)]
                for n, name in enumerate(figure.layers)
            ]
        else:
            columns, rows = _turned(figure, told)
        yield table(columns, rows)


def _turned(figure: Heat, told: Any) -> tuple[list[str], list[list[str]]]:
    """A square as it is; layers downwards otherwise, as there are more of them than tasks."""
    if figure.square:
        rows = [
            [name, *map(told, values)]
            for name, values in zip(figure.rows, figure.values, strict=True)
        ]
        return ["task", *figure.columns], rows
    columns = zip(*figure.values, strict=True)
    rows = [
        [name, *map(told, values)] for name, values in zip(figure.columns, columns, strict=True)
    ]
    return ["layer", *figure.rows], rows


def _number(value: float | None) -> str:
    return "-" if value is None else significant(value)
