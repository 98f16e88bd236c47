"""`maskpack eval`: size against accuracy, of weights rebuilt from the bits."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

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
from maskpack.common.errors import OptionError, UnknownName

if TYPE_CHECKING:
    from maskpack.evaluation.task_row import Bases
    from maskpack.packs.contents import Pack


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
    save_images: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Write strips of input, output and target, as PNG."),
    ] = None,
    images_count: Annotated[
        int | None,
        typer.Option(metavar="N", help="How many of each task.  [default: the first 16]"),
    ] = None,
    image: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Put this one picture through one task; score nothing."),
    ] = None,
    output: Annotated[
        str | None,
        typer.Option(
            "--output", "-o", metavar="FILE", help="What --image becomes, as large; - is stdout."
        ),
    ] = None,
    img_size: Annotated[
        int | None,
        typer.Option(metavar="N", help="Pixels --image is seen at.  [default: as learnt]"),
    ] = None,
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
    _check_pictures(image, {"--output": output, "--img-size": img_size}, save_images, images_count)
    from maskpack.evaluation.task_row import IMAGES, Bases, options_learnt, score_task
    from maskpack.reports.paper_sizes import find_scope
    from maskpack.runs.open import open_pack
    from maskpack.training.setup import pick_device

    find_scope(scope)
    chosen = task_options(task_set, style, features)
    packs = [open_pack(source) for source in paths(sources)]
    if image is not None:
        _one_picture(
            packs,
            task or [],
            image,
            output,
            format,
            img_size=img_size,
            device=pick_device(device),
            bases=Bases(backbone, weights, trust_code),
            task_set=chosen,
        )
        return
    _check_data(data or [], {name for pack in packs for name in pack.tasks})
    _check_tasks(task or [], packs)
    scored = [(pack, n) for pack in packs for n in task or pack.tasks if n in pack.tasks]
    options = [options_learnt(pack.task(name)) for pack, name in scored]
    _check_options(chosen, {key for learnt in options for key in learnt})
    bases = Bases(backbone, weights, trust_code)
    rows = []
    for (pack, name), learnt in zip(scored, options, strict=True):
        _say(f"scoring {name} ...")
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
                task_set={key: chosen[key] for key in chosen if key in learnt},
                save_images=save_images,
                images_count=IMAGES if images_count is None else images_count,
                say=_say,
            )
        )
    print_as(format, rows, [("size against accuracy", rows)])


def _say(line: str) -> None:
    if not verbosity["quiet"]:
        stderr().print(line, markup=False, highlight=False, soft_wrap=True)


def _check_pictures(
    image: str | None,
    of_image: dict[str, Any],
    save_images: Path | None,
    images_count: int | None,
) -> None:
    """Refuse what goes with another way to use the command."""
    if image is not None and save_images is not None:
        raise OptionError("--image scores nothing, so there is nothing for --save-images to write")
    if images_count is not None and save_images is None:
        raise OptionError("--images-count goes with --save-images DIR")
    for option, value in of_image.items():
        if image is None and value is not None:
            raise OptionError(f"{option} goes with --image FILE")


def _one_picture(
    packs: list[Pack],
    tasks: list[str],
    image: str,
    output: str | None,
    format: str | None,
    *,
    bases: Bases,
    task_set: dict[str, str],
    **more: Any,
) -> None:
    """One picture through one task: to a file or stdout, or its classes as a table."""
    from maskpack.evaluation.one_picture import (
        apply_image,
        check_output,
        classify_image,
        makes_pictures,
        png_bytes,
        write_image,
    )

    if len(packs) != 1 or len(tasks) > 1:
        found = f"{len(packs)} packs" if len(packs) != 1 else f"{len(tasks)} tasks"
        raise OptionError(f"--image goes through one task of one pack; {found} were given")
    packed = packs[0].task(tasks[0] if tasks else None)
    if not makes_pictures(packs[0], packed):
        if output is not None:
            raise OptionError(f"{packed.name} is classification: it makes no picture for --output")
        rows = classify_image(packs[0], image, packed.name, bases=bases, **more)
        print_as(format, rows, [("likeliest classes", rows)])
        return
    if output is None:
        raise OptionError(f"{packed.name} makes a picture: say where to, -o FILE (- is stdout)")
    if output == "-" and sys.stdout.isatty():
        raise OptionError("-o - would write PNG to a terminal; give a file, or pipe it on")
    if output != "-":
        check_output(Path(output))
    made = apply_image(packs[0], image, packed.name, bases=bases, task_set=task_set, **more)
    if output == "-":
        sys.stdout.buffer.write(png_bytes(made))
    else:
        write_image(Path(output), made)
        print(output)


def _check_tasks(names: list[str], packs: list[Pack]) -> None:
    """Refuse a task that none of the packs has."""
    for name in names:
        if not any(name in pack.tasks for pack in packs):
            where = str(packs[0].path) if len(packs) == 1 else "the packs given"
            known = {task for pack in packs for task in pack.tasks}
            raise UnknownName(f"task in {where}", name, known)


def _check_options(chosen: dict[str, str], known: set[str]) -> None:
    """Refuse an option that none of the tasks has."""
    for key in chosen:
        if key not in known:
            raise UnknownName("option of the tasks", key, known, "see docs/tasks.md")


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
