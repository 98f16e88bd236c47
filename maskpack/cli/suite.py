"""`maskpack suite`: many tasks, methods and seeds on one base, as one thing."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from maskpack.cli.app import (
    Csv,
    Device,
    Format,
    Json,
    Markdown,
    Workers,
    command,
    default_workers,
    one_format,
    print_as,
    stderr,
    stop_on_signals,
    verbosity,
    whole_numbers,
)


@command("suite")
def suite(
    source: Annotated[
        str | None,
        typer.Argument(
            metavar="[NAME|FILE|DIR]",
            help="A built-in suite, a .toml file, or the folder that one was trained in.  "
            "[default: list the built-in ones]",
        ),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Folder that the tasks' data are in.  [default: .]"),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="DIR", help="[default: runs/NAME]"),
    ] = None,
    backbone: Annotated[
        str | None, typer.Option(metavar="NAME", help="Another network than the suite's.")
    ] = None,
    first: Annotated[
        str | None,
        typer.Option(metavar="TASK|N", help="Another task as the base, by name or number."),
    ] = None,
    tasks: Annotated[str | None, typer.Option(metavar="A,B", help="Only these tasks.")] = None,
    methods: Annotated[str | None, typer.Option(metavar="M,N", help="Only these methods.")] = None,
    seeds: Annotated[
        str | None, typer.Option(metavar="0,1", help="These seeds.  [default: the suite's]")
    ] = None,
    jobs: Annotated[int, typer.Option(min=1, help="So many trainings at once.")] = 1,
    show: Annotated[bool, typer.Option("--show", help="Print the suite's file, to copy.")] = False,
    finished: Annotated[
        bool, typer.Option("--tables", help="Train nothing: print what is finished.")
    ] = False,
    layers: Annotated[
        bool, typer.Option("--layers", help="Print the tables by layer too.")
    ] = False,
    against: Annotated[
        str | None,
        typer.Option(
            metavar="METHOD", help="Test the others against this one.  [default: fine-tune]"
        ),
    ] = None,
    report: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Write the tables: .html (with figures), .md, .json or .csv."
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check everything and print the cells; no more.")
    ] = False,
    trust_code: Annotated[
        bool, typer.Option("--trust-code", help="Import the code a file names (module:function).")
    ] = False,
    workers: Workers = None,
    device: Device = "auto",
    format: Format = None,
    json: Json = False,
    csv: Csv = False,
    md: Markdown = False,
) -> None:
    """Train what is not trained yet of a suite, and print its tables beside published figures.

    Example: maskpack suite image-to-image-small --data pictures/ -o runs/small
    """
    format = one_format(format, json=json, csv=csv, md=md)
    from maskpack.suites.first import beginning_with
    from maskpack.suites.read import on_backbone
    from maskpack.suites.run import open_suite
    from maskpack.suites.tables.write import check_file

    if source is None:
        _list(format)
        return
    chosen, folder_of = open_suite(source)
    if backbone is not None:
        chosen = on_backbone(chosen, backbone)
    if first is not None:
        chosen = beginning_with(chosen, first)
    if show:
        sys.stdout.write(chosen.text)
        return
    if report is not None:
        check_file(report)
    output = output or folder_of or Path("runs") / chosen.name
    cells: dict[str, Any] = {
        "tasks": _names(tasks),
        "methods": _names(methods),
        "seeds": None if seeds is None else whole_numbers("--seeds", seeds),
        "trust_code": trust_code,
    }
    from maskpack.suites.run import check_suite, plan_rows, planned, run_suite, suite_results

    if finished:
        found = suite_results(output, chosen, against=against)
        _show(found, format, layers, report)
        return
    workers = max(0, default_workers() // jobs) if workers is None else workers
    _, folder, planned_cells = planned(chosen, output, **cells)
    if dry_run:
        check_suite(chosen, folder, planned_cells, data, device)
        rows = plan_rows(folder, planned_cells)
        print_as(format, rows, [("cells", rows)])
        return
    from maskpack.cli.suite_progress import Cells
    from maskpack.training.trainer import Stopped

    done = sum(folder.result(cell) is not None for cell in planned_cells)
    watcher = Cells(stderr(), len(planned_cells), done, verbosity["quiet"])
    with watcher, stop_on_signals() as stopped:

        def tick() -> None:
            if stopped:
                raise Stopped

        try:
            found = run_suite(
                chosen,
                output,
                data=data,
                jobs=jobs,
                device=device,
                workers=workers,
                against=against,
                watch=watcher,
                tick=tick,
                **cells,
            )
        except Stopped:
            watcher.say(f"stopped; continue with: {shlex.join(['maskpack', *sys.argv[1:]])}")
            raise SystemExit(128 + stopped[0]) from None
    _show(found, format, layers, report)
    if found["failed"]:
        for cell, reason in found["failed"].items():
            print(f"error: {cell}: {reason}", file=sys.stderr)
        raise SystemExit(1)


def _show(found: dict[str, Any], format: str | None, layers: bool, report: Path | None) -> None:
    from maskpack.suites.tables.protocol import TEST
    from maskpack.suites.tables.write import shown_tables, write_tables

    for note in found["notes"]:
        if TEST in note:
            stderr().print(f"warning: {note}", markup=False, highlight=False, soft_wrap=True)
        elif not verbosity["quiet"]:
            stderr().print(note, markup=False, highlight=False, soft_wrap=True)
    if report is not None:
        write_tables(found, report)
    tables = list(shown_tables(found, layers=layers))
    print_as(format, [found] if format == "jsonl" else found, tables)


def _list(format: str | None) -> None:
    from maskpack.suites import builtin_suites
    from maskpack.suites.read import read_suite

    suites = [read_suite(name) for name in builtin_suites()]
    rows = [
        {
            "suite": found.name,
            "title": found.title,
            "backbone": found.backbone,
            "tasks": len(found.tasks),
            "methods": len(found.methods),
            "paper": found.paper,
        }
        for found in suites
    ]
    print_as(format, rows, [("built-in suites", rows)])


def _names(text: str | None) -> list[str] | None:
    return None if text is None else [name.strip() for name in text.split(",") if name.strip()]
