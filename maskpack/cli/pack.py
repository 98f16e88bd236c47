"""`maskpack pack`: the tasks of many runs and packs into one file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from maskpack.cli.app import Json, command, paths, stderr, verbosity
from maskpack.cli.checkpoint import (
    Backbone,
    CropMode,
    Data,
    Distill,
    Fit,
    FromCheckpoint,
    ImgSize,
    OnDevice,
    Per,
    Tasks,
    Weights,
    check_options,
    checkpoints,
)
from maskpack.cli.smaller import (
    Budget,
    CoefficientDtype,
    HeadDtype,
    MaxDrop,
    NormDtype,
    WeightDtype,
    asked,
    made_smaller,
    show_tables,
)
from maskpack.common.errors import MaskpackError

if TYPE_CHECKING:
    from maskpack.packing.smaller.choose import Choice
    from maskpack.packs.contents import Pack


@command("pack")
def pack_command(
    sources: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[NAME=]PATH[#TASK]...",
            help="Runs and packs; #TASK takes one task of several, NAME= renames it; - reads from "
            "stdin.",
        ),
    ] = None,
    *,
    output: Annotated[Path, typer.Option("--output", "-o", help="The file to write.")],
    append: Annotated[
        bool, typer.Option("--append", help="Add to the file's tasks; replaces those named again.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", "-f", help="Replace the file.")] = False,
    codec: Annotated[
        str | None,
        typer.Option(
            help="Mask bits: auto (the smallest code of each layer) or bits (raw).  "
            "[default: bits for runs; packs keep theirs]"
        ),
    ] = None,
    trust_code: Annotated[
        bool, typer.Option("--trust-code", help="Import the code a pack names, to score it.")
    ] = False,
    drop: Annotated[list[str] | None, typer.Option(help="Leave this task out; repeatable.")] = None,
    head_dtype: HeadDtype = "fp32",
    norm_dtype: NormDtype = "fp32",
    coefficient_dtype: CoefficientDtype = "fp32",
    weight_dtype: WeightDtype = "fp32",
    budget: Budget = None,
    max_drop: MaxDrop = None,
    from_checkpoint: FromCheckpoint = None,
    backbone: Backbone = None,
    weights: Weights = None,
    fit: Fit = "bitdelta",
    per: Per = "layer",
    task: Tasks = None,
    data: Data = None,
    img_size: ImgSize = None,
    train_crop_mode: CropMode = None,
    distill: Distill = 0,
    device: OnDevice = "auto",
    json: Json = False,
) -> None:
    """Put the tasks of many runs into one file, at one bit a mask bit; prints the file's name.

    Example: maskpack pack runs/* -o zoo.safetensors
    """
    if codec not in (None, "auto", "bits"):
        raise typer.BadParameter(f"--codec {codec!r}: expected auto or bits")
    check_options(locals(), scored=asked(locals()))
    if output.exists() and not (append or force):
        raise MaskpackError(f"{output} exists; --append adds to it, --force replaces it")
    from maskpack.packs import file as packfile
    from maskpack.reports.describe import describe
    from maskpack.runs.open import merge, open_source, recoded

    packs = [open_source(source) for source in paths(sources or [])]
    packs += checkpoints(locals())
    merged = merge(packs)
    for name in drop or []:
        merged.task(name)  # says which there are
    packs = [_without(pack, set(drop or [])) for pack in packs]
    beside = None
    if append and output.exists():
        beside = _without(packfile.read(output), set(merged.tasks) - set(drop or []))
    if codec is None and (budget is not None or max_drop is not None):
        codec = "auto"
    if codec is not None:
        packs = [recoded(pack, coded=codec == "auto") for pack in packs]
        beside = beside and recoded(beside, coded=codec == "auto")
    choices: list[Choice] = []
    if asked(locals()):
        packs, choices = made_smaller(locals(), packs, beside)
    merged = merge([*([beside] if beside else []), merge(packs)])
    packfile.write(output, merged)
    written = packfile.read(output)
    if json:
        from maskpack.reports.tables import print_json

        tables = {choice.name: choice.table() for choice in choices}
        print_json(describe(written) | ({"choices": tables} if tables else {}))
        return
    if not verbosity["quiet"]:
        show_tables(choices)
    size, count = output.stat().st_size, len(written.tasks)
    if not verbosity["quiet"]:
        stderr().print(f"{count} task{'s' * (count > 1)}, {size:,} bytes", highlight=False)
    print(output)


def _without(pack: Pack, names: set[str]) -> Pack:
    from maskpack.packs.contents import Pack

    kept = {name: task for name, task in pack.tasks.items() if name not in names}
    return Pack(pack.backbone, kept, pack.path)
