"""Every plot as a file of its own, drawn by matplotlib (the extra `plot`)."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from maskpack.common.errors import MaskpackError
from maskpack.common.files import replacing
from maskpack.reports.render.figures import Figure, Heat, Lines, Scatter
from maskpack.reports.render.heat import NUMBERED
from maskpack.reports.render.scatter import layout, steps_of
from maskpack.reports.render.sections import sections
from maskpack.reports.render.svg import log_ticks
from maskpack.reports.render.wording import bytes_text, percent, shortened, slug

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

PLOT_FORMATS = ("png", "svg")
# page.css has the same, for light paper
PALETTE = (
    *("#1351c1", "#ae5600", "#36a47e", "#8b77d7", "#8d0517", "#9d960b", "#881774", "#6d696e"),
    "#9a9a94",
)
MARKERS = "os^DvphX"
INK, MUTED, RULE = "#1c1c1a", "#5f5f59", "#c9c9c2"
SHADES, PALE, NOTHING = ("#ffffff", "#1351c1"), "#e6edf8", "#efefeb"
SIZE = (920, 440)  # of a plot of bytes against score, in hundredths of an inch
ALIGNED: Any = {"start": "left", "middle": "center", "end": "right"}
LONGEST = 40  # characters of a name in a plot
STYLE: Any = {
    "text.parse_math": False,  # a task may be called $x$
    "svg.hashsalt": "maskpack",  # equal plots are equal bytes
    "font.size": 9,
    "axes.edgecolor": RULE,
    "axes.labelcolor": MUTED,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "axes.spines.top": False,
    "axes.spines.right": False,
}


def write_plots(summary: Mapping[str, Any], folder: Path, format: str = "png") -> list[Path]:
    """Write one file a figure of the report into `folder`, made if need be; returns their paths.

    Raises:
        MaskpackError: matplotlib is not installed, or a file cannot be written.
    """
    try:
        import matplotlib
    except ImportError as error:
        raise MaskpackError(
            "plots need matplotlib, which is not installed; pip install 'maskpack[plot]'"
        ) from error
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise MaskpackError(f"{folder}: cannot be made: {error.strerror or error}") from error
    paths: list[Path] = []
    for section in sections(summary):
        for figure in section.figures:
            path = _free(folder, slug(figure.key), format, paths)
            with matplotlib.rc_context(STYLE), _glyphs_may_lack():
                canvas = draw(figure)
                dated = {"Date": None} if format == "svg" else {"Software": None}
                with replacing(path) as written:
                    canvas.savefig(
                        written, format=format, dpi=150, bbox_inches="tight", metadata=dated
                    )
            paths.append(path)
    return paths


def _free(folder: Path, name: str, format: str, taken: list[Path]) -> Path:
    """A name not yet given: two tasks' names may leave the same letters."""
    path, count = folder / f"{name}.{format}", 1
    while path in taken:
        count += 1
        path = folder / f"{name}-{count}.{format}"
    return path


@contextlib.contextmanager
def _glyphs_may_lack() -> Iterator[None]:
    """A name in letters that the font lacks is drawn as boxes, without a warning a letter."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*missing from.*font", category=UserWarning)
        yield


def draw(figure: Figure) -> Canvas:
    """One figure on a matplotlib canvas."""
    from matplotlib.figure import Figure as Canvas

    if isinstance(figure, Scatter):
        return _scatter(figure)
    if isinstance(figure, Heat):
        names = 0.06 * max(len(_name(row)) for row in figure.rows)
        cell = 0.34 if figure.square and len(figure.rows) <= NUMBERED else 0.17
        size = (2.2 + names + cell * len(figure.columns), 1.2 + cell * len(figure.rows))
    else:
        size = (8.0, 4.2)
    canvas = Canvas(figsize=(min(size[0], 40), min(size[1], 40)), layout="constrained")
    axes = canvas.add_subplot()
    _title(axes, figure.title)
    if isinstance(figure, Lines):
        _lines(axes, figure)
    else:
        _heat(canvas, axes, figure)
    return canvas


def _title(axes: Axes, title: str) -> None:
    axes.set_title(shortened(title, 60), loc="left", fontsize=11, color=INK)


def _scatter(figure: Scatter) -> Canvas:
    """Laid out as the page's drawing is, whose labels have found their places."""
    from matplotlib.figure import Figure as Canvas

    width, height = SIZE
    laid = layout(figure, width, height)
    box, across, up = laid.box, laid.across, laid.up
    span = box.right - box.left, box.bottom - box.top
    canvas = Canvas(figsize=(width / 100, height / 100))
    corner = box.left / width, 1 - box.bottom / height
    axes = canvas.add_axes((*corner, span[0] / width, span[1] / height))
    axes.set_xscale("log")
    axes.set_xlim(across.low, across.high)
    axes.set_ylim(up.low, up.high)
    sizes = log_ticks(across.low, across.high)
    axes.set_xticks(sizes, [bytes_text(size) for size in sizes])
    axes.minorticks_off()
    axes.grid(axis="y", color=RULE, alpha=0.5, linewidth=0.6)
    axes.set_xlabel("bytes of the task")
    axes.set_ylabel(figure.score)
    _title(axes, figure.title)

    def at(x: float, y: float) -> tuple[float, float]:
        return (x - box.left) / span[0], (box.bottom - y) / span[1]

    for step in steps_of(laid.places, box):
        corners = (step.left, step.bottom), (step.right, step.bottom), (step.right, step.top)
        x, y = zip(*(at(*corner) for corner in corners), strict=True)
        axes.plot(x, y, color=MUTED, linewidth=1, zorder=1, transform=axes.transAxes)
    for place in laid.places:
        point, colour = place.point, _colour(place.point.series)
        if point.low is not None and point.high is not None and not place.beyond:
            ends = (point.low, point.high)
            alpha = 0.9 if point.front else 0.35
            axes.vlines(point.bytes, *ends, color=colour, alpha=alpha, linewidth=1, zorder=2)
        axes.plot(
            *at(place.x, place.y),
            marker=_marker(point.series),
            color=colour,
            markerfacecolor="white" if point.hollow else colour,
            linestyle="none",
            transform=axes.transAxes,
            zorder=3,
        )
        if place.beyond:
            tip = at(place.x, place.y + 11 * laid.worse)
            arrow = 7 if laid.worse > 0 else 6  # matplotlib's triangles, down and up
            axes.plot(*tip, marker=arrow, color=colour, markersize=4, transform=axes.transAxes)
    for label in laid.labels:
        axes.text(
            *at(label.x, label.y),
            label.text,
            horizontalalignment=ALIGNED[label.anchor],
            fontsize=8,
            fontweight="bold" if label.front else "normal",
            color=INK if label.front else MUTED,
            transform=axes.transAxes,
        )
    _scatter_legend(axes, figure)
    return canvas


def _scatter_legend(axes: Axes, figure: Scatter) -> None:
    handles = [
        axes.plot([], [], marker=_marker(n), color=_colour(n), linestyle="none")[0]
        for n, _ in figure.series
    ]
    names = [name for _, name in figure.series]
    if len(figure.backbones) > 1:
        for hollow, name in ((False, figure.backbones[0]), (True, ", ".join(figure.backbones[1:]))):
            face = "white" if hollow else MUTED
            style: Any = {"marker": "o", "color": MUTED, "linestyle": "none"}
            handles += axes.plot([], [], markerfacecolor=face, **style)
            names.append(name)
    _legend(axes, handles, names)


def _lines(axes: Axes, figure: Lines) -> None:
    numbers = range(1, len(figure.layers) + 1)
    handles = []
    for line in figure.lines:
        known = [(n, v) for n, v in zip(numbers, line.values, strict=True) if v is not None]
        x, y = zip(*known, strict=True)
        colour = _colour(line.series)
        handles += axes.plot(x, y, color=colour, marker=".", markersize=4, linewidth=1.4)
        if line.lows:
            ends = [
                (n, low, high)
                for n, low, high in zip(numbers, line.lows, line.highs, strict=True)
                if low is not None and high is not None
            ]
            at, lows, highs = zip(*ends, strict=True)
            axes.fill_between(at, lows, highs, color=colour, alpha=0.16, linewidth=0)
    axes.grid(axis="y", color=RULE, alpha=0.5, linewidth=0.6)
    if figure.share:
        axes.set_ylim(bottom=0)
        if "Share" in figure.value:
            axes.yaxis.set_major_formatter(lambda value, _: percent(round(value, 6)))
    axes.set_xlabel("layer, input to output")
    axes.set_ylabel(figure.value)
    _legend(axes, handles, [line.label for line in figure.lines])


def _heat(canvas: Canvas, axes: Axes, figure: Heat) -> None:
    from matplotlib.colors import LinearSegmentedColormap

    low, high = figure.bounds()
    nothing = float("nan")
    width = len(figure.columns)
    grid = [
        [nothing if v is None or figure.same(n, m) else v for m, v in enumerate(row)]
        for n, row in enumerate(figure.values)
    ]
    ends = (PALE, SHADES[1]) if low else SHADES
    shades = LinearSegmentedColormap.from_list("shades", ends).with_extremes(bad=NOTHING)
    drawn = axes.imshow(grid, cmap=shades, vmin=low, vmax=high, aspect="auto")
    axes.set_yticks(range(len(figure.rows)), [_name(row) for row in figure.rows], fontsize=7)
    if figure.square:
        numbers = [str(n + 1) for n in range(width)]
        axes.set_xticks(range(width), numbers, fontsize=7)
        labels = [f"{n}  {_name(row)}" for n, row in enumerate(figure.rows, 1)]
        axes.set_yticks(range(len(figure.rows)), labels, fontsize=7)
    else:
        axes.set_xlabel("layer, input to output")
        places = range(4, width, 5)
        axes.set_xticks(places, [str(n + 1) for n in places], fontsize=7)
    if figure.square and len(figure.rows) <= NUMBERED:
        middle = (low + high) / 2
        for n, row in enumerate(grid):
            for m, value in enumerate(row):
                if value == value:  # not the diagonal
                    colour = "white" if value > middle else INK
                    place: Any = {"horizontalalignment": "center", "verticalalignment": "center"}
                    axes.text(m, n, f"{100 * value:.1f}", color=colour, fontsize=6, **place)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    told: Callable[[float, object], str] | None = None
    if "Share" in figure.value:
        told = lambda value, _: percent(round(value, 6))  # noqa: E731 - a formatter, not a name
    canvas.colorbar(drawn, ax=axes, label=figure.value, format=told, fraction=0.05)


def _legend(axes: Axes, handles: list[Any], names: list[str]) -> None:
    axes.legend(
        handles,
        [_name(name) for name in names],
        loc="upper left",
        bbox_to_anchor=(1.0, 1.0),
        frameon=False,
        fontsize=8,
    )


def _name(text: str) -> str:
    """A name in a plot: matplotlib keeps labels that begin with _ to itself."""
    short = shortened(text, LONGEST)
    return f" {short}" if short.startswith("_") else short


def _marker(series: int) -> str:
    return MARKERS[series % len(MARKERS)]


def _colour(series: int) -> str:
    return PALETTE[min(series, len(PALETTE) - 1)]
