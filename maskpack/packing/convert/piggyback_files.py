"""The files of Piggyback's published code (github.com/arunmallya/piggyback): read, never run.

There are two, both pickles made by torch.save: a checkpoint, {"model": a whole module, ...}, and
masks alone, {"dataset2masks": {task: {place of the module: bytes}}, "dataset2classifiers": {task:
Linear}}.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from maskpack.common.errors import PackFormatError, one_line
from maskpack.packing.convert.pickles import Refused, open_archive
from maskpack.packing.convert.stand_ins import Array, Bag, Storages

THRESHOLD = 5e-3  # the published code's, where a layer does not say its own
MARKS = frozenset(("dataset2masks", "mask_real"))  # texts that only these files hold
# modules whose classes the files name; nothing of them is imported
INERT = ("torch.nn.", "modnets.", "networks.", "torchvision.models.", "argparse.Namespace")


@dataclass(frozen=True)
class PublishedLayer:
    """One masked layer: its mask, int8 of -1, 0 and 1, and its frozen weight and bias if kept."""

    mask: Array
    weight: Array | None = None
    bias: Array | None = None


@dataclass(frozen=True)
class PublishedTask:
    """One task of a file: layers and norms in the order of the network's modules.

    `norms` have weight, bias, running_mean and running_var; a file of masks alone has none.
    `head` has weight and perhaps bias.
    """

    name: str
    layers: list[PublishedLayer]
    head: dict[str, Array]
    norms: list[dict[str, Array]] = field(default_factory=list)
    threshold: float = THRESHOLD
    ternary: bool = False


def is_published(path: Path) -> bool:
    """Whether a file is one of Piggyback's own; nothing of it is run."""
    try:
        archive = open_archive(path)
    except Exception:  # no such file, or a damaged one: whoever reads it next says so
        return False
    return archive is not None and bool(archive.listing.texts & MARKS)


def read_published(path: Path) -> list[PublishedTask]:
    """The tasks of a file of Piggyback's published code.

    Raises:
        PackFormatError: it names other code, or is not such a file, or is damaged.
    """
    try:
        archive = open_archive(path)
        if archive is None:
            raise ValueError("torch.save did not make it")
        content, storages = archive.load(INERT)
        return list(_tasks(content, storages, path))
    except Refused as error:
        raise PackFormatError(f"{path} {one_line(str(error))}; the file is refused") from error
    except Exception as error:  # whatever a damaged pickle makes of the bags
        why = one_line(f"{type(error).__name__}: {error}")
        raise PackFormatError(f"{path} is damaged, or no file of Piggyback's: {why}") from error


# ---- what the files hold


def _tasks(content: Any, storages: Storages, path: Path) -> Iterator[PublishedTask]:
    if not isinstance(content, dict):
        raise ValueError(f"it holds a {type(content).__name__}")
    if "dataset2masks" in content:
        heads = content["dataset2classifiers"]
        for name, masks in content["dataset2masks"].items():
            arrays = [_ternary(storages.array(masks[place])) for place in sorted(masks)]
            layers = [PublishedLayer(mask) for mask in arrays]
            ternary = any((mask < 0).any() for mask in arrays)
            yield PublishedTask(name, layers, _head(heads[name], storages), ternary=ternary)
        return
    yield _checkpoint(content, storages, path)


def _checkpoint(content: Mapping[str, Any], storages: Storages, path: Path) -> PublishedTask:
    model = content["model"]
    layers: list[PublishedLayer] = []
    norms: list[dict[str, Array]] = []
    rules: set[tuple[float, bool]] = set()
    for module in _modules(model["shared"]):
        if "ElementWise" in module.kind:
            rule = _rule(module)
            rules.add(rule)
            mask = _thresholded(storages.array(module["mask_real"]), *rule)
            weight, bias = (
                None if module[key] is None else storages.array(module[key])
                for key in ("weight", "bias")
            )
            layers.append(PublishedLayer(mask, weight, bias))
        elif "BatchNorm" in module.kind:
            keys = ("weight", "bias", "running_mean", "running_var")
            kept = {key: module[key] for key in keys}
            norms.append({k: storages.array(t) for k, t in kept.items() if t is not None})
    if len(rules) != 1:
        raise ValueError(f"its layers have {len(rules)} thresholds, expected one")
    threshold, ternary = rules.pop()
    head = _head(model["classifier"], storages)
    return PublishedTask(_task_name(content, path), layers, head, norms, threshold, ternary)


def _modules(root: Any) -> Iterator[Bag]:
    """A module and all below it, each once, in torch's order."""
    seen: set[int] = set()
    waiting = [root]
    while waiting:
        module = waiting.pop()
        if not isinstance(module, Bag) or id(module) in seen:
            continue
        seen.add(id(module))
        yield module
        waiting.extend(reversed(list(module.fields.get("_modules", {}).values())))


def _rule(module: Bag) -> tuple[float, bool]:
    """A layer's threshold, and whether its mask is ternary."""
    info = module["info"] or {}
    threshold = info.get("threshold", THRESHOLD)
    if type(threshold) is not float or not math.isfinite(threshold):
        raise ValueError("a threshold is no number")
    by_function = getattr(module["threshold_fn"], "kind", "").endswith("Ternarizer")
    return threshold, by_function or info.get("threshold_fn") == "ternarizer"


def _thresholded(scores: Array, threshold: float, ternary: bool) -> npt.NDArray[np.int8]:
    """1 above the threshold, -1 below 0 in ternary masks, else 0; as the published code."""
    if not np.isfinite(scores).all():
        raise ValueError("a score is NaN or infinite")
    mask = (scores > scores.dtype.type(threshold)).astype(np.int8)
    return mask - (scores < 0).astype(np.int8) if ternary else mask


def _ternary(stored: Array) -> npt.NDArray[np.int8]:
    """A stored mask's values; the published code keeps -1 in an unsigned byte, where it is 255."""
    mask = stored.astype(np.int8) if stored.dtype == np.uint8 else stored
    if not np.isin(mask, (-1, 0, 1)).all():
        raise ValueError("a mask has values besides -1, 0 and 1")
    return mask.astype(np.int8)


def _head(module: Any, storages: Storages) -> dict[str, Array]:
    kept = {key: module[key] for key in ("weight", "bias")}
    return {key: storages.array(t) for key, t in kept.items() if t is not None}


def _task_name(content: Mapping[str, Any], path: Path) -> str:
    """The data set whose classifier is the active one, else the one it was started with."""
    model, args = content["model"], content.get("args")
    heads = list((model["classifiers"] or Bag()).fields.get("_modules", {}).values())
    names = model["datasets"] or []
    for name, head in zip(names, heads, strict=False):
        if head is model["classifier"] and isinstance(name, str):
            return name
    started = args["dataset"] if isinstance(args, Bag) else None
    return started if isinstance(started, str) and started else path.stem
