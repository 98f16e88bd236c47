"""Tiny networks and pictures for tests; `tiny:everything` is also a backbone's name."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import count

import torch
from PIL import Image
from torch import Tensor, nn

from maskpack.backbones.base import Backbone, make_backbone, seeded
from maskpack.common.preprocess import Augment, Preprocess
from maskpack.tasks import Classification

SIZE = 8  # pixels
OUTPUTS = 3
PREPROCESS = Preprocess(img_size=SIZE)
NORM = (nn.modules.batchnorm._NormBase, nn.LayerNorm)


class Everything(nn.Module):
    """Every kind of layer a mask can meet; some masks fill their last byte, some do not."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(6)
        self.depthwise = nn.Conv2d(6, 6, 3, padding=1, groups=6)
        self.instance = nn.InstanceNorm2d(6, affine=True, track_running_stats=True)
        self.grouped = nn.Conv2d(6, 8, 3, stride=2, padding=1, groups=2)
        self.up = nn.ConvTranspose2d(8, 6, 2, stride=2)
        self.squeeze = nn.Conv2d(6, 8, 1)
        self.first = nn.Conv2d(8, 8, 1)
        self.second = nn.Conv2d(8, 8, 1)
        self.second.weight = self.first.weight
        self.layer_norm = nn.LayerNorm(8)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.linear = nn.Linear(8, 8)
        self.fc = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:  # (batch, 3, 8, 8)
        x = torch.relu(self.norm(self.stem(x)))
        x = torch.relu(self.instance(self.depthwise(x)))
        x = torch.relu(self.grouped(x))  # (batch, 8, 4, 4)
        x = torch.relu(self.up(x))  # (batch, 6, 8, 8)
        x = torch.nn.functional.avg_pool2d(self.squeeze(x), 2)
        x = x + self.second(torch.relu(self.first(x)))
        tokens = self.layer_norm(x.flatten(2).transpose(1, 2))  # (batch, 16, 8)
        tokens = tokens + self.attention(tokens, tokens, tokens, need_weights=False)[0]
        return self.fc(torch.relu(self.linear(tokens)).mean(1))


class Plain(nn.Module):
    """conv -> batch norm -> conv -> head, for what needs no more."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, stride=2, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.last = nn.Conv2d(8, 8, 3, padding=1)
        self.fc = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:  # (batch, 3, 8, 8)
        return self.fc(torch.relu(self.last(torch.relu(self.norm(self.conv(x))))).mean((2, 3)))


def _seeded(make: Callable[[], nn.Module], seed: int) -> nn.Module:
    """A network of random weights whose norms are not the identity."""
    with seeded(seed), torch.no_grad():
        network = make()
        for module in network.modules():
            if isinstance(module, NORM):
                for key, tensor in module.state_dict(keep_vars=True).items():
                    if tensor.is_floating_point():
                        low = -0.5 if "bias" in key or "mean" in key else 0.5
                        tensor.uniform_(low, low + 1)
    return network


def everything(seed: int = 0) -> nn.Module:
    return _seeded(Everything, seed)


def plain(seed: int = 0) -> nn.Module:
    return _seeded(Plain, seed)


# as if they were encoder-decoders, for the methods that train a part of one
PARTS: dict[Callable[[], nn.Module], dict[str, tuple[str, ...]]] = {
    everything: {
        "encoder": ("stem", "norm", "depthwise", "instance", "grouped"),
        "blocks": ("up", "squeeze"),
        "decoder": ("first", "second", "layer_norm", "attention", "linear"),
    },
    plain: {"encoder": ("conv",), "blocks": ("norm",), "decoder": ("last",)},
}
everything.preprocess = PREPROCESS  # type: ignore[attr-defined]  # `module:function` looks there
plain.preprocess = PREPROCESS  # type: ignore[attr-defined]
for _make, _parts in PARTS.items():
    _make.parts = _parts  # type: ignore[attr-defined]


def backbone(make: Callable[[], nn.Module] = plain, name: str | None = None) -> Backbone:
    """One of the networks, under the name that opens it again from the tests' folder."""
    name = name or f"tiny:{make.__name__}"
    return make_backbone(name, make(), PREPROCESS, parts=PARTS.get(make))


class Pictures:
    """`size` pictures of a brightness that tells the class, the same for the same seed."""

    def __init__(self, size: int, seed: int = 0, classes: int = OUTPUTS) -> None:
        generator = torch.Generator().manual_seed(seed)
        noise = torch.randint(0, 60, (size, SIZE, SIZE, 3), generator=generator)
        self.labels: Sequence[int] = [index % classes for index in range(size)]
        bright = torch.tensor(self.labels).view(-1, 1, 1, 1) * (190 // max(classes - 1, 1))
        self.pixels = (noise + bright).to(torch.uint8).numpy()

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        return Image.fromarray(self.pixels[index]), self.labels[index]


def task(name: str = "shades", train: int = 12, val: int = 6, test: int = 6) -> Classification:
    """Three classes of pictures; no augmentation but what `Augment("resize", hflip=0)` does."""
    sizes = {"train": train, "val": val, "test": test}
    data = {split: Pictures(n, seed) for seed, (split, n) in enumerate(sizes.items()) if n}
    augment = Augment("resize", hflip=0.0)
    return Classification(name, ("dark", "grey", "light"), data, augment)


def batches(seed: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
    """Endless random (images, labels): float32 (4, 3, 8, 8), int64 (4,)."""
    for number in count(seed):
        generator = torch.Generator().manual_seed(number)
        images = torch.randn(4, 3, SIZE, SIZE, generator=generator)
        yield images, torch.randint(0, OUTPUTS, (4,), generator=generator)


def train(network: nn.Module, steps: int = 2, lr: float = 8e-3) -> nn.Module:
    """Some Adam steps on random data: at this rate a Piggyback bit flips in one."""
    network.train()
    optimizer = torch.optim.Adam([p for p in network.parameters() if p.requires_grad], lr=lr)
    for _, (images, labels) in zip(range(steps), batches(), strict=False):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(network(images), labels).backward()
        optimizer.step()
    return network
