"""Rows of values as shades, drawn: names stay in sight while the cells scroll."""

from __future__ import annotations

from maskpack.reports.render.figures import Heat
from maskpack.reports.render.svg import tag, text, title
from maskpack.reports.render.wording import escape, share_text, significant

CELL, ROW = 15, 18  # pixels
LARGE = 46  # of a cell that has room for its number
NUMBERED = 12  # rows of a square that are drawn with numbers
TITLED = 8000  # cells; in a larger one only rows tell their values


def cell_size(figure: Heat) -> tuple[int, int]:
    """Width and height of a cell, in pixels."""
    if figure.square:
        return (LARGE, 26) if len(figure.rows) <= NUMBERED else (ROW, ROW)
    return CELL, ROW


def draw_heat(figure: Heat) -> str:
    """Names and cells side by side, as HTML with an svg element in it, and what shades mean."""
    low, high = figure.bounds()
    numbered = figure.square and len(figure.rows) <= NUMBERED
    cell, row = cell_size(figure)
    width, height = cell * len(figure.columns), row * (len(figure.rows) + 1)
    parts = [
        text((n + 0.5) * cell, row - 5, str(n + 1), "tick", "middle")
        for n in range(len(figure.columns))
        if figure.square or n == 0 or (n + 1) % 5 == 0
    ]
    told = len(figure.rows) * len(figure.columns) <= TITLED
    for n in range(len(figure.rows)):
        parts += [
            _cell(figure, n, m, (m * cell, (n + 1) * row, cell, row), (low, high), numbered, told)
            for m in range(len(figure.columns))
        ]
    label = f"{figure.title}: {figure.value.lower()}, {len(figure.rows)} rows"
    drawing = tag(
        "svg",
        *parts,
        width=width,
        height=height,
        viewBox=f"0 0 {width} {height}",
        role="img",
        aria_label=label,
    )
    number = (lambda n: f"<b>{n}</b> ") if figure.square else (lambda n: "")
    names = "".join(
        f'<li title="{escape(name)}">{number(n)}{escape(name)}</li>'
        for n, name in enumerate(figure.rows, 1)
    )
    style = f"--row: {row}px"
    return (
        f'<div class="heat" style="{style}"><ul class="names">{names}</ul>'
        f'<div class="scroll" tabindex="0">{drawing}</div></div>{_key(figure, low, high)}'
    )


def shade(value: float, low: float, high: float) -> float:
    """How much of the colour a value gets: none at 0 of a range that begins there."""
    if high <= low:
        return 0.5
    least = 0.08 if low else 0.0
    return least + (1 - least) * (value - low) / (high - low)


def _cell(
    figure: Heat,
    n: int,
    m: int,
    place: tuple[float, float, float, float],
    bounds: tuple[float, float],
    numbered: bool,
    told: bool,
) -> str:
    x, y, width, height = place
    value = figure.values[n][m]
    where = {"x": x, "y": y, "width": width - 1, "height": height - 1}
    if value is None or figure.same(n, m):
        return tag("rect", **where, class_="none")
    told_value = share_text(value) if "Share" in figure.value else significant(value)
    full = shade(value, *bounds)
    lines = [figure.rows[n], figure.columns[m], told_value]
    if figure.more and figure.more[n][m]:
        lines.append(figure.more[n][m])
    part = tag(
        "rect",
        title(*lines) if told else "",
        **where,
        class_="cell",
        fill_opacity=f"{full:.2f}",
    )
    if numbered:
        class_ = "number over" if full > 0.5 else "number"
        number = f"{100 * value:.1f}" if "Share" in figure.value else significant(value)
        part += text(x + width / 2, y + height / 2 + 4, number, class_, "middle")
    return part


def _key(figure: Heat, low: float, high: float) -> str:
    """A strip from the lightest shade to the full one, between the two values they stand for."""
    told = share_text if "Share" in figure.value else significant
    steps = 12
    cells = [
        tag(
            "rect",
            x=10 * n,
            y=0,
            width=10,
            height=12,
            class_="cell",
            fill_opacity=f"{shade(low + (high - low) * n / (steps - 1), low, high):.2f}",
        )
        for n in range(steps)
    ]
    strip = tag("svg", *cells, viewBox="0 0 120 12", preserveAspectRatio="none", aria_hidden="true")
    name = escape(figure.value)
    return f'<p class="key"><span>{name}</span> {told(low)} {strip} {told(high)}</p>'
