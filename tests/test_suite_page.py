"""A suite's tables as one page: whole, self-contained, with what its tables say."""

from __future__ import annotations

from typing import Any

import pytest
from test_report_page import HOSTILE, Page

from maskpack.reports.render.figures import Heat, Lines, Scatter
from maskpack.reports.render.heat import draw_heat
from maskpack.reports.render.sections import LINES
from maskpack.suites.tables.figures import lower_is_better, sections_of
from maskpack.suites.tables.page import suite_page

TASKS = ("birds", "cars", "flowers")


def scores(metric: str = "accuracy", tasks: tuple[str, ...] = (*TASKS, "average")) -> list[Any]:
    rows: list[Any] = []
    for n, task in enumerate(tasks):
        about = {"task": task, "metric": metric}
        ours = {"masks": 0.8 + n / 100, "tuned": 0.7, "chain": 0.9, "theirs": None}
        rows.append({**about, "figures": "ours", **ours})
        rows.append({**about, "figures": "spread", "masks": 0.01, "tuned": 0.02, "chain": None})
        last = dict.fromkeys(ours) | {"chain": 0.5}
        rows.append({**about, "figures": "at the end", **last})
        rows.append({**about, "figures": "published", "masks": 0.75, "theirs": 0.6})
    return rows


def sequences(method: str = "chain") -> list[Any]:
    rows = []
    for n, task in enumerate(TASKS):
        after = {f"after {name}": 0.4 + n / 10 if m >= n else None for m, name in enumerate(TASKS)}
        about = {"method": method, "task": task, "metric": "accuracy"}
        rows.append({**about, "when learnt": 0.91, "lost": 0.1, **after})
    return rows


def by_layer(key: str, tasks: tuple[str, ...] = TASKS, method: str = "masks") -> list[Any]:
    about = {"method": method, "shape": [4, 4], "bits": 16}
    return [
        {**about, "layer": f"layer{n}", key: dict.fromkeys(tasks, 0.5 + n / 10)} for n in range(3)
    ]


def coefficients() -> list[Any]:
    about = {"method": "affine", "coefficient": "k2"}
    return [
        {**about, "layer": f"layer{n}", "of": of, "value": {"birds": n + shift, "cars": n - shift}}
        for n in range(3)
        for of, shift in (("mean", 0.0), ("min", -0.5), ("max", 0.5))
    ]


def tables() -> dict[str, list[Any]]:
    size = {"tasks": 4, "as printed": "1 MB", "of separate": 0.25}
    paired = {"against": "tuned", "pictures": 90, "p": 0.01, "p, Holm": 0.02}
    return {
        "scores": scores(),
        "sequences": sequences(),
        "paired": [{"task": task, "method": "masks", **paired} for task in (*TASKS, "all tasks")],
        "protocol": [
            {"method": "masks", "epochs": 20, "selection": "validation", "differs": None},
            {"method": "tuned", "epochs": 5, "selection": "TEST SPLIT", "differs": "epochs"},
        ],
        "bytes": [
            {"method": name, "scope": scope, "bytes a task": each, "bytes": 9 * each, **size}
            for name, each in (("masks", 2_000), ("tuned", 64_000), ("chain", 500))
            for scope in ("piggyback", "all")
        ],
        "ones": by_layer("ones"),
        "zeros": by_layer("zeros"),
        "scaled": by_layer("scaled", method="ksm"),
        "coefficients": coefficients(),
        "similarity": [
            {
                "method": "masks",
                "task": task,
                "figures": "ours",
                "similarity": dict.fromkeys(TASKS, 0.75),
            }
            for task in TASKS
        ],
        "seconds": [
            {"task": "total", "figures": "ours", "masks": 120.5, "tuned": 240.0},
            {"task": "total", "figures": "published", "masks": 1000.0, "tuned": None},
        ],
    }


def found(**changes: Any) -> dict[str, Any]:
    listed = tables() | changes.pop("tables", {})
    return {
        "suite": "tiny",
        "title": "A tiny suite",
        "paper": "Nobody 1999",
        "published": "Nobody 1999",
        "notes": ["the TEST SPLIT chose the epoch of tuned"],
        "failed": {},
        "tables": {key: {"title": f"the {key}", "rows": rows} for key, rows in listed.items()},
        "cells": [{}] * 9,
        **changes,
    }


# ---- the page


def test_the_page_holds_every_table_and_refers_to_nothing_outside() -> None:
    page = Page(suite_page(found()))
    text = " ".join(page.text)
    assert "A tiny suite" in text and "the TEST SPLIT chose the epoch of tuned" in text
    assert not {"script", "link", "iframe", "object", "img", "form"} & page.names()
    for _, attributes in page.elements:
        for key, value in attributes.items():
            assert not key.startswith("on") and key not in ("src", "data", "action")
            if key == "href":
                assert value is not None and value.startswith("#")
    ids = {about["id"] for _, about in page.elements if "id" in about}
    links = {about["href"] for tag, about in page.elements if tag == "a"}
    assert {str(link)[1:] for link in links} <= ids
    sections = {"scores", "size", "paired", "sequences", "ones", "scaled", "affine", "similarity"}
    assert {*sections, "bytes"} == ids
    assert suite_page(found()) == suite_page(found())


def test_published_rows_stand_below_ours_and_the_best_is_bold() -> None:
    text = suite_page(found())
    assert '<tr class="published"><th scope="row">masks, published</th><td>0.7500</td>' in text
    assert '<th scope="row">theirs, published</th>' in text
    assert "<b>0.8000 ± 0.0100</b>" in text  # of birds
    assert "0.9000</td>" in text and "<b>0.9000" not in text  # 0.5 is left of it
    assert "<mark>5</mark>" in text and "<mark>TEST SPLIT</mark>" in text
    assert "<td>2 kB</td><td>120</td>" in text or "<td>2 kB</td><td>121</td>" in text
    assert "<td>1000</td>" in text


@pytest.mark.parametrize("name", HOSTILE)
def test_names_are_text(name: str) -> None:
    rows = [{key.replace("masks", name): value for key, value in r.items()} for r in scores()]
    rows = [{**row, "task": row["task"].replace("birds", name)} for row in rows]
    changed = {
        "scores": rows,
        "sequences": sequences(name),
        "ones": by_layer("ones", (name,), name),
    }
    page = Page(suite_page(found(tables=changed, title=name, notes=[name], failed={name: name})))
    assert not {"script", "img", "b-"} & page.names()
    assert all(not key.startswith("on") for _, about in page.elements for key in about)


def test_a_suite_with_nothing_finished_has_a_page() -> None:
    empty = {key: [] for key in tables()}
    page = Page(suite_page(found(tables=empty, cells=[], notes=[])))
    assert "A tiny suite" in " ".join(page.text)


# ---- figures


def sections(changed: dict[str, Any] | None = None) -> dict[str, Any]:
    return {section.key: section.figures for section in sections_of(tables() | (changed or {}))}


def test_methods_stand_by_what_a_task_adds_and_what_they_score_in_the_end() -> None:
    (figure,) = sections()["size"]
    assert isinstance(figure, Scatter) and figure.title == "Average over the tasks"
    points = {point.label: point for point in figure.points}
    assert points["masks"].bytes == 2_000 and points["masks"].score == pytest.approx(0.83)
    assert (points["masks"].low, points["masks"].high) == pytest.approx((0.82, 0.84))
    assert (points["chain"].score, points["chain"].low) == (0.5, None)
    assert {name for name, point in points.items() if point.front} == {"chain", "masks"}
    assert "theirs" not in points


def test_tasks_with_metrics_of_their_own_have_a_panel_each() -> None:
    rows = scores("MSE", ("colour",)) + scores("accuracy", ("birds",))
    figures = sections({"scores": rows})["size"]
    assert [(figure.title, figure.lower) for figure in figures] == [
        ("colour", True),
        ("birds", False),
    ]
    fronts = [{point.label for point in figure.points if point.front} for figure in figures]
    assert fronts == [{"chain"}, {"chain", "masks"}]


@pytest.mark.parametrize(
    ("metric", "lower"),
    [
        ("accuracy", False),
        ("mIoU on val", False),
        ("SSIM", False),
        ("MSE", True),
        ("total loss", True),
    ],
)
def test_which_metrics_are_better_when_lower(metric: str, lower: bool) -> None:
    assert lower_is_better(metric) is lower


def test_forgetting_is_a_matrix_with_its_diagonal() -> None:
    (figure,) = sections()["sequences"]
    assert isinstance(figure, Heat) and figure.rows == figure.columns == TASKS
    assert figure.values[0] == (0.91, 0.4, 0.4)
    assert figure.values[2] == (None, None, 0.91)
    drawn = draw_heat(figure)
    assert drawn.count(">91.0<") == 3 and drawn.count('class="none"') == 3
    assert draw_heat(sections()["similarity"][0]).count('class="none"') == 3


def test_layers_are_lines_while_they_can_be_told_apart() -> None:
    (lines,) = sections()["ones"]
    assert isinstance(lines, Lines) and [line.label for line in lines.lines] == list(TASKS)
    assert lines.lines[0].values == (0.5, 0.6, 0.7)
    many = tuple(f"task{n}" for n in range(LINES + 1))
    (shades,) = sections({"ones": by_layer("ones", many)})["ones"]
    assert isinstance(shades, Heat) and shades.rows == many


def test_coefficients_span_their_channels() -> None:
    (figure,) = sections()["affine"]
    assert figure.title == "k2, of the mask, affine"
    birds, cars = figure.lines
    assert birds.values == cars.values == (0.0, 1.0, 2.0)
    assert birds.lows == (-0.5, 0.5, 1.5) and birds.highs == (0.5, 1.5, 2.5)
