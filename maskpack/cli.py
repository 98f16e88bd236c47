"""The command line: read options, call one function, print."""

from __future__ import annotations

import dataclasses
import inspect as inspect_module  # a command below has the plain name
import os
import shlex
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any

import typer

from maskpack.errors import MaskpackError, OptionError, UnknownName

if TYPE_CHECKING:
    from rich.console import Console

    from maskpack.learn import Options, Session
    from maskpack.packfile import Pack

app = typer.Typer(
    name="maskpack",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
ANEW = ("output", "resume", "json", "dry_run", "workers", "device")  # not the run's to know
LEARN, DATA, MASKS = "Training (timm's names)", "Data and pictures", "Masks"
verbosity = {"quiet": False, "verbose": False}

Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
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
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Only warnings on stderr.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Tracebacks of errors.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """One frozen vision backbone, many tasks, each a small file of masks.

    Example: maskpack demo
    """
    verbosity.update(quiet=quiet, verbose=verbose)


# ---- train-mask


@app.command("train-mask")
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

    from maskpack.packfile import Pack
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
        row.pop("ones", None)
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


@app.command("pack")
def pack_command(
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="[NAME=]PATH...", help="Runs and packs, renamed on demand; - reads from stdin."
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
    half: Annotated[
        bool, typer.Option("--half", help="Heads, norms and whole weights as float16 (rounded).")
    ] = False,
    json: Json = False,
) -> None:
    """Put the tasks of many runs into one file, at one bit a mask bit; prints the file's name.

    Example: maskpack pack runs/* -o zoo.safetensors
    """
    if codec not in (None, "auto", "bits"):
        raise typer.BadParameter(f"--codec {codec!r}: expected auto or bits")
    if output.exists() and not (append or force):
        raise MaskpackError(f"{output} exists; --append adds to it, --force replaces it")
    from maskpack import packfile
    from maskpack.report import describe
    from maskpack.resolve import halved, merge, open_pack, recoded, renamed

    packs: list[Pack] = []
    for source in _paths(sources):
        name, equals, path = source.partition("=")
        if not equals or Path(source).exists():  # runs/lr=0.1 is a path, not a name
            packs.append(open_pack(source))
        else:
            packs.append(renamed(open_pack(path), name))
    merged = merge(packs)
    if append and output.exists():
        merged = merge([_without(packfile.read(output), set(merged.tasks)), merged])
    if codec is not None:
        merged = recoded(merged, coded=codec == "auto")
    packfile.write(output, halved(merged) if half else merged)
    written = packfile.read(output)
    if json:
        from maskpack.tables import print_json

        print_json(describe(written))
        return
    size, count = output.stat().st_size, len(written.tasks)
    if not verbosity["quiet"]:
        _stderr().print(f"{count} task{'s' * (count > 1)}, {size:,} bytes", highlight=False)
    print(output)


def _without(pack: Pack, names: set[str]) -> Pack:
    from maskpack.packfile import Pack

    kept = {name: task for name, task in pack.tasks.items() if name not in names}
    return Pack(pack.backbone, kept, pack.path)


# ---- eval


@app.command("eval")
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
    json: Json = False,
) -> None:
    """Rebuild each task's weights from its bits and score them: size against accuracy.

    Example: maskpack eval zoo.safetensors
    """
    from maskpack.learn import pick_device
    from maskpack.resolve import open_pack
    from maskpack.score import score_task
    from maskpack.tables import print_json, print_rows

    rows = []
    packs = [open_pack(source) for source in _paths(sources)]
    _check_data(data or [], {name for pack in packs for name in pack.tasks})
    for pack in packs:
        for name in task or list(pack.tasks):
            if not verbosity["quiet"]:
                _stderr().print(f"scoring {name} ...", markup=False, highlight=False)
            rows.append(
                score_task(
                    pack,
                    name,
                    split=split,
                    data=_data_of(name, data or []),
                    backbone=backbone,
                    weights=weights,
                    trust_code=trust_code,
                    batch_size=batch_size,
                    workers=_default_workers() if workers is None else workers,
                    device=pick_device(device),
                )
            )
    if json:
        print_json(rows)
    else:
        print_rows("size against accuracy", rows)


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


@app.command()
def inspect(
    sources: Annotated[
        list[str], typer.Argument(metavar="PATH...", help="Packs; - reads from stdin.")
    ],
    layers: Annotated[bool, typer.Option(help="The share of zeros of every layer.")] = True,
    json: Json = False,
) -> None:
    """Show sizes, similarity between tasks and sparsity by layer, from the file alone.

    Example: maskpack inspect zoo.safetensors --json
    """
    from maskpack.packfile import read
    from maskpack.report import describe
    from maskpack.tables import print_json, print_rows

    found = []
    for source in _paths(sources):
        if Path(source).is_dir():
            raise MaskpackError(f"{source} is a folder; make a pack of it: maskpack pack {source}")
        found.append(describe(read(source)))
    if json:
        print_json(found[0] if len(found) == 1 else found)
        return
    for about in found:
        base = about["backbone"]
        summary = {
            "file": about["file"],
            "bytes": about["bytes"],
            "header": about["header_bytes"],
            "backbone": base["name"],
            "fingerprint": base["fingerprint"][:12],
            "backbone bytes": base["bytes"],
        }
        print_rows("pack", [summary])
        print_rows("bytes by task", about["tasks"])
        if len(about["similarity"]) > 1:
            print_rows("share of equal mask bits", about["similarity"])
        if layers:
            print_rows("share of zeros by layer", about["layers"])


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
    from maskpack.runs import environment
    from maskpack.tables import print_json, print_rows

    about = environment()
    if json:
        print_json(about)
        return
    rows = [{"what": key, "found": value} for key, value in about.items() if key != "versions"]
    rows += [{"what": key, "found": value} for key, value in about["versions"].items()]
    print_rows("environment", rows)


# ---- shared


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
        sys.exit(app(standalone_mode=True))
    except MaskpackError as error:
        if verbosity["verbose"]:
            raise
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
    except BrokenPipeError:  # `| head` has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)


if __name__ == "__main__":
    main()
