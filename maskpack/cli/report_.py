"""`maskpack report`: what runs and packs hold, as one page to read and share."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from maskpack.cli.app import command, paths, stderr, verbosity


@command("report")
def report(
    sources: Annotated[
        list[str], typer.Argument(metavar="PATH...", help="Runs and packs; - reads from stdin.")
    ],
    output: Annotated[
        str | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="The report: .html (one file, opens offline), .md or .json; - is stdout.",
        ),
    ] = None,
    format: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="html, md or json.  [default: by the file's ending]"),
    ] = None,
    plots: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Write each plot as a file; needs maskpack[plot]."),
    ] = None,
    plot_format: Annotated[str, typer.Option(metavar="NAME", help="png or svg.")] = "png",
    images: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Show the strips that eval --save-images wrote there."),
    ] = None,
) -> None:
    """Set size against accuracy, and show zeros, entropy, similarity and coefficients by layer.

    Example: maskpack report runs/* zoo.safetensors -o report.html
    """
    from maskpack.common.files import write_text
    from maskpack.reports.render import FORMATS, rendered
    from maskpack.reports.render.plots import PLOT_FORMATS, write_plots
    from maskpack.reports.report_file import format_of, opened
    from maskpack.reports.strips import read_strips
    from maskpack.reports.summary import summarize

    if output is None and plots is None:
        raise typer.BadParameter("say where to write: -o report.html, or --plots DIR")
    if format is not None and format not in FORMATS:
        raise typer.BadParameter(f"--format {format!r}: expected one of {', '.join(FORMATS)}")
    if plot_format not in PLOT_FORMATS:
        raise typer.BadParameter(f"--plot-format {plot_format!r}: expected png or svg")
    if output == "-" and format is None:
        raise typer.BadParameter("-o - needs --format html, md or json")
    if output is not None and format is None:
        format = format_of(output)
    pictures = read_strips(images) if images is not None else []
    summary = summarize(opened(paths(sources)), pictures)
    if plots is not None:
        written = write_plots(summary, plots, plot_format)
        if not verbosity["quiet"]:
            stderr().print(f"{len(written)} plots in {plots}", markup=False, highlight=False)
    if output == "-":
        sys.stdout.write(rendered(summary, format or ""))
    elif output is not None:
        write_text(Path(output), rendered(summary, format or ""))
        print(output)
