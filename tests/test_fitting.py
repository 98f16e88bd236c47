"""Fits: worked numbers, and the least squared error of their kind."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from maskpack import methods
from maskpack.backbones.layers import Layer
from maskpack.common.errors import OptionError, UnknownName
from maskpack.methods.base import Method
from maskpack.packing.convert import fit as fitting

SHAPES = [(6, 5, 3, 3), (7, 9), (4, 1, 3, 3), (8,), ()]


def pair(shape: tuple[int, ...], seed: int = 0, by: float = 0.1) -> tuple[Tensor, Tensor]:
    """A weight and what training made of it."""
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(shape, generator=generator)
    return weight, weight + by * torch.randn(shape, generator=generator) ** 3


def layer(shape: tuple[int, ...], channel: int = 0) -> Layer:
    return Layer("w", shape, "conv", channel if shape else 0)


def effective(method: Method, weight: Tensor, params: fitting.Params) -> Tensor:
    return method.effective_weight(weight, method.mask(params))


# ---- BitDelta


def test_bitdelta_by_hand() -> None:
    weight = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    tuned = torch.tensor([[1.5, 1.0], [3.0, 4.5]])  # differences .5 -1 0 .5, mean |difference| .5
    params = fitting.sign_of_difference(weight, tuned, layer((2, 2)))
    mask = fitting.method_of("bitdelta").mask(params)
    assert mask["mask"].tolist() == [[1, 0], [0, 1]]
    assert set(mask) == {"mask", "k1", "k2"}
    assert (mask["k1"].tolist(), mask["k2"].tolist()) == ([[-0.5]], [[1.0]])
    found = effective(fitting.method_of("bitdelta"), weight, params)
    assert found.tolist() == [[1.5, 1.5], [2.5, 4.5]]


def test_bitdelta_per_channel_has_a_scale_for_each() -> None:
    weight, tuned = torch.zeros(2, 2), torch.tensor([[1.0, -3.0], [0.5, 0.5]])
    params = fitting.sign_of_difference(weight, tuned, layer((2, 2)), "channel")
    assert params["k1"].tolist() == [[-2.0], [-0.5]]
    across = fitting.sign_of_difference(weight, tuned, layer((2, 2), channel=1), "channel")
    assert across["k1"].tolist() == [[-0.75, -1.75]]  # a transposed convolution's outputs


@pytest.mark.parametrize("shape", SHAPES)
def test_bitdeltas_scale_is_the_best_of_all(shape: tuple[int, ...]) -> None:
    weight, tuned = pair(shape)
    method = fitting.method_of("bitdelta")
    params = fitting.sign_of_difference(weight, tuned, layer(shape))
    least = fitting.squared_error(method, weight, tuned, params)
    for factor in (0.9, 1.1):
        other = params | {key: params[key] * factor for key in ("k1", "k2")}
        assert fitting.squared_error(method, weight, tuned, other) > least


# ---- affine


@pytest.mark.parametrize("per", fitting.PER)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("seed", range(3))
def test_no_half_step_raises_the_squared_error(shape: tuple[int, ...], per: str, seed: int) -> None:
    weight, tuned = pair(shape, seed)
    errors: list[float] = []
    params = fitting.least_squares(weight, tuned, layer(shape), per, errors.append)
    assert len(errors) >= 2
    for before, after in itertools.pairwise(errors):
        assert after <= before * (1 + 1e-9) + 1e-12
    kept = fitting.squared_error(fitting.method_of("affine", per), weight, tuned, params)
    assert kept == pytest.approx(errors[-1], rel=1e-3, abs=1e-9)  # float32 in the file


@pytest.mark.parametrize("per", fitting.PER)
@pytest.mark.parametrize("shape", SHAPES)
def test_affine_is_at_least_as_near_as_bitdelta(shape: tuple[int, ...], per: str) -> None:
    weight, tuned = pair(shape)
    near, start = (
        fitting.squared_error(
            fitting.method_of(fit, per),
            weight,
            tuned,
            fitting.fit_layer(fit, weight, tuned, layer(shape), per),
        )
        for fit in ("affine", "bitdelta")
    )
    assert near <= start + 1e-9


@pytest.mark.parametrize("per", fitting.PER)
def test_a_weight_that_is_two_lines_is_found_exactly(per: str) -> None:
    weight = torch.linspace(0.1, 2, 64).reshape(4, 16)
    bits = torch.arange(64).reshape(4, 16) % 3 == 0
    tuned = torch.where(bits, 1.5 * weight + 0.25, 0.75 * weight - 0.25)
    params = fitting.least_squares(weight, tuned, layer((4, 16)), per)
    found = effective(fitting.method_of("affine", per), weight, params)
    assert torch.equal(params["scores"] > 0, bits)
    torch.testing.assert_close(found, tuned, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("weight", "tuned"),
    [
        (torch.zeros(3, 4), torch.ones(3, 4)),  # no slope can be told
        (torch.ones(3, 4), torch.ones(3, 4)),  # nothing changed
        (torch.ones(3, 4), torch.full((3, 4), 2.0)),  # no bit is 0
        (torch.zeros(0, 4), torch.zeros(0, 4)),
    ],
)
@pytest.mark.parametrize("per", fitting.PER)
def test_degenerate_weights_give_finite_coefficients(
    weight: Tensor, tuned: Tensor, per: str
) -> None:
    params = fitting.least_squares(weight, tuned, layer(tuple(weight.shape)), per)
    assert all(value.isfinite().all() for value in params.values())
    found = effective(fitting.method_of("affine", per), weight, params)
    torch.testing.assert_close(found, tuned)


# ---- Piggyback


@pytest.mark.parametrize("shape", SHAPES)
def test_no_other_bit_is_nearer_than_piggybacks(shape: tuple[int, ...]) -> None:
    weight, tuned = pair(shape, by=1.0)
    method = methods.make("piggyback")
    found = effective(method, weight, fitting.nearest_bits(weight, tuned))
    best = torch.minimum((weight - tuned).abs(), tuned.abs())
    assert torch.equal((found - tuned).abs(), best)


# ---- TALL


def test_tall_by_hand() -> None:
    weights = {"w": torch.zeros(4)}
    tuned = {
        "a": {"w": torch.tensor([1.0, 0.0, 1.0, 0.0])},
        "b": {"w": torch.tensor([0.0, 2.0, 1.0, 0.0])},
    }
    params, lambdas = fitting.fit_tall(weights, tuned)
    assert params["a"]["w"]["delta"].tolist() == [1, 2, 2, 0]
    # |1| > l |1|: where lambda is below 1 both take what they share
    assert params["a"]["w"]["mask"].tolist() == [1, 0, 1, 0]
    assert params["b"]["w"]["mask"].tolist() == [0, 1, 1, 0]
    assert lambdas == {"a": 0.2, "b": 0.2}


def test_tall_takes_the_lambda_with_the_least_squared_error() -> None:
    weight = {"w": pair((40, 40))[0]}
    tuned = {str(seed): {"w": weight["w"] + 0.1 * pair((40, 40), seed)[1]} for seed in (1, 2, 3)}
    params, lambdas = fitting.fit_tall(weight, tuned)
    method = fitting.method_of("tall")
    for task, own in tuned.items():
        delta = params[task]["w"]["delta"]
        change = own["w"] - weight["w"]
        errors = {}
        for value in fitting.LAMBDAS:
            bits = (change.abs() > value * (delta - change).abs()).float()
            errors[value] = float((weight["w"] + bits * delta - own["w"]).square().sum())
        assert lambdas[task] == min(errors, key=lambda value: errors[value])
        kept = fitting.squared_error(method, weight["w"], own["w"], params[task]["w"])
        assert kept == pytest.approx(errors[lambdas[task]], rel=1e-4)


def test_tall_keeps_one_delta_that_float16_holds() -> None:
    weight = {"w": pair((5, 5))[0]}
    params, _ = fitting.fit_tall(
        weight, {name: {"w": pair((5, 5), i)[1]} for i, name in enumerate("ab")}
    )
    deltas = [params[name]["w"]["delta"] for name in "ab"]
    assert torch.equal(*deltas)
    assert torch.equal(deltas[0].half().float(), deltas[0])


def test_tall_refuses_one_task_and_what_float16_cannot_hold() -> None:
    weight = {"w": torch.zeros(2)}
    with pytest.raises(OptionError, match="two or more checkpoints"):
        fitting.fit_tall(weight, {"a": {"w": torch.ones(2)}})
    with pytest.raises(OptionError, match="more than float16 holds"):
        fitting.fit_tall(weight, {name: {"w": torch.full((2,), 6e4)} for name in "ab"})


# ---- all of them


def test_what_there_is_not_is_refused() -> None:
    with pytest.raises(UnknownName, match="unknown fit 'bitdelt'; did you mean 'bitdelta'"):
        fitting.method_of("bitdelt")
    with pytest.raises(OptionError, match="per 'row': expected layer or channel"):
        fitting.method_of("bitdelta", "row")
