"""`maskpack decathlon`: what the Visual Decathlon's server takes, and points where labels are."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

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
    paths,
    print_as,
    stderr,
    verbosity,
)
from maskpack.common.errors import OptionError

if TYPE_CHECKING:
    from maskpack.packs.contents import Pack


@command("decathlon")
def decathlon(
    sources: Annotated[
        list[str],
        typer.Argument(metavar="PATH...", help="Packs, runs, or one suite's folder; - is stdin."),
    ],
    data: Annotated[
        Path, typer.Option(metavar="DIR", help="Folder with annotations/ and data/.")
    ] = Path(),
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="Write the answers, as JSON."),
    ] = None,
    method: Annotated[
        str | None, typer.Option(metavar="LABEL", help="Of a suite's folder: whose tasks.")
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="Of a suite's folder.  [default: its first]")
    ] = None,
    backbone: Annotated[
        str | None, typer.Option(help="Where a pack's own name cannot be opened here.")
    ] = None,
    trust_code: Annotated[
        bool, typer.Option("--trust-code", help="Import the code a pack names (module:function).")
    ] = False,
    batch_size: Annotated[int, typer.Option("--batch-size", "-b")] = 64,
    workers: Workers = None,
    device: Device = "auto",
    format: Format = None,
    json: Json = False,
    csv: Csv = False,
    md: Markdown = False,
) -> None:
    """Answer the Visual Decathlon's test pictures: the file for its server, points where it can.

    Example: maskpack decathlon zoo.safetensors --data decathlon-1.0 -o results.json
    """
    format = one_format(format, json=json, csv=csv, md=md)
    given = list(paths(sources))
    if output is not None and not output.parent.is_dir():
        raise OptionError(f"-o {output}: no folder {str(output.parent)!r}")
    from maskpack.evaluation.decathlon_answers import submit
    from maskpack.evaluation.task_row import Bases
    from maskpack.runs.open import open_pack
    from maskpack.training.setup import pick_device

    packs: list[Pack] = []
    for source in given:
        if (Path(source) / "suite.toml").is_file():
            packs += _of_suite(Path(source), method, seed)
        else:
            packs.append(open_pack(source))
    made = submit(
        packs,
        data,
        bases=Bases(backbone, None, trust_code),
        batch_size=batch_size,
        workers=default_workers() if workers is None else workers,
        device=pick_device(device),
        say=_say,
    )
    if output is not None:
        made.write(output)
        _say(f"{len(made.results)} answers in {output}")
    if made.missing:
        _say(f"no task for {', '.join(made.missing)}; the server wants all ten")
    rows = list(made.rows)
    if made.score is not None:
        rows.append({"task": "S-score", "points": made.score})
    print_as(format, rows, [("Visual Decathlon", rows)])


def _of_suite(path: Path, method: str | None, seed: int | None) -> list[Pack]:
    """The finished tasks of a method in a suite's folder, its base among them."""
    from maskpack.common.errors import RunError
    from maskpack.runs.open import open_pack
    from maskpack.suites.definition import BASE
    from maskpack.suites.folder import SuiteFolder
    from maskpack.suites.plan import every_cell
    from maskpack.suites.read import read_suite

    folder = SuiteFolder(path)
    suite = read_suite(folder.kept)
    if method not in suite.methods:
        found = "no --method" if method is None else f"no method {method!r}"
        raise OptionError(f"{path}: {found}; it has {', '.join(suite.methods)}")
    seed = suite.seeds[0] if seed is None else seed
    cells = [
        cell
        for cell in every_cell(suite, [seed])
        if cell.label in (method, BASE) and folder.result(cell) is not None
    ]
    if not cells:
        raise RunError(f"{path}: nothing of {method}, seed {seed} is finished there")
    packs: list[Pack] = []
    answered: set[str] = set()
    for cell in reversed(cells):  # the last run of a sequence answers the tasks before it, too
        pack = open_pack(folder.run(cell))
        tasks = {name: task for name, task in pack.tasks.items() if name not in answered}
        answered |= tasks.keys()
        packs.append(dataclasses.replace(pack, tasks=tasks))
    return packs


def _say(line: str) -> None:
    if not verbosity["quiet"]:
        stderr().print(line, markup=False, highlight=False, soft_wrap=True)
