"""Many tasks on one backbone, and switching between them in place.

    python examples/switch_tasks.py

Two built-in tasks are learnt on EfficientNet-Lite0 and packed into one file; then one network in
memory changes from task to task. Needs the extra `demo`, no download. About half a minute on one
core:

    fashion: test accuracy 0.493
    sketches: test accuracy 0.234
    2 tasks, 1774056 bytes
    switched 10 times, outputs equal to the last bit
    19 ms a switch and a forward pass
    the last head: Linear(in_features=1280, out_features=40, bias=True)
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import torch

import maskpack

TASKS = ("fashion", "sketches")


def main(folder: Path) -> None:
    backbone = maskpack.open_backbone("efficientnet_lite0")
    for task in TASKS:
        run = maskpack.fit(
            backbone,
            task,
            "piggyback",
            norms="task",
            output=folder / task,
            recipe={"epochs": 1, "lr": 3e-4, "head_lr": 3e-3},
            preprocess={"img_size": 32},
        )
        print(f"{task}: test accuracy {run.result['test']['accuracy']:.3f}")
    pack = maskpack.pack({task: folder / task for task in TASKS}, folder / "zoo.safetensors")
    print(f"{len(pack.tasks)} tasks, {pack.path.stat().st_size} bytes")

    picture = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    fresh = {task: maskpack.load(pack, task, backbone=backbone)(picture) for task in TASKS}

    network = maskpack.load(pack, "fashion", backbone=backbone)
    begin = time.perf_counter()
    for task in TASKS * 5:
        maskpack.switch(network, pack, task)  # every weight anew from the pristine backbone
        assert torch.equal(network(picture), fresh[task]), "switching drifted"
    seconds = (time.perf_counter() - begin) / (5 * len(TASKS))
    print(f"switched {5 * len(TASKS)} times, outputs equal to the last bit")
    print(f"{1000 * seconds:.0f} ms a switch and a forward pass")
    print(f"the last head: {network.classifier}")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        main(Path(scratch))
