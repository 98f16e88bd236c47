"""A fine-tuned network as people keep it: a file of weights, a run, a module -> a plain network."""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from maskpack.backbones.base import replace_head
from maskpack.backbones.weights import fit_weights, read_weights
from maskpack.common.errors import BackboneError
from maskpack.networks.serialize import unpack_task
from maskpack.packs import file as packfile
from maskpack.runs.open import check_base, open_pack

if TYPE_CHECKING:
    from maskpack.backbones.base import Backbone

# what training scripts put before the network's own names: DataParallel, torch.compile, wrappers
PREFIXES = ("module.", "_orig_mod.", "model.", "backbone.", "network.", "net.", "encoder.")


@dataclass(frozen=True)
class Checkpoint:
    """A fine-tuned network of the backbone's architecture, with the task's own head."""

    where: str  # for messages
    name: str  # of its task, where nobody gives another
    network: nn.Module  # plain, float32, eval mode
    info: Mapping[str, Any] = field(default_factory=dict)  # what a run or pack says of its task


def read_checkpoint(source: str | Path | nn.Module, backbone: Backbone) -> Checkpoint:
    """A fine-tuned network from .safetensors, .pth and the like, a run's folder, a pack, a module.

    Training scripts' nests ("state_dict", "model") and prefixes ("module.", "backbone.") are taken
    off. A pickle that would have to run code is refused.

    Raises:
        BackboneError: it is no file of weights, or does not fit the backbone's architecture: says
            which tensors are missing, misshaped, NaN or not in the network.
        PackFormatError: a run or pack that is damaged.
    """
    if isinstance(source, nn.Module):
        where = type(source).__name__
        return Checkpoint(where, where, _network(source.state_dict(), backbone, where))
    path = Path(source)
    if path.is_dir() or _is_pack(path):
        pack = open_pack(path)
        task = pack.task()
        check_base(pack, task, backbone)
        return Checkpoint(str(path), task.name, unpack_task(task, backbone), task.info)
    return Checkpoint(str(path), path.stem, _network(read_weights(path), backbone, str(path)))


def _is_pack(path: Path) -> bool:
    if path.suffix != ".safetensors" or not path.is_file():
        return False
    try:
        with safe_open(path, framework="numpy") as file:
            return packfile.KEY in (file.metadata() or {})
    except (SafetensorError, OSError):
        return False  # read_weights says what is wrong with it


def _network(state: Mapping[str, Tensor], backbone: Backbone, where: str) -> nn.Module:
    """A copy of the backbone's network with these weights, all of them there and finite."""
    own = backbone.module.state_dict()
    head = f"{backbone.head}."
    state = _with_head(_without_prefixes(state, own), own, head)
    weight = state.get(f"{head}weight")
    if weight is None or not weight.dim() or not weight.shape[0]:
        raise BackboneError(
            f"{where}: no tensor {head}weight, the head of {backbone.name}; found "
            f"{_some([name for name in state if name not in own]) or 'no other last layer'}; "
            "give the checkpoint of this very architecture, with its last layer"
        )
    network = replace_head(copy.deepcopy(backbone.module), backbone.head, int(weight.shape[0]))
    for name, tensor in network.state_dict().items():
        if not name.startswith(head):
            continue
        found = state.setdefault(name, torch.zeros_like(tensor))  # a head without bias adds 0
        if found.shape != tensor.shape:
            raise BackboneError(
                f"{where}: {name} is {tuple(found.shape)} and should be {tuple(tensor.shape)}; "
                "give the checkpoint of this very architecture"
            )
        if not found.isfinite().all():
            raise BackboneError(f"{where}: {name} has values that are NaN or infinite")
    extra = [name for name in state if name.startswith(head) and name not in own]
    if extra:
        raise BackboneError(f"{where}: {extra[0]} is in the file, not in {backbone.name}'s head")
    fit_weights(network, state, backbone.head, where)
    return network.eval().requires_grad_(False)


def _without_prefixes(
    state: Mapping[str, Tensor], own: Mapping[str, Tensor]
) -> OrderedDict[str, Tensor]:
    """Names without a wrapper's prefix, where that makes more of them the network's own.

    The head may stand beside the wrapped network: it keeps its name.
    """
    plain = OrderedDict(state)
    setattr(plain, "_metadata", getattr(state, "_metadata", None))  # noqa: B010  # layer versions
    while True:
        tried = [
            OrderedDict((name.removeprefix(prefix), t) for name, t in plain.items())
            for prefix in PREFIXES
        ]
        best = max(tried, key=lambda names: len(names.keys() & own.keys()))
        if len(best.keys() & own.keys()) <= len(plain.keys() & own.keys()):
            return plain
        plain = best


def _with_head(
    state: OrderedDict[str, Tensor], own: Mapping[str, Tensor], head: str
) -> OrderedDict[str, Tensor]:
    """The head under the backbone's name for it, where a script gave it one of its own."""
    wanted = own[f"{head}weight"]
    if f"{head}weight" in state:
        return state
    fitting = [
        name.removesuffix("weight")
        for name, tensor in state.items()
        if name not in own and name.endswith(".weight") and tensor.shape[1:] == wanted.shape[1:]
    ]
    if len(fitting) != 1:
        return state
    renamed = OrderedDict(
        (head + name.removeprefix(fitting[0]) if name.startswith(fitting[0]) else name, tensor)
        for name, tensor in state.items()
    )
    setattr(renamed, "_metadata", getattr(state, "_metadata", None))  # noqa: B010
    return renamed


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
