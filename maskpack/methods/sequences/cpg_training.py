"""How CPG trains a task: pick and train, prune round by round, retrain what was chosen."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from maskpack.common.errors import OptionError
from maskpack.methods.base import Batches, Carried, Keeper, Loss, Recipe
from maskpack.methods.schedule import phase_factor
from maskpack.methods.sequences.cpg_phases import Phases, cubic, least_ratio
from maskpack.methods.sequences.owners import begin, other_parameters, under
from maskpack.packs.bits import pack_bits, unpack_bits

if TYPE_CHECKING:
    from maskpack.methods.sequences.cpg import CPG

# prefixes of what a run hands on: every weight whole, and of each task mask bits and biases
WEIGHTS = "weight/"
MASKS, VALUES = "mask{}/", "value{}/"
BEFORE = "before"  # there too, once it has grown: tasks that narrower networks learnt

ACCURACY = "val_accuracy"
PRUNING_RATE = 0.1  # of the learning rate, once the first pruning begins
PRUNED_WITHIN = 0.2  # of a round; the rest of it recovers
RETRAINED_MASKS = 0.2  # of the scores' learning rate, in the last phase
MISSED_BY = 0.005  # below the goal before pruning, the network is too narrow


class CPGKeeper(Keeper):
    """The network computes with effective weights all along: those of other owners are 0 where the
    task does not pick them, and come back from what is held.

    So a score's gradient is that of the effective weight times the weight, straight through.
    """

    def __init__(self, method: CPG, network: nn.Module, head: str, carried: Carried) -> None:
        self.method, self.network, self.carried = method, network, carried
        named = dict(network.named_parameters())
        with torch.no_grad():
            for name, weight in under(WEIGHTS, carried.tensors).items():
                if name in named and weight.shape == named[name].shape:
                    named[name].copy_(weight)  # `begin` says what does not fit
        self.owners = begin(network, head, carried, method.keep)
        self.others = other_parameters(network, head)
        self.least = least_ratio(method.tasks, tasks_before(carried))
        self.owns = self.owners.shares()["owned"] > 0
        self.scores: dict[str, nn.Parameter] = {}
        if not self.owners.first:
            self.scores = {
                name: nn.Parameter(torch.full_like(weight, method.init_scale))
                for name, weight in self.owners.weights.items()
            }
            self.adam = _adam(self.scores)
        # epoch, epochs, steps done of this epoch, steps of a whole one
        self.clock = torch.zeros(4, dtype=torch.int64)
        # best accuracy before pruning, the ratio that was chosen
        self.marks = torch.zeros(2, dtype=torch.float64)
        self.chosen = {name: tensor.detach().clone() for name, tensor in self._state().items()}

    # ---- what happens when

    def phases(self, epochs: int) -> Phases:
        return Phases.of(epochs, self.method.pick, self.method.retrain)

    def begin_epoch(self, epoch: int, epochs: int) -> None:
        steps, whole = self.clock.tolist()[2:]
        self.clock.copy_(torch.tensor([epoch, epochs, 0, steps or whole]))
        if epoch == self.phases(epochs).rounds[-1]:
            with torch.no_grad():
                for name, tensor in self._state().items():
                    tensor.copy_(self.chosen[name])

    def after_backward(self) -> None:
        for name, score in self.scores.items():
            gradient = self.owners.weights[name].grad
            if gradient is not None:
                # a weight that is not held is 0 there, and so is its score's gradient
                score.grad = gradient * self.owners.held[name]
        self.owners.hold_gradients()

    def after_step(self) -> None:
        self.clock[2] += 1
        rate = self._scores_rate()
        if self.scores and rate:
            self.adam.param_groups[0]["lr"] = rate
            self.adam.step()
        self.owners.put_back(self._picked())
        ratio = self._due()
        if ratio is not None:
            self.owners.prune(ratio)

    def validated(self, epoch: int, row: Mapping[str, object]) -> None:
        accuracy = row.get(ACCURACY)
        if not isinstance(accuracy, float):
            found = ", ".join(name for name in row if name.startswith("val_"))
            raise OptionError(
                f"cpg prunes by a task's accuracy, and this one has {found}; take another method"
            )
        phases = self.phases(int(self.clock[1]))
        which = phases.round_of(epoch)
        if which < 0:
            self.marks[0] = max(float(self.marks[0]), accuracy)
            if epoch + 1 == phases.rounds[0]:
                self._choose(0.0)
        elif which < len(phases.ratios) and epoch + 1 == phases.rounds[which + 1]:
            wanted = (self.method.goal or float(self.marks[0])) - self.method.tolerance
            if accuracy >= wanted or float(self.marks[1]) < self.least:
                self._choose(phases.ratios[which])

    def chooses(self, epoch: int, epochs: int) -> bool:
        return epoch >= self.phases(epochs).rounds[-1]

    def rate(self, epoch: float, recipe: Recipe) -> float:
        phases = self.phases(recipe.epochs)
        which = phases.round_of(epoch)
        ends = (0, *phases.rounds, recipe.epochs)
        share = PRUNING_RATE if which >= 0 else 1.0
        if recipe.sched == "step":
            # the paper's decays are at half and at .8 of the first phase, and none later
            done = epoch / phases.rounds[0] if which < 0 else 0.0
            share *= recipe.decay_rate ** ((done >= 0.5) + (done >= 0.8))
            recipe = dataclasses.replace(recipe, sched="constant")
        return phase_factor(recipe, epoch, ends[which + 1], ends[which + 2], share)

    def too_narrow(self, done: int, epochs: int) -> bool:
        return done >= self.phases(epochs).rounds[0] and bool(self.record()["missed"])

    # ---- what is kept, and what is said of it

    def tensors(self) -> dict[str, Tensor]:
        kept = {**self.owners.tensors(), "clock": self.clock, "marks": self.marks}
        kept |= {f"chosen/{name}": tensor for name, tensor in self.chosen.items()}
        for name, score in self.scores.items():
            kept[f"scores/{name}"] = score.detach()
            kept |= {f"adam/{key}/{name}": t for key, t in self.adam.state[score].items()}
        return kept

    @torch.no_grad()
    def carry(self, batches: Batches, loss: Loss) -> dict[str, Tensor]:
        number = len(self.carried.tasks)
        mask, value = MASKS.format(number), VALUES.format(number)
        given = dict(self.carried.tensors)  # earlier masks and biases stay as they are
        given |= self.owners.carry()
        for name, weight in self.owners.weights.items():
            mine, earlier = self.owners.mine(name), self.owners.earlier(name)
            if name in self.scores:
                earlier &= self.scores[name] > self.method.threshold
            given[WEIGHTS + name] = torch.where(mine, weight, self.owners.held[name])
            given[mask + name] = packed(mine | earlier)
        return given | {value + name: other.detach() for name, other in self.others.items()}

    def record(self) -> dict[str, Any]:
        best, ratio = self.marks.tolist()
        goal = self.method.goal or best
        said = {"goal": goal, "picked": best, "ratio": ratio, "missed": best < goal - MISSED_BY}
        return said | self.owners.shares()

    def verdict(self) -> list[str]:
        said = self.record()
        lines = []
        if said["missed"]:
            lines.append(
                f"warning: goal missed: validation accuracy {said['picked']:.4f} before pruning, "
                f"expected {said['goal']:.4f}; grow: start the sequence on a wider --backbone"
            )
        if self.owns and not said["free"]:
            lines.append(
                "warning: no ratio of pruning met the goal, and no weight is left for another "
                "task; a larger tolerance, or tasks, leaves some"
            )
        return lines

    # ---- steps

    def _picked(self) -> dict[str, Tensor] | None:
        """What is held, 0 where the task does not pick it; None: all of it."""
        if not self.scores:
            return None
        threshold = self.method.threshold
        return {
            name: torch.where(self.scores[name] > threshold, held, 0)
            for name, held in self.owners.held.items()
        }

    def _scores_rate(self) -> float:
        """Learning rate of the scores: x 0.2 at half of the first phase, 0 at .7 of it.

        A task without a weight of its own goes on picking.
        """
        epoch, epochs = self.clock.tolist()[:2]
        phases = self.phases(epochs)
        which = phases.round_of(epoch)
        if which < 0:
            done = epoch / phases.rounds[0]
            share = 1.0 if done < 0.5 else 0.2 if done < 0.7 or not self.owns else 0.0
        else:
            share = 0.0 if which < len(phases.ratios) else RETRAINED_MASKS
        return share * self.method.mask_lr

    def _due(self) -> float | None:
        """The share to be pruned after this step; None where none is due."""
        epoch, epochs, step, whole = self.clock.tolist()
        phases = self.phases(epochs)
        which = phases.round_of(epoch)
        if not 0 <= which < len(phases.ratios):
            return None
        begin, end = phases.rounds[which : which + 2]
        done = (epoch - begin) * whole + step
        span = max(round((end - begin) * whole * PRUNED_WITHIN), 1)
        if done > span or (done % self.method.frequency and done != span):
            return None
        return cubic((0.0, *phases.ratios)[which], phases.ratios[which], done / span)

    def _state(self) -> dict[str, Tensor]:
        """What the rounds change: the network's floats, and whose they are. Scores they do not."""
        state = self.network.state_dict(keep_vars=True)
        floats = {name: tensor for name, tensor in state.items() if tensor.is_floating_point()}
        return floats | self.owners.tensors()

    @torch.no_grad()
    def _choose(self, ratio: float) -> None:
        """Remember the network as it is, pruned to this ratio."""
        self.marks[1] = ratio
        for name, tensor in self._state().items():
            self.chosen[name].copy_(tensor)


def tasks_before(carried: Carried) -> int:
    """Tasks of the sequence until now, those on narrower networks among them."""
    narrow = carried.tensors.get(BEFORE)
    return len(carried.tasks) + (0 if narrow is None else int(narrow))


def _adam(scores: Mapping[str, nn.Parameter]) -> torch.optim.Adam:
    """Adam whose state is there from the start, so that a run can be restored into it."""
    adam = torch.optim.Adam(scores.values(), fused=True)
    for score in scores.values():
        adam.state[score] = {
            "step": torch.zeros((), device=score.device),
            "exp_avg": torch.zeros_like(score),
            "exp_avg_sq": torch.zeros_like(score),
        }
    return adam


def packed(bits: Tensor) -> Tensor:
    """Booleans of any shape -> their bytes, uint8 of one dimension."""
    return torch.from_numpy(pack_bits(bits.detach().cpu().contiguous().numpy()))


def unpacked(data: Tensor, shape: torch.Size) -> Tensor:
    """Inverse of `packed`."""
    return torch.from_numpy(unpack_bits(data.cpu().numpy(), tuple(shape)))
