"""TALL masks: which part of several tasks' merged difference is this task's (Wang et al., 2024,
arXiv:2405.07813)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Generator, Tensor

from maskpack.backbones.layers import Layer
from maskpack.common.errors import OptionError
from maskpack.methods.base import Field, Mask, Method, Params


@dataclass(frozen=True)
class Tall(Method):
    """weight + mask * delta, delta being the sum of all tasks' differences (paper eq. 5).

    It is fitted to fine-tuned networks, not trained. Every task of a file keeps the same delta,
    which the file holds once.
    """

    name: ClassVar[str] = "tall"

    @property
    def stores(self) -> Mapping[str, Field]:
        return {"mask": Field("bits"), "delta": Field("f16")}

    def init_params(self, weight: Tensor, layer: Layer, generator: Generator) -> dict[str, Tensor]:
        raise OptionError(
            "tall is fitted to two or more fine-tuned networks, not trained; "
            "maskpack pack --fit tall --from-checkpoint FILE --from-checkpoint FILE"
        )

    def mask(self, params: Params, training: bool = False) -> dict[str, Tensor]:
        return {"mask": params["mask"], "delta": _half(params["delta"])}

    def effective_weight(self, weight: Tensor, mask: Mask) -> Tensor:
        return weight + mask["mask"].to(weight.dtype) * mask["delta"].to(weight.dtype)


def _half(values: Tensor) -> Tensor:
    """The nearest values that float16 holds, in the type they came in."""
    rounded = values.to(torch.float16).to(values.dtype)
    if not rounded.isfinite().all():
        raise OptionError(
            "a weight changed by more than float16 holds (65504); tall cannot keep it"
        )
    return rounded
