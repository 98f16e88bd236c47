"""A fine-tuned network -> a packed task, without training: `pack --from-checkpoint`."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from maskpack import methods
from maskpack.backbones.layers import find_layers, norm_tensors
from maskpack.common.errors import BackboneError, DataError, OptionError, UnknownName
from maskpack.networks.serialize import info_of, mask_streams, own_streams, unpack_task
from maskpack.packing.convert import fit as fitting
from maskpack.packing.convert.checkpoints import Checkpoint, read_checkpoint
from maskpack.packing.convert.distil import distill
from maskpack.packing.convert.piggyback_files import is_published, read_published
from maskpack.packing.convert.piggyback_tasks import adopt
from maskpack.packing.convert.taught import Pictures, Taught, open_pictures
from maskpack.packs.contents import Pack, PackedTask
from maskpack.packs.file import check_task_name
from maskpack.runs.open import merge

if TYPE_CHECKING:
    from maskpack.backbones.base import Backbone

Source = str | Path | nn.Module


@dataclass(frozen=True)
class Conversion:
    """How fine-tuned networks become masks: see `fitting.FITS` and `fitting.PER`.

    `distill` pictures train the coefficients afterwards, 0 leaves them as fitted.
    """

    fit: str = "bitdelta"
    per: str = "layer"
    distill: int = 0
    seed: int = 0
    device: torch.device | str = "cpu"

    def __post_init__(self) -> None:
        fitting.method_of(self.fit, self.per)  # refuses what there is not
        if self.per != "layer" and self.fit not in fitting.SCALED:
            raise OptionError(f"--per {self.per}: {self.fit} has no coefficients")
        if self.distill and self.fit not in fitting.SCALED:
            known = " and ".join(fitting.SCALED)
            raise OptionError(f"--distill: {self.fit} has no coefficients; {known} have")
        if self.distill < 0:
            raise OptionError(f"--distill {self.distill}: expected a number of pictures, or 0")


def convert(
    sources: Sequence[tuple[str | None, Source]],
    backbone: Backbone,
    conversion: Conversion,
    taught: Mapping[str | None, Taught] | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> Pack:
    """Fine-tuned networks -> a pack of masks on the backbone they came from.

    A source is what `checkpoints.read_checkpoint` takes, or a file of Piggyback's published code,
    whose masks are taken as they are. Without a name before it a task is called as its run or
    published file says, else as the file. `taught` is by task name, None for all others; with a
    task that has a test split, the network's own score and the pack's are recorded. `say` takes
    lines worth reading.

    Raises:
        MaskpackError: a file, a name or the pictures are wrong, or do not fit together.
    """
    taught = taught or {}
    ready: list[PackedTask] = []
    read: list[tuple[str, Checkpoint]] = []
    for given, source in sources:
        if not isinstance(source, nn.Module) and is_published(Path(source)):
            ready += adopt(read_published(Path(source)), given, backbone, str(source))
            continue
        checkpoint = read_checkpoint(source, backbone)
        read.append((given or checkpoint.name, checkpoint))
    names = [*(name for name, _ in read), *(packed.name for packed in ready)]
    for name in names:
        check_task_name(name)
        if names.count(name) > 1:
            raise OptionError(f"two checkpoints are called {name!r}; name one: NAME=FILE")
    for key in taught:
        if key is not None and key not in names:
            raise UnknownName("checkpoint", key, names)

    def opened(name: str, info: Mapping[str, Any]) -> Pictures | None:
        return open_pictures(taught.get(name, taught.get(None, Taught())), info, backbone)

    subjects = [_Subject(n, one, opened(n, one.info)) for n, one in read]
    tasks = [
        _scored(packed, one.checkpoint.network, one.pictures, backbone, conversion, say)
        for one, packed in _fitted(subjects, backbone, conversion, say)
    ]
    tasks += [
        _scored(packed, None, opened(packed.name, {}), backbone, conversion, say)
        for packed in ready
    ]
    return merge([Pack(info_of(backbone), {task.name: task}) for task in tasks])


@dataclass(frozen=True)
class _Subject:
    """A fine-tuned network on its way into a pack."""

    name: str
    checkpoint: Checkpoint
    pictures: Pictures | None

    def state(self) -> dict[str, Tensor]:
        return self.checkpoint.network.state_dict()


# ---- fitting


def _fitted(
    subjects: list[_Subject],
    backbone: Backbone,
    conversion: Conversion,
    say: Callable[[str], None],
) -> Iterator[tuple[_Subject, PackedTask]]:
    """Each network with its packed task, not yet scored."""
    layers = find_layers(backbone.module, backbone.head)
    state = backbone.state()
    frozen = {name: state[name] for name in layers}
    tall = conversion.fit == "tall"
    merged, lambdas = _merged(subjects, frozen) if tall and subjects else ({}, {})
    for subject in subjects:
        tuned = subject.state()
        about: dict[str, Any] = {"fit": conversion.fit, "per": conversion.per}
        if tall:
            params = merged[subject.name]
            about["lambda"] = lambdas[subject.name]
        else:
            params = {
                name: fitting.fit_layer(
                    conversion.fit, weight, tuned[name], layers[name], conversion.per
                )
                for name, weight in frozen.items()
                if not torch.equal(weight, tuned[name])  # others need no bits
            }
        if conversion.distill and params:
            params, about["distill"] = _distilled(subject, frozen, params, conversion)
            losses = about["distill"]
            say(
                f"{subject.name}: squared logit difference on held-out pictures "
                f"{losses['before']:.4g} -> {losses['after']:.4g}"
            )
        yield subject, _packed(subject, backbone, frozen, params, conversion, about)


def _merged(
    subjects: list[_Subject], frozen: Mapping[str, Tensor]
) -> tuple[dict[str, dict[str, fitting.Params]], dict[str, float]]:
    """TALL's params and lambda by task, over the layers that any task changed."""
    states = {subject.name: subject.state() for subject in subjects}
    changed = {
        name: weight
        for name, weight in frozen.items()
        if not all(torch.equal(weight, tuned[name]) for tuned in states.values())
    }
    return fitting.fit_tall(changed, states)


def _distilled(
    subject: _Subject,
    frozen: Mapping[str, Tensor],
    params: Mapping[str, fitting.Params],
    conversion: Conversion,
) -> tuple[dict[str, fitting.Params], dict[str, Any]]:
    """Params after scale distillation on some of the task's training pictures."""
    pictures = subject.pictures
    if pictures is None:
        raise OptionError(f"{subject.name}: --distill needs its pictures; give --task")
    images = pictures.some(conversion.distill, conversion.seed)
    done = distill(
        subject.checkpoint.network,
        fitting.method_of(conversion.fit, conversion.per),
        frozen,
        params,
        images,
        seed=conversion.seed,
        device=conversion.device,
    )
    told = {"pictures": len(images), "before": done.before, "after": done.after}
    return done.params, told


def _packed(
    subject: _Subject,
    backbone: Backbone,
    frozen: Mapping[str, Tensor],
    params: Mapping[str, fitting.Params],
    conversion: Conversion,
    about: dict[str, Any],
) -> PackedTask:
    """Masks, and whatever else the network changed, as a packed task."""
    # a network whose maskable weights are the backbone's needs no masks at all
    method = (
        fitting.method_of(conversion.fit, conversion.per)
        if params
        else methods.make("classifier-only")
    )
    tuned = subject.state()
    error = sum(
        fitting.squared_error(method, frozen[name], tuned[name], kept)
        for name, kept in params.items()
    )
    change = sum(float((tuned[n].double() - frozen[n].double()).square().sum()) for n in params)
    about["squared_error"] = error / change if change else 0.0
    own, norms = _own(subject.checkpoint, backbone, params.keys())
    with torch.no_grad():
        masks = {name: method.mask(kept) for name, kept in params.items()}
    return PackedTask(
        subject.name,
        methods.name_of(method),
        methods.options_of(method),
        norms,
        _info(subject) | {"checkpoint": about},
        mask_streams(method, masks) | own_streams(own),
    )


def _info(subject: _Subject) -> dict[str, Any]:
    """What the network is scored on; with its run's own pictures, which of them it never saw."""
    if subject.pictures is None:
        return {}
    info, run = subject.pictures.info(), subject.checkpoint.info
    if (run.get("task"), run.get("data")) == (info["task"], info["data"]):
        info |= {key: run[key] for key in ("select", "val_fraction") if key in run}
    return info


def _own(
    checkpoint: Checkpoint, backbone: Backbone, masked: Collection[str]
) -> tuple[dict[str, dict[str, Tensor]], str]:
    """What no mask says, by role: the head, and the norms and other tensors that changed; and
    the norms mode that training them would have had."""
    network = checkpoint.network
    names: dict[int, str] = {}
    state = network.state_dict(keep_vars=True)
    state = {n: t for n, t in state.items() if names.setdefault(id(t), n) == n}  # shared: once
    pristine = backbone.state()
    changed = {
        name: tensor
        for name, tensor in state.items()
        if name in pristine and name not in masked and not torch.equal(tensor, pristine[name])
    }
    odd = [name for name, tensor in changed.items() if not tensor.is_floating_point()]
    if odd:
        raise BackboneError(f"{checkpoint.where}: {odd[0]}, no weight, differs from the backbone's")
    norms = {n: t for n, t in changed.items() if n in norm_tensors(network, backbone.head)}
    roles = {
        "head": {n: t for n, t in state.items() if n.startswith(f"{backbone.head}.")},
        "norms": norms,
        "weights": {n: t for n, t in changed.items() if n not in norms},
    }
    statistics = all(name.endswith(("running_mean", "running_var")) for name in norms)
    return roles, ("stats" if statistics else "task") if norms else "frozen"


# ---- scoring


def _scored(
    packed: PackedTask,
    network: nn.Module | None,
    pictures: Pictures | None,
    backbone: Backbone,
    conversion: Conversion,
    say: Callable[[str], None],
) -> PackedTask:
    """The task with its test score and, of a fine-tuned network, that before it was packed."""
    loaded = unpack_task(packed, backbone)
    if pictures is None:
        return packed
    task = pictures.task
    outputs = packed.streams["head"].table[0][1][0]
    if outputs != task.outputs():
        raise DataError(
            f"{packed.name}: the checkpoint's head has {outputs} outputs, task {task.name!r} has "
            f"{task.outputs()} classes; give the task it was fine-tuned on with --task"
        )
    info = {**packed.info, **pictures.info()}
    if "test" in task.splits():
        about = dict(info["checkpoint"])
        if network is not None:
            about["before"] = pictures.score(network, conversion.device)
        info |= {"test": pictures.score(loaded, conversion.device), "checkpoint": about}
        now = info["test"][task.metric]
        before = f"{about['before'][task.metric]:.4f} -> " if "before" in about else ""
        say(f"{packed.name}: test {task.metric} {before}{now:.4f}")
    return dataclasses.replace(packed, info=info)
