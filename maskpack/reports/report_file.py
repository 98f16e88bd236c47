"""`maskpack report`'s twin for Python: runs and packs -> a report, and its plots, as files."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from maskpack.common.errors import OptionError
from maskpack.common.files import write_text
from maskpack.packs import file as packfile
from maskpack.packs.contents import Pack
from maskpack.reports.render import FORMATS, rendered
from maskpack.reports.render.plots import PLOT_FORMATS, write_plots
from maskpack.reports.strips import read_strips
from maskpack.reports.summary import summarize

Source = str | Path | Pack


def write_report(
    sources: Source | Sequence[Source],
    path: str | Path | None = None,
    *,
    plots: str | Path | None = None,
    plot_format: str = "png",
    images: str | Path | None = None,
) -> dict[str, Any]:
    """Write what runs and packs hold as `path` (.html, .md or .json), and every plot as a file of
    its own into the folder `plots`; returns what the JSON holds. `images` is a folder that
    `eval --save-images` wrote: .html shows its pictures, .md and .json say where they are.

    Raises:
        OptionError: the path has another ending, or the plots another format.
        PackFormatError: a source is no pack and no run, or damaged.
        DataError: there are no strips in the folder `images`.
        MaskpackError: plots without matplotlib, or a file cannot be written.
    """
    format = format_of(path) if path is not None else None
    if plot_format not in PLOT_FORMATS:
        expected = " or ".join(PLOT_FORMATS)
        raise OptionError(f"plots as {plot_format!r}: expected {expected}")
    listed = [sources] if isinstance(sources, (str, Path, Pack)) else sources
    pictures = read_strips(Path(images)) if images is not None else []
    summary = summarize(opened(listed), pictures)
    if path is not None and format is not None:
        write_text(Path(path), rendered(summary, format))
    if plots is not None:
        write_plots(summary, Path(plots), plot_format)
    return summary


def opened(sources: Iterable[Source]) -> Iterator[Pack]:
    """Each pack once, in order, read when its turn comes; torch is imported only for runs."""
    seen: set[Path] = set()
    for source in sources:
        if isinstance(source, Pack):
            yield source
            continue
        path = Path(source)
        if path.resolve() in seen:
            continue
        seen.add(path.resolve())
        if path.is_dir():
            from maskpack.runs.open import open_pack

            yield open_pack(path)
        else:
            yield packfile.read(path)


def format_of(path: str | Path) -> str:
    """A report's format by the ending of its name.

    Raises:
        OptionError: another ending.
    """
    ending = Path(path).suffix.lower().removeprefix(".")
    format = {"htm": "html", "markdown": "md"}.get(ending, ending)
    if format not in FORMATS:
        expected = ", ".join(f".{name}" for name in FORMATS)
        raise OptionError(f"{path}: expected a name that ends in one of {expected}")
    return format
