"""A LoRA task as the folder that the peft package writes and reads, and back.

    maskpack train-mask --backbone mobilenet_v2 --task sketches --method lora -o runs/lora
    python examples/benchmarks/lora.py runs/lora -o adapter

Factors and head stand in peft's adapter_model.safetensors, every number a float16, so that others
can load the adapter without this package. Prints the file's bytes, and how far the outputs of what
peft makes of the folder are from the run's own on random pictures: 0.00, only the head is rounded.
"""

from __future__ import annotations

import argparse
import copy
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from torch import nn

from maskpack.backbones.base import Backbone, replace_head
from maskpack.networks.serialize import unpack_task
from maskpack.packs.contents import PackedTask
from maskpack.runs.open import open_base, open_pack

FILE = "adapter_model.safetensors"


@torch.no_grad()
def export(task: PackedTask, backbone: Backbone, folder: Path) -> Path:
    """Write peft's folder for a packed task of method lora; returns its file of numbers."""
    factors = {key: task.arrays(key) for key in ("lora_A", "lora_B")}
    head = task.arrays("head")
    network = _plain(backbone, len(next(iter(head.values()))))
    config = LoraConfig(
        r=task.options["rank"],
        lora_alpha=task.options["alpha"],
        target_modules=[name.removesuffix(".weight") for name in factors["lora_A"]],
        modules_to_save=[backbone.head],
    )
    adapted = get_peft_model(network, config)
    inside = adapted.base_model.model
    for key, arrays in factors.items():
        for name, array in arrays.items():
            layer = inside.get_submodule(name.removesuffix(".weight"))
            getattr(layer, key)["default"].weight.copy_(torch.from_numpy(array.copy()))
    for name, array in head.items():
        own = inside.get_submodule(backbone.head).modules_to_save["default"]
        own.get_parameter(name.rpartition(".")[2]).copy_(torch.from_numpy(array.copy()))
    adapted.save_pretrained(folder)
    halves = {name: tensor.half() for name, tensor in load_file(folder / FILE).items()}
    save_file(halves, folder / FILE, metadata={"format": "pt"})
    return folder / FILE


@torch.no_grad()
def load(backbone: Backbone, outputs: int, folder: Path) -> nn.Module:
    """The plain float32 network that peft makes of a folder and the pristine backbone."""
    network = PeftModel.from_pretrained(_plain(backbone, outputs), folder)
    return network.merge_and_unload().float().eval()


def _plain(backbone: Backbone, outputs: int) -> nn.Module:
    return replace_head(copy.deepcopy(backbone.module), backbone.head, outputs, seed=0)


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", help="a run of --method lora, or a pack of one task")
    parser.add_argument("-o", "--output", type=Path, required=True)
    args = parser.parse_args()
    pack = open_pack(args.run)
    task = pack.task()
    backbone = open_base(pack, task)
    file = export(task, backbone, args.output)
    network = unpack_task(task, backbone)
    size = task.info["preprocess"]["img_size"]
    images = torch.rand(8, 3, size, size)
    outputs = network(images)
    difference = (load(backbone, outputs.shape[1], args.output)(images) - outputs).abs().max()
    print(f"{file}: {file.stat().st_size:,} bytes, outputs {difference:.2f} from the run's")


if __name__ == "__main__":
    main()
