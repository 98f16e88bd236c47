"""Numbers and names as a reader sees them, and text made safe for HTML and markdown."""

from __future__ import annotations

import html
import re

from maskpack.common.errors import printable

SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|~&$!@:^=]|(?<=www)\.)", re.IGNORECASE)  # marks up, or links
LEAST = 1e-3  # numbers smaller than this are written with an exponent


def escape(text: str) -> str:
    """Text as it stands in HTML and SVG, in elements and in attributes alike."""
    return html.escape(printable(text))


def escape_markdown(text: str) -> str:
    """Text as it stands in a markdown table or heading: it marks up nothing."""
    return SPECIAL.sub(r"\\\1", printable(text))


def bytes_text(count: float) -> str:
    """483664 -> "484 kB"; decimal units, three digits."""
    if count < 1000:
        return f"{count:.0f} B"
    for unit in ("kB", "MB", "GB"):
        count /= 1000
        if count < 999.5 or unit == "GB":
            break
    return f"{significant(count)} {unit}"


def significant(value: float) -> str:
    """Three digits, without an exponent from .001 up: 0.0123, 4.57, 45.7, 457, 4570."""
    if not value:
        return "0"
    size = abs(value)
    if size < LEAST or size >= 1e9:
        return f"{value:.2e}"
    places = 0 if size >= 99.95 else 1 if size >= 9.995 else 2 if size >= 0.9995 else 3
    if size < 0.09995:
        places = 4 if size >= 0.009995 else 5
    text = f"{value:.{places}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def share_text(value: float | None) -> str:
    """0.12345 -> "12.3 %"; small shares keep two digits that say something."""
    if value is None:
        return "-"
    percent = 100 * value
    if percent and abs(percent) < 0.095:
        return f"{percent:.2g} %"
    return f"{percent:.2f} %" if 99 < percent < 100 else f"{percent:.1f} %"


def percent(value: float) -> str:
    """0.2 -> "20 %", on an axis."""
    return f"{100 * value:g} %" if value else "0"


def score_text(value: float | None) -> str:
    """A score with four digits after the point, or fewer where it is no share: 0.8142, 57.31,
    4,021.3, 447,480.
    """
    if value is None:
        return "-"
    size = abs(value)
    if 0 < size < 5e-5 or size >= 1e12:
        return f"{value:.2e}"
    places = 4 if size < 9.99995 else 2 if size < 999.995 else 1 if size < 99999.95 else 0
    return f"{value:,.{places}f}"


def measure_text(metric: str | None, lower: bool) -> str:
    """What a score is: "accuracy"; "total loss (lower is better)"."""
    name = metric or "score"
    return f"{name} (lower is better)" if lower else name


def fraction_text(share: float) -> str:
    """A share of a fine-tuned copy: 0.05236 -> "1/19.1"."""
    if share <= 0:
        return "0"
    times = 1 / share
    return f"1/{times:,.0f}" if times >= 99.95 else f"1/{times:.1f}"


def shortened(text: str, most: int) -> str:
    """Text of at most so many characters, the middle left out: beginnings and ends tell apart."""
    text = printable(text)
    if len(text) <= most:
        return text
    tail = (most - 1) // 2
    return f"{text[: most - 1 - tail]}…{text[len(text) - tail :]}"


def slug(text: str) -> str:
    """Text as part of a file's name."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-.")[:60] or "plot"


def count_text(count: int, noun: str) -> str:
    """1 task, 2 tasks."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
