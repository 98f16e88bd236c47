"""Names and paths as users give them -> backbones and packs. Runs and packs are both accepted."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from maskpack import backbones, methods
from maskpack.common.errors import BackboneError, MaskpackError, OptionError, PackFormatError
from maskpack.common.preprocess import Preprocess
from maskpack.networks.serialize import check_fits, mask_streams, own_streams, unpack_task
from maskpack.packs import file as packfile
from maskpack.packs import mask_codec as codec
from maskpack.packs.contents import BITS, OWN, BackboneInfo, Pack, PackedTask
from maskpack.runs.folder import Run, State
from maskpack.runs.sequence import pack_sequence

if TYPE_CHECKING:
    from maskpack.backbones.base import Backbone


def open_backbone(
    name: str,
    *,
    weights: str | Path | None = None,
    seed: int = 0,
    head: str | None = None,
    trust_code: bool = False,
    own: bool = True,
    via: tuple[str, ...] = (),
) -> Backbone:
    """A backbone by any name, `run:PATH[#TASK]` (a run or a pack) included.

    Packs may name code only with `trust_code`; a run's folder may where the name is the user's
    `own`, not one that a pack brought. `via` are the names that led here.

    Raises:
        BackboneError: it cannot be had.
    """
    if not name.startswith(backbones.RUN_PREFIX):
        return backbones.open_backbone(name, weights=weights, seed=seed, head=head)
    from maskpack.backbones.base import make_backbone

    if weights is not None:
        raise BackboneError(f"{name} brings its own weights; leave --weights out")
    path, _, task_name = name.removeprefix(backbones.RUN_PREFIX).partition("#")
    pack = open_pack(path, trust_code=trust_code or own)
    if _is_run(pack) and not task_name:
        pack = pack_run(Run(path))  # of a sequence, the network as its last task has it
    task = pack.task(task_name or None)
    if name in via:
        raise BackboneError(f"{path} comes back to itself as its backbone; the file is damaged")
    base = open_base(pack, task, trust_code=trust_code, own=own, via=(*via, name))
    module = unpack_task(task, base)
    source = f"task {task.name} of {Path(path).name}"
    preprocess = _own_preprocess(task) or base.preprocess
    return make_backbone(name, module, preprocess, head or base.head, source, base.parts)


def _own_preprocess(task: PackedTask) -> Preprocess | None:
    """How a task's pictures went in when it was learnt; None where it does not say, or not well."""
    given = task.info.get("preprocess")
    if not isinstance(given, Mapping):
        return None
    try:
        return Preprocess(**given)
    except (TypeError, OptionError):
        return None


def open_base(
    pack: Pack,
    task: PackedTask,
    *,
    backbone: str | None = None,
    weights: str | Path | None = None,
    trust_code: bool = False,
    own: bool = True,
    via: tuple[str, ...] = (),
) -> Backbone:
    """The backbone of a packed task, by the pack's own name for it or by the one given.

    `trust_code`, `own` and `via` are as in `open_backbone`.

    Raises:
        BackboneError: it cannot be had, is not the one the masks were trained on, or is code
            that is not trusted.
    """
    trusted = backbone is not None or trust_code or (own and _is_run(pack))
    if not trusted:
        refuse_code(pack.path, backbones.names_code(pack.backbone.name), pack.backbone.name)
    if backbone is None:
        _check_there(pack, via)
    opening = functools.partial(
        open_backbone,
        backbone or pack.backbone.name,
        weights=weights,
        trust_code=trust_code,
        own=trusted,
        via=via,
    )
    try:
        base = opening(head=pack.backbone.head)
    except MaskpackError:
        if backbone is None:
            raise
        base = opening()  # another network, whose head has another name: said by check_base
    check_base(pack, task, base, trust_code=trust_code)
    return base


def _check_there(pack: Pack, via: tuple[str, ...]) -> None:
    """Raise BackboneError where a pack's backbone is a run or pack that has been moved."""
    name = pack.backbone.name
    path = name.removeprefix(backbones.RUN_PREFIX).partition("#")[0]
    if name.startswith(backbones.RUN_PREFIX) and not Path(path).exists():
        # of a backbone's own backbone no option can say where it is
        what = "" if via else ", or say where it is now with --backbone run:PATH"
        raise BackboneError(
            f"{pack.path} was made for {name}, which is not here (relative to this folder, where "
            f"it is no whole path); put it there{what}"
        )


def check_base(pack: Pack, task: PackedTask, base: Backbone, *, trust_code: bool = False) -> None:
    """Raise BackboneError unless a task can be rebuilt on this backbone, with methods trusted."""
    if not trust_code and not _is_run(pack):  # a run's method was checked when it was opened
        refuse_code(pack.path, ":" in task.method, task.method)
    if not _brings_every_weight(task, base):
        check_fits(pack.backbone, base, pack.path)


def _brings_every_weight(task: PackedTask, base: Backbone) -> bool:
    """Whether a task keeps every tensor of the network itself, masked or not.

    It may keep just a few in `weights`: those that a fine-tuned network changed and no mask can
    say.
    """
    if "weights" not in task.streams:
        return False
    if any(stream.delta for stream in task.streams.values()):
        return False  # differences to the backbone's own values
    own = (task.streams[role] for role in OWN if role in task.streams)
    brought = {name for stream in own for name, _ in stream.table}
    state = {name: t for name, t in base.state().items() if t.is_floating_point()}
    # a tensor with several names is kept under one
    places = {state[name].data_ptr() for name in brought if name in state}
    return all(tensor.data_ptr() in places for tensor in state.values())


def refuse_code(where: object, is_code: bool, name: str) -> None:
    """Raise BackboneError where a file's name stands for Python code (`module:function`)."""
    if is_code:
        raise BackboneError(
            f"{where} wants to import Python code, {name!r}; if you trust the file: "
            "--trust-code, or trust_code=True from Python"
        )


def _is_run(pack: Pack) -> bool:
    return pack.path is not None and pack.path.is_dir()


def open_pack(path: str | Path, *, trust_code: bool = True) -> Pack:
    """A pack file, or a run's folder as the pack of its task: of all tasks of its sequence.

    A run's method may be code of the user's own, unless it is not the user who named the run.

    Raises:
        PackFormatError: neither, or damaged.
        BackboneError: a run's method is code that is not trusted.
    """
    path = Path(path)
    if path.is_dir():
        run = Run(path)
        if not trust_code:
            refuse_code(path, ":" in str(run.load_best().meta.get("method")), "its method")
        own = pack_run(run)
        return pack_sequence(run, own.task()) or own
    if not path.exists():
        raise PackFormatError(f"{path}: no such file; expected a pack or a run's folder")
    return packfile.read(path)


def open_source(text: str) -> Pack:
    """What `pack` takes: PATH, PATH#TASK for one task of several, and NAME= before to rename it.

    Raises:
        PackFormatError: no pack and no run, or damaged.
        UnknownName: no such task.
    """
    if Path(text).exists():  # runs/lr=0.1 is a path, not a name
        return open_pack(text)
    name, equals, path = text.partition("=")
    path, _, task = (path if equals else text).partition("#")
    pack = open_pack(path)
    if task:
        pack = dataclasses.replace(pack, tasks={task: pack.task(task)})
    return renamed(pack, name) if equals else pack


def pack_run(run: Run, name: str | None = None) -> Pack:
    """What a run has learnt, as a pack of one task, with its test score once there is one."""
    state = run.load_best()
    try:
        about = dict(state.meta)
        info = dict(about["info"])
        if run.result is not None:
            info["test"] = run.result["test"]
        method = methods.make(about["method"], about["options"])
        params, own = split_learnt(state)
        with torch.no_grad():
            masks = {layer: method.mask(values) for layer, values in params.items()}
        streams = mask_streams(method, masks) | own_streams(own)
        task = PackedTask(
            name or about["name"],
            about["method"],
            about["options"],
            about["norms"],
            info,
            streams,
            str(run.path),
        )
        packfile.check_task_name(task.name)
        return Pack(BackboneInfo(**about["backbone"]), {task.name: task}, run.path)
    except (KeyError, TypeError) as error:
        raise PackFormatError(f"{run.path}: best.safetensors is damaged: {error!r}") from error


def split_learnt(state: State) -> tuple[dict[str, dict[str, Tensor]], dict[str, dict[str, Tensor]]]:
    """A run's tensors: params by layer and name, the task's own by role and name."""
    params: dict[str, dict[str, Tensor]] = {}
    own: dict[str, dict[str, Tensor]] = {}
    for layer in state.meta["layers"]:  # the network's order, which the file sorts away
        params[layer] = {}
    for key, value in state.tensors.items():
        kind, _, rest = key.partition("/")
        if kind == "keeper":  # what training goes on with, and no part of the network
            continue
        first, _, second = rest.partition("/")
        (params if kind == "params" else own).setdefault(first, {})[second] = value
    return params, own


def merge(packs: Mapping[str, Pack] | list[Pack]) -> Pack:
    """Many packs of one backbone as one.

    Raises:
        MaskpackError: there are none, backbones differ, or a task name stands twice.
    """
    listed: list[Pack] = list(packs.values()) if isinstance(packs, Mapping) else packs
    if not listed:
        raise MaskpackError("nothing to pack: no run and no pack given")
    first = listed[0]
    tasks: dict[str, PackedTask] = {}
    for pack in listed:
        if pack.backbone.fingerprint != first.backbone.fingerprint:
            raise BackboneError(
                f"{pack.path} is for {pack.backbone.name} {pack.backbone.fingerprint[:12]}, "
                f"{first.path} for {first.backbone.name} {first.backbone.fingerprint[:12]}; "
                "one pack holds tasks of one backbone"
            )
        for name, task in pack.tasks.items():
            if name in tasks:
                advice = f"name one anew: NEW={pack.path}"
                if _is_run(pack) and len(pack.tasks) > 1:  # the earlier is of the same sequence
                    advice = f"{pack.path} holds {len(pack.tasks)} tasks: leave the other out"
                raise MaskpackError(
                    f"task {name!r} is in {tasks[name].source} and in {pack.path}; {advice}"
                )
            tasks[name] = task
    return Pack(first.backbone, tasks)


def recoded(pack: Pack, coded: bool) -> Pack:
    """A pack whose mask bits are entropy-coded where that is smaller, or all raw."""
    tasks = {}
    for name, task in pack.tasks.items():
        streams = dict(task.streams)
        for key, stream in task.streams.items():
            if stream.dtype == BITS:
                raw = task.values(key)
                counts = [math.prod(shape) for _, shape in stream.table]
                small = codec.encode(raw, counts) if coded else raw
                worth = small.size < raw.size
                data = small if worth else raw
                streams[key] = dataclasses.replace(
                    stream, data=data, coded=worth, sha256="", users=1
                )
        tasks[name] = dataclasses.replace(task, streams=streams)
    return Pack(pack.backbone, tasks, pack.path)


def renamed(pack: Pack, name: str) -> Pack:
    """A pack of one task under another name."""
    return dataclasses.replace(pack, tasks={name: dataclasses.replace(pack.task(), name=name)})
