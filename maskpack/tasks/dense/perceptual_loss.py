"""How alike two pictures look: losses made of what an image classifier sees in them.

Johnson, Alahi and Fei-Fei 2016, arXiv:1603.08155, sections 3.2 and 3.3. VGG16 looks at the
pictures; it is frozen and serves training and scoring alone.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from maskpack.backbones.base import seeded
from maskpack.backbones.weights import fit_weights, read_weights
from maskpack.common.preprocess import IMAGENET_MEAN, IMAGENET_STD

# VGG16 up to relu4_3: convolutions by their channels, "M" halves the picture
PLAN = (64, 64, "M", 128, 128, "M", 256, 256, 256, "M", 512, 512, 512)
# the four activations that style is read off, by their index in torchvision's vgg16().features
TAPS = {"relu1_2": 3, "relu2_2": 8, "relu3_3": 15, "relu4_3": 22}
CONTENT = "relu2_2"


class VGG16Features(nn.Module):
    """Pictures (batch, 3, h, w), 0 to 1, from 8 pixels a side on -> TAPS, each (batch, c, h', w').

    Its tensors have the names of torchvision's vgg16.
    """

    mean: Tensor
    std: Tensor

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 3
        for width in PLAN:
            if isinstance(width, str):
                layers.append(nn.MaxPool2d(2))
            else:
                layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU(inplace=True)]
                channels = width
        self.features = nn.Sequential(*layers)
        for name, values in (("mean", IMAGENET_MEAN), ("std", IMAGENET_STD)):
            self.register_buffer(name, torch.tensor(values).view(1, 3, 1, 1), persistent=False)

    def forward(self, pictures: Tensor, last: str = "relu4_3") -> dict[str, Tensor]:
        """The taps from the first to `last`."""
        found: dict[str, Tensor] = {}
        names = {index: name for name, index in TAPS.items()}
        x = (pictures - self.mean) / self.std
        for index, layer in enumerate(self.features):
            x = layer(x)
            if index in names:
                found[names[index]] = x
                if names[index] == last:
                    break
        return found


@lru_cache(maxsize=2)
def open_features(path: str | None = None) -> VGG16Features:
    """VGG16's convolutions of a file, or torchvision's IMAGENET1K_V1; one for the whole process.

    A file may hold the whole network or its first ten convolutions, under torchvision's names.

    Raises:
        BackboneError: no such file, it holds other tensors, or nothing could be fetched.
    """
    file = _published() if path is None else Path(path)
    with seeded(0):  # training's random numbers are not to know of it
        network = VGG16Features()
    own = network.state_dict()
    state = {name: tensor for name, tensor in read_weights(file).items() if name in own}
    where = f"{file}: no weights of VGG16 under torchvision's names" if not state else str(file)
    fit_weights(network, state, "classifier", where)
    # a fifth faster on a CPU, and what the trained network answers in
    return network.eval().requires_grad_(False).to(memory_format=torch.channels_last)


def _published() -> Path:
    from torchvision.models import VGG16_Weights  # seconds, which a file's reader saves

    from maskpack.backbones.imagenet import fetch

    return fetch("vgg16", VGG16_Weights.IMAGENET1K_V1.url, "--features")


class StyleLoss:
    """Distance of pictures from the content of others and the style of one; weights as given.

    `style` is one picture, (1, 3, h, w), of any size.
    """

    def __init__(
        self, features: VGG16Features, style: Tensor, content: float, gram: float, variation: float
    ) -> None:
        self._features = features
        self._weights = (content, gram, variation)
        with torch.no_grad():
            found = features.to(style.device)(style)
        self._grams = {name: gram_matrix(tap) for name, tap in found.items()}

    def parts(self, made: Tensor, content: Tensor) -> dict[str, Tensor]:
        """Weighted scalars "content loss", "style loss" and "variation loss"; their sum is all.

        made, content: (batch, 3, h, w), 0 to 1. Means over the batch. The first is eq. 2, the
        second eq. 4 with means instead of sums, as the authors' code has it.
        """
        features = self._features.to(made.device)
        ours = features(made)
        with torch.no_grad():
            wanted = features(content, CONTENT)[CONTENT]
        style = torch.stack([self._distance(name, tap) for name, tap in ours.items()])
        values = (mse_loss(ours[CONTENT], wanted), style.sum(), total_variation(made))
        names = ("content loss", "style loss", "variation loss")
        return {
            name: weight * value
            for name, weight, value in zip(names, self._weights, values, strict=True)
        }

    def _distance(self, name: str, tap: Tensor) -> Tensor:
        wanted = self._grams[name] = self._grams[name].to(tap.device)
        return (gram_matrix(tap) - wanted).square().mean()


def gram_matrix(features: Tensor) -> Tensor:
    """Eq. 3: how often channels are bright together; (batch, c, h, w) -> (batch, c, c)."""
    _, channels, height, width = features.shape
    flat = features.flatten(2)
    return flat @ flat.transpose(1, 2) / (channels * height * width)


def total_variation(pictures: Tensor) -> Tensor:
    """Mean absolute difference of neighbours, across and down; (batch, c, h, w) -> scalar."""
    across = pictures[..., 1:] - pictures[..., :-1]
    down = pictures[..., 1:, :] - pictures[..., :-1, :]
    return across.abs().mean() + down.abs().mean()
