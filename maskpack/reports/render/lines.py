"""Values by layer, drawn: a line a task."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from maskpack.reports.render.axes import Box, colour, frame, picture, placed
from maskpack.reports.render.figures import Line, Lines
from maskpack.reports.render.svg import WIDTH, Scale, tag, text, ticks, title
from maskpack.reports.render.wording import percent, share_text, shortened, significant

MARGIN = Box(62, 34, 18, 46)
NARROW = 480
NAME = 24  # characters of a line's name beside its end


def draw_lines(figure: Lines, width: int, height: int, *, named: bool) -> str:
    """An svg element of so many pixels; `named` lines have their names at their right ends."""
    names = [shortened(line.label, NAME) for line in figure.lines]
    room = WIDTH * max(map(len, names)) + 14 if named else MARGIN.right
    box = Box(MARGIN.left, MARGIN.top, width - room, height - MARGIN.bottom)
    across = Scale(1, max(len(figure.layers), 2), box.left + 8, box.right - 8)
    up = _upright(figure, box)
    name = share_text if figure.share and "Share" in figure.value else significant
    numbers = [n for n in ticks(1, len(figure.layers), 6 if width < NARROW else 12) if n == int(n)]
    parts = [
        frame(
            box,
            placed(across, [1, *numbers[numbers[:1] == [1] :]], lambda n: f"{n:.0f}"),
            placed(up, ticks(up.low, up.high), percent if name is share_text else significant),
            "layer, input to output",
            figure.value,
        ),
        "".join(_drawn(line, across, up) for line in figure.lines),
        "".join(_hover(figure, across, box, name)),
    ]
    if named:
        parts += _names(figure.lines, names, up, box)
    label = f"{figure.title}: {figure.value.lower()} in {len(figure.layers)} layers"
    return picture(width, height, label, *parts)


def _upright(figure: Lines, box: Box) -> Scale:
    known = [
        value
        for line in figure.lines
        for values in (line.values, line.lows, line.highs)
        for value in values
        if value is not None
    ]
    low, high = min(known), max(known)
    if figure.share:
        return Scale(0.0, min(1.0, 1.06 * high) if high else 1.0, box.bottom, box.top)
    room = 0.06 * (high - low) or 0.1 * abs(high) or 1.0
    return Scale(low - room, high + room, box.bottom, box.top)


def _drawn(line: Line, across: Scale, up: Scale) -> str:
    places = [
        None if value is None else (across(n), up(value)) for n, value in enumerate(line.values, 1)
    ]
    parts = [_band(line, across, up)] if line.lows else []
    path, pen = "", "M"
    for place in places:
        if place is None:  # a layer without a value interrupts nothing: its neighbours are joined
            continue
        path += f"{pen}{place[0]:.1f} {place[1]:.1f}"
        pen = "L"
    parts.append(tag("path", d=path, class_="line"))
    parts += [tag("circle", cx=p[0], cy=p[1], r=2.4, class_="dot") for p in places if p]
    return tag("g", title(line.label), *parts, class_=f"run {colour(line.series)}")


def _band(line: Line, across: Scale, up: Scale) -> str:
    ends = [
        (across(n), up(low), up(high))
        for n, (low, high) in enumerate(zip(line.lows, line.highs, strict=True), 1)
        if low is not None and high is not None
    ]
    if len(ends) == 1:
        x, low, high = ends[0]
        return tag("rect", x=x - 2, y=high, width=4, height=low - high, class_="band")
    outline = [(x, high) for x, _, high in ends] + [(x, low) for x, low, _ in reversed(ends)]
    return tag("polygon", points=" ".join(f"{x:.1f},{y:.1f}" for x, y in outline), class_="band")


def _hover(figure: Lines, across: Scale, box: Box, name: object) -> Iterator[str]:
    """A column a layer: hovering anywhere in it tells every line's value."""
    half = (across(2) - across(1)) / 2
    for n, layer in enumerate(figure.layers):
        found = []
        for line in figure.lines:
            value = line.values[n]
            if value is None:
                continue
            told = share_text(value) if name is share_text else significant(value)
            if line.lows and line.lows[n] != line.highs[n]:
                low, high = line.lows[n] or 0.0, line.highs[n] or 0.0
                told += f" ({significant(low)} to {significant(high)})"
            found.append(f"{line.label}: {told}")
        x = across(n + 1) - half
        yield tag(
            "rect",
            title(f"{n + 1}. {layer}", *found),
            x=x,
            y=box.top,
            width=2 * half,
            height=box.bottom - box.top,
            class_="column",
        )


def _names(lines: Sequence[Line], names: Sequence[str], up: Scale, box: Box) -> list[str]:
    """Names at the lines' ends, moved apart where these are close, with a thread to each."""
    ends = []
    for line, name in zip(lines, names, strict=True):
        known = [value for value in line.values if value is not None]
        ends.append((up(known[-1]), line.series, name))
    ends.sort()
    step, places = 14.0, [y for y, _, _ in ends]
    for n in range(1, len(places)):
        places[n] = max(places[n], places[n - 1] + step)
    below = places[-1] - box.bottom
    if below > 0:
        places[-1] -= below
        for n in range(len(places) - 2, -1, -1):
            places[n] = min(places[n], places[n + 1] - step)
    parts = []
    for y, (end, series, name) in zip(places, ends, strict=True):
        x = box.right
        parts.append(
            tag("line", x1=x - 6, x2=x + 5, y1=end, y2=y, class_=f"thread {colour(series)}")
        )
        parts.append(text(x + 8, y + 4, name, f"label end {colour(series)}"))
    return parts
