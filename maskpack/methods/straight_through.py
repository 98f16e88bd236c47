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


class _SigmoidSlope(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, hard: Tensor, scores: Tensor, threshold: float, sharpness: float
    ) -> Tensor:
        ctx.save_for_backward(scores)
        ctx.threshold, ctx.sharpness = threshold, sharpness
        return hard.to(scores.dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, Tensor, None, None]:
        (scores,) = ctx.saved_tensors
        p = torch.sub(scores, ctx.threshold).mul_(ctx.sharpness).sigmoid_()
        slope = torch.addcmul(p, p, p, value=-1).mul_(ctx.sharpness)  # in place: few passes
        return None, slope.mul_(gradients[0]), None, None


def sigmoid_gradient(hard: Tensor, scores: Tensor, threshold: float, sharpness: float) -> Tensor:
    """The value of `hard`, the gradient of sigmoid(sharpness * (scores - threshold)).

    The sigmoid is computed only where its gradient is wanted.
    """
    result: Tensor = _SigmoidSlope.apply(hard, scores, threshold, sharpness)
    return result


def straight_through(hard: Tensor, soft: Tensor) -> Tensor:
    """The value of `hard`, the gradient of `soft` (Bengio et al. 2013, arXiv:1308.3432).

    `hard` is boolean, `soft` float, of the same shape. The value is exactly 0 or 1.
    """
    result: Tensor = _StraightThrough.apply(hard, soft)
    return result
