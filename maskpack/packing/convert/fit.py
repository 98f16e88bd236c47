"""A fine-tuned weight -> the mask whose effective weight is nearest to it; nothing is trained.

Each fit is a pure function of one frozen weight W and its fine-tuned form W', and returns the
params from which the method makes what the file keeps. Nearness is the squared error,
sum (effective - W')^2.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from maskpack import methods
from maskpack.backbones.layers import Layer
from maskpack.common.errors import OptionError, UnknownName
from maskpack.methods.base import Method

FITS = ("bitdelta", "affine", "piggyback", "tall")
PER = ("layer", "channel")
SCALED = ("bitdelta", "affine")  # those with coefficients, which distillation can train
LAMBDAS = (0.2, 0.3, 0.4, 0.5, 0.6)  # tall's: the paper's grid
ROUNDS = 100  # of the alternating fit, which mostly settles in 10 to 30
Params = dict[str, Tensor]


def method_of(fit: str, per: str = "layer") -> Method:
    """The method that computes a fit's effective weights, with its options.

    Raises:
        UnknownName: no such fit.
        OptionError: coefficients per what.
    """
    if fit not in FITS:
        raise UnknownName("fit", fit, FITS)
    if per not in PER:
        raise OptionError(f"per {per!r}: expected {' or '.join(PER)}")
    if fit == "bitdelta":
        return methods.make("affine", {"form": "simple", "granularity": per, "k0": 1.0})
    if fit == "affine":
        return methods.make("affine", {"form": "full", "granularity": per, "k0": "learned"})
    return methods.make(fit)


def fit_layer(fit: str, weight: Tensor, tuned: Tensor, layer: Layer, per: str = "layer") -> Params:
    """Params of one weight by the fit of this name; tall needs all tasks: see `fit_tall`."""
    if fit == "bitdelta":
        return sign_of_difference(weight, tuned, layer, per)
    if fit == "affine":
        return least_squares(weight, tuned, layer, per)
    assert fit == "piggyback", fit
    return nearest_bits(weight, tuned)


# ---- BitDelta


def sign_of_difference(weight: Tensor, tuned: Tensor, layer: Layer, per: str = "layer") -> Params:
    """W + a sign(W' - W), a = mean |W' - W| (BitDelta: Liu et al., 2024, arXiv:2402.10193, eq. 3).

    As the affine form: the bit is W' > W, k0 = 1, k1 = -a, k2 = 2a, k3 = 0. This a has the least
    squared error of all.
    """
    difference = tuned - weight
    a = _mean(_by_group(difference.abs(), layer, per).double())[:, 0]
    return {
        "scores": _scores(difference > 0),
        "k1": _shaped(-a, weight, layer, per),
        "k2": _shaped(2 * a, weight, layer, per),
    }


# ---- affine


def least_squares(
    weight: Tensor,
    tuned: Tensor,
    layer: Layer,
    per: str = "layer",
    watch: Callable[[float], None] = lambda error: None,
) -> Params:
    """k0 W + k1 + M (k2 + k3 W) nearest to W', over M and the k's in turn.

    The bits say which of two lines over W a weight's new value lies nearer to. Given the bits the
    lines are two linear regressions, given the lines the bits are free: each half step can only
    lower the squared error. It starts as BitDelta and ends where no bit changes. `watch` is told
    the error after every half step.
    """
    x = _by_group(weight, layer, per).double()  # (groups, weights)
    y = _by_group(tuned, layer, per).double()
    a = _mean((y - x).abs())
    off = (torch.ones_like(a), -a)  # slope and offset of the line where the bit is 0
    on = (torch.ones_like(a), a)
    bits = y > x
    for _ in range(ROUNDS):
        off, on = _regression(x, y, ~bits, off), _regression(x, y, bits, on)
        watch(float(torch.where(bits, _residuals(x, y, on), _residuals(x, y, off)).sum()))
        before, bits = bits, _residuals(x, y, on) < _residuals(x, y, off)
        watch(float(torch.where(bits, _residuals(x, y, on), _residuals(x, y, off)).sum()))
        if torch.equal(before, bits):
            break
    rows = {"k0": off[0], "k1": off[1], "k2": on[1] - off[1], "k3": on[0] - off[0]}
    ks = {key: _shaped(value[:, 0], weight, layer, per) for key, value in rows.items()}
    return {"scores": _scores(_ungrouped(bits, weight, layer, per))} | ks


def _residuals(x: Tensor, y: Tensor, line: tuple[Tensor, Tensor]) -> Tensor:
    return (y - line[0] * x - line[1]).square()


def _regression(
    x: Tensor, y: Tensor, chosen: Tensor, line: tuple[Tensor, Tensor]
) -> tuple[Tensor, Tensor]:
    """Slope and offset, (groups, 1) each, of y over x where chosen.

    Where the chosen x are all one value the slope stays, where none is chosen the line does.
    """
    picked = chosen.to(x.dtype)
    count = picked.sum(1, keepdim=True)
    safe = count.clamp(min=1)
    mean_x = (picked * x).sum(1, keepdim=True) / safe
    mean_y = (picked * y).sum(1, keepdim=True) / safe
    centred = picked * (x - mean_x)
    spread = centred.square().sum(1, keepdim=True)
    flat = spread <= 1e-12 * (picked * x.square()).sum(1, keepdim=True)
    slope = torch.where(
        flat, line[0], (centred * y).sum(1, keepdim=True) / spread.masked_fill(flat, 1)
    )
    offset = torch.where(count == 0, line[1], mean_y - slope * mean_x)
    return slope, offset


# ---- Piggyback


def nearest_bits(weight: Tensor, tuned: Tensor) -> Params:
    """W * M nearest to W': M is 1 where (W - W')^2 < W'^2."""
    return {"scores": _scores((weight - tuned).square() < tuned.square())}


# ---- TALL


def fit_tall(
    weights: Mapping[str, Tensor], tuned: Mapping[str, Mapping[str, Tensor]]
) -> tuple[dict[str, dict[str, Params]], dict[str, float]]:
    """Params by task and layer, and each task's lambda (TALL: arXiv:2405.07813, eq. 4 and 5).

    `weights` are the frozen ones by layer, `tuned` the fine-tuned ones by task and layer. The
    merged difference d is the sum of the tasks' differences d_t, in float16; a task's bit is
    |d_t| > lambda |d - d_t|, with the lambda of the paper's grid that has the least squared error.

    Raises:
        OptionError: fewer than two tasks, or a difference that float16 cannot hold.
    """
    if len(tuned) < 2:
        raise OptionError("--fit tall merges two or more checkpoints; give --from-checkpoint again")
    method = method_of("tall")
    every = {name: [task[name] for task in tuned.values()] for name in weights}
    merged = {
        name: method.mask({"mask": weight, "delta": _sum([t - weight for t in every[name]])})[
            "delta"
        ]
        for name, weight in weights.items()
    }
    params, lambdas = {}, {}
    for task, own in tuned.items():
        made = {value: _tall_params(weights, own, merged, value) for value in LAMBDAS}
        errors = {
            value: sum(
                squared_error(method, weight, own[name], made[value][name])
                for name, weight in weights.items()
            )
            for value in LAMBDAS
        }
        lambdas[task] = min(LAMBDAS, key=lambda value: errors[value])
        params[task] = made[lambdas[task]]
    return params, lambdas


def _tall_params(
    weights: Mapping[str, Tensor],
    tuned: Mapping[str, Tensor],
    merged: Mapping[str, Tensor],
    value: float,
) -> dict[str, Params]:
    out = {}
    for name, weight in weights.items():
        own = tuned[name] - weight
        bits = own.abs() > value * (merged[name] - own).abs()
        out[name] = {"mask": bits.to(weight.dtype), "delta": merged[name]}
    return out


def _sum(differences: Sequence[Tensor]) -> Tensor:
    return torch.stack(list(differences)).sum(0)


# ---- all of them


def squared_error(
    method: Method, weight: Tensor, tuned: Tensor, params: Mapping[str, Tensor]
) -> float:
    """sum (effective - W')^2 of what a file would keep of these params."""
    effective = method.effective_weight(weight, method.mask(params))
    return float((effective.double() - tuned.double()).square().sum())


def _scores(bits: Tensor) -> Tensor:
    """Scores on either side of every method's threshold."""
    return torch.where(bits, 1.0, -1.0)


def _mean(groups: Tensor) -> Tensor:
    """Each group's mean, (groups, 1); 0 of no weights."""
    return groups.sum(1, keepdim=True) / max(groups.shape[1], 1)


def _by_group(values: Tensor, layer: Layer, per: str) -> Tensor:
    """A weight as (groups, weights of a group): one group, or one an output channel."""
    if per == "layer" or not values.dim():
        return values.reshape(1, -1)
    channels = values.shape[layer.channel]
    return values.movedim(layer.channel, 0).reshape(channels, values.numel() // max(channels, 1))


def _ungrouped(values: Tensor, like: Tensor, layer: Layer, per: str) -> Tensor:
    """The inverse of `_by_group`, for a weight of the shape of `like`."""
    if per == "layer" or not like.dim():
        return values.reshape(like.shape)
    moved = like.movedim(layer.channel, 0).shape
    return values.reshape(moved).movedim(0, layer.channel)


def _shaped(values: Tensor, like: Tensor, layer: Layer, per: str) -> Tensor:
    """One value a group as coefficients are kept: [1, 1, 1, 1] or [out, 1, 1, 1], float32."""
    shape = [1] * like.dim()
    if per == "channel" and shape:
        shape[layer.channel] = like.shape[layer.channel]
    return values.to(like.dtype).reshape(shape)
