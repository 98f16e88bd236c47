"""A trained network -> a packed task, and back: two mirror functions."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
import torch
from torch import Tensor, nn

from maskpack import methods
from maskpack.backbones.base import replace_head
from maskpack.common.errors import (
    BackboneError,
    OptionError,
    PackFormatError,
    UnknownName,
    one_line,
)
from maskpack.networks.masked import MaskedNetwork, set_weights
from maskpack.packs.contents import (
    BITS,
    NUMPY,
    OWN,
    Array,
    BackboneInfo,
    PackedTask,
    Stream,
    encode,
)

if TYPE_CHECKING:
    from maskpack.backbones.base import Backbone
    from maskpack.methods.base import Method

SHORT = 4  # hex digits of a tensor's hash: enough to say which differ, once fingerprints do


def pack_task(network: MaskedNetwork, name: str, info: Mapping[str, Any]) -> PackedTask:
    """What a trained network keeps for its task.

    `info` is JSON; its "task" entry should be `Task.describe()`.
    """
    with torch.no_grad():
        masks = network.masks()
        own = network.own_tensors()
    streams = mask_streams(network.method, masks) | own_streams(own)
    return PackedTask(
        name,
        methods.name_of(network.method),
        methods.options_of(network.method),
        network.norms,
        dict(info),
        streams,
    )


def mask_streams(method: Method, masks: Mapping[str, Mapping[str, Tensor]]) -> dict[str, Stream]:
    """Masks by layer and field -> one stream per field."""
    streams: dict[str, Stream] = {}
    arrays: dict[str, dict[str, Array]] = {}
    for key, field in method.stores.items():
        values = {layer: mask[key] for layer, mask in masks.items() if key in mask}
        if not values:
            continue
        arrays[key] = {layer: _stored(key, value, field.dtype) for layer, value in values.items()}
        kept_at = arrays[field.zeros_of] if field.zeros_of else None
        streams[key] = encode(arrays[key], field.dtype, kept_at, field.zeros_of or "")
    return streams


def own_streams(own: Mapping[str, Mapping[str, Tensor]]) -> dict[str, Stream]:
    """Whole tensors by role and name -> one float stream per role."""
    return {
        role: encode({name: _stored(name, t, "f32") for name, t in tensors.items()}, "f32")
        for role, tensors in own.items()
        if tensors
    }


def _stored(key: str, value: Tensor, dtype: str) -> Array:
    array = value.detach().cpu().contiguous().numpy()
    if dtype == BITS:
        bits = array.astype(np.bool_)
        assert (bits == array).all(), f"{key}: a bit is neither 0 nor 1"
        return bits
    kept = array.astype(NUMPY["U8" if dtype == "u8" else dtype.upper()])
    # what the file keeps must be what training saw: methods round inside mask()
    assert np.array_equal(kept, array), f"{key}: values change when stored as {dtype}"
    return kept


def info_of(backbone: Backbone) -> BackboneInfo:
    """What a pack's header says of a backbone."""
    return BackboneInfo(
        backbone.name,
        backbone.fingerprint,
        backbone.size_bytes,
        backbone.head,
        dataclasses.asdict(backbone.preprocess),
        backbone.source,
        backbone.head_bytes,
        tuple(backbone.hashes[name][:SHORT] for name in sorted(backbone.hashes)),
    )


def check_fits(info: BackboneInfo, backbone: Backbone, where: object) -> None:
    """Raise BackboneError unless the pack was made for these very weights."""
    if info.fingerprint == backbone.fingerprint:
        return
    names = sorted(backbone.hashes)
    if len(names) == len(info.hashes):
        pairs = zip(names, info.hashes, strict=True)
        other = [name for name, kept in pairs if backbone.hashes[name][:SHORT] != kept]
        differ = f"{len(other)} of {len(names)} tensors differ: {', '.join(other[:3])}"
        differ += ", ..." * (len(other) > 3)
    else:
        differ = f"it had {len(info.hashes)} tensors, here are {len(names)}"
    raise BackboneError(
        f"{where} was made for {info.name} {info.fingerprint[:12]}, these weights are "
        f"{backbone.name} {backbone.fingerprint[:12]} ({differ}); masks fit only the weights they "
        "were trained on: give those with --backbone NAME --weights FILE"
    )


def unpack_task(task: PackedTask, backbone: Backbone) -> nn.Module:
    """The network of a packed task: a plain module in eval mode, a copy of the backbone's.

    Raises:
        PackFormatError: the task's streams do not fit the backbone.
    """
    network = copy.deepcopy(backbone.module)
    return apply_task(network, task, backbone)


def apply_task(network: nn.Module, task: PackedTask, backbone: Backbone) -> nn.Module:
    """Make `network`, of the backbone's architecture, compute a packed task; in place.

    Every weight is built from the pristine backbone, whatever `network` computed before. Nothing
    is changed where the task does not fit.
    """
    own = {role: task.arrays(role) for role in OWN if role in task.streams}
    state = network.state_dict(keep_vars=True)
    base = backbone.state()
    outputs = _check_own(task, own, state, base, backbone.head)
    weights = {
        name: _whole(array, base[name] if task.streams[role].delta else None)
        for role, arrays in own.items()
        for name, array in arrays.items()
    }
    weights |= _effective_weights(task, base | weights, state)
    # the task's own come last: a weight that two modules share also stands under its other name
    pristine = {name: t for name, t in base.items() if name not in weights}
    replace_head(network, backbone.head, outputs, seed=0)
    set_weights(network, pristine | weights)
    return network.eval().requires_grad_(False)


def _whole(array: Array, added_to: Tensor | None) -> Tensor:
    value = torch.from_numpy(array.copy())
    return value if added_to is None else added_to.float() + value.float()


def _check_own(
    task: PackedTask,
    own: Mapping[str, Mapping[str, Array]],
    state: Mapping[str, Tensor],
    pristine: Mapping[str, Tensor],
    head: str,
) -> int:
    """Check the task's own tensors against a network's; the number of its head's outputs."""
    if "head" not in own:
        _misfit(task, head, "no head in the file")
    first = next(iter(own["head"].values()), np.zeros(()))
    outputs = first.shape[0] if first.ndim else 0
    if not outputs:
        _misfit(task, head, "the head has no outputs")
    for role, arrays in own.items():
        for name, array in arrays.items():
            inside = name.startswith(f"{head}.")
            known = pristine if task.streams[role].delta else state
            if name not in known or inside != (role == "head"):
                _misfit(task, name, "is no such tensor of the backbone")
            shape = tuple(state[name].shape)
            expected = (outputs, *shape[1:]) if inside else shape
            if array.shape != expected:
                _misfit(task, name, f"has shape {array.shape}, {expected} expected")
    missing = [n for n in state if n.startswith(f"{head}.") and n not in own["head"]]
    if missing:
        _misfit(task, missing[0], "is missing from the head")
    return outputs


def _effective_weights(
    task: PackedTask, pristine: Mapping[str, Tensor], state: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Masks put on the backbone's weights, or on those that the task brings itself."""
    try:
        method = methods.make(task.method, task.options)
    except (UnknownName, OptionError) as error:
        source = f"{task.source}: " if task.source else ""
        raise PackFormatError(f"{source}{task.name}: {one_line(str(error))}") from error
    unknown = set(task.streams) - set(method.stores) - set(OWN)
    if unknown:
        _misfit(task, min(unknown), f"is no part of what {task.method} stores")
    masks: dict[str, dict[str, Tensor]] = {}
    for key, field in method.stores.items():
        if key not in task.streams:
            continue
        kept = task.streams[key]
        # floats may be stored as other floats; bits and a method's own integers may not
        fits = kept.dtype == field.dtype or (field.dtype[0] == kept.values_dtype.kind == "f")
        if not fits or kept.zeros_of != field.zeros_of:
            _misfit(task, key, f"is stored as {kept.dtype}, expected {field.dtype}")
        for layer, array in task.arrays(key).items():
            masks.setdefault(layer, {})[key] = torch.from_numpy(array.copy())
    effective = {}
    for layer, mask in masks.items():
        if layer not in pristine or layer not in state:
            _misfit(task, layer, "is no weight of the backbone")
        for key, field in method.stores.items():
            if key not in mask and field.needed:
                _misfit(task, layer, f"has no {key}")
        weight = pristine[layer]
        shapes = method.shapes(tuple(weight.shape))
        for key, value in mask.items():
            shape, expected = tuple(value.shape), shapes.get(key, tuple(weight.shape))
            if shape != expected and (key in shapes or not _broadcasts(shape, expected)):
                _misfit(task, layer, f"{key} has shape {shape}, {expected} expected")
        effective[layer] = method.effective_weight(weight, mask)
    return effective


def _broadcasts(shape: tuple[int, ...], to: tuple[int, ...]) -> bool:
    return len(shape) == len(to) and all(a in (1, b) for a, b in zip(shape, to, strict=True))


def _misfit(task: PackedTask, name: str, found: str) -> NoReturn:
    source = f"{task.source}: " if task.source else ""
    about = one_line(f"{task.name}, {name}: {found}")
    raise PackFormatError(f"{source}{about}; the file is damaged")
