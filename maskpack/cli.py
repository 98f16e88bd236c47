"""The command line: read options, call one function, print."""

from __future__ import annotations

import dataclasses
import errno
import functools
import inspect as inspect_module  # a command below has the plain name
import os
import shlex
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from maskpack.errors import MaskpackError, OptionError, UnknownName

if TYPE_CHECKING:
    from rich.console import Console

    from maskpack.learn import Options, Session
    from maskpack.packed import Pack

app = typer.Typer(
    name="maskpack",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
ANEW = ("output", "resume", "json", "dry_run", "workers", "device")  # not the run's to know
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)  # of a disk
LEARN, DATA, MASKS = "Training (timm's names)", "Data and pictures", "Masks"
verbosity = {"quiet": False, "verbose": False}

Function = TypeVar("Function", bound=Callable[..., None])
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Only warnings on stderr.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Tracebacks of errors.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
Csv = Annotated[bool, typer.Option("--csv", help="Short for --format csv.")]
Markdown = Annotated[bool, typer.Option("--md", help="Short for --format md.")]
Format = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="table, json, jsonl, csv, tsv or md.  [default: table on a terminal, tsv in a pipe]",
    ),
]
Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda or mps.")]
Workers = Annotated[
    int | None,
    typer.Option("--workers", "-j", help="Loading processes.  [default: cores - 2, at most 4]"),
]


def _version(value: bool) -> None:
    if value:
        from maskpack import __version__

        print(f"maskpack {__version__}")
        raise typer.Exit


@app.callback()
def common(
    quiet: Quiet = False,
    verbose: Verbose = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """One frozen vision backbone, many tasks, each a small file of masks.

    Example: maskpack demo
    """
    verbosity.update(quiet=quiet, verbose=verbose)


def command(name: str) -> Callable[[Function], Function]:
    """A command that takes --quiet and --verbose too, which may stand before it or after."""

    def add(function: Function) -> Function:
        @functools.wraps(function)
        def told(*, quiet: bool, verbose: bool, **options: Any) -> None:
            verbosity["quiet"] |= quiet
            verbosity["verbose"] |= verbose
            function(**options)

        flags = {"quiet": Quiet, "verbose": Verbose}
        plain = inspect_module.signature(function, eval_str=True)
        keyword = inspect_module.Parameter.KEYWORD_ONLY
        added = [
            inspect_module.Parameter(flag, keyword, default=False, annotation=kind)
            for flag, kind in flags.items()
        ]
        told.__signature__ = plain.replace(  # type: ignore[attr-defined]
            parameters=[*plain.parameters.values(), *added]
        )
        told.__annotations__ = {
            name: parameter.annotation
            for name, parameter in told.__signature__.parameters.items()  # type: ignore[attr-defined]
        }
        app.command(name)(told)
        return function

    return add


# ---- train-mask


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
        typer.Option(help="Built-in (fashion, sketches), torchvision's, or any with --data."),
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
            help="Folder: train/ [val/] test/ by class, MNIST's idx files, or labels.csv.",
            rich_help_panel=DATA,
        ),
    ] = None,
    download: Annotated[
        bool, typer.Option("--download", help="Let torchvision fetch the data.")
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
            help="piggyback, ksm, affine, classifier-only, fine-tune, scratch, or module:Class.",
        ),
    ] = "piggyback",
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="An option of the method; repeatable."),
    ] = None,
    norms: Annotated[
        str | None,
        typer.Option(help="frozen, stats or task.  [default: as the method's paper]"),
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
    opt: Annotated[str | None, typer.Option(help="adam, adamw, sgd.")] = None,
    lr: Annotated[float | None, typer.Option(help="Of scores, or of all weights.")] = None,
    head_opt: Annotated[str | None, typer.Option(help="The head's optimiser.")] = None,
    head_lr: Annotated[float | None, typer.Option(help="The head's learning rate.")] = None,
    momentum: Annotated[float | None, typer.Option(help="Of sgd.")] = None,
    weight_decay: Annotated[
        float | None, typer.Option(help="Of trained matrices; never of scores.")
    ] = None,
    sched: Annotated[str | None, typer.Option(help="step, cosine, constant.")] = None,
    decay_epochs: Annotated[int | None, typer.Option(help="Of the step schedule.")] = None,
    decay_rate: Annotated[float | None, typer.Option(help="Of the step schedule.")] = None,
    warmup_epochs: Annotated[int | None, typer.Option(help="Linear warm-up.")] = None,
    min_lr: Annotated[float | None, typer.Option(help="Lower bound of the schedule.")] = None,
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
        str | None, typer.Option(help="rrc (random resized crop) or resize (whole picture).")
    ] = None,
    scale: Annotated[
        tuple[float, float] | None, typer.Option(help="Area of a random crop.")
    ] = None,
    ratio: Annotated[tuple[float, float] | None, typer.Option(help="Its width / height.")] = None,
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
    from maskpack.learn import learn, open_session

    session = open_session(options)
    if dry_run:
        _print_plan(session, json)
        return
    from maskpack.progress import Watcher
    from maskpack.train import Stopped

    watcher = Watcher(
        _stderr(), session.recipe.epochs, session.task.metric, quiet=verbosity["quiet"]
    )
    with watcher, _stop_on_signals() as stopped:

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
        from maskpack.tables import print_json

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
    from maskpack.learn import Options
    from maskpack.runs import Run

    output: Path | None = given["output"]
    workers = given["workers"]
    workers = _default_workers() if workers is None else workers
    if missing and output:
        for key, parameter in inspect_module.signature(train_mask).parameters.items():
            if key not in ANEW and given[key] != parameter.default:
                raise typer.BadParameter(
                    f"--resume -o RUN takes every option from the run; leave out "
                    f"--{key.strip('_').replace('_', '-')}, or give --backbone and --task too"
                )
        kept = Options.of_run(Run(output))
        return output, dataclasses.replace(kept, workers=workers, device=given["device"])
    recipe = "epochs batch_size opt lr head_opt head_lr momentum weight_decay sched decay_epochs"
    recipe += " decay_rate warmup_epochs min_lr"
    preprocess = "img_size crop_pct interpolation mean std"
    augment = {
        "crop_mode": "train_crop_mode",
        "scale": "scale",
        "ratio": "ratio",
        "hflip": "hflip",
        "vflip": "vflip",
        "color_jitter": "color_jitter",
        "auto_augment": "aa",
        "random_erasing": "reprob",
    }
    same = (
        "backbone task method name weights head data download norms no_aug select val_fraction "
        "seed amp device"
    )
    options = Options(
        **{key: given[key] for key in same.split()},
        set=dict(_pair(text) for text in given["set_"] or []),
        include=tuple(given["include"] or ()),
        exclude=tuple(given["exclude"] or ()),
        recipe={key: given[key] for key in recipe.split() if given[key] is not None},
        preprocess={key: given[key] for key in preprocess.split() if given[key] is not None},
        augment={key: given[o] for key, o in augment.items() if given[o] is not None},
        workers=workers,
    )
    label = f"{options.name or options.task}-{options.method.rpartition(':')[2]}"
    return output or Path("runs") / label, options


def _pair(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise OptionError(f"--set {text!r}: expected key=value")
    return key.strip(), value.strip()


def _print_plan(session: Session, as_json: bool) -> None:
    import math

    from maskpack.packed import Pack
    from maskpack.packing import info_of, pack_task
    from maskpack.report import size_rows
    from maskpack.tables import print_json, print_rows

    network = session.network
    packed = pack_task(network, session.options.name or session.options.task, session.info({}))
    shapes = {name: tuple(mask["mask"].shape) for name, mask in network.masks().items()}
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
            "mask": shapes[name],
        }
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


# ---- pack


@command("pack")
def pack_command(
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="[NAME=]PATH[#TASK]...",
            help="Runs and packs; #TASK takes one task of several, NAME= renames it; - reads from "
            "stdin.",
        ),
    ],
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
    if output.exists() and not (append or force):
        raise MaskpackError(f"{output} exists; --append adds to it, --force replaces it")
    from maskpack import packfile
    from maskpack.report import describe
    from maskpack.resolve import merge, open_source, recoded

    roles = {"head": head_dtype, "norms": norm_dtype, "weights": weight_dtype}
    half = [role for role, dtype in roles.items() if dtype == "fp16"]
    packs = [open_source(source) for source in _paths(sources)]
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
        _stderr().print(f"{count} task{'s' * (count > 1)}, {size:,} bytes", highlight=False)
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
            _stderr().print(line, markup=False, highlight=False)
    return done


def _without(pack: Pack, names: set[str]) -> Pack:
    from maskpack.packed import Pack

    kept = {name: task for name, task in pack.tasks.items() if name not in names}
    return Pack(pack.backbone, kept, pack.path)


# ---- eval


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
    split: Annotated[str, typer.Option(help="train, val or test.")] = "test",
    backbone: Annotated[
        str | None, typer.Option(help="Where the pack's own name cannot be opened here.")
    ] = None,
    weights: Annotated[str | None, typer.Option(help="The backbone's weights file.")] = None,
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
    """Rebuild each task's weights from its bits and score them: size against accuracy.

    Example: maskpack eval zoo.safetensors
    """
    format = _format(format, json=json, csv=csv, md=md)
    from maskpack.learn import pick_device
    from maskpack.resolve import open_pack
    from maskpack.score import Bases, score_task

    packs = [open_pack(source) for source in _paths(sources)]
    _check_data(data or [], {name for pack in packs for name in pack.tasks})
    _check_tasks(task or [], packs)
    bases = Bases(backbone, weights, trust_code)
    rows = []
    for pack in packs:
        for name in [name for name in task or pack.tasks if name in pack.tasks]:
            if not verbosity["quiet"]:
                _stderr().print(f"scoring {name} ...", markup=False, highlight=False)
            rows.append(
                score_task(
                    pack,
                    name,
                    split=split,
                    data=_data_of(name, data or []),
                    batch_size=batch_size,
                    workers=_default_workers() if workers is None else workers,
                    device=pick_device(device),
                    bases=bases,
                )
            )
    _print(format, rows, [("size against accuracy", rows)])


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


# ---- inspect


@command("inspect")
def inspect(
    sources: Annotated[
        list[str], typer.Argument(metavar="PATH...", help="Packs; - reads from stdin.")
    ],
    layers: Annotated[
        bool, typer.Option(help="Zeros, entropy and coefficients of every layer.")
    ] = True,
    similarity: Annotated[bool, typer.Option(help="How alike the tasks' masks are.")] = True,
    verify: Annotated[
        bool, typer.Option("--verify", help="Compare all streams with their hashes first.")
    ] = False,
    format: Format = None,
    json: Json = False,
) -> None:
    """Show sizes, similarity between tasks and sparsity by layer, from the file alone.

    Example: maskpack inspect zoo.safetensors --json
    """
    format = _format(format, json=json)
    from maskpack.packfile import read
    from maskpack.report import by_task, describe

    found, hashes = [], 0
    for source in _paths(sources):
        if Path(source).is_dir():
            raise MaskpackError(f"{source} is a folder; make a pack of it: maskpack pack {source}")
        pack = read(source)
        if verify:
            for task in pack.tasks.values():
                task.verify()
                hashes += len(task.streams)
        found.append(describe(pack, layers=layers, similarity=similarity))
    if verify and not verbosity["quiet"]:
        _stderr().print(f"all {hashes} hashes match", highlight=False)
    if format == "jsonl":
        _print(format, [row for about in found for row in by_task(about)], [])
    else:
        tables = [table for about in found for table in _inspected(about)]
        _print(format, found[0] if len(found) == 1 else found, tables)


def _inspected(about: dict[str, Any]) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Titles and rows of what `report.describe` found."""
    from maskpack.report import coefficient_rows

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


# ---- demo, env


@app.command()
def demo(
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for its files.")] = Path(
        "maskpack-demo"
    ),
) -> None:
    """Run the main job on real data that comes with the package, in a few minutes.

    Example: maskpack demo -o /tmp/demo
    """
    from maskpack.demo import run_demo

    run_demo(output, call)


@app.command()
def env(json: Json = False) -> None:
    """Print versions, machine and folders, for bug reports.

    Example: maskpack env --json
    """
    import torch

    from maskpack.runs import environment
    from maskpack.tables import print_json, print_rows
    from maskpack.tasks.torchvision_tasks import cache_folder

    folders = {
        "weights": str(Path(torch.hub.get_dir()) / "checkpoints"),
        "data": str(cache_folder("any").parent),
    }
    about = environment() | {"folders": folders}
    if json:
        print_json(about)
        return
    rows = [{"what": k, "found": v} for k, v in about.items() if k not in ("versions", "folders")]
    rows += [{"what": key, "found": value} for key, value in about["versions"].items()]
    rows += [{"what": f"{key} folder", "found": value} for key, value in folders.items()]
    print_rows("environment", rows)


# ---- shared


def _format(
    name: str | None, *, json: bool = False, csv: bool = False, md: bool = False
) -> str | None:
    """The one format asked for; None where none is."""
    from maskpack.tables import FORMATS

    short = {"json": json, "csv": csv, "md": md}
    asked = {given for given, on in short.items() if on} | ({name} if name is not None else set())
    if len(asked) > 1:
        raise typer.BadParameter(f"two formats asked for: {' and '.join(sorted(asked))}")
    if asked - set(FORMATS):
        raise typer.BadParameter(f"--format {name!r}: expected one of {', '.join(FORMATS)}")
    return next(iter(asked), None)


def _print(format: str | None, value: Any, tables: list[tuple[str, list[dict[str, Any]]]]) -> None:
    """The value as JSON (a list's items one a line as jsonl), or the tables in another format."""
    from maskpack.tables import print_json, print_jsonl, print_rows

    if format == "json":
        print_json(value)
    elif format == "jsonl":
        print_jsonl(value)
    else:
        for title, rows in tables:
            print_rows(title, rows, format)


def _default_workers() -> int:
    # on two cores the training itself wants both
    return max(0, min(4, (os.cpu_count() or 1) - 2))


def _paths(sources: list[str]) -> Iterator[str]:
    """Paths as given; `-` stands for those on stdin, one a line."""
    for source in sources:
        if source == "-":
            yield from (line.strip() for line in sys.stdin if line.strip())
        else:
            yield source


def _stderr() -> Console:
    from rich.console import Console

    return Console(stderr=True)


@contextmanager
def _stop_on_signals() -> Iterator[list[int]]:
    """A list that the first SIGINT or SIGTERM puts its number in; a second one kills."""
    caught: list[int] = []
    before: dict[int, Any] = {}

    def note(number: int, _: FrameType | None) -> None:
        caught.append(number)
        for sent, handler in before.items():
            signal.signal(sent, handler)

    for number in (signal.SIGINT, signal.SIGTERM):
        before[number] = signal.signal(number, note)
    try:
        yield caught
    finally:
        for sent, handler in before.items():
            signal.signal(sent, handler)


def call(arguments: list[str]) -> None:
    """Run one command in this process, errors raised as they are."""
    app(arguments, standalone_mode=False)


def main() -> None:
    """The `maskpack` command."""
    try:
        try:
            app(standalone_mode=True)
        finally:
            sys.stdout.flush()  # here, where what goes wrong can still be told
    except MaskpackError as error:
        if verbosity["verbose"]:
            raise
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
    except BrokenPipeError:  # `| head` has seen enough
        _drop_stdout()
        sys.exit(0)
    except OSError as error:
        if error.errno not in FULL or verbosity["verbose"]:
            raise
        print(f"error: cannot write: {error.strerror}", file=sys.stderr)
        _drop_stdout()
        sys.exit(1)


def _drop_stdout() -> None:
    """Let what is still to be written vanish, or Python complains of it at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    main()
