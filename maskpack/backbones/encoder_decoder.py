"""Networks that answer with a picture: ours by name, and a decoder behind any classifier."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from maskpack.backbones import open_backbone, resnet_generator, unet
from maskpack.backbones.base import Backbone, make_backbone, seeded
from maskpack.backbones.decoder import Decoder
from maskpack.backbones.encoder_taps import Tap, cut_to_taps, features
from maskpack.backbones.weights import fit_weights, read_weights
from maskpack.common.errors import BackboneError, UnknownName
from maskpack.common.preprocess import Preprocess

HEAD = "head"
WIDTHS = (16, 32, 64, 128, 256)  # of a decoder behind a classifier, full size first
OUTPUTS = 3  # of the network's own head: a picture
PARTS = {"encoder": ("encoder",), "decoder": ("decoder",)}
PREPROCESS = Preprocess(img_size=128, crop_pct=1.0, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))

_instance = functools.partial(nn.InstanceNorm2d, affine=True)


@dataclass(frozen=True)
class _Network:
    make: Callable[[], nn.Module]
    parts: Mapping[str, tuple[str, ...]]


def _generator(blocks: int, norm: Callable[[int], nn.Module]) -> _Network:
    make = functools.partial(resnet_generator.ResnetGenerator, blocks, norm)
    return _Network(make, resnet_generator.parts(blocks))


NETWORKS = {
    "unet": _Network(unet.UNet, unet.PARTS),
    "unet-instance": _Network(functools.partial(unet.UNet, _instance), unet.PARTS),
    "resnet-generator-6": _generator(6, _instance),
    "resnet-generator-6-batch": _generator(6, nn.BatchNorm2d),
    "resnet-generator-9": _generator(9, _instance),
    "resnet-generator-9-batch": _generator(9, nn.BatchNorm2d),
}
ALIASES = {"resnet-generator": "resnet-generator-9"}


def build(name: str, weights: Path | str | None, seed: int, head: str | None) -> Backbone:
    """One of NETWORKS: a file's weights, or random ones, which is all the name alone can mean."""
    family, slash, weight_set = name.partition("/")
    if slash:
        raise UnknownName(f"weight set of {family}", weight_set, ["none"])
    name = ALIASES.get(name, name)
    network = NETWORKS[name]
    with seeded(seed):
        module = network.make()
    if isinstance(weights, Path):
        fit_weights(module, read_weights(weights), head or HEAD, str(weights))
        source = f"file {weights.name}"
    else:
        name, source = f"{name}/none#{seed}", f"random, seed {seed}"
    return make_backbone(name, module, PREPROCESS, head or HEAD, source, network.parts)


def build_on(
    encoder: str,
    up: str,
    seed: int | None,
    *,
    weights: Path | str | None,
    default_seed: int,
    head: str | None,
) -> Backbone:
    """`ENCODER+resize` or `ENCODER+transposed`: any convolutional classifier, and a new decoder.

    `weights` (and, where they are random, `default_seed`) are the encoder's; the decoder's are
    drawn from `seed`, or else `default_seed`.

    Raises:
        BackboneError: the encoder cannot be had, or has no feature maps.
    """
    base = open_backbone(encoder, weights=weights, seed=default_seed)
    if "decoder" in base.parts:
        raise BackboneError(f"{encoder} has a decoder already; leave +{up} out")
    seed = default_seed if seed is None else seed
    taps = cut_to_taps(base.module, base.head, base.preprocess.img_size, base.name)
    with seeded(seed):
        module = EncoderDecoder(base.module, taps, up)
    name = f"{base.name}+{up}#{seed}"
    source = f"{base.source}; decoder random, seed {seed}"
    return make_backbone(name, module, base.preprocess, head or HEAD, source, PARTS)


class EncoderDecoder(nn.Module):
    """(batch, 3, h, w) -> (batch, outputs, h, w). The encoder keeps its own tensors' names."""

    def __init__(self, encoder: nn.Module, taps: Sequence[Tap], up: str) -> None:
        super().__init__()
        self.encoder = encoder
        self.taps = tuple(taps)
        self.deepest = max(tap.level for tap in taps)
        channels = [0] * (self.deepest + 1)  # at full size there is no map
        for tap in taps:
            channels[tap.level] = tap.channels
        self.decoder = Decoder(channels, WIDTHS, up, nn.BatchNorm2d)
        self.head = nn.Conv2d(WIDTHS[0], OUTPUTS, 1)

    def forward(self, x: Tensor) -> Tensor:
        maps: list[Tensor | None] = [None] * (self.deepest + 1)
        for tap, output in zip(self.taps, features(self.encoder, self.taps, x), strict=True):
            maps[tap.level] = output
        return self.head(self.decoder(maps, x.shape[2], x.shape[3]))
