"""EWC and MAS: importances by hand, one quadratic for all tasks, and what it keeps."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import pytest
import tiny
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from maskpack import methods
from maskpack.common.errors import OptionError
from maskpack.methods.base import Carried, Earlier, Keeper, Recipe
from maskpack.methods.sequences.importance import Consolidation, drawn
from maskpack.methods.sequences.one_network import trunk

X = torch.tensor([[1.0, 2.0], [3.0, -1.0]])
LABELS = torch.tensor([0, 1])
WEIGHT = torch.tensor([[0.5, -1.0], [2.0, 1.0]])
KINDS = ("ewc", "mas")


class Two(nn.Module):
    """fc(linear(x)), with the identity as fc: logits are the linear layer's outputs."""

    def __init__(self, weight: Tensor = WEIGHT) -> None:
        super().__init__()
        self.linear = nn.Linear(2, 2, bias=False)
        self.fc = nn.Linear(2, 2, bias=False)
        with torch.no_grad():
            self.linear.weight.copy_(weight)
            self.fc.weight.copy_(torch.eye(2))

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.linear(x))


def pictures() -> Iterator[tuple[Tensor, Tensor]]:
    yield X, LABELS


def known(number: int = 0) -> Earlier:
    return Earlier(f"task{number}", {"weight": torch.eye(2)})


def keeper(name: str, network: nn.Module, carried: Carried | None = None, **options: str) -> Keeper:
    found = methods.make(name, options).keeper(network, "fc", carried or Carried())
    assert isinstance(found, Consolidation)
    return found


def penalty(found: Keeper, network: nn.Module) -> float:
    value = found.loss(X, network(X))
    return 0.0 if value is None else float(value.detach())


def tied(name: str, importance: Tensor, anchor: Tensor) -> Carried:
    tensors = {"importance/linear.weight": importance}
    if name == "ewc":
        tensors["anchor/linear.weight"] = anchor
    return Carried((known(),), tensors)


def test_empirical_fisher_by_hand() -> None:
    found = keeper("ewc", Two(), fisher="empirical").carry(pictures, cross_entropy)
    expected = torch.zeros(2, 2)
    for x, label in zip(X, LABELS, strict=True):
        # d -log softmax(W x)[y] / d W = (p - onehot(y)) x^T
        p = torch.softmax(WEIGHT @ x, 0)
        expected += torch.outer(p - torch.eye(2)[label], x) ** 2 / 2
    assert torch.allclose(found["importance/linear.weight"], expected, rtol=1e-5)
    assert torch.equal(found["anchor/linear.weight"], WEIGHT)
    assert set(found) == {"importance/linear.weight", "anchor/linear.weight"}  # no head's


def test_fisher_of_the_model_draws_labels_from_what_it_predicts() -> None:
    weight = WEIGHT / 4  # so that neither class is certain
    many = 4000

    def often() -> Iterator[tuple[Tensor, Tensor]]:
        yield X[:1].expand(many, 2), torch.zeros(many, dtype=torch.int64)

    found = keeper("ewc", Two(weight), samples="0").carry(often, cross_entropy)
    p = torch.softmax(weight @ X[0], 0)
    expected = sum(  # the expectation over both labels, not the targets'
        p[y] * torch.outer(p - torch.eye(2)[y], X[0]) ** 2 for y in (0, 1)
    )
    assert torch.allclose(found["importance/linear.weight"], expected, rtol=0.1)
    again = keeper("ewc", Two(weight), samples="0").carry(often, cross_entropy)
    assert torch.equal(found["importance/linear.weight"], again["importance/linear.weight"])


def test_a_task_that_is_no_classification_uses_its_own_loss() -> None:
    def dense() -> Iterator[tuple[Tensor, Tensor]]:
        yield X, torch.zeros(2, 2)

    found = keeper("ewc", Two()).carry(dense, nn.functional.mse_loss)
    # d mean((W x)^2) / d W = W x x^T
    expected = sum(torch.outer(WEIGHT @ x, x) ** 2 / 2 for x in X)
    assert torch.allclose(found["importance/linear.weight"], expected)


def test_importance_of_mas_by_hand() -> None:
    found = keeper("mas", Two()).carry(pictures, cross_entropy)
    # x = (1, 2): W x = (-1.5, 4); x = (3, -1): W x = (2.5, 5); d |W x|^2 / d W = 2 W x x^T
    first = torch.tensor([[3.0, 6.0], [8.0, 16.0]])
    second = torch.tensor([[15.0, 5.0], [30.0, 10.0]])
    assert torch.equal(found["importance/linear.weight"], (first + second) / 2)
    assert set(found) == {"importance/linear.weight"}


@pytest.mark.parametrize("name", KINDS)
def test_importances_agree_with_finite_differences(name: str) -> None:
    """Of a network with convolutions, norms and shared weights, a few weights each."""
    network = tiny.everything().double()
    images, labels = next(tiny.batches())
    images, labels = images[:2].double(), labels[:2]
    options = {"fisher": "empirical"} if name == "ewc" else {}
    found = keeper(name, network, **options).carry(lambda: [(images, labels)], cross_entropy)

    @torch.no_grad()
    def value(picture: int) -> Tensor:
        output = network.eval()(images[picture : picture + 1])
        if name == "ewc":
            return cross_entropy(output, labels[picture : picture + 1])
        return output.square().sum()

    for layer in ("stem.weight", "first.weight", "attention.in_proj_weight", "linear.bias"):
        weight = network.get_parameter(layer)
        flat, step = weight.detach().view(-1), 1e-5
        for place in (0, flat.numel() // 2):
            slopes = []
            for picture in range(2):
                ends = []
                for sign in (1, -2, 1):
                    flat[place] += sign * step
                    ends.append(float(value(picture)))
                slopes.append((ends[0] - ends[1]) / (2 * step))
            slope = torch.tensor(slopes, dtype=torch.float64)
            mean = (slope**2 if name == "ewc" else slope.abs()).mean()
            got = found[f"importance/{layer}"].reshape(-1)[place]
            assert torch.allclose(got.double(), mean, rtol=1e-3, atol=1e-9)


@pytest.mark.parametrize("name", KINDS)
def test_a_first_task_is_trained_as_by_fine_tuning(name: str) -> None:
    network = Two()
    found = keeper(name, network)
    assert found.loss(X, network(X)) is None
    assert found.trained() == [] and found.tensors() == {} and found.heads() is None


@pytest.mark.parametrize(("name", "strength", "factor"), [("ewc", 400, 200), ("mas", 1, 1)])
def test_penalty_by_hand(name: str, strength: float, factor: float) -> None:
    network = Two()
    importance = torch.tensor([[1.0, 0.0], [2.0, 0.5]])
    found = keeper(name, network, tied(name, importance, WEIGHT))
    assert methods.make(name).strength == strength  # type: ignore[attr-defined]
    assert penalty(found, network) == 0
    with torch.no_grad():
        network.linear.weight += torch.tensor([[1.0, 9.0], [2.0, -2.0]])
        network.fc.weight += 1  # the new task's own
    assert penalty(found, network) == factor * (1 + 2 * 4 + 0.5 * 4)
    found.loss(X, network(X)).backward()  # type: ignore[union-attr]
    slope = 2 * factor * torch.tensor([[1.0, 0.0], [4.0, -1.0]])
    assert torch.equal(network.linear.weight.grad, slope)  # type: ignore[arg-type]
    assert network.fc.weight.grad is None


def test_one_quadratic_has_the_gradient_of_all_tasks() -> None:
    """EWC after three tasks, each with a Fisher matrix and weights of its own."""
    generator = torch.Generator().manual_seed(0)
    network, carried = Two(), Carried()
    fishers, weights = [], []
    for number in range(3):
        with torch.no_grad():
            network.linear.weight.copy_(torch.randn(2, 2, generator=generator))
            weights.append(network.linear.weight.clone())
        alone = keeper("ewc", network, fisher="empirical").carry(pictures, cross_entropy)
        fishers.append(alone["importance/linear.weight"] * 10.0 ** (-3 * number))
        found = keeper("ewc", network, carried, fisher="empirical")

        def scaled(output: Tensor, target: Tensor, size: float = 10.0 ** (-1.5 * number)) -> Tensor:
            return cross_entropy(output, target) * size

        tensors = found.carry(pictures, scaled)
        carried = Carried(tuple(map(known, range(number + 1))), tensors)
    found = keeper("ewc", network, carried, strength="2")
    with torch.no_grad():
        network.linear.weight.copy_(torch.randn(2, 2, generator=generator))
    found.loss(X, network(X)).backward()  # type: ignore[union-attr]
    theta = network.linear.weight.detach().requires_grad_()
    terms = [(f * (theta - w) ** 2).sum() for f, w in zip(fishers, weights, strict=True)]
    (expected,) = torch.autograd.grad(torch.stack(terms).sum(), theta)
    assert torch.allclose(network.linear.weight.grad, expected, rtol=1e-4)  # type: ignore[arg-type]


def test_a_weight_that_mattered_to_no_task_stays_free_and_finite() -> None:
    nothing = torch.zeros(2, 2)
    network = Two(WEIGHT + 1)
    found = keeper("ewc", network, tied("ewc", nothing, WEIGHT), fisher="empirical")
    assert penalty(found, network) == 0
    carried = found.carry(lambda: [(0 * X, LABELS)], cross_entropy)
    assert torch.equal(carried["importance/linear.weight"], nothing)
    assert torch.equal(carried["anchor/linear.weight"], WEIGHT + 1)


def test_mas_adds_up_importances_and_ties_to_where_it_starts() -> None:
    before = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    alone = keeper("mas", Two()).carry(pictures, cross_entropy)["importance/linear.weight"]
    network = Two()
    found = keeper("mas", network, tied("mas", before, WEIGHT))
    both = found.carry(pictures, cross_entropy)["importance/linear.weight"]
    assert torch.equal(both, before + alone)
    with torch.no_grad():
        network.linear.weight += 1
    assert penalty(found, network) == before.sum()


@pytest.mark.parametrize("name", KINDS)
def test_carrying_leaves_the_network_as_it_was(name: str) -> None:
    network = tiny.everything().train()
    network.norm.eval()  # type: ignore[union-attr]
    network.requires_grad_(False).fc.requires_grad_(True)  # type: ignore[union-attr]
    before = {key: tensor.clone() for key, tensor in network.state_dict().items()}
    modes = {n: m.training for n, m in network.named_modules()}
    batch = next(tiny.batches())
    found = keeper(name, network).carry(lambda: [batch], cross_entropy)
    assert all(torch.equal(t, before[key]) for key, t in network.state_dict().items())
    assert {n: m.training for n, m in network.named_modules()} == modes
    assert {n for n, p in network.named_parameters() if p.requires_grad} == {
        "fc.weight",
        "fc.bias",
    }
    names = {key.removeprefix("importance/") for key in found if key.startswith("importance/")}
    assert names == set(trunk(network, "fc"))
    assert "first.weight" in names and "second.weight" not in names  # shared: once
    assert not any("norm" in n or "instance" in n or n.startswith("fc") for n in names)
    assert all(tensor.isfinite().all() for tensor in found.values())


def test_samples_are_drawn_from_all_pictures_and_are_the_same_again() -> None:
    numbers = torch.arange(100.0)

    def batches() -> Iterator[tuple[Tensor, Tensor]]:
        for start in range(0, 100, 8):
            part = numbers[start : start + 8]
            yield part[:, None], part

    chosen = [float(target) for _, target in drawn(batches, 20)]
    assert len(set(chosen)) == 20
    assert max(chosen) > 80 and min(chosen) < 20
    assert chosen == [float(target) for _, target in drawn(batches, 20)]
    assert len(list(drawn(batches, 0))) == len(list(drawn(batches, 500))) == 100
    image, _ = next(drawn(batches, 3))
    assert image.untyped_storage().nbytes() == image.nbytes  # not its whole batch


@pytest.mark.parametrize("name", KINDS)
def test_stronger_keeps_more_of_the_earlier_task(name: str) -> None:
    """The outputs of the old task move less, the stronger its weights are tied."""

    def moved(strength: float) -> float:
        network = tiny.plain()
        images, labels = next(tiny.batches())
        tensors = keeper(name, network).carry(lambda: [(images, labels)], cross_entropy)
        for key in [key for key in tensors if key.startswith("importance/")]:
            tensors[key] = tensors[key] / tensors[key].max()  # steps below are stable then
        with torch.no_grad():
            old = network.eval()(images)
        head = {"weight": network.fc.weight, "bias": network.fc.bias}
        carried = Carried((Earlier("a", head),), tensors)  # type: ignore[arg-type]
        found = keeper(name, network, carried, strength=str(strength))
        optimizer = torch.optim.SGD(trunk(network, "fc").values(), lr=1e-2)
        for _ in range(40):
            optimizer.zero_grad()
            output = network(-images)
            loss = cross_entropy(output, (labels + 1) % 3)
            kept = found.loss(-images, output)
            (loss if kept is None else loss + kept).backward()
            optimizer.step()
        with torch.no_grad():
            return float((network(images) - old).abs().mean())

    free, some, strong = moved(0), moved(5), moved(80)
    assert free > some > strong
    assert strong < free * 0.6


@pytest.mark.parametrize("name", KINDS)
def test_no_weight_matters_so_much_that_a_step_leaps_over_its_anchor(name: str) -> None:
    network = Two()
    importance = torch.tensor([[1e9, 1e3], [1e-3, 0.0]])
    found = keeper(name, network, tied(name, importance, WEIGHT), strength="2")
    recipe = Recipe(opt="sgd", lr=0.5)
    assert found.rate(0, recipe) is None
    optimizer = torch.optim.SGD([network.linear.weight], lr=recipe.lr)
    with torch.no_grad():
        network.linear.weight.add_(1)
    found.loss(X, network(X)).backward()  # type: ignore[union-attr]
    optimizer.step()
    # gradient 2 * factor * importance, where factor is 1 for ewc and 2 for mas
    left = torch.tensor([[0.0, 0.0], [1 - 1e-3 * (1 if name == "ewc" else 2), 1.0]])
    assert torch.allclose(network.linear.weight - WEIGHT, left)
    assert found.verdict()[0].startswith("50.00% of the shared weights matter more than steps")
    passed_on = found.carry(lambda: [(0 * X, LABELS)], cross_entropy)
    assert torch.equal(passed_on["importance/linear.weight"], importance)  # not the held ones
    assert (
        found.rate(0, Recipe(opt="adam", lr=0.5)) is None
    )  # whose steps have a length of their own
    assert found.verdict() == []


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize(
    ("tensors", "what"),
    [
        ({}, "found none"),
        ({"importance/linear.weight": torch.zeros(3)}, r"found one of shape \(3,\)"),
    ],
)
def test_a_sequence_of_another_method_is_refused(
    name: str, tensors: Mapping[str, Tensor], what: str
) -> None:
    with pytest.raises(OptionError, match=f"{name} after 'task0': .*linear.weight.*{what}"):
        keeper(name, Two(), Carried((known(),), tensors))


def test_options_are_checked() -> None:
    with pytest.raises(OptionError, match="fisher='true': expected one of model, empirical"):
        methods.make("ewc", {"fisher": "true"})
    for name in KINDS:
        with pytest.raises(OptionError, match="samples=-1: expected 0, for all pictures, or more"):
            methods.make(name, {"samples": "-1"})
