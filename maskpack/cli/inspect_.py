"""`maskpack inspect`: what a file says of itself, without torch."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from maskpack.cli.app import Format, Json, command, one_format, paths, print_as, stderr, verbosity
from maskpack.common.errors import MaskpackError


@command("inspect")
def inspect(
    sources: Annotated[
        list[str], typer.Argument(metavar="PATH...", help="Packs; - reads from stdin.")
    ],
    layers: Annotated[
        bool, typer.Option(help="Zeros, entropy and coefficients of every layer.")
    ] = True,
    similarity: Annotated[bool, typer.Option(help="How alike the tasks' masks are.")] = True,
    scope: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Only the size of backbone and tasks together, as a paper counts it: piggyback, "
            "ksm or bat; all is every byte on disk.",
        ),
    ] = None,
    verify: Annotated[
        bool, typer.Option("--verify", help="Compare all streams with their hashes first.")
    ] = False,
    format: Format = None,
    json: Json = False,
) -> None:
    """Show sizes, similarity between tasks and sparsity by layer, from the file alone.

    Example: maskpack inspect zoo.safetensors --json
    """
    format = one_format(format, json=json)
    from maskpack.packs.file import read
    from maskpack.reports.describe import by_task, describe
    from maskpack.reports.paper_sizes import account, find_scope

    if scope is not None:
        find_scope(scope)
    found, hashes = [], 0
    for source in paths(sources):
        if Path(source).is_dir():
            raise MaskpackError(f"{source} is a folder; make a pack of it: maskpack pack {source}")
        pack = read(source)
        if verify:
            for task in pack.tasks.values():
                task.verify()
                hashes += len(task.streams)
        if scope is not None:
            found.append(account(pack, scope))
        else:
            found.append(describe(pack, layers=layers, similarity=similarity))
    if verify and not verbosity["quiet"]:
        stderr().print(f"all {hashes} hashes match", highlight=False)
    if format == "jsonl":
        lines = found if scope else [row for about in found for row in by_task(about)]
        print_as(format, lines, [])
    else:
        titled = _accounted if scope else _inspected
        tables = [table for about in found for table in titled(about)]
        print_as(format, found[0] if len(found) == 1 else found, tables)


def _accounted(about: dict[str, Any]) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Title and rows of what `paper_sizes.account` found."""
    from maskpack.reports.paper_sizes import account_rows

    way = f"in {about['paper']}" if about["paper"] else "on disk"
    title = f"{about['file']}: {about['headline']} for {about['tasks']} tasks, counted as {way}"
    yield title, account_rows(about)


def _inspected(about: dict[str, Any]) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Titles and rows of what `describe.describe` found."""
    from maskpack.reports.describe import coefficient_rows

    base = about["backbone"]
    summary = {
        "file": about["file"],
        "bytes": about["bytes"],
        "header": about["header_bytes"],
        "backbone": base["name"],
        "fingerprint": base["fingerprint"][:12],
        "backbone bytes": base["bytes"],
    }
    yield "pack", [summary]
    yield "bytes by task", about["tasks"]
    pairs = about.get("similarity", [])
    if len(pairs) > 1:
        for key, title in (
            ("similarity", "share of equal mask bits"),
            ("chance", "share of equal mask bits by chance"),
            ("jaccard", "Jaccard index of the zeros"),
        ):
            yield title, [{"task": row["task"], key: row[key]} for row in pairs]
    found = about.get("layers", [])
    for key, title in (
        ("zeros", "share of zeros by layer"),
        ("entropy", "entropy by layer (bits a bit)"),
    ):
        columns = ("layer", "shape", "bits", key)
        yield title, [{column: row[column] for column in columns} for row in found]
    yield "coefficients by layer (as stored)", coefficient_rows(found)
