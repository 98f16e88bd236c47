"""Accuracy, size and seconds of every method on a few tasks: the tables of docs/results.md.

    python examples/benchmarks/accuracy.py -o bench --seeds 0 1 2 --tasks sketches fashion

Each method's learning rate comes from a grid of three, chosen on the validation split of the first
task with seed 0 (`--grid`); LR below holds what it chose. A finished run is never trained again, so
the script can be stopped and repeated. One to three minutes a run and core. "small" is what
`maskpack pack --codec auto` with `--head-dtype`, `--norm-dtype` and
`--weight-dtype fp16` makes of the run, its accuracy measured again.
"""

from __future__ import annotations

import argparse
import functools
import json
import statistics
import tempfile
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import torch

from maskpack import score_task
from maskpack.evaluation.task_row import Bases
from maskpack.packing.smaller.kinds import Storage
from maskpack.packing.smaller.rescore import stored
from maskpack.packs import file as packfile
from maskpack.runs.folder import Run
from maskpack.runs.open import pack_run, recoded
from maskpack.training.setup import Options, open_session
from maskpack.training.train_run import learn

ROWS = {  # label: method, norms
    "classifier-only": ("classifier-only", "frozen"),
    "classifier-only, task norms": ("classifier-only", "task"),
    "fine-tune": ("fine-tune", "task"),
    "piggyback": ("piggyback", "frozen"),
    "piggyback, task norms": ("piggyback", "task"),
    "ksm": ("ksm", "task"),
    "affine": ("affine", "task"),
}
GRID = (1e-4, 3e-4, 1e-3)
HEAD_LR = 1e-3  # classifier-only, frozen norms, has nothing else to learn: ten times its grid value
LR = {  # MobileNetV2, sketches, 64 px, 10 epochs, seed 0
    "classifier-only": 3e-4,
    "classifier-only, task norms": 1e-3,
    "fine-tune": 1e-3,
    "piggyback": 3e-4,
    "piggyback, task norms": 3e-4,
    "ksm": 3e-4,
    "affine": 1e-3,
}
HALVES = Storage(head="fp16", norms="fp16", weights="fp16")
Cell = tuple[str, str, float, int]  # label, task, learning rate, seed


def options(cell: Cell, args: argparse.Namespace) -> Options:
    label, task, lr, seed = cell
    method, norms = ROWS[label]
    name, _, data = task.partition("=")
    return Options(
        backbone=args.backbone,
        task=name,
        data=data or None,
        method=method,
        norms=norms,
        seed=seed,
        recipe={
            "epochs": args.epochs,
            "opt": "adam",
            "lr": lr,
            "head_opt": "adam",
            "head_lr": 10 * lr if label == "classifier-only" else HEAD_LR,
            "sched": "cosine",
        },
        preprocess={"img_size": args.img_size},
        # a folder's pictures are taken whole, as the built-in tasks' are; digits are not flipped
        augment={"crop_mode": "resize", "hflip": 0.0} if data else {},
    )


def train(cell: Cell, args: argparse.Namespace) -> dict:
    torch.set_num_threads(max(1, torch.get_num_threads() // args.jobs))
    label, task, lr, seed = cell
    name = task.partition("=")[0]
    slug = label.replace(", ", "-").replace(" ", "-")
    place = f"{name}-{args.img_size}px-{args.epochs}ep"
    path = args.output / args.backbone / place / f"{slug}-lr{lr:g}-s{seed}"
    run = Run(path)
    if not run.exists() or run.result is None:
        run = learn(open_session(options(cell, args)), path, resume=True)
    pack = pack_run(run)
    small = recoded(stored(pack, HALVES, Bases()), coded=True)
    with tempfile.TemporaryDirectory() as folder:
        sizes = []
        for kept in (pack, small):
            file = Path(folder) / "one.safetensors"
            packfile.write(file, kept)
            sizes.append(file.stat().st_size)
    row = {
        "val": run.result["best"]["val_accuracy"],
        "test": run.result["test"]["accuracy"],
        "ones": run.result["best"].get("ones"),
        "bytes": sizes[0],
        "small bytes": sizes[1],
        "small test": None if args.grid else score_task(small, small.task().name)["accuracy"],
        "seconds": run.seconds(),
    }
    print(json.dumps({"task": name, "row": label, "lr": lr, "seed": seed} | row), flush=True)
    return row


def spread(runs: list[dict], key: str) -> str:
    """Mean, and the standard deviation over seeds."""
    values = [run[key] for run in runs]
    more = f" ± {statistics.stdev(values):.3f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.3f}{more}"


def print_table(task: str, rows: list[str], found: dict[Cell, dict], seeds: list[int]) -> None:
    columns = ["", "lr", "test accuracy", "ones", "bytes", "small: accuracy", "small: bytes"]
    columns += ["seconds"]
    print(f"\n{task.partition('=')[0]}\n| {' | '.join(columns)} |")
    print("|" + " --- |" * len(columns))
    for label in rows:
        runs = [found[label, task, LR[label], seed] for seed in seeds]
        ones = "" if runs[0]["ones"] is None else f"{runs[0]['ones']:.1%}"
        cells = [label, f"{LR[label]:g}", spread(runs, "test"), ones]
        cells += [f"{statistics.mean(run['bytes'] for run in runs):,.0f}"]
        cells += [spread(runs, "small test")]
        cells += [f"{statistics.mean(run['small bytes'] for run in runs):,.0f}"]
        cells += [f"{statistics.mean(run['seconds'] for run in runs):.0f}"]
        print(f"| {' | '.join(cells)} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-o", "--output", type=Path, default=Path("bench"))
    parser.add_argument("--backbone", default="mobilenet_v2")
    parser.add_argument("--tasks", nargs="+", default=["sketches", "fashion"], help="NAME[=DIR]")
    parser.add_argument("--rows", nargs="+", default=list(ROWS), choices=list(ROWS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--img-size", type=int, default=64)
    parser.add_argument("--jobs", type=int, default=1, help="runs at once, sharing the threads")
    parser.add_argument("--grid", action="store_true", help="choose learning rates, no more")
    args = parser.parse_args()
    if args.grid:
        cells = [(label, args.tasks[0], lr, 0) for label in args.rows for lr in GRID]
    else:
        cells = [(r, t, LR[r], s) for s in args.seeds for t in args.tasks for r in args.rows]
    with ProcessPoolExecutor(args.jobs) as pool:
        found = dict(zip(cells, pool.map(functools.partial(train, args=args), cells), strict=True))
    if args.grid:
        for label in args.rows:
            best = max(GRID, key=lambda lr: found[label, args.tasks[0], lr, 0]["val"])
            print(f"{label}: best lr on validation {best:g}")
        return
    for task in args.tasks:
        print_table(task, args.rows, found, args.seeds)


if __name__ == "__main__":
    main()
