"""What size.py trains: runs of methods, in folders that are found again."""

from __future__ import annotations

import argparse
import functools
import sys
from collections.abc import Iterable, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from maskpack import methods
from maskpack.runs.folder import Run
from maskpack.training.setup import Options, open_session
from maskpack.training.train_run import learn

GRID = (1e-4, 3e-4, 1e-3)
LORA_GRID = (1e-3, 3e-3, 1e-2)  # factors of a product want larger steps than weights
HEAD_LR = 1e-3  # classifier-only has nothing else to learn: ten times its grid value


@dataclass(frozen=True)
class Training:
    """What is trained; several rows of the table may share one."""

    method: str
    lr: float
    norms: str = ""  # "": as the method's paper
    set: Mapping[str, Any] = field(default_factory=dict)
    recipe: Mapping[str, Any] = field(default_factory=dict)  # what differs from the common one
    teacher: Training | None = None  # whose run of the same task and seed is learnt from

    @property
    def name(self) -> str:
        """Of its runs' folders, without rate and seed; accuracy.py calls its own the same."""
        own = methods.make(self.method).norms
        parts = [self.method, *([f"{self.norms}-norms"] if self.norms not in ("", own) else [])]
        parts += ["taught"] if self.teacher else []
        changes = {**self.set, **self.recipe}
        parts += [f"{key.replace('_', '-')}-{value}" for key, value in sorted(changes.items())]
        return "-".join(parts)

    @property
    def grid(self) -> tuple[float, ...]:
        return LORA_GRID if self.method == "lora" else GRID


Job = tuple[Training, str, int]  # what, task, seed


def options(training: Training, task: str, seed: int, args: argparse.Namespace) -> Options:
    name, _, data = task.partition("=")
    teacher = training.teacher
    plain = training.method == "classifier-only" and training.norms in ("", "frozen")
    common = {
        "epochs": args.epochs,
        "opt": "adam",
        "lr": training.lr,
        "head_opt": "adam",
        "head_lr": 10 * training.lr if plain else HEAD_LR,
        "sched": "cosine",
    }
    return Options(
        backbone=args.backbone,
        task=name,
        data=data or None,
        method=training.method,
        set=training.set,
        norms=training.norms or None,
        seed=seed,
        teacher=str(run_path(teacher, task, seed, args)) if teacher else None,
        recipe=common | dict(training.recipe),
        preprocess={"img_size": args.img_size},
        # a folder's pictures are taken whole, as the built-in tasks' are; digits are not flipped
        augment={"crop_mode": "resize", "hflip": 0.0} if data else {},
    )


def place(task: str, args: argparse.Namespace) -> Path:
    folder = f"{task.partition('=')[0]}-{args.img_size}px-{args.epochs}ep"
    return args.output / args.backbone / folder


def run_path(training: Training, task: str, seed: int, args: argparse.Namespace) -> Path:
    return place(task, args) / f"{training.name}-lr{training.lr:g}-s{seed}"


def train_all(jobs: Iterable[Job], args: argparse.Namespace, pool: Executor) -> list[float]:
    """Train every run that is not finished, once; their best accuracies on validation."""
    jobs = list(jobs)
    taught = [(one.teacher, task, seed) for one, task, seed in jobs if one.teacher]
    found: dict[Path, float] = {}
    for wave in (taught, jobs):  # teachers first
        todo = {run_path(*job, args): job for job in wave}
        values = pool.map(functools.partial(train, args=args), todo.values())
        found |= dict(zip(todo, values, strict=True))
    return [found[run_path(*job, args)] for job in jobs]


def train(job: Job, args: argparse.Namespace) -> float:
    """Train a run unless it is finished; its best accuracy on validation."""
    training, task, seed = job
    path = run_path(*job, args)
    if Run(path).result is None:
        say(f"training {path.name} on {task}")
        learn(open_session(options(training, task, seed, args)), path, resume=True)
    result = Run(path).result
    assert result is not None
    return result["best"]["val_accuracy"]


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)  # tables alone go to stdout
