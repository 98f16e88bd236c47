"""Score one task of a pack from its bits: what `eval` does."""

from __future__ import annotations

from typing import Any

import torch

from maskpack.errors import DataError, OptionError, PackFormatError, one_line
from maskpack.evaluate import evaluate
from maskpack.packfile import Pack
from maskpack.packing import unpack_task
from maskpack.preprocess import Augment, Preprocess
from maskpack.report import fine_tuned_bytes, task_bytes
from maskpack.resolve import open_base
from maskpack.tasks import open_task


def score_task(
    pack: Pack,
    name: str,
    *,
    split: str = "test",
    data: str | None = None,
    backbone: str | None = None,
    weights: str | None = None,
    trust_code: bool = False,
    batch_size: int = 64,
    workers: int = 0,
    device: torch.device | str = "cpu",
) -> dict[str, Any]:
    """A row: task, method, metric and its value, bytes, and their share of a fine-tuned copy's.

    Raises:
        UnknownName: no such task.
        BackboneError: the backbone cannot be had or is another one.
        DataError: the pictures are missing, or have other classes than the task was learnt on.
    """
    packed = pack.task(name)
    base = open_base(pack, packed, backbone=backbone, weights=weights, trust_code=trust_code)
    try:
        about = dict(packed.info["task"])
        preprocess = Preprocess(**packed.info["preprocess"])
        augment = Augment(**packed.info["augment"])
        original = about["name"]
        recorded = packed.info.get("test", {}).get(about["metric"])
        folder = data if data is not None else packed.info.get("data")
        if not isinstance(original, str) or not isinstance(folder, str | None):
            raise TypeError("the task's name or its folder is no text")
    except (KeyError, TypeError, AttributeError, OptionError) as error:
        raise PackFormatError(
            f"{pack.path}: {name}: the header does not say how to score it "
            f"({one_line(repr(error))})"
        ) from error
    task = open_task(original, folder)
    if task.describe().get("classes") != about.get("classes"):
        raise DataError(
            f"{name}: the pictures of {folder or original} have other classes than the task was "
            "learnt on; give the right folder with --data TASK=DIR"
        )
    network = unpack_task(packed, base)
    score = evaluate(
        network,
        task,
        task.dataset(split),
        preprocess,
        augment,
        batch_size=batch_size,
        workers=workers,
        device=device,
    )
    total = sum(task_bytes(packed).values())
    return {
        "task": name,
        "method": packed.method,
        "norms mode": packed.norms,
        "split": split,
        task.metric: score.value,
        "recorded": recorded if split == "test" else None,
        "count": score.count,
        "bytes": total,
        "of fine-tuned": total / fine_tuned_bytes(pack, packed),
    }
