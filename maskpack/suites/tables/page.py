"""Tables of a suite as one HTML file, as self-contained as a report of packs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from maskpack.reports.render.page import document, draw_section, table
from maskpack.reports.render.wording import (
    bytes_text,
    count_text,
    escape,
    measure_text,
    score_text,
    share_text,
    significant,
)
from maskpack.suites.tables.figures import FIGURES, lower_is_better, methods_of, sections_of

Row = dict[str, Any]
DASH = "-"
KINDS = {"ours": "", "at the end": "at the end", "published": "published"}
PLAIN = ("protocol", "sizes", "points", "forgetting", "seconds")  # shown as they are
SHARES = ("of separate",)
RULES = (
    "McNemar's test on the same pictures: <em>points</em> is how much higher the accuracy is, and "
    "p the chance of so large a difference, either way, between methods that are equally good; "
    "corrected by Holm for the methods of a task. <em>all tasks</em> counts every picture alike."
)


def suite_page(found: Mapping[str, Any]) -> str:
    """The whole document, from what `maskpack.run_suite` returns; the same for the same tables."""
    tables = {key: about["rows"] for key, about in found["tables"].items()}
    titles = {key: about["title"] for key, about in found["tables"].items()}
    sections = sections_of(tables)
    plain = [key for key in PLAIN if tables.get(key)]
    parts = [
        *_head(found, [("scores", "Scores"), *((s.key, s.title) for s in sections)]),
        _scores(tables),
        *(draw_section(section) for section in sections[:1]),
        _paired(tables.get("paired", ())),
        *(draw_section(section) for section in sections[1:]),
        _bytes(tables.get("bytes", ())),
        *(_details(titles[key], tables[key]) for key in plain),
        "<footer>Made by maskpack suite. Every number is beside it, in tables.json and in "
        "tables.csv.</footer>",
    ]
    return document(str(found["title"]), parts)


def _head(found: Mapping[str, Any], links: Sequence[tuple[str, str]]) -> Iterator[str]:
    cells = count_text(len(found["cells"]), "training")
    lead = f"{cells}. Suite {found['suite']}" + (f", {found['paper']}." if found["paper"] else ".")
    yield f'<header><h1>{escape(found["title"])}</h1><p class="lead">{escape(lead)}</p>'
    for note in found.get("notes", ()):
        yield f'<p class="note">{escape(note)}</p>'
    for cell, reason in found.get("failed", {}).items():
        yield f'<p class="note">{escape(f"failed: {cell}: {reason}")}</p>'
    items = "".join(f'<a href="#{key}">{escape(name)}</a>' for key, name in links)
    yield f"<nav>{items}</nav></header>"


# ---- scores


def _scores(tables: Mapping[str, Sequence[Row]]) -> str:
    """A row a method, as papers have it, the published one below; the best of ours in bold."""
    rows = tables.get("scores", ())
    if not rows:
        return ""
    tasks = list(dict.fromkeys(row["task"] for row in rows))
    by_figure = {(row["task"], row[FIGURES]): row for row in rows}
    best = {task: _best(by_figure, task) for task in tasks}
    sizes = {r["method"]: r for r in tables.get("bytes", ()) if r["scope"] == "all"}
    seconds = [r for r in tables.get("seconds", ()) if r["task"] == "total"]
    listed: list[tuple[str, Sequence[str]]] = []
    for method in methods_of(rows):
        for figure, name in KINDS.items():
            values = [by_figure.get((task, figure), {}).get(method) for task in tasks]
            if all(value is None for value in values):
                continue
            spread = [
                by_figure.get((task, "spread"), {}).get(method) if figure == "ours" else None
                for task in tasks
            ]
            bold = [
                value is not None
                and value == best[task]
                and figure == _last(by_figure, task, method)
                for task, value in zip(tasks, values, strict=True)
            ]
            cells = list(map(_score, values, spread, bold))
            size = sizes.get(method) if figure == "ours" else None
            spent = [r.get(method) for r in seconds if r[FIGURES] == figure]
            told = escape(f"{method}, {name}" if name else method)
            own = [bytes_text(size["bytes a task"]) if size else DASH]
            own.append(significant(spent[0]) if spent and spent[0] is not None else DASH)
            listed.append(("published" if figure == "published" else "", [told, *cells, *own]))
    metrics = {task: by_figure[task, "ours"]["metric"] for task in tasks}
    columns = ["method", *(f"{escape(task)}{_measure(metrics, task)}" for task in tasks)]
    columns += ["bytes a task", "seconds"]
    found = {_told(metric) for metric in metrics.values()}
    name = escape(found.pop()) if len(found) == 1 else "scores"
    return (
        f'<section id="scores"><h2>Scores</h2><p class="text">Test {name}: means over the seeds '
        "± one standard deviation; <em>at the end</em>: of a sequence, after its last task; "
        "<em>published</em>: as the paper prints it.</p>"
        f"{table('', columns, listed)}</section>"
    )


def _best(by_figure: Mapping[tuple[str, str], Row], task: str) -> float | None:
    """Of what methods score in the end; None where there is no other to be better than."""
    ours = by_figure[task, "ours"]
    found = [by_figure[task, _last(by_figure, task, m)][m] for m in methods_of([ours])]
    known = [value for value in found if value is not None]
    if len(known) < 2:
        return None
    return min(known) if lower_is_better(ours["metric"]) else max(known)


def _last(by_figure: Mapping[tuple[str, str], Row], task: str, method: str) -> str:
    """Which figure is that of the network a user is left with."""
    at_the_end = by_figure.get((task, "at the end"), {}).get(method)
    return "ours" if at_the_end is None else "at the end"


def _score(value: float | None, spread: float | None, best: bool) -> str:
    text = score_text(value) + (f" ± {score_text(spread)}" if spread is not None else "")
    return f"<b>{text}</b>" if best else text


def _told(metric: str | None) -> str:
    return measure_text(metric, lower_is_better(metric))


def _measure(metrics: Mapping[str, str | None], task: str) -> str:
    """What a column measures, where not all measure the same."""
    return (
        "" if len({*metrics.values()}) == 1 else f" <small>{escape(_told(metrics[task]))}</small>"
    )


# ---- the other tables


def _paired(rows: Sequence[Row]) -> str:
    """All tasks together in sight, each task on request."""
    if not rows:
        return ""
    whole = [row for row in rows if row["task"] == "all tasks"]
    each = [row for row in rows if row not in whole]
    parts = [_plain(whole, left=2)] if whole else []
    parts.append(_details("each task", each) if whole else _plain(each, left=2))
    return (
        f'<section id="paired"><h2>Method against method</h2><p class="text">{RULES}</p>'
        f"{''.join(parts)}</section>"
    )


def _bytes(rows: Sequence[Row]) -> str:
    if not rows:
        return ""
    return (
        '<section id="bytes"><h2>Bytes as each paper counts them</h2><p class="text">'
        "<em>piggyback</em> counts no last layers, <em>ksm</em> all of them, <em>bat</em> in "
        "networks; <em>all</em> is every byte of the files. <em>of separate</em>: against the "
        "network that all begin with and a fine-tuned one for each task.</p>"
        f"{_plain(rows, left=1)}</section>"
    )


def _details(title: str, rows: Sequence[Row]) -> str:
    return f"<details><summary>{escape(title)}</summary>{_plain(rows)}</details>"


def _plain(rows: Sequence[Row], left: int | None = None) -> str:
    """Rows as they are; what "differs" from other rows is marked."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    if left is None:  # texts stand to the left
        texts = [any(isinstance(row.get(key), str) for row in rows) for key in columns[1:]]
        left = texts.index(False) if False in texts else len(texts)
    listed = []
    for row in rows:
        told = (row.get("differs") or "").split(", ")
        cells = [_cell(key, row.get(key), key in told) for key in columns]
        listed.append(("published" if row.get(FIGURES) == "published" else "", cells))
    return table("", [escape(key) for key in columns], listed, left)


def _cell(column: str, value: Any, differs: bool) -> str:
    if value is None:
        return DASH
    if isinstance(value, float):
        text = share_text(value) if column in SHARES else significant(value)
    elif isinstance(value, int) and not isinstance(value, bool):
        text = f"{value:,}"
    else:
        text = escape(_joined(value))
    return f"<mark>{text}</mark>" if differs or (column == "selection" and "TEST" in text) else text


def _joined(value: Any) -> str:
    parts: Iterable[Any] = value if isinstance(value, (list, tuple)) else [value]
    return "x".join(map(str, parts))
