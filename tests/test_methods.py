"""Values and gradients by hand, methods that must agree, and options as a command line has them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor
from torchvision import models

from maskpack import methods
from maskpack.backbones.layers import Layer, find_layers
from maskpack.common.errors import OptionError, UnknownName
from maskpack.methods.affine import Affine
from maskpack.methods.base import Method, steps_to_flip
from maskpack.methods.baselines import ClassifierOnly
from maskpack.methods.ksm import KSM
from maskpack.methods.piggyback import Piggyback

WEIGHT = torch.tensor([[1.0, -2.0], [0.5, 4.0]])
UP = torch.tensor([[1.0, 10.0], [100.0, 1000.0]])  # dL / d effective weight
TAU = 0.005  # Piggyback's and KSM's threshold


def apply(
    method: Method, weight: Tensor, scores: Any, up: Tensor = UP, **params: Any
) -> tuple[Tensor, dict[str, Tensor]]:
    """Effective weight, and the gradient of each param for an upstream gradient `up`."""
    leaves = {
        key: torch.as_tensor(value, dtype=torch.float32).clone().requires_grad_()
        for key, value in {"scores": scores, **params}.items()
    }
    out = method.effective_weight(weight, method.mask(leaves, True))
    out.backward(up.expand_as(out))
    return out.detach(), {key: _gradient(leaf) for key, leaf in leaves.items()}


def _gradient(leaf: Tensor) -> Tensor:
    assert leaf.grad is not None
    return leaf.grad


def start(method: Method, weight: Tensor, layer: Layer | None = None) -> dict[str, Tensor]:
    layer = layer or Layer("w", tuple(weight.shape), "conv")
    return method.init_params(weight, layer, torch.Generator().manual_seed(0))


def equal(found: Tensor, expected: Any) -> bool:
    return torch.equal(found, torch.tensor(expected))


# ---- Piggyback


def test_piggyback_keeps_where_the_score_is_above_the_threshold() -> None:
    above = math.nextafter(TAU, 1.0) + 1e-9  # the next float32 and no float64
    out, gradients = apply(Piggyback(), WEIGHT, [[0.01, TAU], [above, -0.3]])
    assert equal(out, [[1.0, 0.0], [0.5, 0.0]])  # at the threshold: 0
    assert torch.equal(gradients["scores"], UP * WEIGHT)  # straight through, masked or not


def test_ternary_is_asymmetric_with_the_bounds_in_its_zero_band() -> None:
    out, gradients = apply(Piggyback(values="ternary"), WEIGHT, [[0.006, TAU], [0.0, -1e-9]])
    assert equal(out, [[1.0, 0.0], [0.0, -4.0]])
    assert torch.equal(gradients["scores"], UP * WEIGHT)


def test_gradient_scaling_divides_by_the_size_of_the_weights() -> None:
    weight = torch.tensor([[1.0, -2.0], [0.0, 5.0]])  # mean size 2
    scores = torch.full((2, 2), 0.01)
    none, average, individual = (
        apply(Piggyback(gradient_scaling=scaling), weight, scores)
        for scaling in ("none", "average", "individual")
    )
    assert equal(none[1]["scores"], [[1.0, -20.0], [0.0, 5000.0]])
    assert equal(average[1]["scores"], [[0.5, -10.0], [0.0, 2500.0]])
    assert equal(individual[1]["scores"], [[1.0, -10.0], [0.0, 1000.0]])
    assert torch.equal(none[0], weight)
    assert torch.equal(average[0], weight)
    assert torch.equal(individual[0], weight)


def test_gradient_scaling_of_a_zero_layer_gives_zeros() -> None:
    for scaling in ("average", "individual"):
        method = Piggyback(gradient_scaling=scaling, values="ternary")
        _, gradients = apply(method, torch.zeros(2, 2), [[0.01, 0.01], [-1.0, 0.002]])
        assert equal(gradients["scores"], [[0.0, 0.0], [0.0, 0.0]])


def test_piggybacks_three_starts() -> None:
    assert equal(start(Piggyback(), WEIGHT)["scores"], [[0.01, 0.01], [0.01, 0.01]])
    based = start(Piggyback(init="weight-based"), WEIGHT)["scores"]
    assert equal(based, [[1.875, 1.875], [1.875, 1.875]])  # mean of 1, 2, 0.5, 4
    uniform = start(Piggyback(init="uniform", init_scale=0.02), torch.zeros(100, 100))["scores"]
    assert -0.02 <= uniform.min() < -0.0199 and 0.0199 < uniform.max() <= 0.02
    assert abs(float(uniform.mean())) < 5e-4


# ---- KSM


def test_ksm_keeps_a_score_at_the_threshold() -> None:
    below = TAU - 1e-9
    out, _ = apply(KSM(soft=False, granularity="element"), WEIGHT, [[TAU, below], [0.01, -1.0]])
    assert equal(out, [[1.0, 0.0], [0.5, 0.0]])


def test_ksms_gradient_is_that_of_the_softmax() -> None:
    scores = torch.tensor([[TAU, 0.055], [-0.045, 0.1]])
    _, gradients = apply(KSM(soft=False, granularity="element"), WEIGHT, scores)
    p = torch.sigmoid(12 * (scores - TAU))  # 1200 / 100
    assert torch.allclose(gradients["scores"], UP * WEIGHT * 12 * p * (1 - p), rtol=1e-6)
    slopes = gradients["scores"] / (UP * WEIGHT)
    assert slopes[0, 0] == 3.0
    assert 2.7 < float(slopes[0, 1]) < 3.0
    _, plain = apply(KSM(soft=False, granularity="element", gradient="ste"), WEIGHT, scores)
    assert torch.equal(plain["scores"], UP * WEIGHT)


def test_ksms_composed_gradient_is_the_papers_two_equations() -> None:
    """Eq. 6 and 8 in float64, where they do not overflow, with pi_1 in the numerator."""
    score = torch.linspace(-0.02, 0.02, 9, dtype=torch.float64, requires_grad=True)
    beta, temperature = 1200.0, 100.0
    p = torch.sigmoid(beta * (score - TAU))
    one, zero = (torch.exp(torch.log(pi) / temperature) for pi in (p, 1 - p))
    (one / (one + zero)).sum().backward()
    method = KSM(soft=False, granularity="element")
    _, found = apply(method, torch.ones(9), score.detach().float(), torch.ones(9))
    assert torch.allclose(found["scores"].double(), _gradient(score), rtol=1e-5)


def test_large_scores_do_not_overflow() -> None:
    scores = [[1e30, -1e30], [1e3, -1e3]]
    for soft in (False, True):
        out, gradients = apply(KSM(soft=soft, granularity="element"), WEIGHT, scores)
        assert out.isfinite().all()
        assert equal(gradients["scores"], [[0.0, 0.0], [0.0, 0.0]])


def scales(scores: list[float], **options: Any) -> list[float]:
    """Scaling coefficients of an element-wise layer, as stored."""
    mask = KSM(granularity="element", **options).mask({"scores": torch.tensor(scores)})
    return mask["scale"].tolist()


def test_scales_span_half_of_the_range_with_kept_positions_counting_as_zero() -> None:
    # off: -0.06, -0.02; the kept one counts as 0, which is the highest
    assert scales([-0.06, -0.02, 0.01]) == pytest.approx([0.0, 0.5 * 0.04 / 0.06, 0.0])
    # nothing kept: the range is that of the scores themselves
    assert scales([-0.06, -0.02, 0.004]) == pytest.approx([0.0, 0.5 * 0.04 / 0.064, 0.5])
    # all off scores positive: kept ones, 0, are the lowest
    assert scales([0.004, 0.002, 0.01]) == pytest.approx([0.5, 0.25, 0.0])


def test_a_score_of_exactly_zero_keeps_the_scale_zero() -> None:
    assert scales([0.0, -0.03, 0.003]) == pytest.approx([0.0, 0.0, 0.5])


@pytest.mark.parametrize("kind", ["fp32", "fp16", "u8"])
def test_equal_off_scores_give_zero_not_nan(kind: str) -> None:
    assert scales([-0.3, -0.3], coefficients=kind) == [0, 0]
    assert scales([0.01, 0.02], coefficients=kind) == [0, 0]
    assert scales([], coefficients=kind) == []


def test_scales_are_rounded_to_what_is_stored() -> None:
    scores = [-0.3, -0.1, 0.01]  # 0.5 * 0.2 / 0.3 = 1/3
    assert scales(scores, coefficients="u8") == [0, 170, 0]  # 510 / 3
    assert scales(scores, coefficients="fp16")[1] == 0.333251953125  # 1365 / 4096
    assert scales([-0.3, -0.3 + 0.3 / 256, 0.01], coefficients="u8")[1] == 1  # 255 / 256
    assert scales([0.004, 0.01], coefficients="u8") == [255, 0]


@pytest.mark.parametrize(("kind", "third"), [("fp32", 1 / 3), ("fp16", 1365 / 4096), ("u8", 1 / 3)])
def test_the_scale_multiplies_the_weight_and_passes_no_gradient(kind: str, third: float) -> None:
    method = KSM(granularity="element", coefficients=kind, gradient="ste")
    out, gradients = apply(method, WEIGHT, [[-0.3, -0.1], [0.01, 0.01]])
    assert torch.allclose(out, torch.tensor([[0.0, -2.0 * third], [0.5, 4.0]]), rtol=1e-6)
    assert torch.equal(gradients["scores"], UP * WEIGHT)  # of the bit alone


def test_one_score_a_kernel_or_channel_sums_its_weights_gradients() -> None:
    weight = torch.arange(1.0, 17.0).view(2, 2, 2, 2)
    scores = {
        "kernel": torch.tensor([0.01, -0.01, -0.02, 0.02]).view(2, 2, 1, 1),
        "channel": torch.tensor([0.01, -0.01]).view(2, 1, 1, 1),
    }
    for granularity, values in scores.items():
        method = KSM(granularity=granularity, soft=False, gradient="ste")
        assert start(method, weight)["scores"].shape == values.shape
        out, gradients = apply(method, weight, values, torch.ones(()))
        assert torch.equal(out, weight * (values >= TAU))
        sides = (2, 3) if granularity == "kernel" else (1, 2, 3)
        assert torch.equal(gradients["scores"], weight.sum(sides, keepdim=True))


def test_gumbel_noise_is_drawn_in_training_only() -> None:
    method = KSM(gumbel=True, granularity="element", soft=False)
    params = {"scores": torch.full((10_000,), TAU + 1 / 1200)}  # a logit of 1
    assert torch.equal(method.mask(params)["mask"], torch.ones(10_000))
    torch.manual_seed(0)
    noisy = method.mask(params, training=True)["mask"]
    share = 1 / (1 + math.exp(-1))  # the chance that 1 + logistic noise is positive
    assert abs(float(noisy.mean()) - share) < 0.02


def test_kernel_masks_have_the_published_size() -> None:
    with torch.device("meta"):
        network = models.resnet50()
    shapes = [
        start(KSM(), torch.empty(layer.shape, device="meta"), layer)["scores"].shape
        for layer in find_layers(network, "fc").values()
    ]
    assert sum(math.prod(shape) for shape in shapes) == 13_385_920


# ---- affine


KS = {"k0": 2.0, "k1": 0.25, "k2": -1.0, "k3": 3.0}


def as_params(ks: Mapping[str, float], shape: tuple[int, ...] = (1, 1)) -> dict[str, Tensor]:
    return {key: torch.full(shape, value) for key, value in ks.items()}


def test_affine_is_equation_2() -> None:
    scores = [[1e-4, 0.0], [-1.0, 2.0]]  # 0 is at the threshold: off
    out, gradients = apply(Affine(), WEIGHT, scores, **as_params(KS))
    # off: 2 w + 0.25; on: 2 w + 0.25 - 1 + 3 w
    assert equal(out, [[4.25, -3.75], [1.25, 19.25]])
    assert equal(gradients["k0"], [[1.0 - 20 + 50 + 4000]])  # sum of up * w
    assert equal(gradients["k1"], [[1111.0]])
    assert equal(gradients["k2"], [[1001.0]])
    assert equal(gradients["k3"], [[4001.0]])
    assert torch.equal(gradients["scores"], UP * (KS["k2"] + KS["k3"] * WEIGHT))


def test_affines_fixed_ks_give_what_learned_ones_do() -> None:
    scores = [[1e-4, 0.0], [-1.0, 2.0]]
    learned, gradients = apply(Affine(k0="learned"), WEIGHT, scores, **as_params(KS))
    fixed, of_fixed = apply(methods.make("affine", KS), WEIGHT, scores)  # type: ignore[arg-type]
    assert torch.equal(fixed, learned)
    assert torch.equal(of_fixed["scores"], gradients["scores"])


def test_the_sigmoids_slope_scales_the_scores_gradient() -> None:
    scores = torch.tensor([[1.0, -1.0], [0.5, 2.0]])
    identity, plain = apply(Affine(), WEIGHT, scores, **as_params(KS))
    out, sigmoid = apply(Affine(surrogate="sigmoid"), WEIGHT, scores, **as_params(KS))
    s = torch.sigmoid(scores)
    assert torch.equal(out, identity)  # the value is a bit either way
    assert torch.allclose(sigmoid["scores"], plain["scores"] * s * (1 - s), rtol=1e-6)
    assert all(torch.equal(sigmoid[key], plain[key]) for key in KS)


def test_simple_is_equation_3() -> None:
    ks = {key: value for key, value in KS.items() if key != "k3"}
    method = Affine(form="simple")
    out, gradients = apply(method, WEIGHT, [[1.0, -1.0], [-1.0, 1.0]], **as_params(ks))
    assert equal(out, [[1.25, -3.75], [1.25, 7.25]])
    assert torch.equal(gradients["scores"], UP * KS["k2"])
    assert "k3" not in start(method, WEIGHT)


def test_affine_starts_at_the_weight_with_scores_above_zero() -> None:
    params = start(Affine(), torch.zeros(50, 50))
    low, high = params["scores"].aminmax()
    assert (float(low), float(high)) == pytest.approx((1e-4, 2e-4), rel=1e-2)
    assert low >= 1e-4
    ks = {key: float(value) for key, value in params.items() if key != "scores"}
    assert ks == {"k0": 1, "k1": 0, "k2": 0, "k3": 0}


@pytest.mark.parametrize(
    ("k0", "normed", "learned"),
    [
        ("auto", True, False),
        ("auto", False, True),
        ("learned", True, True),
        ("learned", False, True),
        (1.0, False, False),
    ],
)
def test_k0_is_free_where_no_norm_follows(k0: str | float, normed: bool, learned: bool) -> None:
    layer = Layer("w", (2, 2), "conv", normed=normed)
    assert ("k0" in start(Affine(k0=k0), WEIGHT, layer)) == learned


@pytest.mark.parametrize(("channel", "shape"), [(0, (4, 1, 1, 1)), (1, (1, 6, 1, 1))])
def test_one_k_and_score_an_output_channel(channel: int, shape: tuple[int, ...]) -> None:
    weight = torch.zeros(4, 6, 3, 3)
    layer = Layer("w", (4, 6, 3, 3), "conv", channel)
    ks = start(Affine(granularity="channel"), weight, layer)
    assert {ks[key].shape for key in KS} == {shape}
    assert ks["scores"].shape == weight.shape
    assert start(KSM(granularity="channel"), weight, layer)["scores"].shape == shape


# ---- methods that must agree


SHAPES = [(4, 3, 3, 3), (6, 1, 3, 3), (4, 3, 1, 1), (5, 7), (3,), ()]


def random_case(shape: tuple[int, ...]) -> tuple[Tensor, Tensor, Tensor]:
    """Weight, upstream gradient, and scores on both sides of every threshold, none at one."""
    generator = torch.Generator().manual_seed(len(shape))
    weight, up, scores = (torch.randn(shape, generator=generator) for _ in range(3))
    return weight, up, scores * 0.01 + 0.003


@pytest.mark.parametrize("shape", SHAPES)
def test_hard_ksm_per_element_with_ste_is_piggyback(shape: tuple[int, ...]) -> None:
    weight, up, scores = random_case(shape)
    ksm = KSM(granularity="element", soft=False, gradient="ste")
    expected, gradients = apply(Piggyback(), weight, scores, up)
    found, of_ksm = apply(ksm, weight, scores, up)
    assert torch.equal(found, expected)
    assert torch.equal(of_ksm["scores"], gradients["scores"])
    assert torch.equal(start(ksm, weight)["scores"], start(Piggyback(), weight)["scores"])


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("learned", [False, True])
def test_affine_with_0_0_0_1_is_piggyback_with_threshold_0(
    shape: tuple[int, ...], learned: bool
) -> None:
    weight, up, scores = random_case(shape)
    ks = {"k0": 0.0, "k1": 0.0, "k2": 0.0, "k3": 1.0}
    expected, gradients = apply(Piggyback(threshold=0.0), weight, scores, up)
    if learned:
        found, of_affine = apply(Affine(), weight, scores, up, **as_params(ks, (1,) * len(shape)))
    else:
        found, of_affine = apply(methods.make("affine", ks), weight, scores, up)
    assert torch.equal(found, expected)
    assert torch.equal(of_affine["scores"], gradients["scores"])


@pytest.mark.parametrize("shape", [(4, 3, 1, 1), (4, 3, 1), (5, 7), (3,), ()])
@pytest.mark.parametrize("gradient", ["softmax", "ste"])
def test_kernel_wise_is_element_wise_without_spatial_sides(
    shape: tuple[int, ...], gradient: str
) -> None:
    weight, up, scores = random_case(shape)
    kernel, element = (
        apply(KSM(granularity=granularity, gradient=gradient), weight, scores, up)
        for granularity in ("kernel", "element")
    )
    assert torch.equal(kernel[0], element[0])
    assert torch.equal(kernel[1]["scores"], element[1]["scores"])
    assert start(KSM(), weight)["scores"].shape == shape


# ---- options


KSM_ABLATION = {
    "Piggyback": ("piggyback", {}, Piggyback()),
    "Piggyback - Ker-wise": (
        "ksm",
        {"granularity": "kernel", "soft": "false", "gradient": "ste"},
        KSM(soft=False, gradient="ste"),
    ),
    "Piggyback - Soft": (
        "ksm",
        {"granularity": "element", "gradient": "ste"},
        KSM(granularity="element", gradient="ste"),
    ),
    "Ours - Softmax": (
        "ksm",
        {"granularity": "element", "soft": "false"},
        KSM(granularity="element", soft=False),
    ),
    "Ours - Ele-wise": ("ksm", {"granularity": "element"}, KSM(granularity="element")),
    "Ours - Full": ("ksm", {}, KSM()),
}
SPECIAL = {"k0": "0", "k1": "0", "k2": "0", "k3": "1"}  # Piggyback as a case of the affine form
AFFINE_TABLE_5 = {
    "Piggyback": ("piggyback", {}, "frozen", Piggyback()),
    "Piggyback*": ("affine", SPECIAL, "frozen", Affine(k0=0.0, k1=0.0, k2=0.0, k3=1.0)),
    "Piggyback* with BN": ("affine", SPECIAL, "task", Affine(k0=0.0, k1=0.0, k2=0.0, k3=1.0)),
    "Piggyback* with BN, k1": (
        "affine",
        SPECIAL | {"k1": "learned"},
        "task",
        Affine(k0=0.0, k2=0.0, k3=1.0),
    ),
    "Simple, no bias": (
        "affine",
        {"form": "simple", "k1": "0"},
        "task",
        Affine(form="simple", k1=0.0),
    ),
    "Simple": ("affine", {"form": "simple"}, "task", Affine(form="simple")),
    "Simple with Sigmoid": (
        "affine",
        {"form": "simple", "surrogate": "sigmoid"},
        "task",
        Affine(form="simple", surrogate="sigmoid"),
    ),
    "Full": ("affine", {}, "task", Affine()),
    "Full with Sigmoid": ("affine", {"surrogate": "sigmoid"}, "task", Affine(surrogate="sigmoid")),
    "Full, channel-wise": (
        "affine",
        {"granularity": "channel"},
        "task",
        Affine(granularity="channel"),
    ),
}


@pytest.mark.parametrize("row", KSM_ABLATION)
def test_ksms_ablation_is_reachable(row: str) -> None:
    name, options, expected = KSM_ABLATION[row]
    assert methods.make(name, options) == expected


@pytest.mark.parametrize("row", AFFINE_TABLE_5)
def test_the_affine_papers_table_5_is_reachable(row: str) -> None:
    name, options, norms, expected = AFFINE_TABLE_5[row]
    made = methods.make(name, options)
    assert made == expected
    assert norms == made.norms or row.startswith("Piggyback*")  # the rows that need --norms
    learned = set(start(made, WEIGHT, Layer("w", (2, 2), "conv", normed=True))) - {"scores"}
    ticks = {"Piggyback* with BN, k1": "k1", "Simple, no bias": "k2"}
    default = "k1 k2 k3" if row.startswith("Full") else "k1 k2" if row.startswith("Simple") else ""
    assert learned == set(ticks.get(row, default).split())


@pytest.mark.parametrize("name", methods.METHODS)
def test_options_survive_the_header(name: str) -> None:
    method = methods.make(name)
    assert methods.make(name, methods.options_of(method)) == method
    text = {key: str(value) for key, value in methods.options_of(method).items()}
    assert methods.make(name, text) == method
    assert method.name == name


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("piggyback", {"tresh": "1"}, "unknown option of piggyback 'tresh'"),
        ("piggyback", {"treshold": "1"}, "did you mean 'threshold'"),
        ("piggyback", {"threshold": "high"}, "threshold='high': expected a number"),
        ("piggyback", {"threshold": "nan"}, "threshold='nan': expected a finite number"),
        ("piggyback", {"threshold": True}, "threshold=True: expected a number"),
        ("piggyback", {"threshold": None}, "threshold=None: expected a number"),
        ("piggyback", {"threshold": [1]}, "threshold=[1]: expected a number"),
        ("piggyback", {"init": "zeros"}, "init='zeros': expected one of ones, uniform"),
        ("piggyback", {"values": "3"}, "values=3.0: expected one of binary, ternary"),
        (
            "piggyback",
            {"init": "uniform", "init_scale": "-1"},
            "init_scale=-1.0: expected a number above 0",
        ),
        ("ksm", {"soft": "maybe"}, "soft='maybe': expected true or false"),
        ("ksm", {"granularity": "group"}, "expected one of kernel, element, channel"),
        ("ksm", {"coefficients": "fp8"}, "coefficients='fp8': expected one of fp32, fp16, u8"),
        ("ksm", {"temperature": "0"}, "temperature=0.0: expected a number above 0"),
        ("ksm", {"sharpness": "-1"}, "sharpness=-1.0: expected a number above 0"),
        ("affine", {"k0": "free"}, "k0='free': expected learned or auto or a number"),
        ("affine", {"k1": "auto"}, "k1='auto': expected learned or a number"),
        ("affine", {"k2": "inf"}, "k2='inf': expected a finite number"),
        ("affine", {"form": "simple", "k3": "1"}, "form='simple' has no k3, found k3=1.0"),
        ("affine", {"init_low": "1", "init_high": "0"}, "init_low=1.0: expected at most init_high"),
        ("classifier-only", {"threshold": "1"}, "unknown option of classifier-only 'threshold'"),
        ("pigyback", {}, "unknown method 'pigyback'; did you mean 'piggyback'?"),
        ("no_such_module:Method", {}, "method 'no_such_module:Method' cannot be imported"),
        (":Method", {}, "method ':Method' cannot be imported"),
        (".x:Method", {}, "method '.x:Method' cannot be imported"),
        ("maskpack.methods.ksm:Method2", {}, "cannot be imported"),
        (
            "maskpack.backbones.layers:Layer",
            {},
            "backbones.layers:Layer' is not a subclass",
        ),
        (
            "maskpack.methods.base:Method",
            {},
            "'maskpack.methods.base:Method' lacks effective_weight,",
        ),
    ],
)
def test_a_bad_option_gives_one_clear_line(name: str, options: Any, message: str) -> None:
    with pytest.raises((OptionError, UnknownName)) as caught:
        methods.make(name, options)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@dataclass(frozen=True)
class Own(ClassifierOnly):
    """A user's method, with an option that is a whole number."""

    levels: int = 4


def test_a_method_of_ones_own_is_found_by_module_and_class() -> None:
    made = methods.make("maskpack.methods.piggyback:Piggyback", {"threshold": "0.5"})
    assert made == Piggyback(threshold=0.5)
    own = methods.make(f"{__name__}:Own", {"levels": "8"})
    assert methods.options_of(own) == {"levels": 8}
    assert isinstance(methods.options_of(own)["levels"], int)
    with pytest.raises(OptionError, match=r"levels='0.5': expected a whole number"):
        methods.make(f"{__name__}:Own", {"levels": "0.5"})


@pytest.mark.parametrize("word", ["true", "True", "1", "yes", True])
def test_yes_has_many_spellings(word: str | bool) -> None:
    assert methods.make("ksm", {"gumbel": word}) == KSM(gumbel=True)


# ---- how far a score is from its threshold


@pytest.mark.parametrize(
    ("distance", "lr", "steps"),
    [(0.005, 1e-4, 51), (0.005, 2e-4, 26), (0.01, 1e-4, 101), (2e-4, 1e-4, 3), (1e-5, 1e-4, 1)],
)
def test_steps_to_flip_are_the_papers(distance: float, lr: float, steps: int) -> None:
    assert steps_to_flip(distance, lr) == steps


def test_distance_is_that_of_the_nearest_score() -> None:
    scores = {"scores": torch.tensor([0.01, 0.04, -0.002])}
    assert Piggyback().distance_to_flip(scores) == pytest.approx(0.005)
    assert Piggyback(values="ternary").distance_to_flip(scores) == pytest.approx(0.002)
    assert KSM().distance_to_flip(scores) == pytest.approx(0.005)
    assert Affine().distance_to_flip(scores) == pytest.approx(0.002)
    assert ClassifierOnly().distance_to_flip({}) == math.inf


@pytest.mark.parametrize("name", ["piggyback", "ksm", "affine"])
def test_an_empty_weight_is_never_the_nearest(name: str) -> None:
    method = methods.make(name)
    params = start(method, torch.zeros(0, 3, 3, 3))
    assert method.distance_to_flip(params) == math.inf
    assert method.effective_weight(torch.zeros(0, 3, 3, 3), method.mask(params)).numel() == 0
