"""What is frozen: networks by name, their weights, and the fingerprint that tells them apart.

A name is one of

    resnet50                    torchvision's, with the weights the papers used (IMAGENET1K_V1)
    resnet50/IMAGENET1K_V2      another weight set of torchvision's
    efficientnet_lite0          0, 1 or 2, with weights from the package registry
    vgg16_bn_cifar              for 32 px pictures; vgg16_bn_cifar-w1.5 has 1.5 times the weights
    wrn28-decathlon             the Visual Decathlon's, for pictures of 64 px
    timm:NAME                   timm's, e.g. timm:resnet18.a1_in1k
    module:function             your own: a Python callable that returns a network
    NAME/none#SEED              any of them with random weights, e.g. resnet18/none#3

or, for tasks that answer with a picture,

    unet                        encoder and decoder of our own; unet-instance has instance norm
    resnet-generator-9          or -6: an auto-encoder with residual blocks, instance norm;
                                with -batch behind it, batch norm
    deeplabv3_resnet50          torchvision's segmentation networks (COCO_WITH_VOC_LABELS_V1)
    NAME+resize                 a decoder of resize convolutions behind any network above
    NAME+transposed             or of transposed ones; NAME+resize#SEED says how it was drawn

Ours have random weights unless a file brings others: `unet` alone means unet/none#SEED.

`run:PATH[#TASK]` (a network trained from scratch, as a run or a pack) is resolved by the layers
that know what a run is, which look for RUN_PREFIX before they ask here.

This file does not import torch, so that `--help` and error messages stay quick.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from maskpack.common.errors import BackboneError, UnknownName

if TYPE_CHECKING:
    from torch import nn

    from maskpack.backbones.base import Backbone
    from maskpack.common.preprocess import Preprocess

RUN_PREFIX = "run:"
TIMM_PREFIX = "timm:"
EFFICIENTNET_LITE = ("efficientnet_lite0", "efficientnet_lite1", "efficientnet_lite2")
VGG_CIFAR = "vgg16_bn_cifar"
WIDE_RESNETS = ("wrn28-decathlon",)
ENCODER_DECODERS = (
    "unet",
    "unet-instance",
    "resnet-generator",
    "resnet-generator-6",
    "resnet-generator-6-batch",
    "resnet-generator-9",
    "resnet-generator-9-batch",
)
DECODERS = ("resize", "transposed")
WEIGHT_SUFFIXES = (".safetensors", ".pth", ".pt", ".bin", ".tar", ".ckpt")

_RANDOM = re.compile(r"(?P<name>.+)/none(?:#(?P<seed>\d{1,18}))?")
_DECODER = re.compile(r"(?P<encoder>.+)\+(?P<up>\w*)(?:#(?P<seed>\d{1,18}))?")
_CALLABLE = re.compile(r"[^\W\d][\w.]*:[^\W\d][\w.]*")
_WEIGHT_SET = re.compile(r"\w+/[A-Z0-9_]+")


def open_backbone(
    name: str,
    *,
    weights: str | Path | None = None,
    seed: int = 0,
    head: str | None = None,
) -> Backbone:
    """The network called `name`: float32, on the CPU, in eval mode, ready to be fingerprinted.

    weights  None: the named set. "none": random from `seed`, and the name says so
             ("resnet18/none#3"), so it can be opened again. A file: its tensors; the name then
             stays that of the network, and the fingerprint tells which weights it carries.
             A seed in the name goes before the argument.
    head     dotted name of the last layer, where the last Linear is not it.

    Raises UnknownName for a name that is in no table and BackboneError for everything else.
    """
    random = _RANDOM.fullmatch(name)
    if random:
        if weights not in (None, "none"):
            raise BackboneError(
                f"backbone {name!r} asks for random weights and --weights {str(weights)!r} for a "
                f"file; leave one of them out"
            )
        name, weights, seed = random["name"], "none", int(random["seed"] or 0)
    chosen = weights if weights in (None, "none") else Path(weights)

    # Each branch imports its own room: timm and torchvision cost seconds to import.
    if name.startswith(RUN_PREFIX):
        raise BackboneError(
            f"{name!r} is a run or a pack, which has no weights by name here; "
            f"give it as --backbone of a command"
        )
    decoder = _DECODER.fullmatch(name)
    if decoder and decoder["up"] in DECODERS and "+" not in decoder["encoder"]:
        from maskpack.backbones import encoder_decoder

        return encoder_decoder.build_on(
            decoder["encoder"],
            decoder["up"],
            int(decoder["seed"]) if decoder["seed"] else None,
            weights=chosen,
            default_seed=seed,
            head=head,
        )
    if decoder and not name.startswith((".", "~", "/")) and not _exists(name):
        network, _, given = name.partition("+")
        raise UnknownName(f"decoder of {network}", given, DECODERS)
    if name.startswith(TIMM_PREFIX):
        from maskpack.backbones import timm_models

        return timm_models.build(name.removeprefix(TIMM_PREFIX), chosen, seed, head)
    family, _, weight_set = name.partition("/")
    if family in EFFICIENTNET_LITE:
        if weight_set:
            raise UnknownName(f"weight set of {family}", weight_set, ["none"])
        from maskpack.backbones import efficientnet_lite

        return efficientnet_lite.build(name, chosen, seed, head)
    if family in ENCODER_DECODERS:
        from maskpack.backbones import encoder_decoder

        return encoder_decoder.build(name, chosen, seed, head)
    if family in WIDE_RESNETS:
        from maskpack.backbones import wide_resnet

        return wide_resnet.build(name, chosen, seed, head)
    if family == VGG_CIFAR or family.startswith(f"{VGG_CIFAR}-w"):
        from maskpack.backbones import vgg_cifar

        return vgg_cifar.build(name, chosen, seed, head)
    if names_code(name):
        from maskpack.backbones import user_function as callables

        return callables.build(name, chosen, seed, head)

    from maskpack.backbones import imagenet, segmentation

    if segmentation.knows(name):
        return segmentation.build(name, chosen, seed, head)
    if not imagenet.knows(name):
        _refuse_path(name)
    return imagenet.build(name, chosen, seed, head)


def names_code(name: str) -> bool:
    """Whether opening `name` imports and calls a module of the user's (`mynet:build`).

    A name that comes out of a file somebody else made should not do so unasked.
    """
    prefixed = name.startswith((RUN_PREFIX, TIMM_PREFIX))
    plain = name.partition("/")[0].partition("+")[0]  # mynet:build+resize calls it as well
    return not prefixed and bool(_CALLABLE.fullmatch(plain))


def from_module(
    module: nn.Module,
    name: str = "custom",
    head: str | None = None,
    preprocess: Preprocess | None = None,
    parts: Mapping[str, Sequence[str]] | None = None,
) -> Backbone:
    """Any network of your own as a backbone.

    The module is used as it is, not copied: it is moved to the CPU, to float32 and to eval mode.
    Without `preprocess`, pictures are prepared as for ImageNet (224 px, ImageNet's mean and std).
    `parts` names the modules of an encoder-decoder: {"encoder": ["down"], "decoder": ["up"]}.
    """
    from maskpack.backbones.base import make_backbone
    from maskpack.backbones.user_function import check_parts
    from maskpack.common.preprocess import Preprocess

    inside = check_parts(name, module, parts)
    return make_backbone(name, module, preprocess or Preprocess(), head, parts=inside)


def _refuse_path(name: str) -> None:
    """Raise where `name` can only be a file or folder; it could mean weights or a run."""
    looks_like_path = (
        name.endswith(WEIGHT_SUFFIXES)
        or "\\" in name
        or ("/" in name and not _WEIGHT_SET.fullmatch(name))
        or name.startswith((".", "~"))
        or _exists(name)
    )
    if looks_like_path:
        raise BackboneError(
            f"backbone {name!r} is a path, not a name; for a file of weights: --backbone NAME "
            f"--weights {name}; for a run or pack: --backbone {RUN_PREFIX}{name}"
        )


def _exists(name: str) -> bool:
    try:
        return Path(name).exists()
    except OSError:  # a name too long for a file
        return False
