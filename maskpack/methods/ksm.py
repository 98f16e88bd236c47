"""KSM: kernel-wise soft masks (Yang et al., 2021, https://arxiv.org/abs/2009.05668)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

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
from maskpack.methods.straight_through import sigmoid_gradient, straight_through

LEVELS = 510  # a u8 coefficient q stands for q / 510, so 0 ... 255 spans [0, 0.5]


@dataclass(frozen=True)
class KSM(Method):
    """weight * (mask + scale): mask = 1 where score >= threshold, elsewhere scale in [0, 0.5].

    One score per kernel (out, in, 1, 1), per element, or per output channel. Weights without
    spatial dimensions have one element per kernel, so "kernel" means "element" there. `soft`
    False leaves the scale at 0. The gradient of a bit is that of the softmax of eq. 6 and 8,
    which compose to sigmoid(sharpness * (score - threshold) / temperature), or straight-through
    ("ste"). `gumbel` adds Gumbel noise to the two logits while training.
    """

    granularity: str = "kernel"
    soft: bool = True
    gradient: str = "softmax"
    gumbel: bool = False
    coefficients: str = "fp32"
    threshold: float = 5e-3
    init_scale: float = 1e-2
    sharpness: float = 1200.0
    temperature: float = 100.0

    name: ClassVar[str] = "ksm"
    # the paper's text gives 1e-4 with steps; its published code trains as below
    recipe: ClassVar[Recipe] = Recipe(opt="adam", lr=2e-4, sched="cosine")
    norms: ClassVar[str] = "task"

    def __post_init__(self) -> None:
        check_choice("granularity", self.granularity, ("kernel", "element", "channel"))
        check_choice("gradient", self.gradient, ("softmax", "ste"))
        check_choice("coefficients", self.coefficients, ("fp32", "fp16", "u8"))
        check_positive("sharpness", self.sharpness)
        check_positive("temperature", self.temperature)

    @property
    def stores(self) -> Mapping[str, Field]:
        if not self.soft:
            return {"mask": Field("bits")}
        dtype = {"fp32": "f32", "fp16": "f16", "u8": "u8"}[self.coefficients]
        return {"mask": Field("bits"), "scale": Field(dtype, zeros_of="mask")}

    def init_params(self, weight: Tensor, layer: Layer, generator: Generator) -> dict[str, Tensor]:
        shape = list(weight.shape)
        if self.granularity == "kernel":
            shape[2:] = [1] * len(shape[2:])
        elif self.granularity == "channel":
            shape = [n if i == layer.channel else 1 for i, n in enumerate(shape)]
        return {"scores": torch.full(shape, self.init_scale, dtype=weight.dtype)}

    def mask(self, params: Params, training: bool = False) -> dict[str, Tensor]:
        scores = params["scores"]
        noisy = scores
        if self.gumbel and training:  # on the logits sharpness * (score - threshold)
            noisy = scores + _gumbel_difference(scores) / self.sharpness
        hard = noisy >= self.threshold
        if self.gradient == "softmax":
            steepness = self.sharpness / self.temperature
            bits = sigmoid_gradient(hard, noisy, self.threshold, steepness)
        else:
            bits = straight_through(hard, scores)
        if not self.soft:
            return {"mask": bits}
        return {"mask": bits, "scale": self._scale(scores.detach(), hard)}

    def effective_weight(self, weight: Tensor, mask: Mask) -> Tensor:
        bits = mask["mask"].to(weight.dtype)
        if "scale" in mask:
            scale = mask["scale"].to(weight.dtype)
            bits = bits + (scale / LEVELS if self.coefficients == "u8" else scale)
        return weight * bits

    def distance_to_flip(self, params: Params) -> float:
        return nearest(params["scores"], self.threshold)

    def confine(self, params: Params) -> None:
        params["scores"].clamp_(max=max(self.init_scale, self.threshold))

    def _scale(self, scores: Tensor, hard: Tensor) -> Tensor:
        """Scaling coefficients of the zeros (eq. 5), as their stored type keeps them.

        As in the published code the range is taken over the whole layer, kept positions counting
        as 0; a score of exactly 0 keeps the coefficient 0, and half the range is used.
        """
        off = scores.masked_fill(hard, 0.0)
        if not off.numel():
            return off
        low, high = torch.aminmax(off)
        # where every score is off and equal the published code divides 0 by 0; here it gives 0
        span = (high - low).clamp_min(torch.finfo(off.dtype).tiny)
        scale = torch.sub(off, low).div_(span).mul_(0.5).masked_fill_(off == 0, 0.0)
        if self.coefficients == "u8":
            return torch.round(scale * LEVELS).to(torch.uint8)
        return scale.half() if self.coefficients == "fp16" else scale


def _gumbel_difference(like: Tensor) -> Tensor:
    """Difference of two standard Gumbel variables, which is a standard logistic one."""
    uniform = torch.rand_like(like).clamp(1e-7, 1 - 1e-7)
    return torch.log(uniform) - torch.log1p(-uniform)
