"""Bytes against score, drawn: points, intervals, the Pareto front, and the labels that fit."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from maskpack.reports.render.axes import Box, colour, frame, marker, picture, placed
from maskpack.reports.render.figures import Point, Scatter
from maskpack.reports.render.svg import WIDTH, Scale, log_ticks, tag, text, ticks, title
from maskpack.reports.render.wording import bytes_text, shortened, significant

MARGIN = Box(62, 44, 18, 46)
NARROW = 480  # a drawing less wide than this is for a phone: fewer labels
TIMES = (1, 2, 5, 10, 20, 50, 100, 250, 500, 1000, 2500, 5000, 10000)
SHIFTS = {"start": 0.0, "middle": 0.5, "end": 1.0}  # of a text before its anchor
COPY, COPY_SHORT = "of a fine-tuned copy", "of fine-tuned"
FEW_TIMES = (1, 10, 100, 1000, 10000)


@dataclass(frozen=True)
class Place:
    """A point on the drawing."""

    point: Point
    x: float
    y: float
    beyond: bool  # what the plot shows: worse

    def box(self) -> Box:
        return Box(self.x - 6, self.y - 6, self.x + 6, self.y + 6)


@dataclass(frozen=True)
class Label:
    """A text that begins, ends or is centred at x, as `anchor` says."""

    x: float
    y: float
    text: str
    anchor: str
    front: bool


@dataclass(frozen=True)
class Layout:
    """Where everything stands on a drawing of so many pixels, y downwards. `worse` is where
    scores are worse: 1 downwards, -1 upwards.
    """

    box: Box
    across: Scale
    up: Scale
    places: tuple[Place, ...]
    labels: tuple[Label, ...]
    worse: int = 1


def layout(figure: Scatter, width: int, height: int) -> Layout:
    """Places of points and of the labels that fit, for a drawing in SVG or by matplotlib."""
    narrow = width < NARROW
    box = Box(MARGIN.left, MARGIN.top, width - MARGIN.right, height - MARGIN.bottom)
    across, up = _scales(figure, box)
    worse = -1 if figure.lower else 1
    places = [_place(point, across, up, worse) for point in figure.points]
    places.sort(key=lambda place: place.point.front)  # the front is drawn over the rest
    sparse = len(places) > (6 if narrow else 12)
    labels = _labels(places, box, up, 24 if narrow else 34, sparse, worse)
    return Layout(box, across, up, tuple(places), tuple(labels), worse)


def draw_scatter(figure: Scatter, width: int, height: int) -> str:
    """An svg element of so many pixels."""
    laid, narrow = layout(figure, width, height), width < NARROW
    box, across, up, places = laid.box, laid.across, laid.up, laid.places
    sizes = log_ticks(across.low, across.high, 5 if narrow else 7)
    parts = [
        frame(
            box,
            placed(across, sizes, bytes_text),
            placed(up, ticks(up.low, up.high), significant),
            "bytes of the task",
            figure.score,
        ),
        _fractions(figure, across, box, FEW_TIMES if narrow else TIMES),
        _front(places, box),
        "".join(_interval(place, laid) for place in places),
        "".join(_mark(place) for place in places),
        "".join(_label(label) for label in laid.labels),
    ]
    about = f"{figure.title}: bytes against {figure.score}, {len(places)} points"
    return picture(width, height, about, *parts)


def _label(label: Label) -> str:
    class_ = "label front-label" if label.front else "label"
    return text(label.x, label.y, label.text, class_, label.anchor)


def _scales(figure: Scatter, box: Box) -> tuple[Scale, Scale]:
    sizes = [point.bytes for point in figure.points]
    small, large = min(sizes), max(sizes)
    stretch = max(1.18, (6 / (large / small)) ** 0.5)  # a factor of 6 at least is shown
    return (
        Scale(small / stretch, large * stretch, box.left, box.right, log=True),
        Scale(*figure.range(), box.bottom, box.top),
    )


def _place(point: Point, across: Scale, up: Scale, worse: int) -> Place:
    """Where a point is drawn: one worse than the scores shown stands at the edge, with an arrow."""
    edge, last = (up.start, up.low) if worse > 0 else (up.stop, up.high)
    beyond = worse * point.score < worse * last
    return Place(
        point, across(point.bytes), edge - 14 * worse if beyond else up(point.score), beyond
    )


def _fractions(figure: Scatter, across: Scale, box: Box, times: Sequence[int]) -> str:
    """Above the plot: how often a task fits a fine-tuned copy."""
    whole = figure.fine_tuned
    if whole is None:
        return ""
    parts = []
    for n in times:
        if across.low <= whole / n <= across.high:
            x = across(whole / n)
            parts.append(tag("line", x1=x, x2=x, y1=box.top - 4, y2=box.top, class_="axis"))
            parts.append(text(x, box.top - 8, "1" if n == 1 else f"1/{n}", "tick", "middle"))
    if parts:
        beside = box.right - box.left + 44 - WIDTH * len(figure.score)  # of the axis's name
        name = COPY if WIDTH * (len(COPY) + 2) < beside else COPY_SHORT
        parts.append(text(box.right, 14, name, "name", "end"))
        parts.append(tag("line", x1=box.left, x2=box.right, y1=box.top, y2=box.top, class_="grid"))
    return "".join(parts)


def _front(places: Sequence[Place], box: Box) -> str:
    """What score a number of bytes can buy: a staircase."""
    steps = steps_of(places, box)
    if not steps:
        return ""
    path = f"M{steps[0].left:.1f} {steps[0].bottom:.1f}"
    path += "".join(f"H{step.right:.1f}V{step.top:.1f}" for step in steps)
    return tag("path", d=path, class_="front")


def steps_of(places: Sequence[Place], box: Box) -> list[Box]:
    """The staircase's treads and risers, each as the thin box it fills."""
    front = sorted((p for p in places if p.point.front), key=lambda place: place.x)
    if not front:
        return []
    last = Place(front[-1].point, box.right, front[-1].y, False)
    steps = []
    for here, there in itertools.pairwise([*front, last]):
        steps.append(Box(here.x, here.y, there.x, here.y))
        steps.append(Box(there.x, there.y, there.x, here.y))
    return steps


def _bar(place: Place, up: Scale) -> Box | None:
    """The interval, as far as the plot shows it."""
    point = place.point
    if place.beyond or point.low is None or point.high is None:
        return None
    low, high = max(point.low, up.low), min(point.high, up.high)
    return Box(place.x, up(high), place.x, up(low))


def _interval(place: Place, laid: Layout) -> str:
    point, x, bar = place.point, place.x, _bar(place, laid.up)
    if place.beyond:
        y, tip = place.y + 8 * laid.worse, 4 * laid.worse
        path = f"M{x - 3.5:.1f} {y:.1f}l3.5 {tip}l3.5 {-tip}"
        return tag("path", d=path, class_=f"arrow {colour(point.series)}")
    if bar is None:
        return ""
    class_ = f"bar {colour(point.series)}" + (" of-front" if point.front else "")
    return tag("line", x1=x, x2=x, y1=bar.bottom, y2=bar.top, class_=class_)


def _mark(place: Place) -> str:
    point = place.point
    return tag(
        "g",
        title(*point.about),
        tag("circle", cx=place.x, cy=place.y, r=11, class_="hit"),
        marker(place.x, place.y, point.series, point.hollow),
        class_=f"point {colour(point.series)}" + (" of-front" if point.front else ""),
    )


def _labels(
    places: Sequence[Place], box: Box, up: Scale, most: int, sparse: bool, worse: int
) -> Iterator[Label]:
    """Labels beside their points, the front's first; what finds no room stays without.

    `sparse`: only the front's, and of what lies beyond the plot.
    """
    taken = [place.box() for place in places]
    lines = [*steps_of(places, box), *(bar for place in places if (bar := _bar(place, up)))]
    inside = Box(box.left, box.top, box.right + 12, box.bottom - 2)
    fronts = any(place.point.front for place in places)
    for place in sorted(places, key=lambda p: (not p.point.front, -worse * p.y, p.x)):
        front = place.point.front
        if sparse and fronts and not (front or place.beyond):
            continue
        label = shortened(place.point.label, most)
        if place.beyond:
            label = f"{significant(place.point.score)}: {label}"
        length = WIDTH * len(label) * (1.1 if front else 1)
        rooms = [
            (x, y, anchor, Box(left, y - 10, left + length, y + 3))
            for x, y, anchor in _around(place, worse)
            for left in [x - length * SHIFTS[anchor]]
        ]
        free = [
            (x, y, anchor, room)
            for x, y, anchor, room in rooms
            if inside.holds(room) and not any(room.meets(other) for other in taken)
        ]
        # over a line rather than nowhere
        clear = [found for found in free if not any(found[3].meets(line) for line in lines)]
        for x, y, anchor, room in (clear or free)[:1]:
            taken.append(room)
            yield Label(x, y, label, anchor, front)


def _around(place: Place, worse: int) -> Iterator[tuple[float, float, str]]:
    """Where a label may stand, the best first: left on the better side of the front's staircase,
    right on the other.
    """
    x, y = place.x, place.y
    for gap in (0, 9, 18):
        for dx, dy, anchor in (
            (-9 - gap / 2, -6 - gap, "end"),
            (9 + gap / 2, 14 + gap, "start"),
            (11, 4 + gap, "start"),
            (-11, 4 - gap, "end"),
            (0, -12 - gap, "middle"),
            (0, 20 + gap, "middle"),
            (10, -7 - gap, "start"),
            (-10, 15 + gap, "end"),
        ):
            # mirrored, the 10 pixels that a label takes above its line and 3 below change places
            yield x + dx, y + (dy if worse > 0 else 7 - dy), anchor
