"""The report as HTML and markdown: whole, self-contained, and deaf to what names try."""

from __future__ import annotations

import base64
import dataclasses
import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from PIL import Image
from report_packs import (
    SHAPES,
    affine,
    info,
    ksm,
    masks,
    pack,
    piggyback,
    plain,
    style_info,
)

from maskpack.common.errors import DataError
from maskpack.packs.contents import Pack, encode
from maskpack.reports.render import FORMATS, rendered
from maskpack.reports.render.figures import Heat, Lines, Scatter
from maskpack.reports.render.gallery import draw_gallery, grids
from maskpack.reports.render.scatter import layout
from maskpack.reports.render.sections import LINES, sections
from maskpack.reports.render.wording import score_text
from maskpack.reports.strips import Example, Maker, read_strips, write_strips
from maskpack.reports.summary import summarize

HOSTILE = (
    "<script>alert(1)<b>",
    '"><img src=x onerror=alert(1)>',
    "' onmouseover='alert(1)",
    "</title></style></svg>".replace("/", "\\"),
    "&lt;b&gt; &#60;i&#62;",
    "[x](http:evil.example) ![y](z)",
    "a | b || `c` **d** _e_ $f^2$",
    "www.evil.example @someone #1",
    "{% raw %} ${x} {{y}}",
    "наклейки 貼紙 🦜",
    "x" * 300,
)
VOID = {"meta", "br", "img", "link", "input", "hr"}


class Page(HTMLParser):
    """Collects elements, attributes and text; fails where tags do not match."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len({key for key, _ in attrs}) == len(attrs), (tag, attrs)
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open.pop() == tag, tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)

    def names(self) -> set[str]:
        return {tag for tag, _ in self.elements}


def page(*packs: Pack) -> Page:
    return Page(rendered(summarize(packs), "html"))


def zoo() -> Pack:
    tasks = piggyback("sparse"), ksm("scaled"), affine("shifted"), plain("head"), affine("flat")
    return pack(*tasks)


def hostile_pack(name: str) -> Pack:
    """The name wherever a file can put one; in a file's own task names `/` and `=` are refused."""
    task = piggyback(about=info(0.5, original=name))
    streams = {"mask": encode({f"{name}/{key}": m for key, m in masks(0.1).items()}, "bits")}
    called = name.replace("/", "").replace("=", "")
    bad = dataclasses.replace(task, name=called, method=name, norms=name, streams=streams)
    more = dataclasses.replace(bad, name=f"{called} 2", method="piggyback")
    base = dataclasses.replace(pack().backbone, name=name, fingerprint=name)
    return dataclasses.replace(pack(bad, more, path=f"{name}/zoo"), backbone=base)


# ---- the page


def test_page_refers_to_nothing_outside_and_runs_nothing() -> None:
    text = rendered(summarize([zoo()]), "html")
    found = Page(text)
    assert (
        not {"script", "link", "iframe", "object", "embed", "img", "base", "form"} & found.names()
    )
    for tag, attributes in found.elements:
        for key, value in attributes.items():
            assert not key.startswith("on") and key not in ("src", "srcset", "data", "action")
            if key in ("href", "xlink:href"):
                assert value is not None and value.startswith("#"), (tag, value)
    assert not re.search(r"url\(|@import|https?:", text)
    policy = [a["content"] for tag, a in found.elements if a.get("http-equiv")]
    assert policy and policy[0] is not None and "default-src 'none'" in policy[0]


def test_every_link_has_its_section() -> None:
    found = page(zoo())
    ids = [a["id"] for _, a in found.elements if "id" in a]
    links = [(a["href"] or "").removeprefix("#") for tag, a in found.elements if tag == "a"]
    assert len(ids) == len(set(ids)) and set(links) == set(ids)
    assert ids == ["size", "tasks", "zeros", "entropy", "similarity", "affine", "scaled"]


@pytest.mark.parametrize("name", HOSTILE)
def test_names_are_only_ever_text(name: str) -> None:
    found = page(hostile_pack(name))
    shown = "".join(found.text)
    assert not {"script", "img", "b", "i"} & (found.names() - page(zoo()).names())
    assert not any(key.startswith("on") for _, a in found.elements for key in a)
    assert name[:20] in shown


@pytest.mark.parametrize("name", HOSTILE)
def test_every_drawing_is_xml(name: str) -> None:
    text = rendered(summarize([hostile_pack(name), zoo()]), "html")
    drawings = re.findall(r"<svg .*?</svg>", text, re.DOTALL)
    assert len(drawings) > 10
    for drawing in drawings:
        root = ElementTree.fromstring(drawing)
        assert root.get("aria-label") or root.get("aria-hidden") == "true"


def test_letters_that_are_no_text_are_spelt_out() -> None:
    text = rendered(summarize([pack(piggyback(), path="a\x1b[31m\udc80\n\u202eb")]), "html")
    assert r"\x1b[31m\udc80\n\u202eb" in text
    text.encode()


def test_the_numbers_are_in_the_tables() -> None:
    shown = " ".join(page(zoo()).text)
    for row in summarize([zoo()])["tasks"]:
        assert f"{row['total']:,}" in shown
        assert f"{row['test']:.4f}" in shown
        assert f"{row['low']:.4f} to {row['high']:.4f}" in shown


def test_points_tell_what_they_are_when_hovered() -> None:
    text = rendered(summarize([zoo()]), "html")
    assert "\nksm on tiny\naccuracy 0.8500 (0.7672 to 0.9069)\n" in text
    assert "1. stem.weight\nshifted: 3.5 (0 to 7)" in text


def test_no_number_is_broken() -> None:
    for summary in (summarize([zoo()]), summarize([pack(piggyback())]), summarize([pack()])):
        text = rendered(summary, "html")
        assert not re.search(r"\b(?:nan|inf|None)\b", text.partition("</style>")[2])


# ---- what is drawn


def keys(*packs: Pack) -> list[str]:
    return [section.key for section in sections(summarize(packs))]


def test_each_plot_only_where_there_is_something_to_show() -> None:
    assert keys() == keys(pack()) == []
    assert keys(pack(plain())) == ["size"]
    assert keys(pack(plain(score=None))) == []
    assert keys(pack(piggyback(score=None))) == ["zeros", "entropy"]
    assert keys(pack(piggyback(), plain())) == ["size", "zeros", "entropy"]
    assert keys(pack(piggyback("a"), piggyback("b"))) == ["size", "zeros", "entropy", "similarity"]
    assert keys(pack(ksm())) == ["size", "zeros", "entropy", "scaled"]
    assert keys(pack(affine())) == ["size", "zeros", "entropy", "affine"]


def figures(key: str, *packs: Pack) -> tuple[Any, ...]:
    found = sections(summarize(packs))
    return next(section.figures for section in found if section.key == key)


def test_a_panel_for_what_was_learnt_and_one_for_the_rest() -> None:
    tasks = [
        piggyback("a"),
        plain("b"),
        piggyback("c", original="cars"),
        piggyback("d", original="dogs"),
        piggyback("untested", None, original="eels"),
    ]
    birds, rest = figures("size", pack(*tasks))
    assert isinstance(birds, Scatter) and isinstance(rest, Scatter)
    assert [point.label for point in birds.points] == ["b", "a"]
    assert [point.label for point in rest.points] == ["c", "d"]
    assert [point.front for point in birds.points] == [True, True]
    assert not any(point.front for point in rest.points)  # they do not compete


def test_one_file_of_many_tasks_learnt_once_has_one_panel_and_no_front() -> None:
    tasks = [piggyback(name, original=name) for name in "abcdef"]
    (panel,) = figures("size", pack(*tasks))
    assert len(panel.points) == 6
    page(pack(*tasks))


def test_collapsed_runs_do_not_press_the_others_together() -> None:
    tasks = [piggyback(f"t{n}", 0.8 + n / 100, classes=3 + n) for n in range(8)]
    collapsed = piggyback("collapsed", 0.01, classes=30)
    (panel,) = figures("size", pack(*tasks, collapsed))
    low, high = panel.range()
    assert 0.5 < low < 0.8 and high > 0.87
    text = rendered(summarize([pack(*tasks, collapsed)]), "html")
    assert text.count('class="arrow ') == 2 and "0.01: collapsed" in text  # on both drawings
    front = piggyback("front", 0.01, classes=1)  # the smallest of all is shown where it is
    (panel,) = figures("size", pack(*tasks, front))
    assert panel.range()[0] < 0.01


def test_few_tasks_are_lines_and_many_are_shades() -> None:
    few = pack(*(piggyback(f"t{n}", seed=n) for n in range(LINES)))
    many = pack(*(piggyback(f"t{n}", seed=n) for n in range(LINES + 1)))
    (lines,), (heat,) = figures("zeros", few), figures("zeros", many)
    assert isinstance(lines, Lines) and isinstance(heat, Heat)
    assert heat.columns == lines.layers == tuple(SHAPES)
    assert [line.values for line in lines.lines] == list(heat.values[:LINES])
    assert len({line.series for line in lines.lines}) == LINES
    page(many)


def test_lines_of_different_methods_have_the_colours_of_their_points() -> None:
    zoo_ = pack(piggyback(), ksm(), affine())
    (panel,), (lines,) = figures("size", zoo_), figures("zeros", zoo_)
    assert {p.label: p.series for p in panel.points} == {x.label: x.series for x in lines.lines}


def test_coefficients_by_channel_have_a_band_and_missing_ones_a_gap() -> None:
    k0, k1 = figures("affine", pack(affine()))
    assert k0.lines[0].values == (3.5, None, None)
    assert k1.lines[0].lows == (0.0, 0.0, 0.0) and k1.lines[0].highs == (7.0, 11.0, 4.0)
    (flat, _) = figures("affine", pack(affine(channel=False)))
    assert flat.lines[0].lows == ()


def test_a_square_has_shades_for_all_but_its_diagonal() -> None:
    equal, zeros = figures("similarity", pack(piggyback("a", seed=1), ksm("b"), plain("c")))
    assert equal.rows == equal.columns == ("b", "a")  # by method
    assert equal.values[0][1] == equal.values[1][0]
    assert equal.bounds() == (equal.values[0][1],) * 2 != (1.0, 1.0)
    assert "by chance" in equal.more[0][1] and zeros.more == ()


# ---- where lower is better


def styles(*losses: float) -> Pack:
    """The larger the later."""
    return pack(
        *(piggyback(f"t{n}", about=style_info(x), classes=n + 1) for n, x in enumerate(losses))
    )


def test_a_front_of_losses_runs_down() -> None:
    (panel,) = figures("size", styles(447480.0, 523000.0, 401000.75))
    assert panel.lower and panel.score == "test total loss (lower is better)"
    assert [point.front for point in panel.points] == [True, False, True]
    low, high = panel.range()
    assert low < 401000.75 and high > 523000
    laid = layout(panel, 920, 440)
    at = {place.point.label: place for place in laid.places}
    assert at["t2"].y > at["t0"].y > at["t1"].y  # y runs downwards, scores upwards
    text = rendered(summarize([styles(447480.0, 523000.0)]), "html")
    assert "Where a lower score is better" in text
    assert "Where a lower score is better" not in rendered(summarize([zoo()]), "html")


def test_a_collapsed_loss_stands_above_the_plot() -> None:
    losses = [500.0 - n for n in range(8)]
    (panel,) = figures("size", styles(*losses, 90000.0))
    assert panel.range()[1] < 600
    laid = layout(panel, 920, 440)
    (beyond,) = [place for place in laid.places if place.beyond]
    assert beyond.point.score == 90000.0 and laid.box.top < beyond.y < laid.box.top + 20
    assert any(label.text.startswith("90000: ") for label in laid.labels)
    text = rendered(summarize([styles(*losses, 90000.0)]), "html")
    assert text.count('class="arrow ') == 2
    assert not re.search(r"\b(?:nan|inf|None)\b", text.partition("</style>")[2])


def test_better_and_worse_are_mirror_images() -> None:
    up = pack(*(piggyback(f"t{n}", 0.5 + n / 50, classes=n + 1) for n in range(5)))
    about = [style_info(0.5 - n / 50) for n in range(5)]
    down = pack(*(piggyback(f"t{n}", about=a, classes=n + 1) for n, a in enumerate(about)))
    (first,), (second,) = figures("size", up), figures("size", down)
    plain_ = [dataclasses.replace(point, low=None, high=None) for point in first.points]
    first = dataclasses.replace(first, points=tuple(plain_))
    one, other = (layout(figure, 920, 440) for figure in (first, second))
    middle = one.box.top + one.box.bottom
    for a, b in zip(one.places, other.places, strict=True):
        # headers name another metric, so bytes differ by a few
        assert b.x == pytest.approx(a.x, abs=2) and b.y == pytest.approx(middle - a.y)
    assert len(one.labels) == len(other.labels) == 5


@pytest.mark.parametrize("format", ["html", "md"])
def test_best_is_the_lowest_loss(format: str) -> None:
    text = rendered(summarize([styles(447480.0, 401000.75)]), format)
    assert "Best: <b>t1</b> (401,001 at " in text if format == "html" else "Best: t1." in text
    assert "447,480" in text and "401,001" in text
    assert "test total loss" in text and "lower is better" in text


def test_what_was_learnt_once_says_its_metric_beside_others() -> None:
    tasks = piggyback("birds", 0.8), piggyback("oil", about=style_info(447480.0))
    shown = page(pack(*tasks)).text
    assert {"metric", "accuracy", "total loss (lower is better)", "447,480"} <= set(shown)
    one, other = figures("size", pack(*tasks))
    assert (one.lower, other.lower) == (False, True)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "-"),
        (0.0, "0.0000"),
        (0.81426, "0.8143"),
        (9.99999, "10.00"),
        (57.3124, "57.31"),
        (999.996, "1,000.0"),
        (4021.34, "4,021.3"),
        (447480.0, "447,480"),
        (-447480.0, "-447,480"),
        (1.5e12, "1.50e+12"),
        (3e-7, "3.00e-07"),
    ],
)
def test_scores_of_any_size_are_readable(value: float | None, shown: str) -> None:
    assert score_text(value) == shown


# ---- pictures


def strips(
    root: Path,
    method: str,
    *colours: str,
    size: int = 12,
    target: str = "white",
    **more: Any,
) -> None:
    """Strips of grey pictures, a number each, that a method made a colour of."""
    told = {"task": "mine", "learnt": "colouring", "norms": "task", "file": "zoo", "split": "test"}
    maker = Maker(**told | {"metric": "SSIM", "score": 0.5, "method": method} | more)
    examples = []
    for number, colour in enumerate(colours):
        drawn = {"input": "grey", "output": colour, "target": target}
        parts = {key: Image.new("RGB", (size, size), c) for key, c in drawn.items() if c}
        examples.append(Example(f"p{number}", parts))
    write_strips(root, maker, examples)


def pictures_in(text: str) -> list[tuple[str, Image.Image]]:
    """Alt text and picture of each img of a page."""
    found = []
    for tag, attributes in Page(text).elements:
        if tag == "img":
            source = attributes["src"] or ""
            kind, _, data = source.partition(";base64,")
            assert kind in ("data:image/png", "data:image/jpeg"), source[:40]
            image = Image.open(io.BytesIO(base64.b64decode(data)))
            image.load()
            found.append((attributes["alt"] or "", image))
    return found


def test_methods_stand_side_by_side(tmp_path: Path) -> None:
    strips(tmp_path, "piggyback", "red", "blue")
    strips(tmp_path, "ksm", "lime")
    (grid,) = grids(read_strips(tmp_path))
    assert grid.title == "colouring"
    assert [name for name, _ in grid.columns] == ["input", "ksm", "piggyback", "target"]
    assert [[part is not None for part in row] for row in grid.rows] == [
        [True, True, True, True],
        [True, False, True, True],
    ]
    text = rendered(summarize([zoo()], read_strips(tmp_path)), "html")
    shown = pictures_in(text)
    assert [alt for alt, _ in shown] == [
        *(f"colouring, picture 1: {name}" for name, _ in grid.columns),
        *(f"colouring, picture 2: {name}" for name in ("input", "piggyback", "target")),
    ]
    colours = [image.convert("RGB").getpixel((5, 5)) for _, image in shown[:4]]
    assert colours == [(128, 128, 128), (0, 255, 0), (255, 0, 0), (255, 255, 255)]
    assert "SSIM 0.5000" in text and '<a href="#pictures">' in text
    policy = next(a["content"] for _, a in Page(text).elements if a.get("http-equiv"))
    assert policy == (
        "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; "
        "img-src data:"
    )
    assert not re.search(r"url\(|@import|https?:", text)


def test_methods_alike_are_told_apart(tmp_path: Path) -> None:
    strips(tmp_path, "ksm", "red", file="runs/a/zoo")
    strips(tmp_path, "ksm", "red", file="runs/b/zoo")
    (grid,) = grids(read_strips(tmp_path))
    assert [name for name, _ in grid.columns[1:-1]] == ["ksm (a)", "ksm (b)"]
    strips(tmp_path, "ksm", "red", file="runs/b/zoo", split="val")
    (grid,) = grids(read_strips(tmp_path))
    assert [name for name, _ in grid.columns[1:-1]] == [f"mine-ksm{n}" for n in ("", "-2", "-3")]


def test_a_task_without_targets_has_no_column_for_them(tmp_path: Path) -> None:
    loss = {"metric": "total loss", "score": 447480.0, "lower_is_better": True}
    strips(tmp_path, "ksm", "red", target="", **loss)
    (grid,) = grids(read_strips(tmp_path))
    assert grid.columns == (("input", ""), ("ksm", "total loss (lower is better) 447,480"))


def test_large_pictures_are_made_smaller(tmp_path: Path) -> None:
    strips(tmp_path, "ksm", "red", size=600)
    text = rendered(summarize([], read_strips(tmp_path)), "html")
    assert {image.size for _, image in pictures_in(text)} == {(256, 256)}


def test_a_page_has_room_for_so_much_and_says_what_it_left_out(tmp_path: Path) -> None:
    strips(tmp_path, "ksm", "red", "red", "red")
    strips(tmp_path, "affine", "red", "red", learnt="edges")
    listed = read_strips(tmp_path)
    whole = draw_gallery(listed)
    assert whole.count("<img") == 15 and "would not fit" not in whole
    (row,) = set(re.findall(r"<tr><td>.*?</tr>", whole)[:1])
    some = draw_gallery(listed, limit=2 * len(row) + 9)
    assert [alt for alt, _ in pictures_in(some)][::3] == [
        "edges, picture 1: input",  # one of each task before the second of any
        "colouring, picture 1: input",
    ]
    assert "3 more rows would not fit into" in some and str(tmp_path) in some
    none = draw_gallery(listed, limit=9)
    assert "5 more rows would not fit" in none and "<img" not in none


@pytest.mark.parametrize("name", HOSTILE)
def test_names_of_strips_are_only_ever_text(tmp_path: Path, name: str) -> None:
    strips(tmp_path, name, "red", learnt=name, task=name, metric=name, file=name)
    listed = read_strips(tmp_path)
    text = rendered(summarize([], listed), "html")
    found = Page(text)
    assert not {"script", "b", "i"} & found.names() and found.names() >= {"img"}
    assert not any(key.startswith("on") for _, a in found.elements for key in a)
    assert {a["alt"] for tag, a in found.elements if tag == "img"} >= {f"{name}, picture 1: input"}
    for rows in markdown_tables(rendered(summarize([], listed), "md")):
        assert len({len(row) for row in rows}) == 1


def test_markdown_and_json_say_where_pictures_are(tmp_path: Path) -> None:
    strips(tmp_path, "ksm", "red", "blue")
    summary = summarize([zoo()], read_strips(tmp_path))
    text = rendered(summary, "md")
    rows = next(rows for rows in markdown_tables(text) if "folder" in rows[0][2])
    cells = [cell.strip().replace("\\", "") for cell in rows[2]]
    assert cells == ["colouring", "ksm", str(tmp_path / "mine-ksm"), "2", "SSIM 0.5000"]
    (row,) = json.loads(rendered(summary, "json"))["pictures"]
    assert row["folder"] == str(tmp_path / "mine-ksm")
    assert row["pictures"][1]["file"] == "0002.png"
    assert row["pictures"][1]["parts"]["output"] == [16, 0, 28, 12]
    assert json.loads(rendered(summarize([zoo()]), "json"))["pictures"] == []


def test_a_strip_that_went_away_is_one_line(tmp_path: Path) -> None:
    strips(tmp_path, "ksm", "red")
    listed = read_strips(tmp_path)
    (tmp_path / "mine-ksm" / "0001.png").unlink()
    with pytest.raises(DataError, match=r"0001\.png: cannot be read as an image"):
        draw_gallery(listed)


# ---- the texts


@pytest.mark.parametrize("format", FORMATS)
def test_the_same_packs_twice_are_the_same_bytes(format: str) -> None:
    assert rendered(summarize([zoo()]), format) == rendered(summarize([zoo()]), format)


def test_json_is_the_summary() -> None:
    summary = summarize([zoo()])
    assert json.loads(rendered(summary, "json")) == summary


def markdown_tables(text: str) -> list[list[list[str]]]:
    """Cells of each table; escaped bars are no borders."""
    blocks = [block.splitlines() for block in text.split("\n\n") if block.startswith("|")]
    return [[re.split(r"(?<!\\)\|", line)[1:-1] for line in block] for block in blocks]


@pytest.mark.parametrize("name", ("", *HOSTILE))
def test_markdown_has_tables_of_even_rows(name: str) -> None:
    text = rendered(summarize([hostile_pack(name) if name else zoo()]), "md")
    tables = markdown_tables(text)
    assert len(tables) >= 3
    for rows in tables:
        assert len({len(row) for row in rows}) == 1
        assert all(re.fullmatch(r" -+:? ", cell) for cell in rows[1])


@pytest.mark.parametrize("name", HOSTILE)
def test_names_mark_up_nothing_in_markdown(name: str) -> None:
    text = rendered(summarize([hostile_pack(name)]), "md")
    assert not re.search(r"(?<!\\)[<>`\[\]*]", text)
    assert not re.search(r"https?://|www\.", text, re.IGNORECASE)


def test_markdown_names_best_and_front() -> None:
    text = rendered(summarize([pack(plain("a", 0.6), piggyback("b", 0.83))]), "md")
    assert "Best: b." in text
    first = markdown_tables(text)[0]
    assert [cell.strip() for cell in first[2][:3]] == ["a", "classifier-only", "yes"]
