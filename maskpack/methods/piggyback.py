"""Piggyback: one bit per weight (Mallya et al., 2018, https://arxiv.org/abs/1801.06519)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Generator, Tensor

from maskpack.backbones.layers import Layer
from maskpack.common.options import check_choice, check_positive
from maskpack.methods.base import (
    Field,
    Mask,
    Method,
    Params,
    Recipe,
    nearest,
)
from maskpack.methods.straight_through import straight_through


@dataclass(frozen=True)
class Piggyback(Method):
    """weight * mask, mask = 1 where score > threshold (paper eq. 1 and 2).

    With `values="ternary"` a mask is 1 above the threshold, -1 below 0, and 0 between. Scores
    start at `init_scale` ("ones"), uniform in +-`init_scale` ("uniform"), or at the layer's mean
    |weight| ("weight-based"). `gradient_scaling` divides the scores' gradient by the layer's mean
    |weight| ("average") or by each |weight| ("individual"; where a weight is 0 the gradient,
    which is 0 there, stays 0).
    """

    values: str = "binary"
    threshold: float = 5e-3
    init: str = "ones"
    init_scale: float = 1e-2
    gradient_scaling: str = "none"

    name: ClassVar[str] = "piggyback"
    recipe: ClassVar[Recipe] = Recipe(opt="adam", lr=1e-4, decay_epochs=15)

    def __post_init__(self) -> None:
        check_choice("values", self.values, ("binary", "ternary"))
        check_choice("init", self.init, ("ones", "uniform", "weight-based"))
        check_choice("gradient_scaling", self.gradient_scaling, ("none", "average", "individual"))
        if self.init == "uniform":
            check_positive("init_scale", self.init_scale)

    @property
    def stores(self) -> Mapping[str, Field]:
        if self.values == "ternary":
            return {"mask": Field("bits"), "negative": Field("bits")}
        return {"mask": Field("bits")}

    def init_params(self, weight: Tensor, layer: Layer, generator: Generator) -> dict[str, Tensor]:
        scores = torch.empty_like(weight)
        if self.init == "uniform":
            scores.uniform_(-self.init_scale, self.init_scale, generator=generator)
        elif self.init == "weight-based":
            scores.fill_(float(weight.abs().mean()))
        else:
            scores.fill_(self.init_scale)
        return {"scores": scores}

    def mask(self, params: Params, training: bool = False) -> dict[str, Tensor]:
        scores = params["scores"]
        if self.values == "binary":
            return {"mask": straight_through(scores > self.threshold, scores)}
        negative = scores < 0
        # mask - 2 * negative is the ternary value; its gradient reaches the scores once
        kept = straight_through((scores > self.threshold) | negative, scores)
        return {"mask": kept, "negative": negative.to(scores.dtype)}

    def effective_weight(self, weight: Tensor, mask: Mask) -> Tensor:
        bits = mask["mask"].to(weight.dtype)
        if self.values == "ternary":
            bits = bits - 2 * mask["negative"].to(weight.dtype)
        if self.gradient_scaling != "none" and bits.requires_grad:
            bits = _scale_gradient(bits, weight, self.gradient_scaling)
        return weight * bits

    def distance_to_flip(self, params: Params) -> float:
        zero = (0.0,) if self.values == "ternary" else ()
        return nearest(params["scores"], self.threshold, *zero)

    def confine(self, params: Params) -> None:
        if self.init != "weight-based":  # where every layer begins elsewhere
            params["scores"].clamp_(max=max(self.init_scale, self.threshold))


class _DivideGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, bits: Tensor, divisor: Tensor) -> Tensor:
        ctx.save_for_backward(divisor)
        return bits.view_as(bits)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (divisor,) = ctx.saved_tensors
        # a divisor of 0 is a weight of 0, whose score has no gradient to scale
        return torch.where(divisor == 0, 0.0, gradients[0] / divisor), None


def _scale_gradient(bits: Tensor, weight: Tensor, scaling: str) -> Tensor:
    size = weight.detach().abs()
    result: Tensor = _DivideGradient.apply(bits, size.mean() if scaling == "average" else size)
    return result
