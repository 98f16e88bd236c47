"""torchvision's classification networks, with weight sets by name."""

from __future__ import annotations

import difflib
import hashlib
import re
import socket
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torchvision.models
from torch import Tensor
from torchvision.models import WeightsEnum

from maskpack.backbones import EFFICIENTNET_LITE, ENCODER_DECODERS, VGG_CIFAR
from maskpack.backbones.base import Backbone, find_head, make_backbone, seeded
from maskpack.backbones.weights import fit_weights, read_weights
from maskpack.common.errors import BackboneError, UnknownName
from maskpack.common.preprocess import Preprocess

# The set of the papers. torchvision's DEFAULT is often another one, and moves.
PAPERS = "IMAGENET1K_V1"
NETWORK_PATIENCE = 30.0  # seconds without an answer before a download counts as failed


def names() -> list[str]:
    """Every classification network of the installed torchvision."""
    return torchvision.models.list_models(module=torchvision.models)


def knows(name: str) -> bool:
    """Whether `name`, with or without its weight set, is one of torchvision's networks."""
    return name.partition("/")[0] in names()


def build(name: str, weights: Path | str | None, seed: int, head: str | None) -> Backbone:
    """`resnet50` or `resnet50/IMAGENET1K_V2`, with those weights, a file's, or random ones."""
    arch, chosen = choose_set(name, names(), PAPERS, random=weights == "none")
    with seeded(seed):
        module = torchvision.models.get_model(arch, weights=None, **_arguments(arch, chosen))
    if weights is None:
        name, source = f"{arch}/{chosen.name}", chosen.url
        path = fetch(name, chosen.url)
        fit_weights(module, _translate(arch, read_weights(path)), find_head(module), str(path))
    elif isinstance(weights, Path):
        state = _translate(arch, read_weights(weights))
        fit_weights(module, state, head or find_head(module), str(weights))
        source = f"file {weights.name}"
    else:
        name, source = f"{arch}/none#{seed}", f"random, seed {seed}"
    return make_backbone(name, module, _preprocess(chosen), head, source)


def choose_set(name: str, known: list[str], usual: str, *, random: bool) -> tuple[str, WeightsEnum]:
    """`resnet50` or `resnet50/IMAGENET1K_V2` -> the network's name and the weight set meant.

    Without one in the name it is the `usual` one, or else the network's first. With `random`
    weights asked for, a name that says which others is refused.
    """
    arch, slash, wanted = name.partition("/")
    if arch not in known:
        raise unknown(arch)
    sets = {member.name: member for member in torchvision.models.get_model_weights(arch)}
    if slash and wanted not in sets:
        raise UnknownName(f"weight set of {arch}", wanted, [*sets, "none"])
    if slash and random:
        raise BackboneError(
            f"backbone {name!r} names a weight set and --weights none asks for random weights; "
            f"leave one of them out"
        )
    return arch, sets[wanted] if slash else sets.get(usual, next(iter(sets.values())))


def unknown(name: str) -> UnknownName:
    """All names would fill the screen: the nearest ones, and how many others there are."""
    segmentation = torchvision.models.list_models(module=torchvision.models.segmentation)
    everything = [*names(), *segmentation, *EFFICIENTNET_LITE, *ENCODER_DECODERS, VGG_CIFAR]
    near = difflib.get_close_matches(name.lower(), everything, n=8, cutoff=0.5)
    near = near or ["densenet121", "mobilenet_v2", "resnet50", "vgg16_bn", "vit_b_16"]
    return UnknownName(
        "backbone",
        name,
        near,
        f"and {len(everything) - len(near)} more of torchvision's and ours, timm:NAME, "
        f"module:function, run:PATH, NAME+resize, NAME+transposed",
    )


def _arguments(arch: str, chosen: WeightsEnum) -> dict[str, Any]:
    """What torchvision itself would pass to build the network of a weight set."""
    if arch in ("googlenet", "inception_v3"):
        # Auxiliary heads serve training from scratch only; the weights expect the transform.
        return {"aux_logits": False, "transform_input": True, "init_weights": True}
    if arch.startswith("vit_"):
        # Position embeddings have the picture's size built in: 384 or 518 for some weight sets.
        return {"image_size": chosen.meta["min_size"][0]}
    return {}


def _translate(arch: str, state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Names as the installed torchvision has them; changed in place to keep layer versions."""
    assert isinstance(state, dict)  # read_weights gives one
    for name in list(state):
        new = name
        if arch.startswith("densenet"):
            # Files from 2017 say denselayer1.norm.1.weight; today's layers norm1, conv1, norm2...
            new = re.sub(r"(denselayer\d+\.(?:norm|conv))\.([12])\.", r"\1\2.", name)
        if arch in ("googlenet", "inception_v3") and re.match(r"aux\d\.|AuxLogits\.", name):
            del state[name]
        elif new != name:
            state[new] = state.pop(name)
    return state


def _preprocess(chosen: WeightsEnum) -> Preprocess:
    wanted = chosen.transforms()
    size, resized = wanted.crop_size[0], wanted.resize_size[0]
    return Preprocess(
        img_size=size,
        crop_pct=size / resized,
        mean=tuple(wanted.mean),
        std=tuple(wanted.std),
        interpolation=wanted.interpolation.value,
    )


def fetch(name: str, url: str, option: str = "--weights") -> Path:
    """The weight file, from torch.hub's folder or else from the network; its hash checked.

    `option` is what an error says to give a file's place with.
    """
    path = Path(torch.hub.get_dir()) / "checkpoints" / url.rpartition("/")[2]
    wanted = hash_in_name(path)
    if path.exists():
        check_hash(path)
        return path
    before = socket.getdefaulttimeout()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Without a limit, a network that swallows packets would keep the user waiting for ever.
        socket.setdefaulttimeout(NETWORK_PATIENCE)
        torch.hub.download_url_to_file(url, str(path), wanted, progress=sys.stderr.isatty())
    except (OSError, RuntimeError) as error:  # URLError is an OSError; RuntimeError: wrong hash
        raise BackboneError(
            f"weights of {name} could not be fetched ({error}); download {url} elsewhere and put "
            f"it at {path}, or give its place with {option} FILE"
        ) from error
    finally:
        socket.setdefaulttimeout(before)
    return path


def hash_in_name(path: Path) -> str | None:
    """The first digits of the sha256, as torch.hub's file names carry them; None: no digits."""
    digits = re.search(r"-([0-9a-f]{8,64})\.[^.]+$", path.name)
    return digits[1] if digits else None


def check_hash(path: Path) -> None:
    """Raise if the file is not the one that its name promises."""
    wanted = hash_in_name(path)
    if wanted is None:
        return
    with path.open("rb") as file:
        digest = hashlib.sha256()
        while block := file.read(1 << 20):
            digest.update(block)
    if not digest.hexdigest().startswith(wanted):
        raise BackboneError(
            f"{path}: sha256 begins with {digest.hexdigest()[: len(wanted)]}, its name says "
            f"{wanted}; the file is damaged or another one: delete it and try again"
        )
