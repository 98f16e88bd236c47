"""torchvision's segmentation networks: `deeplabv3_*`, `fcn_*`, `lraspp_*`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
import torchvision.models
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models import WeightsEnum

from maskpack.backbones.base import Backbone, make_backbone, seeded
from maskpack.backbones.imagenet import choose_set, fetch
from maskpack.backbones.weights import fit_weights, read_weights
from maskpack.common.preprocess import Preprocess

COCO = "COCO_WITH_VOC_LABELS_V1"  # 21 classes: Pascal VOC's 20 and the background
LAST = "classifier.head"  # LRASPP's two last layers as one
BRANCHES = ("classifier.low_classifier", "classifier.high_classifier")


def names() -> list[str]:
    """Every segmentation network of the installed torchvision."""
    return torchvision.models.list_models(module=torchvision.models.segmentation)


def knows(name: str) -> bool:
    """Whether `name`, with or without its weight set, is one of them."""
    return name.partition("/")[0] in names()


def build(name: str, weights: Path | str | None, seed: int, head: str | None) -> Backbone:
    """`fcn_resnet50` or `fcn_resnet50/WEIGHT_SET`, with those weights, a file's, or random ones.

    Files are torchvision's own; their auxiliary classifier, which only training uses, is left out.
    """
    arch, chosen = choose_set(name, names(), COCO, random=weights == "none")
    classes = len(chosen.meta["categories"])
    with seeded(seed):
        whole = torchvision.models.get_model(
            arch, weights=None, weights_backbone=None, num_classes=classes, aux_loss=False
        )
    module: nn.Module
    if hasattr(whole.classifier, "low_classifier"):
        module, found = Segmentation(whole.backbone, LiteHead(whole.classifier)), LAST
    else:
        last = len(whole.classifier) - 1
        module, found = Segmentation(whole.backbone, whole.classifier), f"classifier.{last}"
    if weights is None:
        name, source = f"{arch}/{chosen.name}", chosen.url
        path = fetch(name, chosen.url)
        fit_weights(module, translate(read_weights(path)), found, str(path))
    elif isinstance(weights, Path):
        fit_weights(module, translate(read_weights(weights)), head or found, str(weights))
        source = f"file {weights.name}"
    else:
        name, source = f"{arch}/none#{seed}", f"random, seed {seed}"
    decoder = tuple(
        key
        for child, layer in module.get_submodule("classifier").named_children()
        if (key := f"classifier.{child}") != found and layer.state_dict()
    )
    parts = {"encoder": ("backbone",), "decoder": decoder}
    return make_backbone(name, module, _preprocess(chosen), head or found, source, parts)


class Segmentation(nn.Module):
    """(batch, 3, h, w) -> (batch, classes, h, w): torchvision's "out", and nothing else."""

    def __init__(self, backbone: nn.Module, classifier: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone
        self.classifier = classifier

    def forward(self, x: Tensor) -> Tensor:
        maps = self.backbone(x)
        out = self.classifier(maps if isinstance(self.classifier, LiteHead) else maps["out"])
        return F.interpolate(out, size=x.shape[2:], mode="bilinear", align_corners=False)


class LiteHead(nn.Module):
    """LRASPP's classifier (Howard et al., 2019) with one last layer instead of two.

    The two 1x1 convolutions are summed, which one on both inputs side by side does as well; so a
    task has one last layer here too.
    """

    def __init__(self, original: nn.Module) -> None:
        super().__init__()
        low, high = (original.get_submodule(name.partition(".")[2]) for name in BRANCHES)
        assert isinstance(low, nn.Conv2d)
        assert isinstance(high, nn.Conv2d)
        self.cbr = original.get_submodule("cbr")
        self.scale = original.get_submodule("scale")
        self.head = nn.Conv2d(low.in_channels + high.in_channels, low.out_channels, 1)
        merged = translate(
            {
                f"{name}.{key}": tensor
                for name, layer in zip(BRANCHES, (low, high), strict=True)
                for key, tensor in layer.state_dict().items()
            }
        )
        self.head.load_state_dict({k.removeprefix(f"{LAST}."): v for k, v in merged.items()})

    def forward(self, maps: Mapping[str, Tensor]) -> Tensor:
        low = maps["low"]
        high = self.cbr(maps["high"]) * self.scale(maps["high"])
        high = F.interpolate(high, size=low.shape[2:], mode="bilinear", align_corners=False)
        return self.head(torch.cat([low, high], dim=1))


def translate(state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """torchvision's tensors as the networks here have them; in place, to keep layer versions."""
    assert isinstance(state, dict)  # read_weights gives one
    for name in [key for key in state if key.startswith("aux_classifier.")]:
        del state[name]
    low, high = ([f"{branch}.{key}" for key in ("weight", "bias")] for branch in BRANCHES)
    if not all(name in state for name in (*low, *high)):
        return state
    weights = [state.pop(low[0]), state.pop(high[0])]  # (classes, channels, 1, 1) each
    biases = [state.pop(low[1]), state.pop(high[1])]
    if len({tensor.shape[:1] for tensor in (*weights, *biases)}) == 1:
        state[f"{LAST}.weight"] = torch.cat([tensor.float() for tensor in weights], dim=1)
        state[f"{LAST}.bias"] = biases[0].float() + biases[1].float()
    return state


def _preprocess(chosen: WeightsEnum) -> Preprocess:
    wanted = chosen.transforms()  # resizes the short side, and crops nothing
    return Preprocess(
        img_size=wanted.resize_size[0],
        crop_pct=1.0,
        mean=tuple(wanted.mean),
        std=tuple(wanted.std),
        interpolation=wanted.interpolation.value,
    )
