"""Fewer bits for a packed task's head, norms, coefficients and whole weights. Lossy.

Norms, and weights in integers, are kept as their difference to the backbone's own, norms with their
running statistics folded into weight and bias: half the numbers. (In float16 they are kept as they
are where all weights come with them, so that such a task needs no backbone.) Coefficients of either
sign have signed integers of as many bits. Where integers would take no fewer bytes than float16, it
is float16.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from torch import nn

from maskpack.backbones.layers import norm_layers
from maskpack.common.errors import OptionError, PackFormatError
from maskpack.packs import number_codec as quantize
from maskpack.packs.contents import OWN, Array, PackedTask, Stream, encode, quantized
from maskpack.reports.describe import stream_part

if TYPE_CHECKING:
    from maskpack.backbones.base import Backbone

SIGNED = ("int8", "int4", "int3", "int2")
FLOATS = ("fp32", "fp16")
KINDS = {  # part of a task -> how its numbers may be stored
    "head": (*FLOATS, *SIGNED),  # and rankR, rankR-int4, ...
    "norms": (*FLOATS, *SIGNED),
    "coefficients": (*FLOATS, "uint8", "uint4"),
    "weights": (*FLOATS, *SIGNED),
}
GROUP = 32  # values of a folded norm that share a scale
STATISTICS = ("running_mean", "running_var")
STREAM_DTYPES = {"fp32": "f32", "fp16": "f16"}


@dataclass(frozen=True)
class Storage:
    """How the numbers of a task are stored, by part; "fp32" leaves a part as it is.

    A head may also be "rank8" (two factors of that rank in int8) or "rank8-int4".
    """

    head: str = "fp32"
    norms: str = "fp32"
    coefficients: str = "fp32"
    weights: str = "fp32"

    def __post_init__(self) -> None:
        for part, kinds in KINDS.items():
            value = getattr(self, part)
            rank, kind = rank_and_kind(value)
            if kind not in kinds or (rank and (part != "head" or kind not in SIGNED)):
                more = ", rank8, rank8-int4" if part == "head" else ""
                raise OptionError(f"{part} as {value!r}: expected {', '.join(kinds)}{more}")

    @property
    def changed(self) -> dict[str, str]:
        """The parts that are not left as they are."""
        return {part: value for part, value in vars(self).items() if value != "fp32"}


def shrunk(task: PackedTask, storage: Storage, base: Backbone) -> PackedTask:
    """A task with its numbers stored otherwise. `base` is its backbone.

    Raises:
        OptionError: a value is too large for float16.
        PackFormatError: the task's streams do not fit the backbone.
    """
    streams = dict(task.streams)
    for part, kind in storage.changed.items():
        for key in [
            key for key, stream in task.streams.items() if stream_part(key, stream) == part
        ]:
            if task.streams[key].dtype == "u8":
                continue  # a method's own integers, which training saw
            try:
                streams[key] = _stored(task, key, kind, base)
            except ValueError as error:
                raise OptionError(f"{task.name}, {key}: {error}; keep it fp32") from error
    return dataclasses.replace(task, streams=streams)


def _stored(task: PackedTask, key: str, kind: str, base: Backbone) -> Stream:
    rank, kind = rank_and_kind(kind)
    dtype = STREAM_DTYPES.get(kind, kind)
    group = task.streams[key].group
    if key in OWN and key != "head" and not task.streams[key].delta:
        if dtype == "f32" or (dtype == "f16" and "weights" in task.streams):
            return quantized(task, key, dtype)
        changes = _differences(task, key, base)
        if any(name.rpartition(".")[2] in STATISTICS for name in changes):
            return quantized(task, key, "f16")  # a variance so rounded might end below 0
        # folded statistics differ widely from channel to channel; what was trained does not
        folded = any(name.rpartition(".")[2] in STATISTICS for name, _ in task.streams[key].table)
        group = GROUP if folded else 0
        kept = dataclasses.replace(encode(changes, "f32"), delta=True)
        task = dataclasses.replace(task, streams={**task.streams, key: kept})
    if dtype not in quantize.RANGES:
        return quantized(task, key, dtype)
    if dtype.startswith("u") and (task.values(key) < 0).any():
        dtype = dtype.removeprefix("u")
    small = quantized(task, key, dtype, rank, group)
    plain = quantized(task, key, "f16")
    return small if small.data.nbytes < plain.data.nbytes else plain


def _differences(task: PackedTask, key: str, base: Backbone) -> dict[str, Array]:
    """A task's norms (statistics folded) or weights less the backbone's, where they differ."""
    pristine = {name: tensor.numpy() for name, tensor in base.state().items()}
    arrays = {name: array.astype(np.float32) for name, array in task.arrays(key).items()}
    for name, array in arrays.items():
        if name not in pristine or pristine[name].shape != array.shape:
            raise PackFormatError(
                f"{task.source}: {task.name}, {name}: does not fit the backbone; "
                "the file is damaged"
            )
    if key == "norms":
        arrays = _folded(arrays, pristine, norm_layers(base.module, base.head))
    changes = {name: array - pristine[name] for name, array in arrays.items()}
    return {name: change for name, change in changes.items() if change.any()}


def _folded(
    arrays: Mapping[str, Array], pristine: Mapping[str, Array], norms: Mapping[str, nn.Module]
) -> dict[str, Array]:
    """Norms that compute the same with the backbone's statistics as with their own.

    (x - mean) / sqrt(var + eps) * weight + bias, written with another mean and variance.
    """
    folded = dict(arrays)
    for name, norm in norms.items():
        own = [f"{name}.{key}" for key in STATISTICS]
        weight, bias = f"{name}.weight", f"{name}.bias"
        if weight not in pristine or bias not in pristine or not any(key in arrays for key in own):
            continue  # nothing to fold, or nothing to fold it into
        mean, var = (arrays.get(key, pristine[key]).astype(np.float64) for key in own)
        old_mean, old_var = (pristine[key].astype(np.float64) for key in own)
        eps = float(getattr(norm, "eps", 0.0))
        slope = arrays.get(weight, pristine[weight]) / np.sqrt(var + eps)
        shift = arrays.get(bias, pristine[bias]) + (old_mean - mean) * slope
        folded[weight] = (slope * np.sqrt(old_var + eps)).astype(np.float32)
        folded[bias] = shift.astype(np.float32)
        for key in own:
            folded.pop(key, None)
    return folded


def rank_and_kind(text: str) -> tuple[int, str]:
    """ "rank8-int4" -> (8, "int4"); "rank8" -> (8, "int8"); "int4" -> (0, "int4")."""
    found = re.fullmatch(r"rank([1-9]\d{0,3})(?:-(\w+))?", text)
    return (int(found[1]), found[2] or "int8") if found else (0, text)
