"""LoRA (Hu et al., 2021, arXiv:2106.09685) by the peft package, through maskpack's own loop.

    pip install peft
    python examples/benchmarks/lora.py sketches --rank 4 -o adapter

Adapters on every convolution without groups, that is 1x1 ones and the first; peft asks a rank that
is a multiple of the groups, so depthwise ones stay as they are. The head is trained in full, norms
are frozen, everything else (pictures, batches, schedule, choice of the epoch) is as `train-mask`
does it. lora_alpha is peft's 8 at every rank, as in the paper, so that one learning rate suits all.

What is kept is peft's own folder with every number as float16. Three minutes of one core; prints
the accuracy on validation by epoch, the file's bytes, and the test accuracy of what it holds.
"""

from __future__ import annotations

import argparse
import copy
import dataclasses
import json
import time
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from torch import nn

from maskpack.backbones.base import replace_head
from maskpack.evaluate import evaluate
from maskpack.learn import Options, Session, make_trainer, open_session
from maskpack.masking import MaskedNetwork
from maskpack.methods.baselines import ClassifierOnly
from maskpack.train import EpochDone

FILE = "adapter_model.safetensors"


class Adapted(MaskedNetwork):
    """A network with LoRA's adapters where others have masks, for `maskpack.train.Trainer`."""

    def __init__(self, network: nn.Module, head: str, rank: int, seed: int) -> None:
        super().__init__(network, head, ClassifierOnly(), {}, "frozen")
        config = LoraConfig(r=rank, target_modules=adapted_layers(network), modules_to_save=[head])
        torch.manual_seed(seed)  # peft draws its factors from the global generator
        self.network = get_peft_model(network, config)
        self.train()

    def trained_groups(self) -> dict[str, list[nn.Parameter]]:
        groups: dict[str, list[nn.Parameter]] = {"weights": [], "head": []}
        for name, parameter in self.network.named_parameters():
            if parameter.requires_grad:
                groups["weights" if "lora_" in name else "head"].append(parameter)
        return groups

    @torch.no_grad()
    def baked(self) -> nn.Module:
        return copy.deepcopy(self.network).merge_and_unload().eval()


def adapted_layers(network: nn.Module) -> list[str]:
    """The convolutions that peft can adapt at any rank."""
    modules = network.named_modules()
    return [name for name, m in modules if isinstance(m, nn.Conv2d) and m.groups == 1]


def train(session: Session, rank: int, path: Path) -> dict[str, Any]:
    """Train an adapter into a folder of peft's; its result.json comes last.

    `session` is one of classifier-only with frozen norms: its backbone, pictures, recipe and seed.
    """
    begin = time.monotonic()
    seed = session.options.seed
    network = Adapted(session.network.network, session.backbone.head, rank, seed)
    trainer = make_trainer(dataclasses.replace(session, network=network))
    for event in trainer.run():
        if isinstance(event, EpochDone) and event.is_best:
            save(network.network, path)
    result = {"best": trainer.best, "history": trainer.history, "rank": rank}
    result["seconds"] = time.monotonic() - begin
    (path / "result.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    return result


def save(network: PeftModel, path: Path) -> None:
    """peft's own folder, with the numbers in float16."""
    network.save_pretrained(path)
    halves = {name: tensor.half() for name, tensor in load_file(path / FILE).items()}
    save_file(halves, path / FILE, metadata={"format": "pt"})


@torch.no_grad()
def load(session: Session, path: Path) -> nn.Module:
    """The plain float32 network that a folder's adapter makes of the pristine backbone."""
    base = session.backbone
    module = copy.deepcopy(base.module)
    network = replace_head(module, base.head, session.task.outputs(), seed=0)
    return PeftModel.from_pretrained(network, path).merge_and_unload().float().eval()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("task")
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--backbone", default="mobilenet_v2")
    parser.add_argument("--rank", type=int, default=4)
    parser.add_argument("--lr", type=float, default=3e-3)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--img-size", type=int, default=64)
    args = parser.parse_args()
    recipe = {"epochs": args.epochs, "opt": "adam", "lr": args.lr, "head_lr": 1e-3}
    options = Options(
        args.backbone,
        args.task,
        "classifier-only",
        norms="frozen",
        recipe=recipe | {"head_opt": "adam", "sched": "cosine"},
        preprocess={"img_size": args.img_size},
    )
    session = open_session(options)
    for row in train(session, args.rank, args.output)["history"]:
        print(f"epoch {row['epoch']}: validation {row['val_accuracy']:.4f}")
    task = session.task
    score = evaluate(
        load(session, args.output), task, task.dataset("test"), session.preprocess, session.augment
    )
    print(f"{(args.output / FILE).stat().st_size:,} bytes, test accuracy {score.value:.4f}")


if __name__ == "__main__":
    main()
