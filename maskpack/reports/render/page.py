"""A summary as one HTML file: it opens without a network, in light and dark, on any screen."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from maskpack.reports.describe import PARTS
from maskpack.reports.render.axes import legend
from maskpack.reports.render.figures import Figure, Heat, Lines, Scatter
from maskpack.reports.render.gallery import KEY, TITLE, draw_gallery
from maskpack.reports.render.heat import cell_size, draw_heat
from maskpack.reports.render.lines import draw_lines
from maskpack.reports.render.scatter import draw_scatter
from maskpack.reports.render.sections import Section, called_alike, layer_names, sections, series_of
from maskpack.reports.render.svg import tag, title
from maskpack.reports.render.wording import (
    bytes_text,
    count_text,
    escape,
    fraction_text,
    measure_text,
    score_text,
    share_text,
)

Row = dict[str, Any]
STYLE = Path(__file__).with_name("page.css")
# whatever a pack's names might smuggle in: the page fetches nothing and runs nothing
POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
WITH_PICTURES = f"{POLICY}; img-src data:"
WIDE, HALF, PHONE = (920, 440), (540, 400), (372, 350)  # of drawings, in pixels
SHOWN_PARTS = (*PARTS, "header")
LISTED = 12  # tasks whose zeros are listed by layer


def html_page(summary: Mapping[str, Any]) -> str:
    """The whole document; the same text for the same summary."""
    found = sections(summary)
    parts = [
        *_head(summary, found),
        *(_section(section, summary) for section in found[:1] if section.key == "size"),
        _tasks(summary),
        draw_gallery(summary["pictures"]) if summary["pictures"] else "",
        *(_section(section, summary) for section in found if section.key != "size"),
        _layers(summary),
        _files(summary),
        "<footer>Made by maskpack report. Every number is in the report as JSON: "
        "maskpack report ... -o report.json</footer>",
    ]
    return document("maskpack report", parts, pictures=bool(summary["pictures"]))


def document(name: str, parts: Iterable[str], *, pictures: bool = False) -> str:
    """A whole page from its parts, which are markup; nothing but `pictures` in it is fetched."""
    style = STYLE.read_text(encoding="utf-8")
    policy = WITH_PICTURES if pictures else POLICY
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{escape(name)}</title>\n<style>\n{style}</style>\n</head>\n<body>\n<main>\n"
        + "\n".join(part for part in parts if part)
        + "\n</main>\n</body>\n</html>\n"
    )


def _head(summary: Mapping[str, Any], found: Sequence[Section]) -> Iterator[str]:
    tasks, packs = summary["tasks"], summary["packs"]
    backbones = list(dict.fromkeys(pack["backbone"]["name"] for pack in packs))
    size = bytes_text(sum(pack["bytes"] for pack in packs))
    lead = (
        f"{count_text(len(tasks), 'packed task')} of {count_text(len(packs), 'file')}, {size}, on "
        f"{', '.join(backbones) or 'no backbone'}."
    )
    yield f'<header><h1>maskpack report</h1><p class="lead">{escape(lead)}</p>'
    links = [(section.key, section.title) for section in found]
    place = 1 if found and found[0].key == "size" else 0
    links[place:place] = [("tasks", "Tasks"), *([(KEY, TITLE)] if summary["pictures"] else [])]
    items = "".join(f'<a href="#{key}">{escape(name)}</a>' for key, name in links)
    yield f"<nav>{items}</nav></header>"


# ---- figures


def _section(section: Section, summary: Mapping[str, Any]) -> str:
    abouts = {about["task"]: about for about in summary["originals"]}
    rows = {row["label"]: row for row in summary["tasks"]}
    return draw_section(section, abouts, rows)


def draw_section(
    section: Section, abouts: Mapping[str, Row] | None = None, rows: Mapping[str, Row] | None = None
) -> str:
    """Heading, text and drawings; `abouts` has by title what is to be said of a front in words,
    and `rows` the tasks on it.
    """
    abouts, rows = abouts or {}, rows or {}
    alone = len(section.figures) == 1
    drawn = "".join(_figure(figure, abouts, rows, alone=alone) for figure in section.figures)
    pairs = "" if alone or _broad(section.figures) else " pairs"
    return (
        f'<section id="{section.key}"><h2>{escape(section.title)}</h2>'
        f'<p class="text">{escape(section.text)}</p><div class="figures{pairs}">{drawn}</div>'
        "</section>"
    )


def _broad(figures: Sequence[Figure]) -> bool:
    """Is one of them too wide to stand beside another?"""
    heats = [figure for figure in figures if isinstance(figure, Heat)]
    return any(cell_size(figure)[0] * len(figure.columns) > 0.6 * HALF[0] for figure in heats)


def _figure(
    figure: Figure, abouts: Mapping[str, Row], rows: Mapping[str, Row], *, alone: bool
) -> str:
    parts = [f"<h3>{escape(figure.title)}</h3>"]
    width, height = WIDE if alone else HALF
    if isinstance(figure, Scatter):
        if figure.title in abouts and any(point.front for point in figure.points):
            parts.append(_verdict(abouts[figure.title], rows))
        more = []
        if len(figure.backbones) > 1:
            more = [f"filled: {figure.backbones[0]}", f"hollow: {', '.join(figure.backbones[1:])}"]
        parts.append(legend(figure.series, shapes=True, more=more))
        parts += _both(draw_scatter(figure, width, height), draw_scatter(figure, *PHONE))
    elif isinstance(figure, Lines):
        keys = [(line.series, line.label) for line in figure.lines]
        listed = legend(keys, shapes=False)
        if alone:  # its lines bear their names, but for a phone's width
            listed = listed.replace('class="legend"', 'class="legend wide-hidden"', 1)
        parts.append(listed)
        parts += _both(
            draw_lines(figure, width, height - 40, named=alone),
            draw_lines(figure, PHONE[0], PHONE[1] - 40, named=False),
        )
    else:
        parts.append(draw_heat(figure))
    return f"<figure>{''.join(parts)}</figure>"


def _both(wide: str, narrow: str) -> Iterator[str]:
    """One drawing for screens and one for phones, whose letters are as large; CSS shows one."""
    for class_, drawing in (("wide", wide), ("narrow", narrow)):
        yield drawing.replace("<svg ", f'<svg class="{class_}" ', 1)


def _verdict(about: Row, rows: Mapping[str, Row]) -> str:
    """Which task scored best, and the smallest whose score lies within its interval."""
    by_place = called_alike([rows[label] for label in about["tasks"]])

    def told(label: str) -> str:
        row = rows[label]
        name = row["where"] if by_place else label
        size = f"{bytes_text(row['total'])}, {fraction_text(row['of fine-tuned'])} of fine-tuned"
        return f"<b>{escape(name)}</b> ({score_text(row['test'])} at {size})"

    text = f"Best: {told(about['best'])}."
    if about["smallest"] and about["smallest"] != about["best"]:
        text += f" Smallest within its 95 % interval: {told(about['smallest'])}."
    return f'<p class="found">{text}</p>'


# ---- tables


def table(
    caption: str, columns: Sequence[str], rows: Iterable[tuple[str, Sequence[str]]], left: int = 0
) -> str:
    """A table that scrolls sideways, its first column kept in sight. Cells are markup; each row
    comes with its class; after the first, `left` columns are text.
    """
    first, *others = columns
    head = f'<th class="left" scope="col">{first}</th>' + "".join(
        f'<th{_left(n, left)} scope="col">{name}</th>' for n, name in enumerate(others)
    )
    body = []
    for class_, (name, *cells) in rows:
        told = "".join(f"<td{_left(n, left)}>{cell}</td>" for n, cell in enumerate(cells))
        given = f' class="{class_}"' if class_ else ""
        body.append(f'<tr{given}><th scope="row">{name}</th>{told}</tr>')
    title_ = f"<caption>{escape(caption)}</caption>" if caption else ""
    return (
        f'<div class="scroll" tabindex="0"><table>{title_}<thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(body)}</tbody></table></div>"
    )


def _left(place: int, left: int) -> str:
    return ' class="left"' if place < left else ""


def _tasks(summary: Mapping[str, Any]) -> str:
    rows = {row["label"]: row for row in summary["tasks"]}
    if not rows:
        return '<section id="tasks"><h2>Tasks</h2><p class="text">There are none.</p></section>'
    used = [part for part in SHOWN_PARTS if any(row["bytes"].get(part) for row in rows.values())]
    keys = "".join(
        f'<li><span class="block {part}"></span><span>{part}</span></li>' for part in used
    )
    tables = []
    series = series_of(summary["tasks"])
    abouts = summary["originals"]
    mixed = False
    if len(abouts) > 1 and all(len(about["tasks"]) == 1 for about in abouts):
        mixed = len({(about["metric"], about["lower is better"]) for about in abouts}) > 1
        told = {"metric": None, "lower is better": False} if mixed else {}
        abouts = [{**abouts[0], "task": "", "tasks": list(rows), **told}]
    for about in abouts:
        name = measure_text(about["metric"], about["lower is better"])
        columns = ["task", "method", *(["metric"] if mixed else []), "bytes", "of fine-tuned"]
        columns += ["bytes by part", f"test {escape(name)}", "95 % interval", "val", "ones"]
        columns.append("entropy")
        mine = [rows[label] for label in about["tasks"]]
        by_place = called_alike(mine)
        listed = []
        for row in mine:
            label = row["where"] if by_place else row["label"]
            cells = _cells(row, label, series[row["label"]][1])
            if mixed:
                cells.insert(2, escape(measure_text(row["metric"], row["lower is better"])))
            listed.append(("on-front" if row["on front"] else "", cells))
        tables.append(table(about["task"], columns, listed, left=2 if mixed else 1))
    return (
        '<section id="tasks"><h2>Tasks</h2><p class="text">By size. A dot marks the Pareto front; '
        "<em>of fine-tuned</em> compares with every weight of the network and its head in "
        "float32; <em>entropy</em> is what the best code of independent bits would make of the "
        "mask bits alone.</p>"
        f'<ul class="legend parts">{keys}</ul>{"".join(tables)}</section>'
    )


def _cells(row: Row, name: str, series: str) -> list[str]:
    interval = "-"
    if row["low"] is not None:
        interval = f"{score_text(row['low'])} to {score_text(row['high'])}"
    entropy = bytes_text(row["entropy bytes"]) if row["ones"] is not None else "-"
    return [
        escape(name),
        escape(series),
        f"{row['total']:,}",
        fraction_text(row["of fine-tuned"]),
        _parts(row["bytes"]),
        score_text(row["test"]),
        interval,
        score_text(row["val"]),
        share_text(row["ones"]),
        entropy,
    ]


def _parts(sizes: Mapping[str, int]) -> str:
    """A bar of a task's bytes by part."""
    total, x, parts = sum(sizes.values()) or 1, 0.0, []
    for part in SHOWN_PARTS:
        width = 100 * sizes.get(part, 0) / total
        if width:
            parts.append(tag("rect", x=x, y=0, width=width, height=12, class_=part))
        x += width
    told = [f"{part}: {size:,}" for part, size in sizes.items() if size]
    about = {"role": "img", "aria_label": ", ".join(told)}
    return tag("svg", title(*told), *parts, viewBox="0 0 100 12", class_="parts", **about)


def _layers(summary: Mapping[str, Any]) -> str:
    """What the numbers of layers in the figures stand for."""
    by_backbone: dict[str, list[Row]] = {}
    for row in summary["tasks"]:
        if row["layers"]:
            by_backbone.setdefault(row["fingerprint"], []).append(row)
    tables = []
    for rows in by_backbone.values():
        listed = rows if len(rows) <= LISTED else []
        columns = ["layer", *(f"zeros: {escape(row['label'])}" for row in listed)]
        zeros = [{layer["layer"]: layer["zeros"] for layer in row["layers"]} for row in listed]
        lines = [
            ("", [f"{n}. {escape(name)}", *(share_text(found.get(name)) for found in zeros)])
            for n, name in enumerate(layer_names(rows), 1)
        ]
        tables.append(table(rows[0]["backbone"], columns, lines))
    if not tables:
        return ""
    return f"<details><summary>Layers by number</summary>{''.join(tables)}</details>"


def _files(summary: Mapping[str, Any]) -> str:
    columns = ["file", "backbone", "fingerprint", "tasks", "bytes", "header"]
    rows = [
        (
            "",
            [
                escape(pack["file"] or "-"),
                escape(pack["backbone"]["name"]),
                f'<span class="hash">{escape(pack["backbone"]["fingerprint"][:12])}</span>',
                f"{len(pack['tasks']):,}",
                f"{pack['bytes']:,}",
                f"{pack['header_bytes']:,}",
            ],
        )
        for pack in summary["packs"]
    ]
    return f"<details><summary>Files</summary>{table('', columns, rows, left=2)}</details>"
