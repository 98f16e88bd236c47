"""What plots have in common: a frame, ticks, the shapes of points, a legend."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from maskpack.reports.render.svg import Scale, tag, text
from maskpack.reports.render.wording import escape

COLOURS = 8  # classes s0 ... s7; s8 is the grey of what comes after
SIDES = ((0, 0), (4, 45), (3, -90), (4, 0), (3, 90), (5, -90), (6, 0), (4, 22))  # corners, turn


@dataclass(frozen=True)
class Box:
    """A rectangle: a plot's inside, or the room a label takes."""

    left: float
    top: float
    right: float
    bottom: float

    def meets(self, other: Box) -> bool:
        return (
            self.left < other.right
            and other.left < self.right
            and self.top < other.bottom
            and other.top < self.bottom
        )

    def holds(self, other: Box) -> bool:
        return (
            self.left <= other.left
            and other.right <= self.right
            and self.top <= other.top
            and other.bottom <= self.bottom
        )


def colour(series: int) -> str:
    """The class that gives a series its colour."""
    return f"s{min(series, COLOURS)}"


def marker(x: float, y: float, series: int, hollow: bool, size: float = 5.0) -> str:
    """A point; its shape says the series too, for eyes that do not tell its colour."""
    corners, turn = SIDES[series % len(SIDES)]
    class_ = "mark hollow" if hollow else "mark"
    if not corners:
        return tag("circle", cx=x, cy=y, r=size, class_=class_)
    radius = size * (1.35 if corners == 3 else 1.2)
    angles = [math.radians(turn + 360 * n / corners) for n in range(corners)]
    path = " ".join(
        f"{x + radius * math.cos(a):.1f},{y + radius * math.sin(a):.1f}" for a in angles
    )
    return tag("polygon", points=path, class_=class_)


def frame(
    box: Box,
    across: Iterable[tuple[float, str]],
    up: Iterable[tuple[float, str]],
    x_name: str,
    y_name: str,
) -> str:
    """Grid lines at the ticks of the upright axis, labels on both, the axes' names."""
    parts = []
    for y, label in up:
        class_ = "zero" if label == "0" else "grid"
        parts.append(tag("line", x1=box.left, x2=box.right, y1=y, y2=y, class_=class_))
        parts.append(text(box.left - 8, y + 4, label, "tick", "end"))
    for x, label in across:
        parts.append(tag("line", x1=x, x2=x, y1=box.bottom, y2=box.bottom + 4, class_="axis"))
        parts.append(text(x, box.bottom + 18, label, "tick", "middle"))
    ends = {"x1": box.left, "x2": box.right, "y1": box.bottom, "y2": box.bottom}
    parts.append(tag("line", **ends, class_="axis"))
    parts.append(text((box.left + box.right) / 2, box.bottom + 36, x_name, "name", "middle"))
    parts.append(text(box.left - 44, 14, y_name, "name"))
    return "".join(parts)


def placed(
    scale: Scale, values: Sequence[float], name: Callable[[float], str]
) -> list[tuple[float, str]]:
    """Ticks as places and labels."""
    return [(scale(value), name(value)) for value in values]


def picture(width: float, height: float, label: str, *parts: str, class_: str = "") -> str:
    """The svg element; `label` says to those who cannot see it what it shows."""
    return tag(
        "svg",
        *parts,
        class_=class_ or None,
        viewBox=f"0 0 {width:g} {height:g}",
        role="img",
        aria_label=label,
    )


def legend(entries: Sequence[tuple[int, str]], *, shapes: bool, more: Sequence[str] = ()) -> str:
    """Colours (and shapes) with their names, as HTML that wraps where it must."""
    items = []
    for series, name in entries:
        if shapes:
            mark = marker(8, 8, series, False)
        else:
            mark = tag("line", x1=0, x2=16, y1=8, y2=8, class_="swatch")
        icon = tag("svg", mark, viewBox="0 0 16 16", aria_hidden="true", class_=colour(series))
        items.append(f"<li>{icon}<span>{escape(name)}</span></li>")
    items += [f"<li><span>{escape(name)}</span></li>" for name in more]
    return f'<ul class="legend">{"".join(items)}</ul>'
