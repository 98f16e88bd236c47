"""Scale distillation: the coefficients of a fitted mask, trained to give the fine-tuned logits.

BitDelta (Liu et al., 2024, arXiv:2402.10193, section 3.1): bits, head and norms stay, and only the
few coefficients of each layer move, by the squared difference of the logits on some pictures.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call

from maskpack.common.errors import OptionError
from maskpack.methods.base import Method

STEPS = 200
BATCH = 16
LR = 0.01
EVERY = 10  # steps between two looks at the held-out pictures
HELD_OUT = 5  # every fifth picture
FEWEST = 10
Params = dict[str, Tensor]


@dataclass(frozen=True)
class Distilled:
    """Params by layer, and the held-out loss (mean squared logit difference) before and after."""

    params: dict[str, Params]
    before: float
    after: float


def distill(
    tuned: nn.Module,
    method: Method,
    weights: Mapping[str, Tensor],
    params: Mapping[str, Params],
    pictures: Tensor,  # (count, 3, height, width)
    *,
    steps: int = STEPS,
    lr: float = LR,
    seed: int = 0,
    device: torch.device | str = "cpu",
) -> Distilled:
    """Train the coefficients in `params` so that the masked network's logits are `tuned`'s.

    `weights` are the frozen ones by layer. A coefficient moves in units of what the layer's
    weights changed by, so that one rate suits layers that changed much and little. What is kept
    is the step that was best on every fifth picture, the start included.

    Raises:
        OptionError: too few pictures, or the method has no coefficients.
    """
    if len(pictures) < FEWEST:
        raise OptionError(f"--distill {len(pictures)}: expected {FEWEST} pictures or more")
    tuned = tuned.to(device).to(memory_format=torch.channels_last)
    frozen = {name: _there(weights[name], device) for name in params}
    fixed = {
        name: {key: _there(value, device) for key, value in kept.items()}
        for name, kept in params.items()
    }
    units = _units(tuned, frozen, fixed)
    steps_taken = {key: torch.zeros_like(value, requires_grad=True) for key, value in units.items()}
    if not steps_taken:
        raise OptionError("this fit has no coefficients to distill")

    def moved() -> dict[str, Params]:
        return {
            name: {
                key: value + units[name, key] * steps_taken[name, key]
                if (name, key) in units
                else value
                for key, value in kept.items()
            }
            for name, kept in fixed.items()
        }

    def logits(images: Tensor) -> Tensor:
        effective = {
            name: method.effective_weight(frozen[name], method.mask(kept))
            for name, kept in moved().items()
        }
        out: Tensor = functional_call(tuned, effective, (images,))
        return out

    held = torch.arange(len(pictures)) % HELD_OUT == HELD_OUT - 1
    taught, unseen = pictures[~held], pictures[held]
    targets, unseen_targets = _logits(tuned, taught, device), _logits(tuned, unseen, device)

    @torch.no_grad()
    def unseen_loss() -> float:
        found = torch.cat([logits(_there(part, device)) for part in unseen.split(BATCH)])
        return float((found - unseen_targets).square().mean())

    optimizer = torch.optim.AdamW(steps_taken.values(), lr=lr, weight_decay=0.0)
    first = best = unseen_loss()
    kept = {name: dict(values) for name, values in fixed.items()}
    for step, chosen in zip(range(1, steps + 1), _batches(len(taught), seed), strict=False):
        loss = (logits(_there(taught[chosen], device)) - targets[chosen]).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % EVERY == 0 or step == steps:
            found = unseen_loss()
            if found < best:
                best = found
                with torch.no_grad():
                    kept = moved()
    tuned.cpu().to(memory_format=torch.contiguous_format)
    out = {
        name: {key: value.detach().cpu().contiguous() for key, value in values.items()}
        for name, values in kept.items()
    }
    return Distilled(out, first, best)


def _there(value: Tensor, device: torch.device | str) -> Tensor:
    """A tensor on the device, images and kernels in the order that is quick there."""
    value = value.to(device)
    return value.contiguous(memory_format=torch.channels_last) if value.dim() == 4 else value


def _units(
    tuned: nn.Module, frozen: Mapping[str, Tensor], params: Mapping[str, Params]
) -> dict[tuple[str, str], Tensor]:
    """How far a coefficient goes in one: k1 and k2 the layer's mean |change|, k0 and k3, which
    multiply the weight, that over its mean |weight|."""
    state = tuned.state_dict()
    units = {}
    for name, kept in params.items():
        change = (state[name] - frozen[name]).abs().mean()
        slope = change / frozen[name].abs().mean().clamp(min=1e-12)
        for key, value in kept.items():
            if key in ("k0", "k1", "k2", "k3"):
                unit = change if key in ("k1", "k2") else slope
                units[name, key] = unit.expand_as(value).clone()
    return units


@torch.no_grad()
def _logits(network: nn.Module, pictures: Tensor, device: torch.device | str) -> Tensor:
    return torch.cat([network(_there(part, device)) for part in pictures.split(BATCH)])


def _batches(count: int, seed: int) -> Iterator[Tensor]:
    """Endless batches of indices, every picture once an epoch."""
    generator = torch.Generator().manual_seed(seed)
    for _ in itertools.count():
        yield from torch.randperm(count, generator=generator).split(BATCH)
