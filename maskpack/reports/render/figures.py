"""What each plot shows, before any drawing: SVG and matplotlib draw the same."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Point:
    """A task in a plot of bytes against score; `low` and `high` end its interval."""

    label: str
    bytes: float
    score: float
    low: float | None
    high: float | None
    series: int
    hollow: bool
    front: bool
    about: tuple[str, ...]  # lines of what hovering shows


@dataclass(frozen=True)
class Scatter:
    """Bytes (log) against score. `fine_tuned` is what a fine-tuned copy costs, if one number;
    `lower`: the lower score is the better.
    """

    key: str
    title: str
    score: str
    points: tuple[Point, ...]
    series: tuple[tuple[int, str], ...]
    fine_tuned: float | None = None
    backbones: tuple[str, ...] = ()  # the first is drawn filled, others hollow
    lower: bool = False

    def range(self) -> tuple[float, float]:
        """Scores from the bottom to the top of the plot.

        A few collapsed runs do not press all others together: what is far worse than the better
        three quarters, and on no front, is left out and drawn at the edge with an arrow.
        """
        sign = -1 if self.lower else 1
        scores = sorted(sign * point.score for point in self.points)
        top = max(max(_ends(point, sign)) for point in self.points)
        quarter = scores[len(scores) // 4]
        far = quarter - 1.5 * (top - quarter)
        shown = [point for point in self.points if point.front or sign * point.score >= far]
        low = min(min(_ends(point, sign)) for point in shown)
        room = 0.06 * (top - low) or 0.05 * abs(top) or 0.05
        ends = low - (room if len(shown) == len(self.points) else 3 * room), top + room
        return (-ends[1], -ends[0]) if self.lower else ends


def _ends(point: Point, sign: int) -> tuple[float, float]:
    """A point's interval, or its score twice."""
    low, high = (point.score if end is None else end for end in (point.low, point.high))
    return sign * low, sign * high


@dataclass(frozen=True)
class Line:
    """A value a layer; None where the task has none. `lows` and `highs` bound it by channel."""

    label: str
    series: int
    values: tuple[float | None, ...]
    lows: tuple[float | None, ...] = ()
    highs: tuple[float | None, ...] = ()


@dataclass(frozen=True)
class Lines:
    """Values by layer, a line a task. `share`: they lie in 0 ... 1."""

    key: str
    title: str
    value: str
    layers: tuple[str, ...]
    lines: tuple[Line, ...]
    share: bool = True


@dataclass(frozen=True)
class Heat:
    """Rows of values as shades. `columns` are layers, or the rows themselves if `square`, whose
    diagonal is left out unless it says something.
    """

    key: str
    title: str
    value: str
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    values: tuple[tuple[float | None, ...], ...]
    square: bool = False
    more: tuple[tuple[str, ...], ...] = field(default=())  # what hovering adds, by cell
    diagonal: bool = False

    def bounds(self) -> tuple[float, float]:
        """Smallest and largest value shown as a shade."""
        known = [
            value
            for n, row in enumerate(self.values)
            for m, value in enumerate(row)
            if value is not None and not self.same(n, m)
        ]
        low = min(known, default=0.0) if self.square else 0.0
        return low, max(known, default=1.0)

    def same(self, n: int, m: int) -> bool:
        """Whether a cell is on a diagonal that is left out: a thing compared with itself."""
        return self.square and n == m and not self.diagonal


Figure = Scatter | Lines | Heat
