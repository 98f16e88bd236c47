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
from maskpack.errors import MaskpackError

if TYPE_CHECKING:
    from maskpack.packed import Pack


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
    head_dtype: Annotated[
        str, typer.Option(help="fp32, or fp16: half the bytes, and the effect on the score kept.")
    ] = "fp32",
    norm_dtype: Annotated[str, typer.Option(help="The same for norms.")] = "fp32",
    weight_dtype: Annotated[
        str, typer.Option(help="The same for whole weights (fine-tune, scratch).")
    ] = "fp32",
    trust_code: Annotated[
        bool, typer.Option("--trust-code", help="Import the code a pack names, to score it.")
    ] = False,
    drop: Annotated[list[str] | None, typer.Option(help="Leave this task out; repeatable.")] = None,
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
    for option, dtype in (("head", head_dtype), ("norm", norm_dtype), ("weight", weight_dtype)):
        if dtype not in ("fp32", "fp16"):
            raise typer.BadParameter(f"--{option}-dtype {dtype!r}: expected fp32 or fp16")
    check_options(locals())
    if output.exists() and not (append or force):
        raise MaskpackError(f"{output} exists; --append adds to it, --force replaces it")
    from maskpack import packfile
    from maskpack.report import describe
    from maskpack.resolve import merge, open_source, recoded

    roles = {"head": head_dtype, "norms": norm_dtype, "weights": weight_dtype}
    half = [role for role, dtype in roles.items() if dtype == "fp16"]
    packs = [open_source(source) for source in paths(sources or [])]
    packs += checkpoints(locals())
    merged = merge(_in_half(packs, half, trust_code) if half else packs)
    for name in drop or []:
        merged.task(name)  # says which there are
    merged = _without(merged, set(drop or []))
    if append and output.exists():
        merged = merge([_without(packfile.read(output), set(merged.tasks)), merged])
    if codec is not None:
        merged = recoded(merged, coded=codec == "auto")
    packfile.write(output, merged)
    written = packfile.read(output)
    if json:
        from maskpack.tables import print_json

        print_json(describe(written))
        return
    size, count = output.stat().st_size, len(written.tasks)
    if not verbosity["quiet"]:
        stderr().print(f"{count} task{'s' * (count > 1)}, {size:,} bytes", highlight=False)
    print(output)


def _in_half(packs: list[Pack], roles: list[str], trust_code: bool) -> list[Pack]:
    from maskpack.rounding import rounded_and_scored
    from maskpack.score import Bases

    bases = Bases(trust_code=trust_code)
    done = [rounded_and_scored(pack, roles, bases) for pack in packs]
    tasks = [(name, task.info) for pack in done for name, task in pack.tasks.items()]
    for name, info in tasks:
        if "rounding" in info and not verbosity["quiet"]:
            metric = info["task"]["metric"]
            before, now = info["rounding"]["before"][metric], info["test"][metric]
            line = f"{name} in float16: test {metric} {before:.4f} -> {now:.4f}"
            stderr().print(line, markup=False, highlight=False)
    return done


def _without(pack: Pack, names: set[str]) -> Pack:
    from maskpack.packed import Pack

    kept = {name: task for name, task in pack.tasks.items() if name not in names}
    return Pack(pack.backbone, kept, pack.path)
