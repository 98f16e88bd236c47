"""Feature maps out of any convolutional classifier, without knowing its layers' names."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from maskpack.common.errors import BackboneError

DEEPEST = 5  # a map of 1/32 of the picture's size
SMALLEST = 64  # pixels a side of the example: at less, 1/32 would look like pooled features
# Of a network's layers, at least this share must lie before the last map. A vision transformer
# has one map, its patches, and everything after it; AlexNet and LeNet have half before it.
LEAST = 0.25

_ADAPTIVE = (nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d)  # their size is not the picture's
# What such a module returns may be an attention matrix, (batch, heads, tokens, tokens).
_ATTENDING = (nn.Softmax, nn.Dropout, nn.Identity)


@dataclass(frozen=True)
class Tap:
    """What one call of a module returns: a map of 1 / 2**level of the picture's size."""

    level: int
    module: str  # dotted name; "" is the network itself
    call: int  # which of its calls in one pass, from 0: a shared ReLU is called many times
    channels: int


class _Reached(Exception):
    """The last map is there: what follows in the network is not wanted."""


def cut_to_taps(network: nn.Module, head: str, size: int, name: str) -> list[Tap]:
    """The last map of each size, shallowest first; the layers after the last of them are dropped.

    One example of `size` pixels a side is run. For each of 1/2 to 1/32 of it, the map is that of
    the last module before the head whose output is (batch, channels, h, w) of that size, among
    those with the fewest dots in their names: a stage or block rather than a layer inside the next
    one, which may have widened the map already (inverted residuals do). Modules
    with parameters that first run after the last map (VGG's fc6 and fc7, the head) are replaced by
    nn.Identity, in place.

    Raises:
        BackboneError: no such maps, a size between others is missing, or most of the network comes
            after them.
    """
    before = [module for module in network.modules() if _own(module)]
    taps, later = _traced(network, head, size, name)
    for dotted in later:
        parent, _, leaf = dotted.rpartition(".")
        setattr(network.get_submodule(parent), leaf, nn.Identity())
    kept = [module for module in network.modules() if _own(module)]
    levels = [tap.level for tap in taps]
    # a Swin transformer has one at its start and one at its end, and none between
    together = bool(levels) and levels == list(range(levels[0], levels[-1] + 1))
    if not together or len(kept) < LEAST * len(before):
        raise BackboneError(
            f"{name} has no maps of (batch, channels, height, width) from its first layers to its "
            f"last, as a decoder needs (transformers keep them in another form); choose a "
            f"convolutional network"
        )
    return taps


def features(network: nn.Module, taps: Sequence[Tap], x: Tensor) -> list[Tensor]:
    """The maps of `taps` for pictures (batch, 3, h, w), in the same order.

    The hooks live for this call only: nothing of them is copied, saved or hashed.
    """
    wanted = {(tap.module, tap.call) for tap in taps}
    found: dict[tuple[str, int], Tensor] = {}
    calls: Counter[str] = Counter()

    def watch(name: str) -> None:
        def after(_: nn.Module, __: object, output: Tensor) -> None:
            key = (name, calls[name])
            calls[name] += 1
            if key in wanted:
                found[key] = output
            if len(found) == len(wanted):
                raise _Reached

        hooks.append(network.get_submodule(name).register_forward_hook(after))

    hooks: list[torch.utils.hooks.RemovableHandle] = []
    try:
        for name in dict.fromkeys(tap.module for tap in taps):
            watch(name)
        network(x)
    except _Reached:
        pass
    finally:
        for hook in hooks:
            hook.remove()
    missing = [tap.module for tap in taps if (tap.module, tap.call) not in found]
    if missing:
        raise BackboneError(
            f"{missing[0]} of the encoder did not run; a decoder needs a network that does the "
            f"same at each pass"
        )
    return [found[tap.module, tap.call] for tap in taps]


def _traced(network: nn.Module, head: str, size: int, name: str) -> tuple[list[Tap], list[str]]:
    """The taps, and the names of the modules to drop."""
    sizes = [size] if size >= SMALLEST else [SMALLEST, size]
    for attempt in sizes:
        try:
            return _trace(network, head, attempt)
        except Exception as error:  # somebody else's network, which may raise anything
            failed = error
    first = (str(failed).splitlines() or [type(failed).__name__])[0]
    raise BackboneError(
        f"{name} does not run on 3 x {size} x {size} pictures ({first}), so its maps cannot be "
        f"found; choose another network"
    ) from failed


@torch.no_grad()
def _trace(network: nn.Module, head: str, size: int) -> tuple[list[Tap], list[str]]:
    clock = 0
    started: dict[str, int] = {}  # by module, when it first began; in order
    taps: dict[int, tuple[int, Tap]] = {}  # by level: when, what
    calls: Counter[str] = Counter()
    pooled: list[Tensor] = []

    def watch(name: str, module: nn.Module) -> None:
        def begins(_: nn.Module, __: object) -> None:
            nonlocal clock
            clock += 1
            started.setdefault(name, clock)

        def ends(_: nn.Module, __: object, output: object) -> None:
            nonlocal clock
            clock += 1
            call = calls[name]
            calls[name] += 1
            if head in started or isinstance(module, _ATTENDING):
                return  # SqueezeNet's head makes maps as well: those of its classes
            if not isinstance(output, Tensor) or output.ndim != 4:
                return
            if isinstance(module, _ADAPTIVE):
                pooled.append(output)
            level = _level(output, size)
            # a container returns the very tensor that its last module returned
            if level is None or any(output is other for other in pooled):
                return
            if level in taps and name.count(".") > taps[level][1].module.count("."):
                return
            taps[level] = (clock, Tap(level, name, call, output.shape[1]))

        hooks.append(module.register_forward_pre_hook(begins))
        hooks.append(module.register_forward_hook(ends))

    hooks: list[torch.utils.hooks.RemovableHandle] = []
    try:
        for name, module in network.named_modules():
            watch(name, module)
        network(torch.zeros(1, 3, size, size))
    finally:
        for hook in hooks:
            hook.remove()
    last = max((when for when, _ in taps.values()), default=0)
    modules = dict(network.named_modules())
    later: list[str] = []
    for name, when in started.items():  # a module begins before those inside it
        inside = any(name.startswith(f"{other}.") for other in later)
        if when > last and not inside and next(modules[name].parameters(), None) is not None:
            later.append(name)
    return [tap for _, (_, tap) in sorted(taps.items())], later


def _level(output: Tensor, size: int) -> int | None:
    """n where a map has about 1 / 2**n of the picture's side, as padding or its lack make it."""
    height, width = output.shape[2:]
    if height != width or not 1 < height < size:
        return None
    level = round(math.log2(size / height))
    return level if 1 <= level <= DEEPEST else None


def _own(module: nn.Module) -> bool:
    return next(module.parameters(recurse=False), None) is not None
