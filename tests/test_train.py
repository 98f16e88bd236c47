"""The one loop: rates, decay, when bits can flip, what stops it, and what it leaves alone."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import replace
from itertools import count
from types import SimpleNamespace
from typing import Any

import pytest
import tiny
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from maskpack import methods
from maskpack.backbones.base import Backbone
from maskpack.common.errors import OptionError, TrainingError
from maskpack.common.preprocess import Augment
from maskpack.methods.base import Recipe
from maskpack.methods.schedule import lr_factor
from maskpack.networks.build import task_network
from maskpack.networks.masked import MaskedNetwork
from maskpack.runs.folder import State
from maskpack.tasks import Classification
from maskpack.training.setup import check_recipe
from maskpack.training.size_penalty import coded_size
from maskpack.training.teacher import soft_loss
from maskpack.training.train_run import advice
from maskpack.training.trainer import (
    EpochDone,
    Progress,
    Stopped,
    Trainer,
    make_optimizers,
    mean_ones,
)


def network(backbone: Backbone, method: str = "piggyback", **options: Any) -> MaskedNetwork:
    norms = options.pop("norms", None)
    return task_network(backbone, methods.make(method, options), tiny.OUTPUTS, norms=norms)


def trainer(masked: MaskedNetwork, task: Classification | None = None, **recipe: Any) -> Trainer:
    task = task or tiny.task()
    recipe = {"epochs": 2, "batch_size": 4, "lr": 8e-3} | recipe
    return Trainer(
        masked,
        task,
        task.dataset("train"),
        task.dataset("val"),
        replace(masked.method.recipe, **recipe),
        tiny.PREPROCESS,
        Augment("resize", hflip=0.5),
    )


def run(trained: Trainer) -> list[Progress | EpochDone]:
    return list(trained.run())


# ---- learning rates


@pytest.mark.parametrize(
    ("recipe", "factors"),
    [
        (Recipe(), {0: 1, 14.99: 1, 15: 0.1, 29.99: 0.1, 30: 0.01}),
        (Recipe(decay_epochs=2, decay_rate=0.5), {1.9: 1, 2: 0.5, 4: 0.25}),
        (Recipe(sched="constant", epochs=3), {0: 1, 2.9: 1}),
        (
            Recipe(sched="multistep", decay_milestones=(5, 8), decay_rate=0.2),
            {4.9: 1, 5: 0.2, 7.9: 0.2, 8: 0.04, 30: 0.04},
        ),
        (
            Recipe(sched="cosine", epochs=10),
            {0: 1, 2.5: 0.5 + 0.5**1.5, 5: 0.5, 7.5: 0.5 - 0.5**1.5, 10: 0},
        ),
        (
            Recipe(sched="cosine", epochs=12, warmup_epochs=2),
            {0: 0.0005, 1: 0.5005, 2: 1, 7: 0.5, 12: 0},
        ),
        (Recipe(warmup_epochs=4, decay_epochs=5), {0: 0.00025, 2: 0.50025, 4: 1, 5: 0.1}),
        (Recipe(lr=1e-4, min_lr=1e-5, decay_epochs=1), {0: 1, 1: 0.1, 2: 0.1, 9: 0.1}),
        (Recipe(sched="cosine", epochs=10, lr=1e-4, min_lr=1e-5), {0: 1, 5: 0.55, 10: 0.1}),
        (Recipe(lr=0.0, min_lr=0.0), {0: 1, 15: 0.1}),
    ],
)
def test_schedules_by_hand(recipe: Recipe, factors: dict[float, float]) -> None:
    found = {epoch: lr_factor(recipe, epoch) for epoch in factors}
    assert found == pytest.approx(factors)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sched": "multistep"}, "--decay-milestones go together"),
        ({"decay_milestones": (5,)}, "--decay-milestones go together"),
        ({"sched": "multistep", "decay_milestones": (0, 5)}, "--decay-milestones 0,5: expected ep"),
        ({"opt": "nesterov", "momentum": 0.0}, "--opt nesterov needs --momentum above 0"),
    ],
)
def test_recipes_that_cannot_be(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        check_recipe(Recipe(**changes))


def test_nesterov_is_sgd_that_looks_ahead(plain: Backbone) -> None:
    made = make_optimizers(network(plain), Recipe(opt="nesterov", head_opt="sgd"))
    assert [made[role].defaults["nesterov"] for role in ("rest", "head")] == [True, False]


def test_the_papers_recipes() -> None:
    assert methods.make("piggyback").recipe == Recipe(30, 32, "adam", 1e-4)
    assert methods.make("ksm").recipe == Recipe(30, 32, "adam", 2e-4, sched="cosine")
    affine = methods.make("affine").recipe
    assert affine == Recipe(30, 32, "adam", 1e-4, head_opt="sgd", head_lr=1e-3)
    assert methods.make("fine-tune").recipe == Recipe(30, 32, "sgd", 1e-3)
    assert methods.make("classifier-only").recipe == Recipe(30, 32, "sgd", 1e-3, decay_epochs=30)


def test_unknown_schedules_and_optimisers_list_the_known(plain: Backbone) -> None:
    with pytest.raises(
        OptionError, match="--sched 'poly': expected one of step, multistep, cosine, const"
    ):
        lr_factor(Recipe(sched="poly"), 0)
    with pytest.raises(OptionError, match="--opt 'lamb': expected one of adam, adamw, sgd, nest"):
        make_optimizers(network(plain), Recipe(opt="lamb"))


def test_the_rate_follows_the_schedule_step_by_step(plain: Backbone) -> None:
    trained = trainer(network(plain), sched="cosine", lr=1e-3, head_lr=1e-2)
    seen: list[float] = []
    for event in trained.run():
        if isinstance(event, Progress):
            rates = {r: o.param_groups[0]["lr"] for r, o in trained.optimizers.items()}
            seen += [rates["rest"], rates["head"]]
    factors = [0.5 * (1 + math.cos(math.pi * step / 6)) for step in range(6)]  # 3 steps an epoch
    assert seen == pytest.approx([rate * f for f in factors for rate in (1e-3, 1e-2)])
    assert [row["lr"] for row in trained.history] == pytest.approx([1e-3, 0.5e-3])


# ---- what the optimisers hold


def decays(masked: MaskedNetwork, recipe: Recipe) -> dict[str, float]:
    """Weight decay by name of every parameter that is optimised."""
    names = {id(parameter): name for name, parameter in masked.named_parameters()}
    return {
        names[id(parameter)]: group["weight_decay"]
        for optimizer in make_optimizers(masked, recipe).values()
        for group in optimizer.param_groups
        for parameter in group["params"]
    }


@pytest.mark.parametrize("opt", ["adam", "adamw", "sgd"])
@pytest.mark.parametrize("method", [m for m in methods.METHODS if m not in methods.FITTED])
def test_decay_reaches_trained_matrices_only(everything: Backbone, method: str, opt: str) -> None:
    masked = network(everything, method, norms="task")
    found = decays(masked, Recipe(opt=opt, weight_decay=0.1))
    assert set(found) == {n for n, p in masked.named_parameters() if p.requires_grad}
    decayed = {name for name, decay in found.items() if decay}
    trained = {n for n, p in masked.network.named_parameters() if p.dim() > 1 and p.requires_grad}
    wanted = trained if masked.trained else {"fc.weight"}
    assert decayed == {f"network.{name}" for name in wanted}
    assert {found[name] for name in decayed} == {0.1}


@pytest.mark.parametrize("opt", ["adam", "adamw", "sgd"])
def test_decay_moves_neither_scores_nor_anything_frozen(everything: Backbone, opt: str) -> None:
    masked = network(everything, "affine", norms="frozen")
    before = {name: tensor.clone() for name, tensor in masked.state_dict().items()}
    optimizers = make_optimizers(masked, Recipe(opt=opt, lr=0.1, weight_decay=0.5))
    images = next(tiny.batches())[0]
    for _ in range(3):
        (0 * masked(images)).sum().backward()  # no gradient but the decay's
        for optimizer in optimizers.values():
            optimizer.step()
    moved = {n for n, t in masked.state_dict().items() if not torch.equal(t, before[n])}
    assert moved == {"network.fc.weight"}


def test_head_and_masks_have_optimisers_of_their_own(plain: Backbone) -> None:
    recipe = methods.make("affine").recipe
    found = make_optimizers(network(plain, "affine"), replace(recipe, momentum=0.7))
    assert {role: type(o).__name__ for role, o in found.items()} == {"rest": "Adam", "head": "SGD"}
    assert found["rest"].param_groups[0]["lr"] == 1e-4
    assert found["head"].param_groups[0]["lr"] == 1e-3
    assert found["head"].param_groups[0]["momentum"] == 0.7


# ---- when a bit can flip


FLIPS = [  # method, options, rate, first step at which a bit can flip
    ("piggyback", {}, 1e-4, 51),
    ("ksm", {"gradient": "ste"}, 2e-4, 26),
    ("piggyback", {"threshold": 0.0}, 1e-4, 101),
]


def _first_flip(masked: MaskedNetwork, lr: float, loss: Callable[[], Tensor]) -> int:
    (optimizer,) = make_optimizers(masked, Recipe(lr=lr, head_lr=0.0)).values()
    for step in count(1):
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()
        if min(masked.share_of_ones().values()) < 1:
            return step
    raise AssertionError


@pytest.mark.parametrize(("method", "options", "lr", "steps"), FLIPS)
def test_under_a_steady_gradient_the_first_bit_flips_at_its_step(
    plain: Backbone, method: str, options: dict[str, Any], lr: float, steps: int
) -> None:
    masked = network(plain, method, **options)
    masked.network.fc.requires_grad_(False)

    def size() -> Tensor:
        return sum((w.abs().sum() for w in masked.effective_weights().values()), torch.zeros(()))

    assert _first_flip(masked, lr, size) == steps


@pytest.mark.parametrize(("method", "options", "lr", "steps"), FLIPS)
def test_in_real_training_the_first_bit_flips_about_then(
    plain: Backbone, method: str, options: dict[str, Any], lr: float, steps: int
) -> None:
    """Not exactly: under a growing gradient Adam's step is a little more than the rate."""
    masked = network(plain, method, **options)
    masked.network.fc.requires_grad_(False)
    images, labels = next(tiny.batches())
    first = _first_flip(masked, lr, lambda: cross_entropy(masked(images), labels))
    assert abs(first - steps) <= 0.1 * steps


def _advice(masked: MaskedNetwork, steps: int, **recipe: Any) -> list[str]:
    """What is said of a training of `steps` steps an epoch."""
    session = SimpleNamespace(network=masked, recipe=replace(masked.method.recipe, **recipe))
    return advice(session, SimpleNamespace(steps=steps))  # type: ignore[arg-type]


def test_a_training_too_short_for_any_bit_is_told_so(plain: Backbone) -> None:
    masked = network(plain)
    enough = _advice(masked, 20, epochs=3)
    assert enough == ["a mask bit can flip after about 51 optimiser steps; 60 are planned"]
    short = _advice(masked, 20, epochs=2)
    assert short[0] == "a mask bit can flip after about 51 optimiser steps; 40 are planned"
    assert short[1].startswith("warning: with this schedule no bit can flip")
    edge = _advice(masked, 25, epochs=2)  # 50 steps, and the 51st flips
    assert edge[1].startswith("warning: with this schedule no bit can flip")
    for epochs in ({"head_epochs": 1}, {"freeze_epochs": 1}):  # in which no bit can flip
        fewer = _advice(masked, 20, epochs=3, **epochs)
        assert fewer[0] == "a mask bit can flip after about 51 optimiser steps; 40 are planned"
    decayed = _advice(masked, 40, epochs=3, decay_epochs=1)  # 40 full steps, then a tenth
    assert decayed[1].startswith("warning: with this schedule no bit can flip")


def test_no_advice_where_steps_have_no_size(plain: Backbone) -> None:
    assert _advice(network(plain), 1, opt="sgd") == []
    assert _advice(network(plain), 1, lr=0.0) == []
    assert _advice(network(plain, "classifier-only"), 1) == []


# ---- the loop


def test_events_and_rows(plain: Backbone) -> None:
    trained = trainer(network(plain, "ksm"), tiny.task(train=10))
    events = run(trained)
    assert [type(event) for event in events] == [*[Progress] * 3, EpochDone] * 2
    steps = [event for event in events if isinstance(event, Progress)]
    assert [(event.epoch, event.step, event.steps) for event in steps] == [
        (epoch, step, 3) for epoch in (0, 1) for step in (1, 2, 3)
    ]
    epochs = [event for event in events if isinstance(event, EpochDone)]
    assert [event.row for event in epochs] == trained.history
    row = trained.history[0]
    assert list(row) == [
        "epoch", "lr", "train_loss", "train_accuracy", "val_loss", "val_accuracy", "ones",
    ]  # fmt: skip
    assert row["train_loss"] == pytest.approx(steps[2].loss)
    assert row["train_accuracy"] == pytest.approx(steps[2].metric)
    assert row["ones"] == pytest.approx(0, abs=1) and trained.best in trained.history
    assert trained.history[1]["ones"] == mean_ones(trained.network)


def test_it_learns(plain: Backbone) -> None:
    trained = trainer(network(plain, "fine-tune"), opt="adam", lr=1e-2, epochs=12)
    run(trained)
    assert trained.history[-1]["train_loss"] < 0.5 * trained.history[0]["train_loss"]
    assert trained.best is not None and trained.best["val_accuracy"] == 1.0


@pytest.mark.parametrize(("select", "best"), [("val", 2), ("last", 4)])
def test_the_best_epoch_is_the_first_of_the_highest_score(
    plain: Backbone, select: str, best: int
) -> None:
    trained = replace(trainer(network(plain)), select=select)
    kept = []
    for value in (0.5, 0.75, 0.75, 0.6):
        row = {"epoch": len(kept) + 1, "val_accuracy": value}
        if trained._is_best(row):
            trained.best = row
        kept.append(row)
    assert trained.best is not None and trained.best["epoch"] == best


# ---- training for size


@pytest.mark.parametrize("method", ["piggyback", "ksm", "affine"])
def test_a_size_penalty_makes_codes_smaller(plain: Backbone, method: str) -> None:
    options = {"init": "zeros", "init_low": 5e-3, "init_high": 5e-3} if method == "affine" else {}
    sizes = []
    for penalty in (0.0, 1.0, 1e4):
        masked = network(plain, method, **options)
        run(trainer(masked, epochs=6, size_penalty=penalty))
        with torch.no_grad():
            sizes.append(float(coded_size(masked.eval().masks(), masked.method.stores)))
    assert sizes[0] > sizes[1] >= sizes[2] == 0


def test_a_size_penalty_lets_no_score_wander_off(plain: Backbone) -> None:
    masked = network(plain)
    run(trainer(masked, epochs=6, size_penalty=1e4))
    highest = max(float(scores.detach().max()) for scores in masked.scores())
    assert highest == pytest.approx(1e-2)


def test_scores_that_begin_next_to_their_threshold_may_go_on(plain: Backbone) -> None:
    masked = network(plain, "affine")
    run(trainer(masked, epochs=6, size_penalty=1.0))
    assert max(float(scores.detach().max()) for scores in masked.scores()) > 1e-2


def test_the_loss_that_is_shown_is_the_tasks_own(plain: Backbone) -> None:
    rows = []
    for penalty in (0.0, 100.0):
        trained = trainer(network(plain), epochs=1, lr=0.0, size_penalty=penalty)
        run(trained)
        rows.append(trained.history[0]["train_loss"])
    assert rows[0] == rows[1]


def test_the_soft_loss_by_hand() -> None:
    ours, theirs = torch.tensor([[2.0, 0.0]]), torch.tensor([[0.0, 0.0]])
    p = 1 / (1 + math.exp(-1))  # ours at temperature 2; theirs is one half each
    expected = 4 * (0.5 * math.log(0.5 / p) + 0.5 * math.log(0.5 / (1 - p)))
    assert float(soft_loss(ours, theirs, 2.0)) == pytest.approx(expected)
    assert float(soft_loss(ours, ours + 3, 2.0)) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(("distill", "same"), [(1.0, True), (0.0, False)])
def test_a_teacher_stands_for_the_labels(plain: Backbone, distill: float, same: bool) -> None:
    teacher = network(plain, "fine-tune", norms="task").baked()
    images, labels = torch.randn(4, 3, 8, 8), torch.tensor([0, 1, 2, 0])
    found = []
    for target in (labels, (labels + 1) % 3):
        torch.manual_seed(0)
        student = trainer(network(plain), distill=distill)
        student = replace(student, teacher=teacher)
        student._train_step(images, target)
        found.append(student.network.network.get_submodule("fc").weight.detach().clone())
    assert torch.equal(*found) == same


def test_at_first_only_the_head_learns(plain: Backbone) -> None:
    masked = network(plain, norms="scale")
    moved = []
    trained = trainer(masked, epochs=2, head_epochs=1)
    before = [[p.detach().clone() for p in ps] for ps in masked.trained_groups().values()]
    for event in trained.run():
        if isinstance(event, EpochDone):
            groups = masked.trained_groups()
            after = [[p.detach().clone() for p in ps] for ps in groups.values()]
            pairs = zip(groups, before, after, strict=True)
            moved.append({role for role, a, b in pairs if not all(map(torch.equal, a, b))})
            before = after
    assert moved == [{"head"}, {"head", "norms", "scores"}]


def test_frozen_bits_stay_while_all_else_goes_on(plain: Backbone) -> None:
    masked = network(plain, "affine", norms="task")
    trained = trainer(masked, epochs=3, freeze_epochs=1)
    scores: list[list[Tensor]] = []
    others: list[list[Tensor]] = []
    for event in trained.run():
        if isinstance(event, EpochDone):
            scores.append([value.detach().clone() for value in masked.scores()])
            every = {id(value) for value in masked.scores()}
            moving = (p for p in masked.parameters() if p.requires_grad and id(p) not in every)
            others.append([p.detach().clone() for p in moving])
    first, second, third = scores
    assert not all(map(torch.equal, first, second))
    assert all(map(torch.equal, second, third))
    assert not all(map(torch.equal, others[1], others[2]))


def test_the_same_seed_gives_the_same_bits(plain: Backbone) -> None:
    first, again, other = (
        replace(trainer(network(plain, "ksm", gumbel=True)), seed=seed) for seed in (1, 1, 2)
    )
    for trained in (first, again, other):
        run(trained)
    assert first.history == again.history
    assert _equal(first.state(), again.state())
    assert not _equal(first.state(), other.state())


def test_a_restored_trainer_goes_on_as_if_nothing_had_happened(plain: Backbone) -> None:
    whole = trainer(network(plain, "ksm", gumbel=True))
    run(whole)
    for stop in (1, 3, 4, 7):  # within an epoch, and between two
        cut = trainer(network(plain, "ksm", gumbel=True))
        ticks = iter(range(stop))

        def tick(ticks: Any = ticks) -> None:
            if next(ticks, None) is None:
                raise Stopped

        with pytest.raises(Stopped):
            list(cut.run(tick))
        state = copy.deepcopy(cut.state())
        torch.rand(7)  # somebody else's random numbers
        resumed = trainer(network(plain, "ksm", gumbel=True))
        resumed.restore(state)
        run(resumed)
        assert resumed.history == whole.history
        assert _equal(resumed.state(), whole.state())


def _equal(a: State, b: State) -> bool:
    same = all(torch.equal(a.tensors[key], b.tensors[key]) for key in a.tensors)
    return same and a.tensors.keys() == b.tensors.keys() and a.meta == b.meta


class Diverging(Classification):
    """Whose loss is `value` in the second step of the second epoch."""

    value = math.nan
    steps = 0

    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        self.steps += len(target) == 4  # scoring takes batches of six
        return super().loss(output, target) * (self.value if self.steps == 5 else 1)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_that_is_no_number_stops_with_epoch_and_step(plain: Backbone, value: float) -> None:
    whole = tiny.task()
    data = {split: whole.dataset(split) for split in whole.splits()}
    task = Diverging("shades", whole.classes, data)
    task.value = value
    trained = trainer(network(plain), task)
    with pytest.raises(TrainingError, match=rf"loss is {value} at epoch 2, step 2; a lower --lr"):
        run(trained)
    assert (trained.epoch, trained.step, task.steps) == (1, 1, 5)
    assert all(tensor.isfinite().all() for tensor in trained.network.state_dict().values())


@pytest.mark.parametrize("method", [m for m in methods.METHODS if m not in methods.FITTED])
def test_frozen_norms_do_not_drift(everything: Backbone, method: str) -> None:
    masked = network(everything, method, norms="frozen")
    run(trainer(masked, weight_decay=0.5, epochs=3))
    before, after = everything.module.state_dict(), masked.network.state_dict()
    norms = [n for n in before if n.startswith(("norm.", "instance.", "layer_norm."))]
    assert len(norms) == 12  # 2 counters among them
    own = tuple(f"{part}." for part in masked.trained if part)  # whose norms are the part's
    shared = [n for n in norms if not n.startswith(own)]
    assert [n for n in shared if not torch.equal(before[n], after[n])] == []


def test_the_backbone_does_not_drift(everything: Backbone) -> None:
    masked = network(everything, "affine", norms="task")
    run(trainer(masked, weight_decay=0.5, opt="sgd"))
    before, after = everything.module.state_dict(), masked.network.state_dict()
    own = ("norm.", "instance.", "layer_norm.", "fc.")
    frozen = [name for name in before if not name.startswith(own)]
    assert [name for name in frozen if not torch.equal(before[name], after[name])] == []


@pytest.mark.parametrize("method", ["piggyback", "ksm", "affine"])
def test_mixed_precision_keeps_scores_float32(everything: Backbone, method: str) -> None:
    masked = network(everything, method)
    trained = replace(trainer(masked), amp=True)
    used, lost = set(), set()
    hook = masked.network.stem.register_forward_hook(lambda *args: used.add(args[-1].dtype))
    loss = trained.task.loss
    trained.task.loss = lambda *args: lost.add(args[0].dtype) or loss(*args)  # type: ignore[func-returns-value, method-assign]
    run(trained)
    hook.remove()
    assert used == {torch.bfloat16}
    assert lost == {torch.float32}  # bfloat16 has three digits
    floats = [t for t in trained.state().tensors.values() if t.is_floating_point()]
    assert {tensor.dtype for tensor in floats} == {torch.float32}
    start = dict(network(everything, method).named_parameters())
    moved = {name: not torch.equal(p, start[name]) for name, p in masked.named_parameters()}
    assert all(moved[name] for name in moved if name.startswith("params."))


def test_a_last_batch_of_one_picture_is_left_out(everything: Backbone) -> None:
    # a trained norm on a 1 x 1 map cannot take it; 13 pictures in fours are three batches
    trained = trainer(network(everything, "ksm"), tiny.task(train=13), epochs=1)
    steps = [event for event in run(trained) if isinstance(event, Progress)]
    assert len(steps) == trained.steps == 3
