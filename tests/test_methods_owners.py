"""PackNet and CPG: ownership, pruning, schedules and scores by hand."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import nn

from maskpack import methods
from maskpack.common.errors import OptionError
from maskpack.methods.base import Carried, Earlier, Recipe
from maskpack.methods.sequences.cpg import CPG
from maskpack.methods.sequences.cpg_phases import RATIOS, Phases, cubic, least_ratio
from maskpack.methods.sequences.cpg_training import CPGKeeper, packed, unpacked
from maskpack.methods.sequences.owners import begin, prune
from maskpack.methods.sequences.packnet import PackNet, PackNetKeeper

# ---- pruning by hand


def pruned(weight: list[float], owner: list[int], number: int, share: float) -> Any:
    values, owners = torch.tensor(weight), torch.tensor(owner, dtype=torch.uint8)
    prune(values, owners, number, share)
    return values.tolist(), owners.tolist()


def test_the_smallest_of_a_tasks_weights_become_free() -> None:
    weight = [0.1, -0.4, 0.2, -0.3, 9.0, 0.01]
    owner = [2, 2, 2, 2, 1, 1]
    assert pruned(weight, owner, 2, 0.5) == (
        [0.0, pytest.approx(-0.4), 0.0, pytest.approx(-0.3), 9.0, pytest.approx(0.01)],
        [0, 2, 0, 2, 1, 1],  # the smallest of all is not the task's, and stays
    )


def test_weights_as_small_as_the_bound_go_together() -> None:
    # rank round(.5 * 4) = 2 has magnitude .2, and so has a third weight
    found = pruned([0.1, 0.2, -0.2, 0.3], [1] * 4, 1, 0.5)
    assert found == ([0.0, 0.0, 0.0, pytest.approx(0.3)], [0, 0, 0, 1])


def test_a_share_is_of_what_is_the_tasks_or_free_already() -> None:
    # of 4, one is free: .5 frees one more, and the third, another's, is not counted
    found = pruned([0.0, 0.5, 7.0, 0.6, 0.7], [0, 3, 1, 3, 3], 3, 0.5)
    assert found[1] == [0, 0, 1, 3, 3]


@pytest.mark.parametrize(("share", "left"), [(0.0, 4), (0.1, 4), (0.2, 3), (0.75, 1)])
def test_the_count_is_rounded(share: float, left: int) -> None:
    owners = pruned([0.1, 0.2, 0.3, 0.4], [1] * 4, 1, share)[1]
    assert owners.count(1) == left


def test_nothing_owned_is_nothing_pruned() -> None:
    assert pruned([1.0, 2.0], [1, 1], 2, 0.5) == ([1.0, 2.0], [1, 1])


class Line(nn.Module):
    """One masked layer of four weights and a bias, and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.line = nn.Linear(4, 1)
        self.fc = nn.Linear(1, 2)
        self.line.weight.data = torch.tensor([[4.0, -3.0, 2.0, -1.0]])
        self.line.bias.data.fill_(0.5)


def carried_of(keeper: PackNetKeeper | CPGKeeper, before: Carried) -> Carried:
    tensors = keeper.carry(list, nn.functional.cross_entropy)
    return Carried((*before.tasks, Earlier(f"t{len(before.tasks)}", {})), tensors)


NAME = "line.weight"


def test_a_backbone_keeps_its_largest_half_and_the_rest_is_free() -> None:
    network = Line()
    owners = begin(network, "fc", Carried(), keep=0.5)
    assert owners.owner[NAME].tolist() == [[1, 1, 2, 2]]
    assert network.line.weight.tolist() == [[4.0, -3.0, 0.0, 0.0]]
    assert (owners.number, owners.base, owners.first) == (2, True, False)


def test_without_a_backbone_to_keep_the_first_task_has_all() -> None:
    network = Line()
    owners = begin(network, "fc", Carried(), keep=0.0)
    assert owners.owner[NAME].tolist() == [[1, 1, 1, 1]]
    assert network.line.weight.tolist() == [[4.0, -3.0, 2.0, -1.0]]
    assert (owners.number, owners.base, owners.first) == (1, False, True)


def test_owners_of_another_network_are_refused() -> None:
    keeper = PackNet().keeper(Line(), "fc", Carried())
    assert isinstance(keeper, PackNetKeeper)
    carried = carried_of(keeper, Carried())
    wider = Line()
    wider.line = nn.Linear(5, 1)
    for network, found in ((wider, r"shape \(1, 4\), \(1, 5\) expected"), (Line(), "no owners")):
        if network is not wider:
            network.line2 = nn.Linear(1, 1)
        with pytest.raises(OptionError, match=found):
            PackNet().keeper(network, "fc", carried)


def test_at_most_255_owners() -> None:
    keeper = PackNet().keeper(Line(), "fc", Carried())
    assert isinstance(keeper, PackNetKeeper)
    carried = carried_of(keeper, Carried())
    many = Carried(carried.tasks * 255, carried.tensors)
    with pytest.raises(OptionError, match="task 257 of the sequence; expected 255 at most"):
        PackNet().keeper(Line(), "fc", many)


# ---- PackNet


def test_packnet_stores_owners_in_as_few_planes_as_tell_them_apart() -> None:
    # values 0 .. T: ceil(log2(T + 1)) bits
    for owners in range(1, 130):
        assert len(PackNet(owners=owners).stores) == math.ceil(math.log2(owners + 1))


def test_packnet_reads_weights_up_to_its_own() -> None:
    owner = torch.tensor([0, 1, 2, 3, 4])
    carried = Carried(
        tuple(Earlier(f"t{n}", {}) for n in range(3)),
        {"owner/w": owner.to(torch.uint8), "base": torch.tensor(1, dtype=torch.uint8)},
    )
    weight = torch.tensor([-1.0, -2.0, -3.0, 4.0, -5.0])
    expected = ([0, -2, -3, 0, 0], [0, -2, -3, 4, 0], [0, -2, -3, 4, -5])
    for number, values in enumerate(expected):
        reads, masks = PackNet().shared(number, carried)
        assert methods.options_of(reads)["owners"] == 4
        assert list(masks["w"]) == ["owner0", "owner1", "owner2"]
        found = reads.effective_weight(weight, masks["w"])
        assert found.tolist() == [float(value) for value in values]
        assert not torch.signbit(found[found == 0]).any()  # +0.0, as a pruned weight is


def test_packnet_lays_out_twenty_epochs_and_ten() -> None:
    keeper = PackNet().keeper(Line(), "fc", Carried())
    assert isinstance(keeper, PackNetKeeper)
    assert [PackNet().prunes_at(n) for n in (30, 3, 2)] == [20, 2, 1]
    rates = {epoch: keeper.rate(epoch, PackNet.recipe) for epoch in (0, 9.9, 10, 19, 20, 29.9)}
    assert rates == pytest.approx({0: 1, 9.9: 1, 10: 0.1, 19: 0.1, 20: 0.1, 29.9: 0.1})
    cosine = Recipe(epochs=30, sched="cosine")
    found = [keeper.rate(epoch, cosine) for epoch in (0, 10, 20, 25)]
    assert found == pytest.approx([1, 0.5, 0.1, 0.05])
    with pytest.raises(OptionError, match="--epochs 1: packnet trains, prunes and trains again"):
        PackNet().prunes_at(1)


@pytest.mark.parametrize(
    ("options", "known", "share"),
    [({}, 0, 0.75), ({"keep": 0.0}, 0, 0.5), ({"keep": 0.0}, 1, 0.75), ({"tasks": 2}, 1, 0.0)],
)
def test_packnet_prunes_the_first_the_others_and_not_the_last(
    options: dict[str, Any], known: int, share: float
) -> None:
    network, method, carried = Line(), PackNet(**options), Carried()
    for _ in range(known + 1):
        keeper = method.keeper(network, "fc", carried)
        assert isinstance(keeper, PackNetKeeper)
        carried = carried_of(keeper, carried)
    assert keeper.share == share


def test_packnet_prunes_once_and_only_what_is_pruned_may_be_chosen() -> None:
    network = Line()
    keeper = PackNet(keep=0.0).keeper(network, "fc", Carried())
    assert isinstance(keeper, PackNetKeeper)
    for epoch, left in ((0, 4), (1, 4), (2, 2), (2, 2)):
        keeper.begin_epoch(epoch, 3)
        assert int((network.line.weight != 0).sum()) == left
        assert keeper.chooses(epoch, 3) == (left == 2)


# ---- CPG


def test_the_cubic_schedule() -> None:
    # s = end + (start - end) (1 - t)^3
    found = [cubic(0.1, 0.2, t) for t in (-1, 0, 0.25, 0.5, 1, 2)]
    assert found == pytest.approx([0.1, 0.1, 0.2 - 0.1 * 0.421875, 0.2 - 0.1 * 0.125, 0.2, 0.2])


def test_cpg_lays_out_a_hundred_epochs_ten_times_twenty_and_thirty() -> None:
    phases = Phases.of(330, 0.3, 0.1)
    assert phases.rounds == tuple(99 + 198 * n // 10 for n in range(11))
    assert phases.ratios == RATIOS
    assert [phases.round_of(e) for e in (0, 98.9, 99, 296, 297, 329)] == [-1, -1, 0, 9, 10, 10]
    few = Phases.of(6, 0.3, 0.1)
    assert (few.rounds, few.ratios) == ((2, 3, 4, 5), (0.4, 0.7, 0.95))
    assert Phases.of(3, 0.3, 0.1) == Phases((1, 2), (0.95,))
    with pytest.raises(OptionError, match=r"--epochs 2 .* expected 3 epochs or more"):
        Phases.of(2, 0.3, 0.1)


def test_cpg_leaves_later_tasks_their_part() -> None:
    assert [least_ratio(5, n) for n in range(5)] == [0.8, 0.8, 0.7, 0.5, 0.0]
    assert least_ratio(0, 3) == 0.0  # nobody said how many there will be


def cpg_keeper(network: nn.Module, carried: Carried | None = None, **options: Any) -> CPGKeeper:
    found = CPG(**options).keeper(network, "fc", carried or Carried())
    assert isinstance(found, CPGKeeper)
    return found


def test_cpg_scores_learn_where_a_weight_is_an_earlier_ones() -> None:
    network = Line()
    keeper = cpg_keeper(network)
    keeper.begin_epoch(0, 3)
    network.line.weight.grad = torch.tensor([[10.0, 100.0, 1000.0, 10000.0]])
    keeper.after_backward()
    score = keeper.scores[NAME]
    assert score.grad is not None
    assert score.grad.tolist() == [[40.0, -300.0, 0.0, 0.0]]  # gradient times weight
    assert network.line.weight.grad.tolist() == [[0.0, 0.0, 1000.0, 10000.0]]
    keeper.after_step()  # Adam's first step is its learning rate
    expected = torch.tensor([[0.01 - 5e-4, 0.01 + 5e-4, 0.01, 0.01]])
    assert torch.allclose(score, expected, atol=1e-7)


def test_cpg_reads_an_earlier_weight_where_its_score_is_above_the_threshold() -> None:
    network = Line()
    keeper = cpg_keeper(network)
    keeper.begin_epoch(0, 3)
    with torch.no_grad():
        keeper.scores[NAME].copy_(torch.tensor([[0.005, 0.0051, 0.0, 0.0]]))
        network.line.weight += 1  # as momentum would
    keeper.method.__dict__["mask_lr"] = 0.0
    keeper.after_step()
    assert network.line.weight.tolist() == [[0.0, -3.0, 1.0, 1.0]]
    given = keeper.carry(list, nn.functional.cross_entropy)
    assert given[f"weight/{NAME}"].tolist() == [[4.0, -3.0, 1.0, 1.0]]
    mask = unpacked(given[f"mask0/{NAME}"], torch.Size([1, 4]))
    assert mask.tolist() == [[False, True, True, True]]
    assert given["value0/line.bias"].tolist() == [0.5]


def test_cpg_rates() -> None:
    keeper = cpg_keeper(Line())
    recipe = CPG.recipe
    moments = (0, 49, 50, 79.3, 99, 200, 300)
    found = [keeper.rate(epoch, recipe) for epoch in moments]
    assert found == pytest.approx([1, 1, 0.1, 0.01, 0.1, 0.1, 0.1])
    scores = []
    for epoch in (0, 48, 50, 70, 99, 200, 297):
        keeper.begin_epoch(epoch, 330)
        scores.append(keeper._scores_rate())
    assert scores == pytest.approx([5e-4, 5e-4, 1e-4, 0, 0, 0, 1e-4])


class Row(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.line = nn.Linear(100, 1, bias=False)
        self.fc = nn.Linear(1, 2)
        self.line.weight.data = torch.arange(1.0, 101.0).view(1, -1)


def rounds(keeper: CPGKeeper, accuracies: list[float], steps: int = 10) -> list[float]:
    """Share of free weights after each epoch, validated with these accuracies."""
    free = []
    for epoch, accuracy in enumerate(accuracies):
        keeper.begin_epoch(epoch, len(accuracies))
        for _ in range(steps):
            keeper.after_step()
        keeper.validated(epoch, {"val_accuracy": accuracy})
        free.append(round(keeper.owners.shares()["free"], 4))
    return free


@pytest.mark.parametrize(
    ("options", "ratio"),
    [
        ({}, 0.5),  # .9 is met up to .5, and again at .8: the highest counts
        ({"tolerance": 0.15}, 0.7),
        ({"goal": 0.99}, 0.0),
        ({"goal": 0.5}, 0.95),
        ({"goal": 0.99, "tasks": 2}, 0.5),
    ],
)
def test_cpg_goes_on_from_the_highest_ratio_that_meets_the_goal(
    options: dict[str, Any], ratio: float
) -> None:
    accuracies = [0.7, 0.9, *(0.9,) * 5, 0.8, 0.75, 0.74, 0.73, 0.6, 0.9]
    network = Row()
    keeper = cpg_keeper(network, keep=0.0, pick=2 / 13, retrain=1 / 13, **options)
    free = rounds(keeper, accuracies)
    assert free[:2] == [0.0, 0.0]
    assert free[2:12] == list(RATIOS)
    assert free[12] == keeper.record()["ratio"] == ratio
    kept = network.line.weight.detach()[0]
    assert torch.equal(kept != 0, torch.arange(100) >= round(100 * ratio))
    missed = options.get("goal", 0.0) > 0.905
    assert keeper.record()["missed"] == missed
    assert any("goal missed" in line for line in keeper.verdict()) == missed


def test_cpg_needs_a_task_that_is_scored_by_accuracy() -> None:
    keeper = cpg_keeper(Line())
    keeper.begin_epoch(0, 3)
    with pytest.raises(OptionError, match="this one has val_loss, val_miou; take another method"):
        keeper.validated(0, {"val_loss": 0.5, "val_miou": 0.5})


def test_mask_bits_come_back() -> None:
    bits = torch.rand(3, 5, 7) > 0.5
    assert torch.equal(unpacked(packed(bits), bits.shape), bits)


@pytest.mark.parametrize(
    ("method", "option"),
    [
        ("packnet", "prune=1"),
        ("packnet", "keep=1.5"),
        ("packnet", "retrain=-1"),
        ("packnet", "owners=256"),
        ("cpg", "threshold=0.02"),
        ("cpg", "frequency=0"),
        ("cpg", "goal=80"),
        ("cpg", "tasks=-1"),
    ],
)
def test_options_out_of_range_are_refused(method: str, option: str) -> None:
    key, _, value = option.partition("=")
    with pytest.raises(OptionError, match=f"^(?s:{key}|init_scale)=.*expected"):
        methods.make(method, {key: value})
