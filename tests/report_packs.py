"""Packs with something to report, made from numbers: no network, no training."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from maskpack.packs.contents import Array, BackboneInfo, Pack, PackedTask, encode

BACKBONE = BackboneInfo("tiny", "ab" * 32, 100_000, "fc", {})
SHAPES = {"stem.weight": (8, 3, 3, 3), "middle.weight": (12, 8), "last.weight": (5, 7, 1, 1)}


def masks(zeros: float, seed: int = 0) -> dict[str, Array]:
    """A mask a layer with so large a share of zeros, about."""
    rng = np.random.default_rng(seed)
    return {name: rng.random(shape) >= zeros for name, shape in SHAPES.items()}


def info(score: float | None = None, count: int = 100, original: str = "birds") -> dict[str, Any]:
    """What training writes down; without a score, as before the test."""
    found: dict[str, Any] = {
        "task": {"name": original, "kind": "classification", "metric": "accuracy"},
        "best": {"val_accuracy": 0.5},
    }
    if score is not None:
        found["test"] = {"accuracy": score, "count": count}
    return found


def style_info(loss: float | None, lower: object = True) -> dict[str, Any]:
    """Of a task whose score is better the lower it is."""
    told = {"name": "oil", "kind": "style-transfer", "metric": "total loss"}
    found: dict[str, Any] = {"task": told | {"lower is better": lower}}
    if loss is not None:
        found |= {"test": {"total loss": loss, "count": 40}, "best": {"val_total loss": 2 * loss}}
    return found


def head(classes: int = 3) -> dict[str, Array]:
    return {"fc.weight": np.ones((classes, 5), np.float32)}


def piggyback(
    name: str = "birds",
    score: float | None = 0.8,
    *,
    zeros: float = 0.1,
    seed: int = 0,
    original: str = "birds",
    about: Mapping[str, Any] | None = None,
    classes: int = 3,
) -> PackedTask:
    streams = {
        "mask": encode(masks(zeros, seed), "bits"),
        "head": encode(head(classes), "f32"),
    }
    told = info(score, original=original) if about is None else about
    return PackedTask(name, "piggyback", {}, "frozen", told, streams)


def ksm(name: str = "scaled", score: float | None = 0.85, seed: int = 1) -> PackedTask:
    """Half of the zeros of the first layer keep the coefficient 0, all others do not."""
    mask = masks(0.4, seed)
    scale = {key: np.where(bits, 0, 0.25).astype(np.float32) for key, bits in mask.items()}
    flat = scale["stem.weight"].reshape(-1)
    off = np.flatnonzero(flat)
    flat[off[: len(off) // 2]] = 0
    streams = {
        "mask": encode(mask, "bits"),
        "scale": encode(scale, "f32", mask, "mask"),
        "head": encode(head(), "f32"),
    }
    return PackedTask(name, "ksm", {}, "task", info(score), streams)


def affine(name: str = "shifted", score: float | None = 0.9, *, channel: bool = True) -> PackedTask:
    """k0 of the first layer only, k1 of all; by channel they count 0, 1, 2, ..."""
    ks = {
        key: np.arange(shape[0] if channel else 1, dtype=np.float32)
        for key, shape in SHAPES.items()
    }
    streams = {
        "mask": encode(masks(0.5, 2), "bits"),
        "k0": encode({"stem.weight": ks["stem.weight"]}, "f32"),
        "k1": encode(ks, "f32"),
        "head": encode(head(), "f32"),
    }
    return PackedTask(name, "affine", {}, "task", info(score), streams)


def plain(name: str = "head-only", score: float | None = 0.6) -> PackedTask:
    """A task without masks."""
    streams = {"head": encode(head(), "f32")}
    return PackedTask(name, "classifier-only", {}, "frozen", info(score), streams)


def pack(*tasks: PackedTask, path: str | None = "zoo.safetensors") -> Pack:
    return Pack(BACKBONE, {task.name: task for task in tasks}, Path(path) if path else None)
