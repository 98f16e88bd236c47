"""Many tasks in one file: its header, and loading one of a hundred against one from its own file.

    python examples/benchmarks/many_tasks.py --backbone mobilenet_v2 resnet50

Random weights, masks of 2 % zeros, heads of ten classes. The two are loaded in turn, task by task;
a ratio is the median of the rounds' ratios. "masks" is `packfile.read` and one task's masks as
bitarrays, without torch; "network" is `packfile.read` and `unpack_task`. The files were written
just before, so the disk takes no part in it. A minute for MobileNetV2; ResNet-50's hundred tasks
take 300 MB and some minutes.
"""

from __future__ import annotations

import argparse
import dataclasses
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from maskpack import open_backbone
from maskpack.backbones.base import Backbone
from maskpack.backbones.layers import find_layers
from maskpack.common.preprocess import Augment
from maskpack.methods.base import Recipe
from maskpack.networks.serialize import info_of, unpack_task
from maskpack.packs import file as packfile
from maskpack.packs.contents import Pack, PackedTask, encode
from maskpack.runs.open import recoded

CLASSES = [f"class {letter}" for letter in "ABCDEFGHIJ"]
COUNTS = (1, 10, 100)


def random_task(name: str, backbone: Backbone, zeros: float, seed: int) -> PackedTask:
    """A Piggyback task that says of itself what a trained one would."""
    random = np.random.default_rng(seed)
    layers = find_layers(backbone.module, backbone.head).values()
    masks = {la.name: random.random(la.shape, np.float32) >= zeros for la in layers}
    state = backbone.module.state_dict()
    heads = {key: (10, *t.shape[1:]) for key, t in state.items() if key.startswith(backbone.head)}
    head = {key: random.normal(size=s).astype(np.float32) for key, s in heads.items()}
    info = {
        "task": {
            "name": name,
            "kind": "classification",
            "metric": "accuracy",
            "classes": [f"{label} of {name}" for label in CLASSES],
        },
        "data": f"data/{name}",
        "preprocess": dataclasses.asdict(backbone.preprocess),
        "augment": dataclasses.asdict(Augment()),
        "recipe": dataclasses.asdict(Recipe()),
        "select": "val",
        "seed": seed,
        "best": {"epoch": seed % 30, "val_accuracy": random.random(), "val_loss": random.random()},
        "test": {"accuracy": random.random(), "count": 1000, "loss": random.random()},
    }
    streams = {"mask": encode(masks, "bits"), "head": encode(head, "f32")}
    return PackedTask(name, "piggyback", {"threshold": 0.005}, "frozen", info, streams)


def seconds(call: Callable[[], object]) -> float:
    """Of this process, on one thread: other processes take no part in it."""
    begin = time.process_time()
    call()
    return time.process_time() - begin


def read_masks(path: Path, name: str) -> object:
    return packfile.read(path).task(name).masks


def read_network(path: Path, name: str, backbone: Backbone) -> object:
    return unpack_task(packfile.read(path).task(name), backbone)


def write_files(folder: Path, pack: Pack) -> dict[str, Path]:
    """Each task in a file of its own, and files of the first 1, 10 and 100: paths by name."""
    names = list(pack.tasks)
    parts = {name: [name] for name in names} | {f"first {n}": names[:n] for n in COUNTS}
    paths = {}
    for place, (part, tasks) in enumerate(parts.items()):
        paths[part] = folder / f"{place}.safetensors"
        packfile.write(paths[part], Pack(pack.backbone, {name: pack.tasks[name] for name in tasks}))
    return paths


def compare(backbone: Backbone, paths: dict[str, Path], names: list[str]) -> list[str]:
    """Milliseconds from a task's own file and from that of all, and their ratio, as cells."""
    whole, cells = paths[f"first {COUNTS[-1]}"], []
    for load in (read_masks, lambda path, name: read_network(path, name, backbone)):
        alone, among = [], []
        for turn, name in enumerate([names[0], *names]):
            pair = [(alone, paths[name]), (among, whole)]
            for times, path in pair if turn % 2 else pair[::-1]:
                times.append(seconds(lambda: load(path, name)))  # noqa: B023 -- called at once
        del alone[0], among[0]  # to warm up
        ratio = statistics.median(b / a for a, b in zip(alone, among, strict=True))
        cells += [f"{statistics.median(times) * 1000:.1f}" for times in (alone, among)]
        cells.append(f"{ratio:.2f}")
    return cells


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backbone", nargs="+", default=["mobilenet_v2"])
    parser.add_argument("--zeros", type=float, default=0.02, help="share of zeros in the masks")
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    times = [f"{what}, {where}" for what in ("masks", "network") for where in ("ms", "of 100", "/")]
    columns = ["backbone", "bits", *(f"header of {n}" for n in COUNTS), "file of 100", *times]
    print("| " + " | ".join(columns) + " |")
    print("|" + " --- |" * len(columns))
    for name in args.backbone:
        backbone = open_backbone(name, weights="none")
        names = [f"task{number:03d}" for number in range(COUNTS[-1])]
        tasks = {t: random_task(t, backbone, args.zeros, seed) for seed, t in enumerate(names)}
        raw = Pack(info_of(backbone), tasks)
        for kind, pack in (("raw", raw), ("coded", recoded(raw, True))):
            with tempfile.TemporaryDirectory() as folder:
                paths = write_files(Path(folder), pack)
                cells = [f"{packfile.read(paths[f'first {n}']).header_bytes:,}" for n in COUNTS]
                cells.append(f"{paths[f'first {COUNTS[-1]}'].stat().st_size:,}")
                step = max(1, len(names) // args.rounds)
                cells += compare(backbone, paths, names[::step])
                print("| " + " | ".join([name, kind, *cells]) + " |", flush=True)


if __name__ == "__main__":
    main()
