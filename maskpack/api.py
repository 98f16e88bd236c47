"""The commands' twins for Python, re-exported by `maskpack`."""

from __future__ import annotations

import copy
import weakref
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from maskpack import methods
from maskpack.backbones import from_module
from maskpack.backbones.base import Backbone
from maskpack.common.errors import BackboneError, OptionError
from maskpack.evaluation.task_row import Bases
from maskpack.networks.build import task_network
from maskpack.networks.masked import MaskedNetwork
from maskpack.networks.serialize import apply_task, info_of, pack_task, unpack_task
from maskpack.packing.convert.convert import Conversion, convert
from maskpack.packing.convert.taught import taught_by_name
from maskpack.packing.smaller.choose import choose
from maskpack.packing.smaller.kinds import Storage
from maskpack.packing.smaller.limits import Limits, parse_size
from maskpack.packing.smaller.rescore import stored_and_scored
from maskpack.packs import file as packfile
from maskpack.packs.contents import Pack, PackedTask
from maskpack.runs.folder import Run
from maskpack.runs.open import (
    check_base,
    merge,
    open_backbone,
    open_base,
    open_pack,
    recoded,
    renamed,
)
from maskpack.training.named_recipes import with_recipe
from maskpack.training.setup import Options, open_session
from maskpack.training.train_run import learn

if TYPE_CHECKING:
    from maskpack.training.trainer import EpochDone, Progress

_bases: weakref.WeakKeyDictionary[nn.Module, Backbone] = weakref.WeakKeyDictionary()


def read(path: str | Path) -> Pack:
    """Read a pack, or a run's folder as a pack of one task.

    Masks come as bitarrays over the file's bytes: `read("zoo.safetensors").task("birds").masks`.

    Raises:
        PackFormatError: not a pack, or damaged.
    """
    return open_pack(path)


def load(
    path: str | Path | Pack,
    task: str | None = None,
    *,
    backbone: Backbone | nn.Module | str | None = None,
    trust_code: bool = False,
) -> nn.Module:
    """One task's network: a plain nn.Module in eval mode, with nothing of maskpack in it.

    `backbone` is needed only where the pack's own name for it cannot be opened here: a module of
    yours, an opened backbone, or another name. A module is copied, not changed. Without `task`
    the pack must hold one task. Code that the file names (a backbone or method `module:name`) is
    imported only with `trust_code`.

    Raises:
        UnknownName: no such task.
        BackboneError: the backbone cannot be had, or is not the one the masks were trained on.
        PackFormatError: the file is damaged.
    """
    pack = path if isinstance(path, Pack) else open_pack(path)
    packed = pack.task(task)
    base = _base(pack, packed, backbone, trust_code)
    network = unpack_task(packed, base)
    _bases[network] = base
    return network


def switch(
    model: nn.Module,
    pack: str | Path | Pack,
    task: str,
    *,
    backbone: Backbone | nn.Module | str | None = None,
    trust_code: bool = False,
) -> nn.Module:
    """Make a network that came from `load` compute another task, in place; returns it.

    Every weight is built anew from the pristine backbone, so nothing drifts however often tasks
    are switched.

    Raises:
        UnknownName, BackboneError, PackFormatError: as `load`; the model is then unchanged.
    """
    opened = pack if isinstance(pack, Pack) else open_pack(pack)
    packed = opened.task(task)
    if backbone is None and model in _bases:
        base = _bases[model]
        check_base(opened, packed, base, trust_code=trust_code)
    else:
        base = _base(opened, packed, backbone, trust_code)
    apply_task(model, packed, base)
    _bases[model] = base
    return model


def attach(
    backbone: Backbone | nn.Module | str,
    outputs: int,
    method: str = "piggyback",
    *,
    norms: str | None = None,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    seed: int = 0,
    **options: Any,
) -> MaskedNetwork:
    """Masks on a copy of a backbone, with a new head of `outputs` units, to train in a loop of
    your own: `MaskedNetwork` is an nn.Module, and only what the task owns requires a gradient.

    `options` are the method's, e.g. `threshold=0.01`.

    Raises:
        UnknownName: no such method or option.
        OptionError: a value does not fit, or nothing is masked.
    """
    made = methods.make(method, options)
    base = _open(backbone)
    network = task_network(
        base, made, outputs, norms=norms, include=include, exclude=exclude, seed=seed
    )
    _bases[network] = base
    return network


def fit(
    backbone: Backbone | nn.Module | str,
    task: str,
    method: str = "piggyback",
    *,
    output: str | Path,
    resume: bool = False,
    watch: Callable[[Progress | EpochDone], None] = lambda event: None,
    options: Mapping[str, Any] | None = None,
    recipe_name: str | None = None,
    **more: Any,
) -> Run:
    """Learn one task's masks into a run's folder, as `maskpack train-mask` does.

    `options` are the method's (`--set`); `more` are fields of
    `maskpack.training.setup.Options`, e.g. `data="birds/"`, `recipe={"epochs": 10, "lr": 3e-4}`,
    `preprocess={"img_size": 96}`; what they leave open `recipe_name`
    ("small", "accurate"; `--recipe`) decides.

    Raises:
        MaskpackError: something is wrong with the names, the data or the folder.
    """
    opened = None if isinstance(backbone, str) else _open(backbone)
    name = backbone if isinstance(backbone, str) else opened.name if opened else ""
    chosen = Options(name, task, method, options or {}, **more)
    if recipe_name is not None:
        chosen = with_recipe(chosen, recipe_name)
    session = open_session(chosen, opened)
    return learn(session, output, resume=resume, watch=watch)


def pack(
    tasks: Mapping[str, MaskedNetwork | Run | str | Path],
    path: str | Path,
    *,
    info: Mapping[str, Mapping[str, Any]] | None = None,
    codec: str | None = None,
    head_dtype: str = "fp32",
    norm_dtype: str = "fp32",
    coefficient_dtype: str = "fp32",
    weight_dtype: str = "fp32",
    budget: int | str | None = None,
    max_drop: float | None = None,
    data: Mapping[str, str] | None = None,
    trust_code: bool = False,
    device: str = "cpu",
    say: Callable[[str], None] = lambda line: None,
) -> Pack:
    """Write trained networks, runs and packs, by task name, as one file, and return it.

    The options are those of `maskpack pack`; `budget` is bytes or a text like "500KB". What a lossy
    one did is in each task's `info["storage"]`, and `say` takes it as lines. Packs may name code
    only with `trust_code`; `data` says where a task's pictures are now.

    Raises:
        OptionError: an option's value does not fit, or the limits cannot be kept.
        MaskpackError: two backbones, a task cannot be scored, or the file cannot be written.
    """
    storage = Storage(head_dtype, norm_dtype, coefficient_dtype, weight_dtype)
    limits = Limits(parse_size(budget) if isinstance(budget, str) else budget, max_drop)
    if codec not in (None, "auto", "bits"):
        raise OptionError(f"codec {codec!r}: expected auto or bits")
    codec = codec or ("auto" if limits else None)
    bases = Bases(trust_code=trust_code)
    packs = []
    for name, source in tasks.items():
        if isinstance(source, MaskedNetwork):
            if source not in _bases:
                raise BackboneError(
                    f"task {name!r}: a masked network without its backbone; give the very one that "
                    "attach made, not a copy"
                )
            base = _bases[source]
            bases.give(base)
            packed = pack_task(source, name, (info or {}).get(name, {}))
            packs.append(Pack(info_of(base), {name: packed}))
        else:
            opened = open_pack(source.path if isinstance(source, Run) else source)
            packs.append(renamed(opened, name))
    if codec is not None:
        packs = [recoded(one, coded=codec == "auto") for one in packs]
    if limits:
        packs = choose(packs, storage, limits, bases, data=data, device=device, say=say)
    elif storage.changed:
        packs = [
            stored_and_scored(one, storage, bases, data=data, device=device, say=say)
            for one in packs
        ]
    packfile.write(path, merge(packs))
    return packfile.read(path)


def from_checkpoint(
    checkpoints: str | Path | Mapping[str, str | Path | nn.Module],
    path: str | Path,
    *,
    backbone: Backbone | nn.Module | str,
    fit: str = "bitdelta",
    per: str = "layer",
    distill: int = 0,
    task: str | Mapping[str, str] | None = None,
    data: str | Mapping[str, str] | None = None,
    preprocess: Mapping[str, Any] | None = None,
    augment: Mapping[str, Any] | None = None,
    seed: int = 0,
    device: str = "cpu",
) -> Pack:
    """Write fine-tuned networks as masks on the backbone they came from, and return the pack.

    A checkpoint is a file of weights, a fine-tune run, a module, or a file of Piggyback's
    published code; give several by task name. `fit`, `per` and `distill` are as in
    `maskpack pack --from-checkpoint`. `task` and `data` say what they were fine-tuned on (each for
    all, or by task name), so that they can be scored: `preprocess` and `augment` as in `fit`.

    Raises:
        MaskpackError: a checkpoint does not fit the backbone, or a name or the pictures are wrong.
    """
    given = checkpoints if isinstance(checkpoints, Mapping) else {None: checkpoints}
    taught = taught_by_name(_for_all(task), _for_all(data), preprocess or {}, augment or {})
    conversion = Conversion(fit, per, distill, seed, device)
    packfile.write(path, convert(list(given.items()), _open(backbone), conversion, taught))
    return packfile.read(path)


def _for_all(value: str | Mapping[str, str] | None) -> dict[str | None, str]:
    """By task name; under None what is said of all."""
    if isinstance(value, Mapping):
        return dict(value.items())
    return {} if value is None else {None: value}


def _open(backbone: Backbone | nn.Module | str) -> Backbone:
    if isinstance(backbone, str):
        return open_backbone(backbone)
    return from_module(copy.deepcopy(backbone)) if isinstance(backbone, nn.Module) else backbone


def _base(
    pack: Pack, task: PackedTask, given: Backbone | nn.Module | str | None, trust_code: bool
) -> Backbone:
    if given is None or isinstance(given, str):
        return open_base(pack, task, backbone=given, trust_code=trust_code)
    if isinstance(given, nn.Module):  # from_module changes its type, device and mode in place
        copied = copy.deepcopy(given)
        base = from_module(copied, pack.backbone.name, pack.backbone.head)
    else:
        base = given
    check_base(pack, task, base, trust_code=trust_code)
    return base
