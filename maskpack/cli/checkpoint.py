"""`pack --from-checkpoint`: its options, and fine-tuned networks as packs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from maskpack.cli.app import stderr, verbosity

if TYPE_CHECKING:
    from maskpack.packing.convert.taught import Taught
    from maskpack.packs.contents import Pack

PANEL = "Fine-tuned networks"
ONLY = ("backbone", "weights", "task", "data", "img_size", "train_crop_mode", "distill")


def _option(help: str, metavar: str | None = None, *names: str) -> Any:
    return typer.Option(*names, help=help, metavar=metavar, rich_help_panel=PANEL)


FromCheckpoint = Annotated[
    list[str] | None,
    _option(
        "A fine-tuned network (.pth, .safetensors, a fine-tune run) to make a mask of, or a file "
        "of Piggyback's published code; repeatable.",
        "[NAME=]FILE",
    ),
]
Backbone = Annotated[str | None, _option("What it was fine-tuned from.")]
Weights = Annotated[str | None, _option("The backbone's weights file.")]
Fit = Annotated[
    str,
    _option("bitdelta (signs and a scale), affine and piggyback (least squares), tall (several)."),
]
Per = Annotated[str, _option("Scales per layer or channel.")]
Tasks = Annotated[
    list[str] | None,
    _option("What it was fine-tuned on, to score it and for --distill.", "[NAME=]TASK"),
]
Data = Annotated[
    list[str] | None,
    _option("The task's pictures, or where those of a run or pack are now.", "[NAME=]DIR"),
]
ImgSize = Annotated[int | None, _option("Of its pictures.  [default: the backbone's]")]
CropMode = Annotated[str | None, _option("Of its training: rrc or resize.")]
Distill = Annotated[int, _option("Train the scales on so many training pictures.")]
OnDevice = Annotated[str, _option("Of scoring and --distill: auto, cpu, cuda or mps.")]


def check_options(given: dict[str, Any], scored: bool) -> None:
    """Refuse options that do not go together, before anything is opened.

    `scored` tasks have pictures, which may be elsewhere now.
    """
    if not given["from_checkpoint"]:
        for key in ONLY:
            if given[key] and not (key == "data" and scored):
                option = key.replace("_", "-")
                raise typer.BadParameter(f"--{option} goes with --from-checkpoint")
    elif given["backbone"] is None:
        raise typer.BadParameter("--from-checkpoint needs --backbone, what it was fine-tuned from")


def checkpoints(given: dict[str, Any]) -> list[Pack]:
    """The pack of the command's --from-checkpoint files, if there are any."""
    if not given["from_checkpoint"]:
        return []
    from maskpack.packing.convert.convert import Conversion, convert
    from maskpack.runs.open import open_backbone
    from maskpack.training.setup import pick_device

    device = pick_device(given["device"])
    conversion = Conversion(given["fit"], given["per"], given["distill"], device=device)
    sources = [_named(text) for text in given["from_checkpoint"]]
    backbone = open_backbone(given["backbone"], weights=given["weights"])
    return [convert(sources, backbone, conversion, _taught(given), say=_say)]


def _taught(given: dict[str, Any]) -> dict[str | None, Taught]:
    """What --task, --data and the picture options say: by task name, None for all others."""
    from maskpack.packing.convert.taught import taught_by_name

    tasks, data = (dict(_pair(text) for text in given[key] or []) for key in ("task", "data"))
    size, mode = given["img_size"], given["train_crop_mode"]
    preprocess = {} if size is None else {"img_size": size}
    return taught_by_name(tasks, data, preprocess, {} if mode is None else {"crop_mode": mode})


def _named(text: str) -> tuple[str | None, str]:
    """NAME=FILE, or a file whose own name has a = in it."""
    return (None, text) if Path(text).exists() else _pair(text)


def _pair(text: str) -> tuple[str | None, str]:
    name, equals, value = text.partition("=")
    return (name, value) if equals else (None, text)


def _say(line: str) -> None:
    if not verbosity["quiet"]:
        stderr().print(line, markup=False, highlight=False)
