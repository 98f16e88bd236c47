"""Tasks that one network learns one after another, and what a run of them hands to the next.

carried.safetensors, in a run's folder: the network that the sequence began with, its tasks in order
(name, norms mode, head, norms of its own, what a pack says of it), what the method's keeper gives.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from maskpack import methods
from maskpack.common.errors import OptionError, RunError
from maskpack.methods.base import Carried, Earlier, Method
from maskpack.networks.serialize import mask_streams, own_streams
from maskpack.packs import file as packfile
from maskpack.packs.contents import OWN, BackboneInfo, Pack, PackedTask
from maskpack.runs.folder import Run, State, load_state, save_state

FILE = "carried.safetensors"


@dataclass(frozen=True)
class Sequence:
    """What a finished run hands on. `about` is JSON of each task: name, norms, info."""

    method: str
    root: Mapping[str, Any]  # BackboneInfo of the network that the first task began with
    about: tuple[Mapping[str, Any], ...]
    carried: Carried

    def after(
        self,
        tasks: Iterable[tuple[Mapping[str, Any], Earlier]],
        heads: Iterable[Mapping[str, Tensor]] | None,
        tensors: Mapping[str, Tensor],
    ) -> Sequence:
        """The sequence after one more training, which learnt `tasks`: `about` and Earlier of each.

        `heads` are those of the tasks before as they are now (None: as they were).
        """
        before = self.carried.tasks
        if heads is not None:
            pairs = zip(before, heads, strict=True)
            before = tuple(dataclasses.replace(known, head=head) for known, head in pairs)
        # an earlier score is no longer that of the network as it is now
        about = [{**known, "info": _without(known["info"], "test")} for known in self.about]
        added = list(tasks)
        return dataclasses.replace(
            self,
            about=(*about, *(entry for entry, _ in added)),
            carried=Carried((*before, *(task for _, task in added)), tensors),
        )


def begun(method: Method, root: BackboneInfo) -> Sequence:
    """A sequence before its first task, on the backbone it begins with."""
    return Sequence(methods.name_of(method), vars(root), (), Carried())


def keeps(method: Method) -> bool:
    """Whether a method keeps the earlier tasks of a sequence."""
    return type(method).keeper is not Method.keeper


def save_sequence(run: Run, sequence: Sequence) -> None:
    """Write what the next run of a sequence is to start from."""
    tensors = {f"method/{name}": value for name, value in sequence.carried.tensors.items()}
    for place, task in enumerate(sequence.carried.tasks):
        tensors |= {f"head/{place}/{name}": value for name, value in task.head.items()}
        tensors |= {f"norms/{place}/{name}": value for name, value in task.norms.items()}
    meta = {"method": sequence.method, "root": sequence.root, "tasks": list(sequence.about)}
    save_state(run.path / FILE, State(tensors, meta))


def load_sequence(run: Run) -> Sequence | None:
    """What a run hands on; None where its method keeps no earlier tasks, or it is not finished.

    Raises:
        RunError: the file is damaged.
    """
    path = run.path / FILE
    if not path.is_file():
        return None
    state = load_state(path)
    own: dict[str, Tensor] = {}
    parts: dict[tuple[str, int], dict[str, Tensor]] = {}
    try:
        for key, value in state.tensors.items():
            kind, _, rest = key.partition("/")
            if kind == "method":
                own[rest] = value
            else:
                place, _, name = rest.partition("/")
                parts.setdefault((kind, int(place)), {})[name] = value
        about = tuple(state.meta["tasks"])
        tasks = tuple(
            Earlier(entry["name"], parts["head", place], parts.get(("norms", place), {}))
            for place, entry in enumerate(about)
        )
        root = state.meta["root"]
        return Sequence(state.meta["method"], root, about, Carried(tasks, own))
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise RunError(f"{path}: damaged: {error!r}") from error


def start_of(run: Run | None, method: Method, task: str, of: str = "") -> Sequence | None:
    """What a training of `task` goes on from, given the run it starts from; None: from nothing.

    `of` is the task of that run whose network it is, where it was named.

    Raises:
        OptionError: that run belongs to a sequence of another method, is not finished or no run
            but a pack of one, knows the task already, or its last task is not the one named.
    """
    if run is None or not keeps(method):
        return None
    found = load_sequence(run)
    if found is None:
        _check_begins(run)
        return None
    if found.method != methods.name_of(method):
        raise OptionError(
            f"{run.path} is one of a sequence by {found.method}; go on with --method "
            f"{found.method}, or start from another network than this run's"
        )
    names = [known.name for known in found.carried.tasks]
    if of and of != names[-1]:
        raise OptionError(
            f"{run.path}#{of}: a sequence goes on from its last task, which is {names[-1]!r} here; "
            f"leave #{of} out"
        )
    if task in names:
        raise OptionError(
            f"{run.path} knows a task {task!r} already (its tasks: {', '.join(names)}); give this "
            "one another --name"
        )
    return found


def _check_begins(run: Run) -> None:
    """Raise OptionError where a path has tasks of a sequence, but not what the next one needs."""
    if run.path.is_file():
        used = {task.method for task in packfile.read(run.path).tasks.values()}
        found = f"{run.path} is a pack; a sequence goes on from its last run's folder"
    elif run.exists():
        used = {str(run.options.get("method"))}
        found = f"{run.path} is not finished; train it on with --resume first"
    else:
        return
    if any(_keeping(name) for name in used):
        raise OptionError(found)


def _keeping(name: str) -> bool:
    # code of the user's own was looked at when its run was opened
    return name in methods.TRAINED and methods.method_class(name).keeper is not Method.keeper


def pack_sequence(run: Run, last: PackedTask) -> Pack | None:
    """Every task of the sequence that ends with a run, `last` being the run's own as it is packed.

    The weights are the run's, shared by all tasks; head and masks are each task's own, and of the
    norms those that its norms mode says. None where the run hands nothing on.

    Raises:
        RunError: the file is damaged.
    """
    sequence = load_sequence(run)
    if sequence is None:
        return None
    method = methods.make(last.method, last.options)
    carried = sequence.carried
    tasks = {}
    try:
        head = f"{sequence.root['head']}."
        weights = {key: stream for key, stream in last.streams.items() if key == "weights"}
        others = method.weights(carried)
        if others:
            weights = own_streams({"weights": _tensors(last, "weights") | others})
        for place, (about, known) in enumerate(zip(sequence.about, carried.tasks, strict=True)):
            reads, masks = method.shared(place, carried)
            own = {"head": {head + name: value for name, value in known.head.items()}}
            own["norms"] = _tensors(last, "norms") | dict(known.norms)
            streams = mask_streams(reads, masks) | own_streams(own)
            # of a joint training one mask is for all tasks
            streams |= {} if masks else {k: s for k, s in last.streams.items() if k not in OWN}
            streams |= weights
            tasks[known.name] = PackedTask(
                known.name,
                last.method,
                methods.options_of(reads),
                about["norms"],
                last.info if known.name == last.name else about["info"],
                streams,
                str(run.path),
            )
        return Pack(BackboneInfo(**sequence.root), tasks, run.path)
    except (LookupError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        raise RunError(f"{run.path / FILE}: damaged: {error!r}") from error


def _tensors(task: PackedTask, stream: str) -> dict[str, Tensor]:
    if stream not in task.streams:
        return {}
    return {name: torch.from_numpy(array.copy()) for name, array in task.arrays(stream).items()}


def _without(values: Mapping[str, Any], key: str) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name != key}
