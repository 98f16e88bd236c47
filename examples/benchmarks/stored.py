"""Ways to store what a training left: each writes one file and gives the network read back from it.

Used by size.py, whose docstring says what they are.
"""

from __future__ import annotations

import copy
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load, save
from torch import Tensor, nn

from maskpack import from_checkpoint
from maskpack.backbones.base import replace_head
from maskpack.networks.masked import set_weights
from maskpack.networks.serialize import unpack_task
from maskpack.packing.smaller.kinds import Storage, shrunk
from maskpack.packs import file as packfile
from maskpack.packs.contents import Pack
from maskpack.runs.open import open_pack, recoded
from maskpack.training.setup import Session

HALVES = Storage(head="fp16", norms="fp16", coefficients="fp16", weights="fp16")
LEVEL = 19


@dataclass(frozen=True)
class Trained:
    """A finished run with the backbone and pictures it is for."""

    session: Session
    path: Path

    def state(self) -> dict[str, Tensor]:
        """Every tensor of the trained network, in float32."""
        return unpack_task(open_pack(self.path).task(), self.session.backbone).state_dict()

    def network(self) -> nn.Module:
        """The pristine backbone with a head for this task, to be filled."""
        base = self.session.backbone
        module = copy.deepcopy(base.module)
        return replace_head(module, base.head, self.session.task.outputs(), seed=0).eval()


def checkpoint(trained: Trained, file: Path, dtype: str = "float32") -> nn.Module:
    """What `save_file(network.state_dict())` makes, in a dtype."""
    kind = getattr(torch, dtype)
    state = {n: t.to(kind) if t.is_floating_point() else t for n, t in trained.state().items()}
    file.write_bytes(save(state))
    network = trained.network()
    network.load_state_dict(load(file.read_bytes()))
    return network


def difference(trained: Trained, file: Path, zstd: bool = False) -> nn.Module:
    """What is to be added to the backbone, and the head, in float16; counters are left out."""
    pristine = trained.session.backbone.state()
    state = {n: t for n, t in trained.state().items() if t.is_floating_point()}
    inside = f"{trained.session.backbone.head}."
    halves = {n: (t if n.startswith(inside) else t - pristine[n]).half() for n, t in state.items()}
    wrong = [name for name, half in halves.items() if not half.isfinite().all()]
    if wrong:
        raise SystemExit(f"{trained.path}: {wrong[0]} changed by more than float16 can say")
    content = save(halves)
    if zstd:
        zstandard = zstandard_package()
        file.write_bytes(zstandard.ZstdCompressor(level=LEVEL).compress(content))
        content = zstandard.ZstdDecompressor().decompress(file.read_bytes())
    else:
        file.write_bytes(content)
        content = file.read_bytes()
    added = {name: half.float() for name, half in load(content).items()}
    network = trained.network()
    whole = {n: t if n.startswith(inside) else t + pristine[n] for n, t in added.items()}
    set_weights(network, whole)
    return network


def bitdelta(trained: Trained, file: Path, per: str = "layer", distill: int = 0) -> nn.Module:
    """A sign a weight and one scale a layer or channel, by `maskpack pack --from-checkpoint`."""
    base, seed = trained.session.backbone, trained.session.options.seed
    pack = from_checkpoint(trained.path, file, backbone=base, per=per, distill=distill, seed=seed)
    return _written(trained, file, pack, HALVES)


def packed(trained: Trained, file: Path, storage: Storage = HALVES) -> nn.Module:
    """A run as `maskpack pack --codec auto` writes it, its numbers in this storage."""
    return _written(trained, file, open_pack(trained.path), storage)


def adapter(trained: Trained, file: Path) -> nn.Module:
    """A run of LoRA as peft's file, every number a float16."""
    import lora

    base, task = trained.session.backbone, open_pack(trained.path).task()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        shutil.copyfile(lora.export(task, base, folder), file)
        return lora.load(base, trained.session.task.outputs(), folder)


def _written(trained: Trained, file: Path, pack: Pack, storage: Storage) -> nn.Module:
    base = trained.session.backbone
    task = shrunk(pack.task(), storage, base)
    packfile.write(file, recoded(Pack(pack.backbone, {task.name: task}), coded=True))
    return unpack_task(packfile.read(file).task(), base)


def zstandard_package():
    """The zstandard package; it is needed for one row only."""
    try:
        import zstandard
    except ImportError:
        raise SystemExit("zstd: pip install zstandard, or leave its row out") from None
    return zstandard
