"""timm's networks (extra `timm`), with weights through timm."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any

from torch import nn

from maskpack.backbones import TIMM_PREFIX
from maskpack.backbones.base import Backbone, find_head, make_backbone, seeded
from maskpack.backbones.weights import fit_weights, read_weights
from maskpack.errors import BackboneError, UnknownName
from maskpack.preprocess import Preprocess

# Networks whose pretrained form ends in features get a last layer of this width, replaced later.
CLASSES = 1000


def build(name: str, weights: Path | str | None, seed: int, head: str | None) -> Backbone:
    """timm's `name`, with or without its tag: `resnet18`, `resnet18.a1_in1k`."""
    timm = import_timm(f"{TIMM_PREFIX}{name}")
    _check(timm, name)
    pretrained = weights is None
    if pretrained and not timm.models.is_model_pretrained(name):
        raise BackboneError(
            f"timm has no pretrained weights for {name!r}; give --weights FILE or --weights none"
        )
    try:
        with seeded(seed):
            module: nn.Module = timm.create_model(name, pretrained=pretrained)
            found = _head(module, name) if head is None else head
    except BackboneError:
        raise
    except Exception as error:  # the hub's clients raise dozens of unrelated types
        where = (getattr(module_config(timm, name), "hf_hub_id", None) or "its hub").strip()
        reason = str(error).strip().splitlines()[0] if str(error).strip() else ""
        raise BackboneError(
            f"weights of {TIMM_PREFIX}{name} could not be fetched from {where} "
            f"({type(error).__name__}: {reason}); download the model's file elsewhere and give it "
            f"with --weights FILE"
        ) from error
    tag = getattr(module, "pretrained_cfg", {}).get("tag")
    full = f"{name}.{tag}" if tag and "." not in name else name
    if weights == "none":
        full = f"{full}/none#{seed}"
    elif isinstance(weights, Path):
        fit_weights(module, read_weights(weights), found, str(weights))
    return make_backbone(f"{TIMM_PREFIX}{full}", module, _preprocess(timm, module), found)


def import_timm(what: str) -> Any:
    """timm, or one line that says how to get it."""
    try:
        import timm
        import timm.data
    except ImportError as error:
        raise BackboneError(
            f"{what} needs timm, which is not installed; pip install 'maskpack[timm]'"
        ) from error
    return timm


def module_config(timm: Any, name: str) -> Any:
    """timm's description of a pretrained network, or None."""
    return timm.get_pretrained_cfg(name, allow_unregistered=False)


def _check(timm: Any, name: str) -> None:
    """Raise for a network, or a tag of it, that timm does not have."""
    arch, _, tag = name.partition(".")
    if not timm.is_model(arch):
        everything = timm.list_models()
        near = difflib.get_close_matches(arch.lower(), everything, n=8, cutoff=0.5)
        raise UnknownName(
            "timm model",
            arch,
            near or ["resnet18", "vit_tiny_patch16_224"],
            f"and {len(everything) - len(near)} more: see timm.list_models()",
        )
    if tag:
        tags = [full.partition(".")[2] for full in timm.list_pretrained(f"{arch}.*")]
        if tag not in tags:
            raise UnknownName(f"weight set of {TIMM_PREFIX}{arch}", tag, tags)


def _head(module: nn.Module, name: str) -> str:
    """Dotted name of the classifier as timm states it; made where the network has none."""
    stated = getattr(module, "pretrained_cfg", {}).get("classifier")
    if isinstance(stated, (tuple, list)):
        raise BackboneError(
            f"{TIMM_PREFIX}{name} has {len(stated)} last layers ({', '.join(stated)}), and one is "
            f"expected; choose a variant without distillation"
        )
    if isinstance(module.get_classifier(), nn.Identity):  # type: ignore[operator]
        module.reset_classifier(CLASSES)  # type: ignore[operator]
    classifier = module.get_classifier()  # type: ignore[operator]
    found = [key for key, layer in module.named_modules() if layer is classifier]
    return found[0] if found else stated or find_head(module)


def _preprocess(timm: Any, module: nn.Module) -> Preprocess:
    wanted = timm.data.resolve_model_data_config(module)
    mode = wanted["interpolation"]
    return Preprocess(
        img_size=wanted["input_size"][-1],
        crop_pct=wanted["crop_pct"],
        mean=tuple(wanted["mean"]),
        std=tuple(wanted["std"]),
        interpolation=mode if mode in ("bilinear", "bicubic", "nearest") else "bicubic",
    )
