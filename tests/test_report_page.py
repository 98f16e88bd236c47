"""The report as HTML and markdown: whole, self-contained, and deaf to what names try."""

from __future__ import annotations

import dataclasses
import json
import re
from html.parser import HTMLParser
from typing import Any
from xml.etree import ElementTree

import pytest
from report_packs import SHAPES, affine, info, ksm, masks, pack, piggyback, plain

from maskpack.packed import Pack, encode
from maskpack.render import FORMATS, rendered
from maskpack.render.figures import Heat, Lines, Scatter
from maskpack.render.sections import LINES, sections
from maskpack.summary import summarize

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
