"""SVG elements as text, and scales from values to places."""

from __future__ import annotations

import math
from dataclasses import dataclass

from maskpack.reports.render.wording import escape

WIDTH = 6.5  # of an average character of a label, in pixels: no browser is there to ask


def tag(name: str, *children: str, **attributes: object) -> str:
    """An element. Attributes are escaped, children are markup already; `class_` is class."""
    given = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(_plain(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    inside = "".join(children)
    return f"<{name}{given}>{inside}</{name}>" if inside else f"<{name}{given}/>"


def text(x: float, y: float, content: str, class_: str = "", anchor: str | None = None) -> str:
    """A label that begins, ends or is centred at x (`anchor` start, end, middle)."""
    return tag("text", escape(content), x=x, y=y, class_=class_ or None, text_anchor=anchor)


def title(*lines: str) -> str:
    """What hovering over the parent shows."""
    return f"<title>{escape_lines(lines)}</title>"


def escape_lines(lines: tuple[str, ...]) -> str:
    return "\n".join(escape(line) for line in lines)


def _plain(value: object) -> str:
    if isinstance(value, float):  # a tenth of a pixel is enough, and -0 is 0
        return f"{round(value, 1) + 0:.1f}".removesuffix(".0")
    return str(value)


@dataclass(frozen=True)
class Scale:
    """Values low ... high -> places start ... stop, on a logarithmic line if `log`."""

    low: float
    high: float
    start: float
    stop: float
    log: bool = False

    def __call__(self, value: float) -> float:
        low, high = self.low, self.high
        if self.log:
            low, high, value = math.log(low), math.log(high), math.log(value)
        span = high - low
        return self.start + (self.stop - self.start) * ((value - low) / span if span else 0.5)


def ticks(low: float, high: float, most: int = 7) -> list[float]:
    """Round values in low ... high, at most so many."""
    span = high - low
    if not span > 0:
        return [low]
    power = 10.0 ** math.floor(math.log10(span / most))
    step = next(s * power for s in (1, 2, 2.5, 5, 10, 20) if span / (s * power) <= most - 1)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(n * step, 12) for n in range(first, last + 1)]


def log_ticks(low: float, high: float, most: int = 7) -> list[float]:
    """1, 2, 5, 10, ... in low ... high, or fewer."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for steps in ((1, 2, 5), (1, 3), (1,)):
        found = [s * 10.0**p for p in powers for s in steps if low <= s * 10.0**p <= high]
        if len(found) <= most:
            break
    return found
