"""`maskpack train-mask`: learn one task's masks."""

from __future__ import annotations

import dataclasses
import inspect
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from maskpack.cli.app import (
    Device,
    Workers,
    command,
    default_workers,
    pair,
    stderr,
    stop_on_signals,
    task_options,
    verbosity,
    whole_numbers,
)
from maskpack.methods import TRAINED

if TYPE_CHECKING:
    from maskpack.training.setup import Options, Session

ANEW = ("output", "resume", "json", "dry_run", "workers", "device")  # not the run's to know


@command("train-mask")
def train_mask(
    backbone: Annotated[
        str | None,
        typer.Option(
            help="Frozen network: a torchvision name (resnet50 means its IMAGENET1K_V1 weights, "
            "those of the papers; resnet50/IMAGENET1K_V2 others), efficientnet_lite0, timm:NAME, "
            "module:function, or run:PATH for a run or pack."
        ),
    ] = None,
    task: Annotated[
        str | None,
        typer.Option(
            help="Built-in (fashion, sketches), torchvision's, image-to-image (colouring, "
            "style-transfer, voc-segmentation, ...), or any with --data."
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="The run's folder.  [default: runs/TASK-METHOD]"),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue the run if it was begun; start it if not.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Of masks, head, order and augmentation.")] = 0,
    json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print what would be masked and the size; no more.")
    ] = False,
    data: Annotated[
        str | None,
        typer.Option(
            help="Folder: train/ [val/] test/ by class, MNIST's idx files, labels.csv, images/ and "
            "masks/, photos, or a published data set's own layout.",
            rich_help_panel="Data and pictures",
        ),
    ] = None,
    download: Annotated[
        bool, typer.Option("--download", help="Fetch the data where they have an address.")
    ] = False,
    weights: Annotated[
        str | None,
        typer.Option(help="The backbone's weights: .safetensors, .pth or .pt file, or none."),
    ] = None,
    head: Annotated[
        str | None, typer.Option(help="The last layer, if not the last Linear.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="The task's name in packs.")] = None,
    method: Annotated[
        str,
        typer.Option(
            "--method",
            "-m",
            help=f"{', '.join(TRAINED)}, or module:Class.",
        ),
    ] = "piggyback",
    task_set: Annotated[
        list[str] | None,
        typer.Option(
            "--task-set",
            metavar="KEY=VALUE",
            help="An option of an image-to-image task, such as loss=l2; repeatable.",
            rich_help_panel="Data and pictures",
        ),
    ] = None,
    style: Annotated[
        str | None, typer.Option(help="The painting of style-transfer; --task-set style=FILE.")
    ] = None,
    features: Annotated[
        str | None,
        typer.Option(help="VGG16's weights for style-transfer, where they cannot be fetched."),
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="An option of the method; repeatable."),
    ] = None,
    recipe: Annotated[
        str | None,
        typer.Option(
            help="small (masks that code to few bytes) or accurate, for what other options leave "
            "open.  [default: the method's paper]"
        ),
    ] = None,
    norms: Annotated[
        str | None,
        typer.Option(help="frozen, scale, stats or task.  [default: as the method's paper]"),
    ] = None,
    include: Annotated[
        list[str] | None,
        typer.Option(help="Mask just the parameters matching this ('default' names the default)."),
    ] = None,
    exclude: Annotated[list[str] | None, typer.Option(help="Do not mask those matching.")] = None,
    epochs: Annotated[int | None, typer.Option(help="[default: 30]")] = None,
    batch_size: Annotated[
        int | None, typer.Option("--batch-size", "-b", help="[default: 32]")
    ] = None,
    opt: Annotated[str | None, typer.Option(help="adam, adamw, sgd, nesterov.")] = None,
    lr: Annotated[float | None, typer.Option(help="Of scores, or of all weights.")] = None,
    head_opt: Annotated[str | None, typer.Option(help="The head's optimiser.")] = None,
    head_lr: Annotated[float | None, typer.Option(help="The head's learning rate.")] = None,
    momentum: Annotated[float | None, typer.Option(help="Of sgd.")] = None,
    weight_decay: Annotated[
        float | None, typer.Option(help="Of trained matrices; never of scores.")
    ] = None,
    sched: Annotated[str | None, typer.Option(help="step, multistep, cosine, constant.")] = None,
    decay_epochs: Annotated[int | None, typer.Option(help="Of the step schedule.")] = None,
    decay_milestones: Annotated[
        str | None, typer.Option(metavar="50,80", help="Epochs, of the multistep schedule.")
    ] = None,
    decay_rate: Annotated[
        float | None, typer.Option(help="Of the step and multistep schedules.")
    ] = None,
    warmup_epochs: Annotated[int | None, typer.Option(help="Linear warm-up.")] = None,
    min_lr: Annotated[float | None, typer.Option(help="Lower bound of the schedule.")] = None,
    head_init: Annotated[
        str | None, typer.Option(help="random, or zeros (codes to fewer bytes).")
    ] = None,
    head_epochs: Annotated[
        int | None, typer.Option(help="Only the head learns for so many first epochs.")
    ] = None,
    size_penalty: Annotated[
        float | None,
        typer.Option(help="Loss that a kB of coded mask must be worth; try 0.01 to 0.1."),
    ] = None,
    freeze_epochs: Annotated[
        int | None, typer.Option(help="Mask bits stay fixed for so many last epochs.")
    ] = None,
    teacher: Annotated[
        str | None,
        typer.Option(
            metavar="PATH[#TASK]",
            help="Learn from the outputs of this run or pack of the same task, too.",
        ),
    ] = None,
    distill: Annotated[
        float | None, typer.Option(help="Share of the loss that is the teacher's.")
    ] = None,
    temperature: Annotated[
        float | None, typer.Option(help="That softens outputs and the teacher's.")
    ] = None,
    amp: Annotated[bool, typer.Option("--amp", help="bfloat16 autocast; scores stay float32.")] = (
        False
    ),
    select: Annotated[
        str, typer.Option(help="What chooses the epoch: val; test (the papers' habit); last.")
    ] = "val",
    val_fraction: Annotated[
        float, typer.Option(help="Share of train held out where the data has no val split.")
    ] = 0.1,
    img_size: Annotated[int | None, typer.Option(help="[default: the backbone's]")] = None,
    crop_pct: Annotated[
        float | None, typer.Option(help="img_size / short side in scoring.")
    ] = None,
    interpolation: Annotated[str | None, typer.Option(help="bilinear, bicubic, nearest.")] = None,
    mean: Annotated[tuple[float, float, float] | None, typer.Option(help="Of R G B.")] = None,
    std: Annotated[tuple[float, float, float] | None, typer.Option(help="Of R G B.")] = None,
    train_crop_mode: Annotated[
        str | None,
        typer.Option(
            help="rrc (random resized crop), resize (whole picture), random (crop) or center."
        ),
    ] = None,
    scale: Annotated[
        tuple[float, float] | None, typer.Option(help="Area of a random crop.")
    ] = None,
    ratio: Annotated[tuple[float, float] | None, typer.Option(help="Its width / height.")] = None,
    padding: Annotated[
        int | None, typer.Option(help="Black pixels around a picture before a random crop.")
    ] = None,
    hflip: Annotated[float | None, typer.Option(help="Probability.")] = None,
    vflip: Annotated[float | None, typer.Option(help="Probability.")] = None,
    color_jitter: Annotated[float | None, typer.Option(help="Strength.")] = None,
    aa: Annotated[str | None, typer.Option(help="randaugment, trivialaugment or augmix.")] = None,
    reprob: Annotated[float | None, typer.Option(help="Probability of random erasing.")] = None,
    no_aug: Annotated[bool, typer.Option("--no-aug", help="Whole pictures, nothing random.")] = (
        False
    ),
    workers: Workers = None,
    device: Device = "auto",
) -> None:
    """Learn one task's masks on a frozen backbone; prints the run's folder.

    Example: maskpack train-mask --backbone efficientnet_lite0 --task sketches --img-size 96
    """
    given = dict(locals())
    run_path, options = _options(given)
    from maskpack.training.setup import open_session
    from maskpack.training.train_run import learn

    session = open_session(options)
    if dry_run:
        _print_plan(session, json)
        return
    from maskpack.cli.progress import Watcher
    from maskpack.training.trainer import Stopped

    watcher = Watcher(
        stderr(), session.recipe.epochs, session.task.metric, quiet=verbosity["quiet"]
    )
    with watcher, stop_on_signals() as stopped:

        def tick() -> None:
            if stopped:
                raise Stopped

        try:
            run = learn(session, run_path, resume=resume, watch=watcher, tick=tick, say=watcher.say)
        except Stopped:
            where = shlex.quote(str(run_path))
            watcher.say(f"stopped; continue with: maskpack train-mask --resume -o {where}")
            raise SystemExit(128 + stopped[0]) from None
    if json:
        from maskpack.reports.tables import print_json

        print_json({"run": str(run.path), "seconds": run.seconds(), **(run.result or {})})
    else:
        result = run.result or {}
        for metric, value in result.get("test", {}).items():
            if metric == session.task.metric:
                watcher.say(f"test {metric} {value:.4f}")
        print(run.path)


def _options(given: dict[str, Any]) -> tuple[Path, Options]:
    missing = [f"--{key}" for key in ("backbone", "task") if given[key] is None]
    if missing and not (len(missing) == 2 and given["resume"] and given["output"]):
        raise typer.BadParameter(f"{' and '.join(missing)} missing (or --resume -o RUN)")
    from maskpack.runs.folder import Run
    from maskpack.training.named_recipes import with_recipe
    from maskpack.training.setup import Options

    output: Path | None = given["output"]
    workers = given["workers"]
    workers = default_workers() if workers is None else workers
    if missing and output:
        for key, parameter in inspect.signature(train_mask).parameters.items():
            if key not in ANEW and given[key] != parameter.default:
                raise typer.BadParameter(
                    f"--resume -o RUN takes every option from the run; leave out "
                    f"--{key.strip('_').replace('_', '-')}, or give --backbone and --task too"
                )
        kept = Options.of_run(Run(output))
        return output, dataclasses.replace(kept, workers=workers, device=given["device"])
    fields = "epochs batch_size opt lr head_opt head_lr momentum weight_decay sched decay_epochs"
    fields += " decay_rate warmup_epochs min_lr head_init head_epochs"
    fields += " size_penalty freeze_epochs distill temperature"
    recipe = {key: given[key] for key in fields.split() if given[key] is not None}
    if given["decay_milestones"] is not None:
        epochs = whole_numbers("--decay-milestones", given["decay_milestones"])
        recipe["decay_milestones"] = tuple(epochs)
    preprocess = "img_size crop_pct interpolation mean std"
    augment = {
        "crop_mode": "train_crop_mode",
        "scale": "scale",
        "ratio": "ratio",
        "padding": "padding",
        "hflip": "hflip",
        "vflip": "vflip",
        "color_jitter": "color_jitter",
        "auto_augment": "aa",
        "random_erasing": "reprob",
    }
    same = (
        "backbone task method name weights head data download norms no_aug teacher "
        "select val_fraction seed amp device"
    )
    options = Options(
        **{key: given[key] for key in same.split()},
        task_set=task_options(given["task_set"], given["style"], given["features"]),
        set=dict(pair("--set", text) for text in given["set_"] or []),
        include=tuple(given["include"] or ()),
        exclude=tuple(given["exclude"] or ()),
        recipe=recipe,
        preprocess={key: given[key] for key in preprocess.split() if given[key] is not None},
        augment={key: given[o] for key, o in augment.items() if given[o] is not None},
        workers=workers,
    )
    if given["recipe"] is not None:
        options = with_recipe(options, given["recipe"])
    label = f"{options.name or options.task}-{options.method.rpartition(':')[2]}"
    return output or Path("runs") / label, options


def _print_plan(session: Session, as_json: bool) -> None:
    import math

    from maskpack.networks.serialize import info_of, pack_task
    from maskpack.packs.contents import Pack
    from maskpack.reports.describe import size_rows
    from maskpack.reports.tables import print_json, print_rows

    network = session.network
    packed = pack_task(network, session.options.name or session.options.task, session.info({}))
    parts = ["mask"] if "mask" in network.method.stores else list(network.method.stores)
    masks = network.masks()
    rows = [
        {
            "layer": name,
            "kind": layer.kind,
            "shape": layer.shape,
            "bits": sum(
                math.prod(shape)
                for key, stream in packed.streams.items()
                for row, shape in stream.table
                if row == name and stream.dtype == "bits"
            ),
        }
        | {part: tuple(masks[name][part].shape) for part in parts}
        for name, layer in network.layers.items()
    ]
    sizes = size_rows(Pack(info_of(session.backbone), {packed.name: packed}))
    for row in sizes:
        del row["ones"], row["entropy bytes"]  # of masks that have not learnt yet
    soft = [key for key, stream in packed.streams.items() if stream.zeros_of]
    note = f"plus the {', '.join(soft)} of every mask bit that training turns to 0" if soft else ""
    if as_json:
        print_json({"layers": rows, "size": sizes[0], "note": note})
        return
    print_rows("masked weights", rows)
    print_rows("expected bytes in a pack", sizes)
    if note:
        print(note)
