"""LwF and LwM: losses by hand, what is recalled, and which heads are trained."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest
import tiny
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from maskpack import methods
from maskpack.common.errors import OptionError
from maskpack.methods.base import Carried, Earlier
from maskpack.methods.sequences.lwf import distillation
from maskpack.methods.sequences.lwm import attention, attention_distance
from maskpack.methods.sequences.old_outputs import Recall, View, watch
from maskpack.networks.masked import MaskedNetwork

KINDS = ("lwf", "lwm")


def keeper(name: str, network: nn.Module, carried: Carried | None = None, **options: Any) -> Recall:
    method = methods.make(name, options)
    found = method.keeper(network, "fc", carried or earlier())
    assert isinstance(found, Recall)
    return found


def earlier(*classes: int, width: int = 8) -> Carried:
    generator = torch.Generator().manual_seed(5)
    heads = [
        {
            "weight": torch.randn(n, width, generator=generator),
            "bias": torch.randn(n, generator=generator),
        }
        for n in classes or (2, 7)
    ]
    return Carried(tuple(Earlier(f"task{i}", head) for i, head in enumerate(heads)))


def given(network: nn.Module, carried: Carried, images: Tensor) -> list[Tensor]:
    """What a network gives through each earlier head, the slow way."""
    outputs = []
    for task in carried.tasks:
        whole = copy.deepcopy(network)
        whole.fc = nn.Linear(8, len(task.head["bias"]))
        whole.fc.load_state_dict(dict(task.head))
        with torch.no_grad():
            outputs.append(whole.eval()(images))
    return outputs


def recalled(found: Recall, images: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    """Logits of the earlier tasks then and now."""
    views = found.then(images), found.now(images)
    then, now = ([output for view in each for output in view.outputs] for each in views)
    return then, now


def distance(old: list[Tensor], new: list[Tensor], temperature: float = 2.0) -> Tensor:
    return distillation([View(old, None)], [View(new, None)], temperature)


def changed(network: nn.Module) -> None:
    with torch.no_grad():
        network.last.weight.mul_(1.5)  # type: ignore[union-attr, operator]
        network.conv.weight.add_(0.1)  # type: ignore[union-attr, operator]


def test_distillation_by_hand() -> None:
    old, new = torch.tensor([[2.0, 0.0]]), torch.tensor([[0.0, 2.0]])
    # probabilities (e^2, 1) / (e^2 + 1), to the power of 1/2, normalised: (e, 1) / (e + 1)
    y, p = torch.softmax(old[0], 0), torch.softmax(new[0], 0)
    y, p = y**0.5 / (y**0.5).sum(), p**0.5 / (p**0.5).sum()
    expected = -(y * p.log()).sum()
    found = distance([old], [new])
    assert torch.allclose(found, expected)
    assert abs(float(found) - (torch.e * 1.3132617 + 0.3132617) / (torch.e + 1)) < 1e-6
    # the mean over pictures, the sum over tasks
    pictures = [torch.cat([old, old]), old], [torch.cat([new, old]), new]
    own = -(y * y.log()).sum()
    assert torch.allclose(distance(*pictures), (expected + own) / 2 + expected)


def test_nothing_is_closer_to_the_old_outputs_than_they_themselves() -> None:
    old = torch.randn(5, 4, generator=torch.Generator().manual_seed(0))
    new = old.clone().requires_grad_()
    distance([old], [new]).backward()
    assert torch.allclose(new.grad, torch.zeros(5, 4), atol=1e-7)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", KINDS)
def test_old_outputs_are_those_of_the_network_at_the_start(name: str) -> None:
    network, carried = tiny.plain(), earlier()
    images = next(tiny.batches())[0]
    expected = given(network, carried, images)
    found = keeper(name, network, carried)
    changed(network)
    network.train()(images)
    old, new = recalled(found, images)
    assert all(map(torch.equal, old, expected))
    network.eval()(images)
    new = recalled(found, images)[1]
    assert all(map(torch.allclose, new, given(network, carried, images)))
    assert not torch.equal(old[0], new[0])
    assert not any(output.requires_grad for output in old)


def test_loss_of_lwf_is_the_distillation_of_both_heads() -> None:
    network, carried = tiny.plain().eval(), earlier()
    images = next(tiny.batches())[0]
    found = keeper("lwf", network, carried, strength=0.5, temperature=3.0)
    old = given(network, carried, images)
    changed(network)
    new = given(network, carried, images)
    loss = found.loss(images, network(images))
    assert torch.allclose(loss, 0.5 * distance(old, new, 3.0))  # type: ignore[arg-type]


@pytest.mark.parametrize("name", KINDS)
def test_earlier_heads_are_trained_and_handed_on(name: str) -> None:
    network, carried = tiny.plain(), earlier()
    found = keeper(name, network, carried)
    images, labels = next(tiny.batches())
    changed(network)
    network.requires_grad_(True)
    output = network(images)
    loss = found.loss(images, output)
    assert loss is not None
    (loss + cross_entropy(output, labels)).backward()
    optimizer = torch.optim.SGD(found.trained(), lr=0.1)
    assert len(found.trained()) == 4
    assert all(parameter.grad.abs().sum() > 0 for parameter in found.trained())  # type: ignore[union-attr]
    assert network.conv.weight.grad.abs().sum() > 0  # type: ignore[union-attr, operator]
    optimizer.step()
    heads = found.heads()
    assert heads is not None
    for head, task in zip(heads, carried.tasks, strict=True):
        assert head.keys() == task.head.keys()
        assert not torch.equal(head["weight"], task.head["weight"])
    assert found.carry(list, cross_entropy) == {}


@pytest.mark.parametrize("name", KINDS)
def test_state_comes_back(name: str) -> None:
    network = tiny.plain()
    one, other = (keeper(name, copy.deepcopy(network)) for _ in range(2))
    with torch.no_grad():
        for parameter in one.trained():
            parameter.add_(1)
    kept = {key: tensor.clone() for key, tensor in one.tensors().items()}
    with torch.no_grad():
        for key, tensor in other.tensors().items():
            tensor.copy_(kept[key])
    assert all(map(torch.equal, one.trained(), other.trained()))


@pytest.mark.parametrize("name", KINDS)
def test_a_first_task_is_trained_as_by_fine_tuning(name: str) -> None:
    network = tiny.plain()
    found = keeper(name, network, Carried())
    images = next(tiny.batches())[0]
    assert found.loss(images, network(images)) is None
    assert found.trained() == [] and found.tensors() == {} and list(found.heads() or []) == []


@pytest.mark.parametrize("name", KINDS)
def test_a_copy_of_the_network_is_not_watched(name: str) -> None:
    """The one that is validated between two steps is a copy, hooks and all."""
    method = methods.make(name)
    masked = MaskedNetwork(tiny.plain(), "fc", method, {}, trained=("",))
    found = keeper(name, masked.network)
    images = next(tiny.batches())[0]
    masked(images)
    seen = found.seen.features
    masked.baked()(images + 1)
    assert found.seen.features is seen
    assert "before" not in masked.state_dict()
    assert set(masked.network.state_dict()) == set(tiny.plain().state_dict())


def with_norms(carried: Carried) -> Carried:
    """Every task with norms of its own."""
    generator = torch.Generator().manual_seed(2)

    def drawn() -> dict[str, Tensor]:
        keys = ("weight", "bias", "running_mean", "running_var")
        return {f"norm.{key}": torch.rand(8, generator=generator) + 0.5 for key in keys}

    return Carried(tuple(replace(task, norms=drawn()) for task in carried.tasks))


@pytest.mark.parametrize("name", KINDS)
def test_a_task_with_norms_of_its_own_is_recalled_with_them(name: str) -> None:
    network, carried = tiny.plain().train(), with_norms(earlier())
    images = next(tiny.batches())[0]

    def through(task: Earlier) -> Tensor:
        one = copy.deepcopy(network)
        one.load_state_dict(dict(task.norms), strict=False)
        return given(one, Carried((task,)), images)[0]

    expected = [through(task) for task in carried.tasks]
    found = keeper(name, network, carried)
    changed(network)
    before = {key: tensor.clone() for key, tensor in network.state_dict().items()}
    old, new = recalled(found, images)
    assert all(map(torch.allclose, old, expected))
    assert all(map(torch.allclose, new, map(through, carried.tasks)))
    assert all(torch.equal(t, before[key]) for key, t in network.state_dict().items())
    assert network.norm.training  # type: ignore[union-attr]
    output = network(images)
    loss = found.loss(images, output)
    assert loss is not None
    loss.backward()
    assert network.conv.weight.grad.abs().sum() > 0  # type: ignore[union-attr, operator]
    assert network.norm.weight.grad is None  # type: ignore[union-attr]  # the new task's own
    assert all(parameter.grad is not None for parameter in found.trained())


def test_attention_of_a_picture_is_that_of_the_task_whose_class_it_shows() -> None:
    """With norms that happen to be the same, a pass for each task gives what one for all does."""
    network, carried = tiny.plain().eval(), earlier()
    norms = {f"norm.{key}": tensor for key, tensor in network.norm.state_dict().items()}  # type: ignore[union-attr, operator]
    norms.pop("norm.num_batches_tracked")
    own = Carried(tuple(replace(task, norms=copy.deepcopy(norms)) for task in carried.tasks))
    images = next(tiny.batches())[0]
    losses = []
    for known in (carried, own):
        network = tiny.plain().eval()
        found = keeper("lwm", network, known)
        changed(network)
        losses.append(found.loss(images, network(images)))
    assert torch.allclose(*losses)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", KINDS)
def test_norms_are_of_one_kind_in_a_sequence(name: str) -> None:
    tasks = (earlier(3).tasks[0], with_norms(earlier(2)).tasks[0])
    with pytest.raises(OptionError, match=f"{name} after 'task0': some .* 'task0' has not"):
        keeper(name, tiny.plain(), Carried(tasks))


def test_heads_that_are_convolutions_work_as_well() -> None:
    network = nn.Sequential()
    network.add_module("body", nn.Conv2d(3, 4, 3))
    network.add_module("fc", nn.Conv2d(4, 5, 1))
    head = {"weight": torch.randn(2, 4, 1, 1), "bias": torch.zeros(2)}
    for name in KINDS:
        found = keeper(name, network, Carried((Earlier("a", head),)))
        images = next(tiny.batches())[0]
        output = network(images)
        assert found.now(images)[0].outputs[0].shape == (4, 2, 6, 6)
        loss = found.loss(images, output)
        assert loss is not None and loss.isfinite()
        loss.backward()


# ---- attention


class Looking(nn.Module):
    """A feature map, then its mean and a head: Grad-CAM has a closed form."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 2, 1, bias=False)
        self.pool = nn.AdaptiveAvgPool2d(8)  # larger than the map: no feature map of its own
        self.fc = nn.Linear(2, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.pool(self.conv(x)).mean((2, 3)))


def test_grad_cam_by_hand() -> None:
    features = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]], [[0.0, 1.0], [5.0, 1.0]]]])
    features.requires_grad_()
    weight = torch.tensor([4.0, -8.0])
    score = (features.mean((2, 3)) * weight).sum(1, keepdim=True)
    # alpha = weight / 4 places: relu(1 * A_0 - 2 * A_1)
    found = attention(score, features, keep_graph=False)
    assert torch.equal(found, torch.tensor([[1.0, 0.0, 0.0, 2.0]]))


def test_attention_distance_by_hand() -> None:
    old = torch.tensor([[3.0, 4.0], [1.0, 0.0], [0.0, 0.0], [2.0, 1.0]])
    new = torch.tensor([[6.0, 8.0], [0.0, 5.0], [1.0, 1.0], [0.0, 0.0]]).requires_grad_()
    # the same direction: 0; across: 1 + 1; no direction at all: 0
    found = attention_distance(old, new)
    assert torch.allclose(found, torch.tensor(2.0 / 4))
    found.backward()
    assert new.grad is not None and new.grad.isfinite().all()


def test_the_map_is_the_last_before_the_head_that_has_places() -> None:
    network = Looking()
    seen = watch(network, "fc")
    images = torch.randn(2, 3, 4, 4)
    network(images)
    assert seen.map is not None and torch.equal(seen.map, network.conv(images))
    assert seen.features is not None and seen.features.shape == (2, 2)
    network.pool = nn.Identity()  # type: ignore[assignment]
    network(images[:, :, :1, :1])
    assert seen.map is None


@pytest.mark.parametrize("top", ["old", "new"])
def test_loss_of_lwm_by_hand(top: str) -> None:
    torch.manual_seed(0)
    network, carried = Looking(), earlier(2, 3, width=2)
    images = torch.randn(6, 3, 4, 4) + torch.randn(6, 3, 1, 1) * 5
    found = keeper("lwm", network, carried, beta=0.25, gamma=2.0, top=top)
    before = network.conv.weight.detach().clone()
    with torch.no_grad():
        network.conv.weight.add_(torch.randn_like(network.conv.weight))
        for parameter in found.trained():
            parameter.add_(0.3 * torch.randn_like(parameter))
    heads = [dict(task.head) for task in carried.tasks], list(found.heads() or [])
    maps, outputs = [], []
    for weight, of in zip((before, network.conv.weight.detach()), heads, strict=True):
        maps.append(torch.nn.functional.conv2d(images, weight))
        pooled = maps[-1].mean((2, 3))
        outputs.append([pooled @ head["weight"].T + head["bias"] for head in of])
    classes = torch.cat(outputs[0 if top == "old" else 1], 1).argmax(1)
    assert len(set(classes.tolist())) > 1
    looks = []
    for features, of in zip(maps, heads, strict=True):
        alpha = torch.cat([head["weight"] for head in of])[classes] / 16
        looks.append((alpha[:, :, None, None] * features).sum(1).relu().flatten(1))
    expected = 0.25 * distance(*outputs) + 2 * attention_distance(*looks)
    loss = found.loss(images, network(images))
    assert loss is not None and torch.allclose(loss, expected, rtol=1e-5)
    assert attention_distance(*looks) > 0.1


def test_gradient_of_lwm_agrees_with_finite_differences() -> None:
    """Through the maps and, by a second derivative, through their weights alpha."""
    network, images = tiny.plain(), next(tiny.batches())[0]
    found = keeper("lwm", network, beta=0.0, temperature=1.0)
    changed(network)

    def value() -> Tensor:
        loss = found.loss(images, network(images))
        assert loss is not None
        return loss

    network.eval()
    parameters = [network.last.weight, found.trained()[0]]
    slopes = torch.autograd.grad(value(), parameters)  # type: ignore[arg-type]
    generator = torch.Generator().manual_seed(0)
    for parameter, slope in zip(parameters, slopes, strict=True):
        assert slope.abs().max() > 0.01
        along = torch.randn(slope.shape, generator=generator)
        ends = []
        for sign in (1, -2):
            with torch.no_grad():
                parameter += sign * 1e-4 * along  # type: ignore[operator]
            ends.append(float(value().detach()))
        with torch.no_grad():
            parameter += 1e-4 * along  # type: ignore[operator]
        numeric = (ends[0] - ends[1]) / 2e-4
        assert abs(numeric - float((slope * along).sum())) < 0.02 * (1 + abs(numeric))


def test_attention_comes_back_to_where_it_was() -> None:
    network, images = tiny.plain().eval(), next(tiny.batches())[0]
    found = keeper("lwm", network, beta=0.0)
    changed(network)
    optimizer = torch.optim.Adam([network.conv.weight, network.last.weight], lr=1e-3)  # type: ignore[list-item, union-attr]
    distances = []
    for _ in range(30):
        loss = found.loss(images, network(images))
        assert loss is not None
        distances.append(float(loss.detach()))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert distances[-1] < 0.7 * distances[0]


def test_lwm_says_where_there_is_nothing_to_look_at() -> None:
    network = nn.Sequential()
    network.add_module("flat", nn.Flatten())
    network.add_module("fc", nn.Linear(192, 5))
    found = keeper("lwm", network, earlier(2, width=192))
    images = next(tiny.batches())[0]
    with pytest.raises(OptionError, match="no feature map of more than one place"):
        found.loss(images, network(images))


def test_lwm_says_where_attention_cannot_be_differentiated() -> None:
    network = tiny.everything()
    found = keeper("lwm", network)
    images = next(tiny.batches())[0]
    with pytest.raises(OptionError, match=r"this network cannot: .*; take a convolutional network"):
        found.loss(images, network(images))


def test_options_are_checked() -> None:
    for name in KINDS:
        with pytest.raises(OptionError, match=r"temperature=0.0: expected a number above 0"):
            methods.make(name, {"temperature": "0"})
    with pytest.raises(OptionError, match="top='first': expected one of old, new"):
        methods.make("lwm", {"top": "first"})
