"""Piggyback's published masks, which go by the modules' order -> packed tasks, by name."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from maskpack import methods
from maskpack.backbones.layers import find_layers, norm_layers
from maskpack.common.errors import BackboneError, OptionError
from maskpack.networks.serialize import mask_streams, own_streams
from maskpack.packs.contents import PackedTask
from maskpack.packs.file import check_task_name

if TYPE_CHECKING:
    from maskpack.backbones.base import Backbone
    from maskpack.packing.convert.piggyback_files import PublishedTask

NEAR = 1e-6  # that code itself takes weights for the same that differ by rounding


def adopt(
    published: list[PublishedTask], name: str | None, backbone: Backbone, where: str
) -> list[PackedTask]:
    """The tasks of a published file as tasks of a pack; `name` renames the only one.

    Their masks are matched with the backbone's weights in the order of its modules, each by its
    shape. A checkpoint also has the weights it was trained on, which must be the backbone's; a
    file of masks alone cannot be checked so.

    Raises:
        BackboneError: numbers or shapes do not fit, or the masks were trained on other weights.
        OptionError: one name for several tasks.
    """
    if name is not None and len(published) != 1:
        found = ", ".join(task.name for task in published)
        raise OptionError(f"{where} has {len(published)} tasks ({found}); leave {name}= out")
    return [_adopted(task, name or task.name, backbone, where) for task in published]


def _adopted(task: PublishedTask, name: str, backbone: Backbone, where: str) -> PackedTask:
    check_task_name(name)
    where = f"{where}: {task.name}"
    state = backbone.state()
    names = list(find_layers(backbone.module, backbone.head))
    if len(task.layers) != len(names):
        raise BackboneError(
            f"{where}: has {len(task.layers)} masks, {backbone.name} has {len(names)} weights to "
            "mask; give the network it was made for with --backbone"
        )
    masks: dict[str, dict[str, Tensor]] = {}
    for number, (key, layer) in enumerate(zip(names, task.layers, strict=True), start=1):
        if layer.mask.shape != tuple(state[key].shape):
            raise BackboneError(
                f"{where}: mask {number} is {layer.mask.shape}, {key} of {backbone.name} is "
                f"{tuple(state[key].shape)}; give the network it was made for with --backbone"
            )
        bias = key.removesuffix("weight") + "bias"
        for other, kept in ((key, layer.weight), (bias, layer.bias)):
            if kept is not None and other in state:
                _check_same(where, other, torch.from_numpy(kept.copy()), state[other])
        values = torch.from_numpy(layer.mask.copy())
        masks[key] = {"mask": values != 0}
        if task.ternary:
            masks[key]["negative"] = values < 0
    method = methods.make(
        "piggyback",
        {"threshold": task.threshold, "values": "ternary" if task.ternary else "binary"},
    )
    norms = _norms(task, backbone, where)
    statistics = all(key.endswith(("running_mean", "running_var")) for key in norms)
    return PackedTask(
        name,
        methods.name_of(method),
        methods.options_of(method),
        ("stats" if statistics else "task") if norms else "frozen",
        {"checkpoint": {"fit": "published"}},
        mask_streams(method, masks)
        | own_streams({"head": _head(task, backbone, where), "norms": norms}),
    )


def _check_same(where: str, name: str, kept: Tensor, own: Tensor) -> None:
    if kept.shape != own.shape or not torch.allclose(kept.float(), own, rtol=NEAR, atol=NEAR):
        raise BackboneError(
            f"{where}: was trained on another {name} than this backbone's; masks fit only the "
            "weights they were trained on: give those with --weights FILE"
        )


def _norms(task: PublishedTask, backbone: Backbone, where: str) -> dict[str, Tensor]:
    """The batch norms' tensors that are not the backbone's."""
    if not task.norms:
        return {}
    names, state = list(norm_layers(backbone.module, backbone.head)), backbone.state()
    if len(task.norms) != len(names):
        raise BackboneError(
            f"{where}: has {len(task.norms)} batch norms, {backbone.name} has {len(names)} norms"
        )
    changed = {}
    for name, norm in zip(names, task.norms, strict=True):
        for key, array in norm.items():
            full, value = f"{name}.{key}", torch.from_numpy(array.copy()).float()
            if full not in state or state[full].shape != value.shape or not value.isfinite().all():
                raise BackboneError(f"{where}: {full} does not fit {backbone.name}, or is damaged")
            if not torch.equal(state[full], value):
                changed[full] = value
    return changed


def _head(task: PublishedTask, backbone: Backbone, where: str) -> dict[str, Tensor]:
    """The task's classifier under the backbone's name for it."""
    own = backbone.module.get_submodule(backbone.head).state_dict()
    head = {key: torch.from_numpy(array.copy()).float() for key, array in task.head.items()}
    for key, tensor in own.items():
        found = head.get(key)
        if found is None or found.shape[1:] != tensor.shape[1:] or not found.isfinite().all():
            shape = "missing" if found is None else str(tuple(found.shape))
            raise BackboneError(
                f"{where}: the classifier's {key} is {shape}, which does not fit {backbone.head} "
                f"of {backbone.name}, {tuple(tensor.shape)}, or has values that are not finite"
            )
    return {f"{backbone.head}.{key}": tensor for key, tensor in head.items()}
