"""timm's networks (extra `timm`), with weights through timm."""

from __future__ import annotations

import difflib
import socket
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

from torch import nn

from maskpack.backbones import TIMM_PREFIX
from maskpack.backbones.base import Backbone, find_head, make_backbone, seeded
from maskpack.backbones.weights import fit_weights, read_weights
from maskpack.common.errors import BackboneError, UnknownName
from maskpack.common.preprocess import Preprocess

# Networks whose pretrained form ends in features get a last layer of this width, replaced later.
CLASSES = 1000
HUB_PATIENCE = 10.0  # seconds for the first answer of the hub


def build(name: str, weights: Path | str | None, seed: int, head: str | None) -> Backbone:
    """timm's `name`, with or without its tag: `resnet18`, `resnet18.a1_in1k`."""
    timm = import_timm(f"{TIMM_PREFIX}{name}")
    _check(timm, name)
    with seeded(seed):
        module = _pretrained(timm, name) if weights is None else timm.create_model(name)
        found = head or _head(module, name)
    tag = getattr(module, "pretrained_cfg", {}).get("tag")
    full = f"{TIMM_PREFIX}{name}.{tag}" if tag and "." not in name else f"{TIMM_PREFIX}{name}"
    source = str(getattr(module, "pretrained_cfg", {}).get("hf_hub_id") or "timm")
    if weights == "none":
        full, source = f"{full}/none#{seed}", f"random, seed {seed}"
    elif isinstance(weights, Path):
        module = _from_file(timm, name, module, weights, found)
        source = f"file {weights.name}"
    return make_backbone(full, module, _preprocess(timm, module), found, source)


def _from_file(timm: Any, name: str, module: nn.Module, path: Path, head: str) -> nn.Module:
    """The network with the file's weights, in timm's own names or in those of the first authors."""
    state = read_weights(path)
    try:
        fit_weights(module, state, head, str(path))
    except BackboneError as first:
        overlay = {"state_dict": state}
        try:  # timm translates the files it knows: other names, flattened or extra tensors
            with seeded(0):
                module = timm.create_model(name, pretrained=True, pretrained_cfg_overlay=overlay)
                if isinstance(module.get_submodule(head), nn.Identity):
                    _head(module, name)
        except Exception:  # whatever it ran into, the first error is the one that says something
            raise first from None
        fit_weights(module, module.state_dict(), head, str(path))
    return module


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


def _pretrained(timm: Any, name: str) -> nn.Module:
    """The network with the weights that timm downloads or has in its cache."""
    config = timm.get_pretrained_cfg(name, allow_unregistered=False)
    if config is None or not config.has_weights:
        raise BackboneError(
            f"timm has no pretrained weights for {name!r}; give --weights FILE or --weights none"
        )
    try:
        _refuse_offline(config)
        return timm.create_model(name, pretrained=True)
    except Exception as error:  # the hub's clients raise dozens of unrelated types
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise BackboneError(
            f"weights of {TIMM_PREFIX}{name} could not be fetched ({lines[0]}); download them from "
            f"{_address(config)} elsewhere and give the file with --weights FILE"
        ) from error


def _address(config: Any) -> str:
    """Where timm's description of a weight set says that its file is."""
    if not config.hf_hub_id:
        return str(config.url)
    import huggingface_hub

    return f"{huggingface_hub.constants.ENDPOINT}/{config.hf_hub_id}"


def _refuse_offline(config: Any) -> None:
    """Raise OSError at once where the hub is out of reach; its client would retry for a minute."""
    if not config.hf_hub_id or urllib.request.getproxies():
        return
    import huggingface_hub

    files = ("model.safetensors", "pytorch_model.bin", config.hf_hub_filename)
    for file in filter(None, files):
        if isinstance(huggingface_hub.try_to_load_from_cache(config.hf_hub_id, file), str):
            return
    hub = urllib.parse.urlsplit(huggingface_hub.constants.ENDPOINT)
    port = hub.port or (443 if hub.scheme == "https" else 80)
    socket.create_connection((hub.hostname or "", port), timeout=HUB_PATIENCE).close()


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


def _head(module: Any, name: str) -> str:
    """Dotted name of the classifier as timm states it; made where the network has none."""
    stated = getattr(module, "pretrained_cfg", {}).get("classifier")
    classifier = module.get_classifier() if hasattr(module, "get_classifier") else None
    if isinstance(stated, (tuple, list)) or isinstance(classifier, tuple):
        raise BackboneError(
            f"{TIMM_PREFIX}{name} has several last layers, and one is expected; choose another "
            f"network, or name the layer with --head NAME"
        )
    if classifier is None:
        return find_head(module)
    if not any(isinstance(layer, (nn.Linear, nn.Conv2d)) for layer in classifier.modules()):
        module.reset_classifier(CLASSES)
        classifier = module.get_classifier()
    layers = dict(module.named_modules())
    if isinstance(layers.get(stated or ""), (nn.Linear, nn.Conv2d)):
        return str(stated)
    inside = [key for key, layer in layers.items() if layer is classifier]
    if not inside or isinstance(classifier, (nn.Linear, nn.Conv2d)):
        return inside[0] if inside else find_head(module)
    return f"{inside[0]}.{find_head(classifier)}"  # a small stack of its own: norm, then Linear


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
