"""Your own network and your own training loop: attach masks, train, pack, load.

    python examples/own_network.py

A small network learns five kinds of clothes; its weights are then frozen, and masks on them learn
the other five. Needs no download. Seconds on one core:

    backbone, its own five classes: 0.886
    the new task's file: 16546 bytes
    hidden.weight: 69.4% of 100352 bits are 1
    ClothesNet from the file, the other five: 0.918
    backbone, untouched: 0.886
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import maskpack
from maskpack.common.preprocess import Preprocess
from maskpack.tasks import open_task


class ClothesNet(nn.Module):
    """28 x 28 RGB -> classes; nothing in it knows of masks."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, stride=2, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(16)
        self.conv2 = nn.Conv2d(16, 32, 3, stride=2, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(32)
        self.hidden = nn.Linear(32 * 7 * 7, 64)
        self.last = nn.Linear(64, classes)

    def forward(self, x: Tensor) -> Tensor:  # (batch, 3, 28, 28) -> (batch, classes)
        x = torch.relu(self.norm1(self.conv1(x)))
        x = torch.relu(self.norm2(self.conv2(x)))
        return self.last(torch.relu(self.hidden(x.flatten(1))))


def clothes(split: str, classes: range) -> tuple[Tensor, Tensor]:
    """Pictures (n, 3, 28, 28) in [-1, 1] and labels counted from 0, of some of the classes."""
    data = open_task("fashion").dataset(split)
    chosen = [i for i, label in enumerate(data.labels) if label in classes]
    pixels = np.stack([np.asarray(data[i][0]) for i in chosen])
    labels = torch.tensor([data.labels[i] - classes.start for i in chosen])
    return torch.from_numpy(pixels).float().div(127.5).sub(1).movedim(-1, 1), labels


def train(network: nn.Module, images: Tensor, labels: Tensor, epochs: int, lr: float) -> None:
    """Any loop will do: the optimiser takes what requires a gradient."""
    optimizer = torch.optim.Adam([p for p in network.parameters() if p.requires_grad], lr=lr)
    for _ in range(epochs):
        network.train()
        for batch in torch.randperm(len(images)).split(50):
            optimizer.zero_grad()
            cross_entropy(network(images[batch]), labels[batch]).backward()
            optimizer.step()


@torch.no_grad()
def accuracy(network: nn.Module, images: Tensor, labels: Tensor) -> float:
    return (network.eval()(images).argmax(1) == labels).float().mean().item()


def main() -> None:
    torch.manual_seed(0)
    backbone = ClothesNet(classes=5)
    train(backbone, *clothes("train", range(5)), epochs=6, lr=2e-3)
    print(f"backbone, its own five classes: {accuracy(backbone, *clothes('test', range(5))):.3f}")

    # what the pictures look like: masks are laid out by one run of an empty one
    pictures = Preprocess(img_size=28, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    frozen = maskpack.from_module(backbone, "clothes-net", preprocess=pictures)
    masked = maskpack.attach(frozen, outputs=5, method="piggyback", norms="task")
    # lr 1e-3 takes a score from 0.01 under its threshold of 0.005 in six steps
    train(masked, *clothes("train", range(5, 10)), epochs=8, lr=1e-3)

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clothes.safetensors"
        packed = maskpack.pack({"shoes and bags": masked}, path)
        print(f"the new task's file: {path.stat().st_size} bytes")
        bits = packed.task().mask("hidden.weight")
        print(f"hidden.weight: {bits.count(1) / len(bits):.1%} of {len(bits)} bits are 1")

        network = maskpack.load(path, backbone=backbone)  # a plain ClothesNet
        test = clothes("test", range(5, 10))
        kind, score = type(network).__name__, accuracy(network, *test)
        print(f"{kind} from the file, the other five: {score:.3f}")
        assert torch.equal(network(test[0]), masked.eval()(test[0]))
    print(f"backbone, untouched: {accuracy(backbone, *clothes('test', range(5))):.3f}")


if __name__ == "__main__":
    main()
