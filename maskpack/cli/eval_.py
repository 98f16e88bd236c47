"""`maskpack eval`: size against accuracy, of weights rebuilt from the bits."""

from __future__ import annotations

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
    task_options,
    verbosity,
)
from maskpack.errors import UnknownName

if TYPE_CHECKING:
    from maskpack.packed import Pack


@command("eval")
def eval_command(
    sources: Annotated[
        list[str], typer.Argument(metavar="PATH...", help="Packs and runs; - reads from stdin.")
    ],
    task: Annotated[
        list[str] | None, typer.Option(help="Only these tasks.  [default: all]")
    ] = None,
    data: Annotated[
        list[str] | None,
        typer.Option(metavar="[TASK=]DIR", help="Where a task's pictures are now."),
    ] = None,
    task_set: Annotated[
        list[str] | None,
        typer.Option(
            "--task-set", metavar="KEY=VALUE", help="An option of the task, other than it learnt."
        ),
    ] = None,
    style: Annotated[str | None, typer.Option(help="Where style-transfer's painting is.")] = None,
    features: Annotated[str | None, typer.Option(help="Where VGG16's weights are.")] = None,
    split: Annotated[str, typer.Option(help="train, val or test.")] = "test",
    backbone: Annotated[
        str | None, typer.Option(help="Where the pack's own name cannot be opened here.")
    ] = None,
    weights: Annotated[str | None, typer.Option(help="The backbone's weights file.")] = None,
    trust_code: Annotated[
        bool, typer.Option("--trust-code", help="Import the code a pack names (module:function).")
    ] = False,
    scope: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="Bytes as a paper counts them (piggyback, ksm, bat), or all of the file's.",
        ),
    ] = "all",
    batch_size: Annotated[int, typer.Option("--batch-size", "-b")] = 64,
    workers: Workers = None,
    device: Device = "auto",
    format: Format = None,
    json: Json = False,
    csv: Csv = False,
    md: Markdown = False,
) -> None:
    """Rebuild each task's weights from its bits and score them: size against accuracy.

    Example: maskpack eval zoo.safetensors
    """
    format = one_format(format, json=json, csv=csv, md=md)
    from maskpack.accounting import find_scope
    from maskpack.learn import pick_device
    from maskpack.resolve import open_pack
    from maskpack.score import Bases, score_task

    find_scope(scope)
    packs = [open_pack(source) for source in paths(sources)]
    _check_data(data or [], {name for pack in packs for name in pack.tasks})
    _check_tasks(task or [], packs)
    bases = Bases(backbone, weights, trust_code)
    rows = []
    for pack in packs:
        for name in [name for name in task or pack.tasks if name in pack.tasks]:
            if not verbosity["quiet"]:
                stderr().print(f"scoring {name} ...", markup=False, highlight=False)
            rows.append(
                score_task(
                    pack,
                    name,
                    split=split,
                    data=_data_of(name, data or []),
                    batch_size=batch_size,
                    workers=default_workers() if workers is None else workers,
                    device=pick_device(device),
                    bases=bases,
                    scope=scope,
                    task_set=task_options(task_set, style, features),
                )
            )
    print_as(format, rows, [("size against accuracy", rows)])


def _check_tasks(names: list[str], packs: list[Pack]) -> None:
    """Refuse a task that none of the packs has."""
    for name in names:
        if not any(name in pack.tasks for pack in packs):
            where = str(packs[0].path) if len(packs) == 1 else "the packs given"
            known = {task for pack in packs for task in pack.tasks}
            raise UnknownName(f"task in {where}", name, known)


def _data_of(task: str, given: list[str]) -> str | None:
    found = None
    for text in given:
        name, equals, folder = text.partition("=")
        if not equals:
            found = found or text
        elif name == task:
            return folder
    return found


def _check_data(given: list[str], tasks: set[str]) -> None:
    """Refuse a folder for a task that no pack has: a slip, since its default would be scored."""
    for text in given:
        name, equals, _ = text.partition("=")
        if equals and name not in tasks:
            raise UnknownName("task of --data", name, tasks)
