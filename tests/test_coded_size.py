"""The expected coded size: its value is the entropy, its gradient the price of a bit."""

from __future__ import annotations

import math

import pytest
import torch

from maskpack.methods.base import Field
from maskpack.training.size_penalty import LEAST_SHARE, coded_size

BITS = {"mask": Field("bits")}


def mask_of(ones: int, count: int) -> torch.Tensor:
    return (torch.arange(count) < ones).float().requires_grad_()


def entropy(ones: float, count: int) -> float:
    return sum(-n * math.log2(n / count) for n in (ones, count - ones) if n)


def test_the_value_is_the_entropy_of_each_layer() -> None:
    masks = {"a": {"mask": mask_of(12, 16)}, "b": {"mask": mask_of(50, 100)}}
    size = coded_size(masks, BITS)
    assert float(size.detach()) == pytest.approx(16 * 0.8112781 + 100, rel=1e-5)


def test_the_gradient_is_the_derivative_of_the_entropy() -> None:
    mask = mask_of(12, 16)
    coded_size({"a": {"mask": mask}}, BITS).backward()
    step = 1e-4
    slope = (entropy(12 + step, 16) - entropy(12 - step, 16)) / (2 * step)
    assert mask.grad is not None
    assert torch.allclose(mask.grad, torch.full((16,), slope), rtol=1e-4)
    assert slope == pytest.approx(-math.log2(3))  # one bit more that is 1 makes zeros rarer


@pytest.mark.parametrize(("ones", "sign"), [(1000, -1), (0, 1)])
def test_the_first_bit_to_flip_has_a_finite_price(ones: int, sign: int) -> None:
    mask = mask_of(ones, 1000)
    size = coded_size({"a": {"mask": mask}}, BITS)
    size.backward()
    price = math.log2((1 - LEAST_SHARE) / LEAST_SHARE)
    assert float(size.detach()) == 0
    assert mask.grad is not None
    assert mask.grad.tolist() == pytest.approx([sign * price] * 1000)


def test_values_kept_at_zeros_are_counted() -> None:
    stores = {"mask": Field("bits"), "scale": Field("f16", zeros_of="mask")}
    mask = mask_of(8, 16)
    size = coded_size({"a": {"mask": mask, "scale": torch.zeros(16)}}, stores)
    size.backward()
    assert float(size.detach()) == 16 + 8 * 16
    assert mask.grad is not None
    assert mask.grad.tolist() == [-16.0] * 16  # half ones: the bit itself has no price


def test_nothing_masked_takes_nothing() -> None:
    assert float(coded_size({}, BITS)) == 0
    assert float(coded_size({"a": {"mask": torch.zeros(0, 3)}}, BITS)) == 0
