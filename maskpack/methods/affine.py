"""Affine transformations with binary masks (Mancini et al., 2018, arXiv:1805.11119)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Generator, Tensor

from maskpack.backbones.layers import Layer
from maskpack.common.errors import OptionError
from maskpack.common.options import check_choice
from maskpack.methods.base import Field, Mask, Method, Params, Recipe, nearest
from maskpack.methods.straight_through import straight_through

LEARNED = "learned"
AUTO = "auto"
START = {"k0": 1.0, "k1": 0.0, "k2": 0.0, "k3": 0.0}  # the backbone's own weight


@dataclass(frozen=True)
class Affine(Method):
    """k0 * weight + k1 + k2 * mask + k3 * weight * mask (paper eq. 2), mask = 1 where score > 0.

    `form="simple"` is eq. 3: k3 is 0. Each k is "learned" or a fixed number; k0="auto" is 1 where
    a norm follows the layer (its output's scale is lost there) and learned elsewhere. There is one
    k per layer or per output channel. The gradient of a bit is straight-through ("identity") or
    that of the sigmoid. Scores start uniform in [init_low, init_high], all bits 1, as in the paper.

    With `init="zeros"`, which is not the paper's, all bits start at 0 (scores are those values
    negated) and k3 at -1. A bit that flips takes its weight away, as in Piggyback, until k2 and k3
    learn better; and ones stay rare, so that the mask can be coded.
    """

    form: str = "full"
    granularity: str = "layer"
    surrogate: str = "identity"
    k0: str | float = AUTO
    k1: str | float = LEARNED
    k2: str | float = LEARNED
    k3: str | float = LEARNED
    init: str = "ones"
    init_low: float = 1e-4
    init_high: float = 2e-4

    name: ClassVar[str] = "affine"
    recipe: ClassVar[Recipe] = Recipe(
        opt="adam", lr=1e-4, head_opt="sgd", head_lr=1e-3, momentum=0.9, decay_epochs=15
    )
    norms: ClassVar[str] = "task"

    def __post_init__(self) -> None:
        check_choice("form", self.form, ("full", "simple"))
        check_choice("granularity", self.granularity, ("layer", "channel"))
        check_choice("init", self.init, ("ones", "zeros"))
        check_choice("surrogate", self.surrogate, ("identity", "sigmoid"))
        for key in START:
            value = getattr(self, key)
            words = (LEARNED, AUTO) if key == "k0" else (LEARNED,)
            if isinstance(value, str) and value not in words:
                raise OptionError(f"{key}={value!r}: expected {' or '.join(words)} or a number")
        if self.init_low > self.init_high:
            raise OptionError(f"init_low={self.init_low!r}: expected at most init_high")
        if self.init == "zeros" and (self.form == "simple" or self.k3 in (0, 0.0)):
            raise OptionError("init='zeros' needs k3: without it no bit would ever get a gradient")
        if self.form == "simple" and self.k3 not in (LEARNED, 0, 0.0):
            raise OptionError(f"form='simple' has no k3, found k3={self.k3!r}; use form='full'")

    @property
    def stores(self) -> Mapping[str, Field]:
        return {"mask": Field("bits")} | {key: Field("f32") for key in START}

    def init_params(self, weight: Tensor, layer: Layer, generator: Generator) -> dict[str, Tensor]:
        scores = torch.empty_like(weight)
        scores.uniform_(self.init_low, self.init_high, generator=generator)
        if self.init == "zeros":
            scores.neg_()
        shape = [1] * weight.dim()
        if self.granularity == "channel" and shape:
            shape[layer.channel] = weight.shape[layer.channel]
        params = {"scores": scores}
        for key in START:
            if self._learned(key, layer):
                params[key] = torch.full(shape, self._start(key), dtype=weight.dtype)
        return params

    def mask(self, params: Params, training: bool = False) -> dict[str, Tensor]:
        scores = params["scores"]
        soft = torch.sigmoid(scores) if self.surrogate == "sigmoid" else scores
        learned = {key: params[key] for key in START if key in params}
        return {"mask": straight_through(scores > 0, soft)} | learned

    def effective_weight(self, weight: Tensor, mask: Mask) -> Tensor:
        bits = mask["mask"].to(weight.dtype)
        k0, k1, k2, k3 = (mask[key] if key in mask else self._fixed(key) for key in START)
        # eq. 2 with the mask factored out: fewer passes over the weight, forward and backward
        gated = _line(weight, k3, k2)  # k3 * weight + k2
        plain = _line(weight, k0, k1)
        if gated is None:
            return torch.zeros_like(weight) if plain is None else plain
        return bits * gated if plain is None else torch.addcmul(plain, bits, gated)

    def distance_to_flip(self, params: Params) -> float:
        return nearest(params["scores"], 0.0)

    def confine(self, params: Params) -> None:
        if self.init == "zeros":  # from ones they start a step from the threshold, and must go on
            params["scores"].clamp_(min=-self.init_high)

    def _start(self, key: str) -> float:
        return -1.0 if key == "k3" and self.init == "zeros" else START[key]

    def _fixed(self, key: str) -> float:
        value = getattr(self, key)
        if key == "k3" and self.form == "simple":
            return 0.0
        return self._start(key) if isinstance(value, str) else float(value)

    def _learned(self, key: str, layer: Layer) -> bool:
        value = getattr(self, key)
        if key == "k3" and self.form == "simple":
            return False
        return value == LEARNED or (value == AUTO and not layer.normed)


def _line(weight: Tensor, slope: Tensor | float, offset: Tensor | float) -> Tensor | None:
    """slope * weight + offset; None where both are fixed at 0.

    Terms fixed at 0 and factors fixed at 1 are left out, so that Piggyback's weight * mask is
    computed as just that.
    """
    if isinstance(slope, float) and slope == 0:
        if isinstance(offset, float) and offset == 0:
            return None
        return torch.zeros_like(weight) + offset
    line = weight if isinstance(slope, float) and slope == 1 else weight * slope
    return line if isinstance(offset, float) and offset == 0 else line + offset
