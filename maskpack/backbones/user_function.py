"""Your own network: `module:function`, a callable without arguments that returns an nn.Module.

Its attributes `preprocess` and `parts`, where it has them, are those of the Backbone.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from pathlib import Path

from torch import nn

from maskpack.backbones.base import Backbone, find_head, make_backbone, seeded
from maskpack.backbones.weights import fit_weights, read_weights
from maskpack.common.errors import BackboneError, UnknownName
from maskpack.common.preprocess import Preprocess
from maskpack.common.user_code import current_folder


def build(name: str, weights: Path | str | None, seed: int, head: str | None) -> Backbone:
    """Call `module:function` and take what it returns, or give that the weights of a file.

    Without weights asked for, the network is what the callable makes of random numbers seeded
    with 0, so that the name alone opens the same one again; "none" takes `seed` instead.
    """
    module_name, _, attribute = name.partition(":")
    with current_folder():
        function = _find(module_name, attribute)
        with seeded(seed if weights == "none" else 0):
            network = _call(name, function)
    preprocess = _preprocess(name, function)
    parts = check_parts(name, network, getattr(function, "parts", None))
    source = f"built by {name}"
    if weights == "none":
        name, source = f"{name}/none#{seed}", f"random, seed {seed}"
    elif isinstance(weights, Path):
        fit_weights(network, read_weights(weights), head or find_head(network), str(weights))
        source = f"file {weights.name}"
    return make_backbone(name, network, preprocess, head, source, parts)


def _find(module_name: str, attribute: str) -> Callable[[], object]:
    where = f"backbone '{module_name}:{attribute}'"
    try:
        module = importlib.import_module(module_name)
    except Exception as error:  # a user's module can raise anything while it is imported
        absent = error.name if isinstance(error, ModuleNotFoundError) else None
        if absent and f"{module_name}.".startswith(f"{absent}."):
            raise BackboneError(
                f"{where}: no module {absent!r} in the current folder or installed"
            ) from error
        raise BackboneError(f"{where}: importing {module_name} {_raised(error)}") from error
    found: object = module
    for part in attribute.split("."):
        if not hasattr(found, part):
            public = [key for key in vars(module) if not key.startswith("_")]
            own = [key for key in public if callable(getattr(module, key))]
            raise UnknownName(f"function of {module_name}", attribute, own)
        found = getattr(found, part)
    if not callable(found):
        raise BackboneError(
            f"{where}: {attribute} is a {type(found).__name__}, and a function that returns an "
            f"nn.Module is expected"
        )
    return found


def _call(name: str, function: Callable[[], object]) -> nn.Module:
    try:
        network = function()
    except Exception as error:  # and so can the function
        raise BackboneError(
            f"backbone {name!r}: calling it without arguments {_raised(error)}"
        ) from error
    if not isinstance(network, nn.Module):
        raise BackboneError(
            f"backbone {name!r}: returned a {type(network).__name__}, and an nn.Module is expected"
        )
    return network


def _preprocess(name: str, function: object) -> Preprocess:
    """The callable's attribute `preprocess` (a Preprocess, or its fields), ImageNet's without."""
    wanted = getattr(function, "preprocess", None)
    if wanted is None:
        return Preprocess()
    if isinstance(wanted, Preprocess):
        return wanted
    if isinstance(wanted, Mapping):
        try:
            return Preprocess(**wanted)
        except TypeError as error:
            raise BackboneError(f"backbone {name!r}: its preprocess {_raised(error)}") from error
    raise BackboneError(
        f"backbone {name!r}: its preprocess is a {type(wanted).__name__}, and a Preprocess or a "
        f"dict of its fields is expected"
    )


def check_parts(name: str, network: nn.Module, parts: object) -> dict[str, tuple[str, ...]]:
    """A user's `Backbone.parts`; raise BackboneError unless they name modules of the network."""
    if parts is None:
        return {}
    if not isinstance(parts, Mapping) or not all(
        isinstance(part, str) and isinstance(modules, (tuple, list))
        for part, modules in parts.items()
    ):
        raise BackboneError(
            f"backbone {name!r}: its parts are {parts!r}, and a dict of tuples of module names is "
            f'expected: {{"encoder": ("down",), "decoder": ("up",)}}'
        )
    known = dict(network.named_modules())
    for part, modules in parts.items():
        for module in modules:
            if not module or module not in known:
                raise BackboneError(
                    f"backbone {name!r}: its part {part!r} names {module!r}, and the modules are "
                    f"{', '.join(key for key, _ in network.named_children())}"
                )
    return {part: tuple(modules) for part, modules in parts.items()}


def _raised(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"raised {type(error).__name__}" + (f": {lines[0]}" if lines else "")
