"""Size against accuracy: masks beside fine-tuning, its differences, BitDelta, LoRA, a head alone.

    pip install peft zstandard
    python examples/benchmarks/size.py -o bench --seeds 0 1 2 --tasks sketches fashion

Trains what is not there (runs lie where accuracy.py has them, a finished one is never trained
again), stores each in all its ways, builds the network again from the file, and scores that. Prints
a table for each task: bytes of the whole file, how often it fits the fine-tuned float32 checkpoint,
test accuracy (mean over seeds ± standard deviation), and the difference to the fine-tuned network
of the same seed in points with its 95 % interval, paired picture by picture, each picture's
differences averaged over the seeds first. "yes" where that interval holds 0: no measurable loss.

Two minutes a training and core; storing and scoring takes 10 s a row and seed, BitDelta's scale
distillation a minute. Files, and which pictures were right, stay in the output folder: `--print`
shows what is there at once, `--again` stores and scores anew what another version made.

All is trained alike: 10 epochs, Adam, cosine schedule, one thread, the head at 1e-3, the learning
rate from a grid of three on the validation pictures of the first task with seed 0 (`--grid`; LoRA's
at rank 4). What is counted:

- fine-tune: a state_dict as .safetensors, in float32 and float16; the difference to the backbone in
  float16, as it is and as zstd -19 packs it;
- BitDelta of the same networks (`maskpack pack --from-checkpoint`), with and without distillation
  from 300 pictures: coded bits, everything else in float16;
- LoRA: peft's .safetensors in float16, without the 2 kB of its adapter_config.json, as lora.py
  makes it of a run of `--method lora`;
- classifier-only and masks: packs as `maskpack pack --codec auto` writes them, header included.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import json
import statistics
from collections.abc import Callable, Mapping
from concurrent.futures import Executor, ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import stored
import torch
from stored import Storage, Trained
from torch import Tensor, nn
from trained import Training, options, place, run_path, say, train_all

from maskpack.evaluation.evaluate import evaluate
from maskpack.training.named_recipes import RARE
from maskpack.training.setup import Session, open_session

Z95 = 1.96


@dataclass(frozen=True)
class Row:
    """A training and one way to store it."""

    training: Training
    store: Callable[..., nn.Module]
    how: Mapping[str, Any] = field(default_factory=dict)
    suffix: str = ".safetensors"

    def described(self) -> str:
        """Changes with anything that would change the file."""
        how = {key: getattr(value, "changed", value) for key, value in self.how.items()}
        return f"{self.training.name}, {self.training.lr:g}: {self.store.__name__} {how}"


def masks(method: str, lr: float, storage: Storage, **more: Any) -> Row:
    """A row of masks: `more` are norms, set, recipe and teacher of its Training."""
    return Row(Training(method, lr, **more), stored.packed, {"storage": storage})


def size_recipe(penalty: float) -> dict[str, Any]:
    """Training for size (`--recipe small`), at a price."""
    return {"size_penalty": penalty, "head_init": "zeros", "head_epochs": 1}


SMALL = Storage(head="int3", norms="int2", coefficients="fp16")
TINY = Storage(head="int2", norms="int2")
FINE_TUNE = Training("fine-tune", 1e-3)
CLASSIFIER = Training("classifier-only", 3e-4)
REFERENCE = "fine-tune, fp32"
ROWS = {
    REFERENCE: Row(FINE_TUNE, stored.checkpoint),
    "fine-tune, fp16": Row(FINE_TUNE, stored.checkpoint, {"dtype": "float16"}),
    "fine-tune, difference fp16": Row(FINE_TUNE, stored.difference),
    "fine-tune, difference fp16, zstd": Row(
        FINE_TUNE, stored.difference, {"zstd": True}, ".safetensors.zst"
    ),
    **{
        f"BitDelta, per {per}{', distilled' * bool(count)}": Row(
            FINE_TUNE, stored.bitdelta, {"per": per, "distill": count}
        )
        for per in ("layer", "channel")
        for count in (0, 300)
    },
    **{
        f"LoRA, rank {rank}": Row(Training("lora", 3e-3, set={"rank": rank}), stored.adapter)
        for rank in (2, 4, 8)
    },
    "LoRA, rank 8, taught": Row(
        Training("lora", 3e-3, set={"rank": 8}, recipe={"epochs": 20}, teacher=FINE_TUNE),
        stored.adapter,
    ),
    **{
        f"classifier-only, head {kind}": Row(
            CLASSIFIER, stored.packed, {"storage": Storage(head=kind)}
        )
        for kind in ("fp16", "int8", "int4")
    },
    "masks: accurate": masks(
        "piggyback",
        3e-4,
        Storage(head="int8", norms="fp16"),
        norms="task",
        recipe={"size_penalty": 0.008},
    ),
    "masks: small": masks("piggyback", 3e-4, SMALL, norms="scale", recipe=size_recipe(0.025)),
    **{
        f"masks: taught, {label}": masks(
            "piggyback",
            3e-4,
            storage,
            norms="scale",
            recipe=size_recipe(penalty) | {"epochs": 20},
            teacher=FINE_TUNE,
        )
        for label, penalty, storage in (
            ("small", 0.05, SMALL),
            ("smaller", 0.05, TINY),
            ("tiny", 0.15, TINY),
        )
    },
    "masks: affine, small": masks(
        "affine", 3e-4, SMALL, norms="scale", set=RARE["affine"], recipe=size_recipe(0.025)
    ),
    "masks: ksm, small": masks(
        "ksm", 3e-4, SMALL, norms="scale", set=RARE["ksm"], recipe=size_recipe(0.025)
    ),
    # what each part of "masks: small" is for: that part left out, or another way in its place
    **{
        f"parts: {label}": masks(
            "piggyback", lr, SMALL, norms=norms, set=set_, recipe=size_recipe(0.025) | recipe
        )
        for label, lr, norms, set_, recipe in (
            ("no penalty", 3e-4, "scale", {}, {"size_penalty": 0.0}),
            (
                "no penalty, scores start twice as far",
                3e-4,
                "scale",
                {"init_scale": 0.015},
                {"size_penalty": 0.0},
            ),
            ("no penalty, lr 1e-4", 1e-4, "scale", {}, {"size_penalty": 0.0}),
            (
                "no penalty, bits frozen for 5 epochs",
                3e-4,
                "scale",
                {},
                {"size_penalty": 0.0, "freeze_epochs": 5},
            ),
            ("penalty 0.1", 3e-4, "scale", {}, {"size_penalty": 0.1}),
            ("penalty 0.008", 3e-4, "scale", {}, {"size_penalty": 0.008}),
            ("no head epochs", 3e-4, "scale", {}, {"head_epochs": 0}),
            ("random head", 3e-4, "scale", {}, {"head_init": "random"}),
            ("frozen norms", 3e-4, "frozen", {}, {}),
        )
    },
}
Cell = tuple[str, str, int]  # label, task, seed


# ---- learning rates


def choose_rates(rows: Mapping[str, Row], args: argparse.Namespace, pool: Executor) -> None:
    """Train every row's grid on the first task with seed 0 and print what validation says."""
    jobs = [
        (dataclasses.replace(row.training, lr=lr), args.tasks[0], 0)
        for row in rows.values()
        if row.training.set.get("rank", 4) == 4  # of LoRA
        for lr in row.training.grid
    ]
    found: dict[str, dict[float, float]] = {}
    for (training, _, _), value in zip(jobs, train_all(jobs, args, pool), strict=True):
        found.setdefault(training.name, {})[training.lr] = value
    for name, values in found.items():
        shown = ", ".join(f"{lr:g}: {value:.4f}" for lr, value in values.items())
        print(f"{name}: validation accuracy {shown}; best {max(values, key=values.get):g}")


# ---- storing and scoring


class Noting:
    """A task whose score is kept picture by picture, for `evaluate`."""

    def __init__(self, session: Session) -> None:
        self.loss = session.task.loss
        self._score = session.task.score
        self.correct = ""

    def score(self, output: Tensor, target: Tensor) -> Tensor:
        shares = self._score(output, target)
        self.correct += "".join("1" if share else "0" for share in shares.tolist())
        return shares


def point_path(cell: Cell, args: argparse.Namespace) -> Path:
    label, task, seed = cell
    name = label.replace(":", "").replace(",", "").replace(" ", "-")
    return place(task, args) / "size" / f"{name}-s{seed}.json"


def kept_point(cell: Cell, args: argparse.Namespace) -> dict[str, Any] | None:
    """What was measured before, if it was of this very row."""
    path = point_path(cell, args)
    if args.again or not path.is_file():
        return None
    point = json.loads(path.read_text(encoding="utf-8"))
    return point if point["row"] == ROWS[cell[0]].described() else None


def measure(cell: Cell, args: argparse.Namespace) -> dict[str, Any]:
    """Store a trained run as its row says, read it back, score it on the test pictures."""
    kept = kept_point(cell, args)
    if kept is not None:
        return kept
    (label, task, seed), row = cell, ROWS[cell[0]]
    path = point_path(cell, args)
    path.parent.mkdir(exist_ok=True)
    file = path.with_suffix(row.suffix)
    asked = dataclasses.replace(options(row.training, task, seed, args), teacher=None)
    session = open_session(asked)
    trained = Trained(session, run_path(row.training, task, seed, args))
    network = row.store(trained, file, **row.how)
    noting = Noting(session)
    pictures = session.task.dataset("test")
    score = evaluate(network, noting, pictures, session.preprocess, session.augment)
    point = {
        "row": row.described(),
        "bytes": file.stat().st_size,
        "accuracy": score.value,
        "correct": noting.correct,
    }
    path.write_text(json.dumps(point) + "\n", encoding="utf-8")
    say(f"{label}, {task}, seed {seed}: {point['bytes']:,} bytes, {score.value:.4f}")
    return point


# ---- tables


def paired(points: list[dict], references: list[dict]) -> tuple[float, float, float]:
    """Difference of accuracy in points, and its 95 % interval.

    Seeds are averaged for each picture first: they share the pictures, so only those are a sample.
    """
    right, wanted = (
        np.array([[mark == "1" for mark in point["correct"]] for point in given], float)
        for given in (points, references)
    )
    changes = 100 * (right - wanted).mean(axis=0)  # (pictures,)
    mean = float(changes.mean())
    margin = Z95 * float(changes.std(ddof=1)) / len(changes) ** 0.5
    return mean, mean - margin, mean + margin


def summary(task: str, label: str, points: list[dict], references: list[dict]) -> dict[str, Any]:
    """One row's numbers over its seeds."""
    values = [point["accuracy"] for point in points]
    size = statistics.mean(point["bytes"] for point in points)
    difference, low, high = paired(points, references)
    return {
        "task": task.partition("=")[0],
        "row": label,
        "bytes": size,
        "ratio": statistics.mean(point["bytes"] for point in references) / size,
        "accuracy": statistics.mean(values),
        "deviation": statistics.stdev(values) if len(values) > 1 else None,
        "difference": difference,
        "low": low,
        "high": high,
        "no measurable loss": low <= 0 <= high,
        "seeds": len(values),
    }


def print_table(rows: list[dict[str, Any]]) -> None:
    columns = [rows[0]["task"], "bytes", "fine-tuned / it", "test accuracy"]
    columns += ["difference, points", "holds 0"]
    print(f"\n| {' | '.join(columns)} |\n|{' --- |' * len(columns)}")
    for row in rows:
        spread = "" if row["deviation"] is None else f" ± {row['deviation']:.3f}"
        change = f"{row['difference']:+.1f} ({row['low']:+.1f} to {row['high']:+.1f})"
        cells = [row["row"], f"{row['bytes']:,.0f}", f"{row['ratio']:.1f}"]
        cells += [f"{row['accuracy']:.3f}{spread}"]
        same = row["row"] == REFERENCE
        cells += ["", ""] if same else [change, "yes" if row["no measurable loss"] else "no"]
        print(f"| {' | '.join(cells)} |")


def chosen(prefixes: list[str], always: tuple[str, ...]) -> dict[str, Row]:
    """The rows whose labels begin so, or all; and those that are needed anyway."""
    for prefix in prefixes:
        if not any(label.startswith(prefix) for label in ROWS):
            raise SystemExit(f"no row begins with {prefix!r}; known: {'; '.join(ROWS)}")
    wanted = (*always, *(prefixes or ROWS))
    return {label: row for label, row in ROWS.items() if label.startswith(wanted)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-o", "--output", type=Path, default=Path("bench"))
    parser.add_argument("--backbone", default="mobilenet_v2")
    parser.add_argument("--tasks", nargs="+", default=["sketches", "fashion"], help="NAME[=DIR]")
    parser.add_argument("--rows", nargs="+", default=[], help="how their labels begin; all rows")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--img-size", type=int, default=64)
    parser.add_argument("--jobs", type=int, default=1, help="trainings at once, a thread each")
    parser.add_argument("--grid", action="store_true", help="choose learning rates, no more")
    parser.add_argument("--again", action="store_true", help="store and score anew, not train")
    parser.add_argument("--print", action="store_true", help="only what is there already")
    parser.add_argument("--json", action="store_true", help="JSON instead of tables")
    args = parser.parse_args()
    rows = chosen(args.rows, () if args.grid else (REFERENCE,))
    cells = [(label, task, s) for task in args.tasks for s in args.seeds for label in rows]
    if args.print:
        points = {cell: kept_point(cell, args) for cell in cells}
    else:
        with ProcessPoolExecutor(args.jobs, None, torch.set_num_threads, (1,)) as pool:
            if args.grid:
                choose_rates(rows, args, pool)
                return
            train_all(((rows[x].training, task, s) for x, task, s in cells), args, pool)
            found = pool.map(functools.partial(measure, args=args), cells)
            points = dict(zip(cells, found, strict=True))
    tables = []
    for task in args.tasks:
        by_row = {label: [points[label, task, seed] for seed in args.seeds] for label in rows}
        if all(by_row[REFERENCE]):
            whole = {label: given for label, given in by_row.items() if all(given)}
            tables.append([summary(task, x, whole[x], whole[REFERENCE]) for x in whole])
    if args.json:
        print(json.dumps([row for table in tables for row in table], indent=2))
        return
    for table in tables:
        print_table(table)


if __name__ == "__main__":
    main()
