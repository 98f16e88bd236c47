"""Scores -> {0, 1}, with a gradient."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class _StraightThrough(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hard: Tensor, soft: Tensor) -> Tensor:
        return hard.to(soft.dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, Tensor]:
        return None, gradients[0]


def straight_through(hard: Tensor, soft: Tensor) -> Tensor:
    """The value of `hard`, the gradient of `soft` (Bengio et al. 2013, arXiv:1308.3432).

    `hard` is boolean, `soft` float, of the same shape. The value is exactly 0 or 1.
    """
    result: Tensor = _StraightThrough.apply(hard, soft)
    return result
