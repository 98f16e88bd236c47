"""Accuracy, size and seconds of every method on a few tasks: the tables of docs/results.md.

    python examples/benchmarks/accuracy.py -o bench --backbone mobilenet_v2 \
        --tasks sketches fashion digits=DIR --seeds 0 1 2

Each method's learning rate comes from a grid of three, chosen on the validation split of the first
task with seed 0 (`--grid`); LR below holds what it chose. Finished runs are never trained again.
About 1 to 3 minutes a run on two cores.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
import sys
import tempfile
from pathlib import Path

from maskpack import packfile
from maskpack.learn import Options, learn, open_session
from maskpack.resolve import pack_run

ROWS = {  # label: method, norms
    "classifier-only": ("classifier-only", "frozen"),
    "classifier-only, task norms": ("classifier-only", "task"),
    "fine-tune": ("fine-tune", "task"),
    "piggyback": ("piggyback", "frozen"),
    "piggyback, task norms": ("piggyback", "task"),
    "ksm": ("ksm", "task"),
    "affine": ("affine", "task"),
    "affine, frozen norms": ("affine", "frozen"),
}
GRID = (1e-4, 3e-4, 1e-3)
HEAD_LR = 1e-3  # the head's, for every method but classifier-only, whose grid it is
LR: dict[str, float] = {}


def options(label: str, task: str, args: argparse.Namespace, lr: float, seed: int) -> Options:
    method, norms = ROWS[label]
    name, _, data = task.partition("=")
    alone = label == "classifier-only"
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
            "head_lr": 10 * lr if alone else HEAD_LR,
            "sched": "cosine",
        },
        preprocess={"img_size": args.img_size},
    )


def train(label: str, task: str, args: argparse.Namespace, lr: float, seed: int) -> dict:
    name = task.partition("=")[0]
    slug = label.replace(", ", "-").replace(" ", "-")
    path = args.output / args.backbone / f"{name}-{args.img_size}px" / f"{slug}-lr{lr:g}-s{seed}"
    session = open_session(options(label, task, args, lr, seed))
    run = learn(session, path, resume=True)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "one.safetensors"
        packfile.write(file, pack_run(run))
        size = file.stat().st_size
    best = dataclasses.asdict(session.recipe) | run.result["best"]
    row = {
        "val": best["val_accuracy"],
        "test": run.result["test"]["accuracy"],
        "ones": best.get("ones"),
        "bytes": size,
        "seconds": run.seconds(),
    }
    print(json.dumps({"task": name, "row": label, "lr": lr, "seed": seed} | row), flush=True)
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-o", "--output", type=Path, default=Path("bench"))
    parser.add_argument("--backbone", default="mobilenet_v2")
    parser.add_argument("--tasks", nargs="+", default=["sketches", "fashion"])
    parser.add_argument("--rows", nargs="+", default=list(ROWS), choices=list(ROWS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--img-size", type=int, default=96)
    parser.add_argument("--grid", action="store_true", help="choose learning rates, train no more")
    args = parser.parse_args()
    if args.grid:
        for label in args.rows:
            found = {lr: train(label, args.tasks[0], args, lr, 0)["val"] for lr in GRID}
            print(f"{label}: best lr on validation {max(found, key=found.get):g}", flush=True)
        return
    for task in args.tasks:
        table = {
            label: [train(label, task, args, LR[label], seed) for seed in args.seeds]
            for label in args.rows
        }
        print(f"\n| {task.partition('=')[0]} | lr | test accuracy | ones | bytes | seconds |")
        print("| --- | --- | --- | --- | --- | --- |")
        for label, runs in table.items():
            tests = [run["test"] for run in runs]
            spread = f" ± {statistics.stdev(tests):.3f}" if len(tests) > 1 else ""
            ones = runs[0]["ones"]
            print(
                f"| {label} | {LR[label]:g} | {statistics.mean(tests):.3f}{spread} "
                f"| {'' if ones is None else f'{ones:.4f}'} | {runs[0]['bytes']:,} "
                f"| {statistics.mean(run['seconds'] for run in runs):.0f} |",
                flush=True,
            )


if __name__ == "__main__":
    sys.exit(main())
