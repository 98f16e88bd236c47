"""Train what a task owns: the one loop."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from maskpack.common.errors import OptionError, TrainingError
from maskpack.evaluation.evaluate import evaluate
from maskpack.methods.base import Carried, Keeper
from maskpack.methods.schedule import lr_factor
from maskpack.networks.masked import MaskedNetwork, named_params
from maskpack.runs.folder import State
from maskpack.tasks.loading import batches, count_batches
from maskpack.training.critic import Critic
from maskpack.training.size_penalty import coded_size
from maskpack.training.teacher import soft_loss

if TYPE_CHECKING:
    from maskpack.common.preprocess import Augment, Preprocess
    from maskpack.methods.base import Recipe
    from maskpack.tasks.base import LabelledImages, Task

OPTIMIZERS = ("adam", "adamw", "sgd", "nesterov")
KB = 8000  # bits
SELECTIONS = ("val", "test", "last")


@dataclass(frozen=True)
class Progress:
    """One optimiser step done; loss and metric are means over the epoch so far.

    The metric is None for a task that has none of single samples.
    """

    epoch: int
    step: int
    steps: int
    loss: float
    metric: float | None
    images_per_second: float


@dataclass(frozen=True)
class EpochDone:
    """An epoch trained and validated. `row` is its line of metrics."""

    row: dict[str, Any]
    seconds: float
    is_best: bool


class Stopped(Exception):
    """Raised by a `tick` to stop between two steps; the state is then consistent."""


@dataclass
class _Sums:
    """What an epoch has added up so far; saved when it is interrupted."""

    loss: float = 0.0
    metric: float | None = None
    count: int = 0


@dataclass
class Trainer:
    """Trains a masked network; can be saved and restored between any two steps.

    On CPU a restored trainer continues with the very numbers of an uninterrupted one.
    """

    network: MaskedNetwork
    task: Task
    train_data: LabelledImages
    val_data: LabelledImages
    recipe: Recipe
    preprocess: Preprocess
    augment: Augment
    select: str = "val"
    seed: int = 0
    workers: int = 0
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    amp: bool = False
    teacher: nn.Module | None = None
    carried: Carried = field(default_factory=Carried)  # of the earlier tasks of a sequence

    def __post_init__(self) -> None:
        self.network.to(self.device).to(memory_format=torch.channels_last)
        plain, head = self.network.network, self.network.head
        self.keeper = self.network.method.keeper(plain, head, self.carried) or Keeper()
        if self.teacher is not None:
            self.teacher.eval().to(self.device)
        self.network.keeps_masks = self.recipe.size_penalty > 0
        self.optimizers = make_optimizers(self.network, self.recipe, self.keeper.trained())
        self.critic = None
        if self.task.adversarial:
            channels = 3 + self.task.outputs()
            self.critic = Critic(channels, self.device, self.seed)
        # a batch of one picture has no variance for a batch norm to divide by
        self._drop_last = len(self.train_data) % self.recipe.batch_size == 1
        self.steps = count_batches(
            len(self.train_data), self.recipe.batch_size, drop_last=self._drop_last
        )
        if not self.steps:
            raise TrainingError("one picture is not enough to train on; expected two or more")
        self.epoch = self.step = 0
        self.history: list[dict[str, Any]] = []
        self.best: dict[str, Any] | None = None
        self._sums = _Sums()
        self._restored = False

    def run(self, tick: Callable[[], None] = lambda: None) -> Iterator[Progress | EpochDone]:
        """Train to the last epoch, from wherever the state stands.

        `tick` is called between steps; what it raises passes through, and the state can be saved.

        Raises:
            TrainingError: the loss is not a number.
        """
        if not self._restored:
            torch.manual_seed(self.seed)  # dropout and noise; data has generators of its own
        while self.epoch < self.recipe.epochs:
            begin = time.monotonic()
            yield from self._train_epoch(tick)
            row = self._validate(tick)
            self.keeper.validated(self.epoch, row)
            is_best = self._is_best(row)
            self.best = row if is_best else self.best
            self.history.append(row)
            self.epoch, self.step, self._sums = self.epoch + 1, 0, _Sums()
            yield EpochDone(row, time.monotonic() - begin, is_best)

    def _train_epoch(self, tick: Callable[[], None]) -> Iterator[Progress]:
        self.network.train()
        if self.step == 0:
            self.keeper.begin_epoch(self.epoch, self.recipe.epochs)
        data = batches(
            self.train_data,
            self.task.transform(self.preprocess, self.augment, training=True),
            batch_size=self.recipe.batch_size,
            shuffle=True,
            seed=self.seed,
            epoch=self.epoch,
            start_batch=self.step,
            workers=self.workers,
            drop_last=self._drop_last,
        )
        begin, seen = time.monotonic(), 0
        for images, target in data:
            tick()
            self._train_step(images, target)
            self.step += 1
            seen += len(images)
            sums, rate = self._sums, seen / (time.monotonic() - begin)
            yield Progress(
                self.epoch,
                self.step,
                self.steps,
                sums.loss / sums.count,
                None if sums.metric is None else sums.metric / sums.count,
                rate,
            )
        tick()

    def pictures(self) -> Iterator[tuple[Tensor, Tensor]]:
        """The training pictures and their targets, as they are scored, in batches."""
        self.network.eval()
        for images, target in batches(
            self.train_data,
            self.task.transform(self.preprocess, self.augment, training=False),
            batch_size=self.recipe.batch_size,
            shuffle=False,
            seed=self.seed,
            epoch=0,
            workers=self.workers,
        ):
            images = images.to(self.device, memory_format=torch.channels_last)
            yield images, target.to(self.device)

    def _train_step(self, images: Tensor, target: Tensor) -> None:
        images = images.to(self.device, memory_format=torch.channels_last)
        target = target.to(self.device)
        factor = self._rate(self.epoch + self.step / self.steps)
        for optimizer in self.optimizers.values():
            for group in optimizer.param_groups:
                group["lr"] = group["full_lr"] * factor
            optimizer.zero_grad(set_to_none=True)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.amp):
            output = self.network(images)
            taught = self._taught(images)
        output = output.float()
        loss = self.task.loss(output, target)
        if self.critic is not None:
            made = self.task.judged(output, target)
            self.critic.learn(images, made, self.task.real(target))
            loss = loss + self.critic.loss(images, made)
        if taught is not None:
            soft = soft_loss(output, taught.float(), self.recipe.temperature)
            loss = (1 - self.recipe.distill) * loss + self.recipe.distill * soft
        kept = self.keeper.loss(images, output)
        if kept is not None:
            loss = loss + kept
        value = float(loss.detach())
        if self.recipe.size_penalty:
            size = coded_size(self.network.used_masks, self.network.method.stores)
            loss = loss + self.recipe.size_penalty / KB * size
        if not math.isfinite(value):
            raise TrainingError(
                f"loss is {value} at epoch {self.epoch + 1}, step {self.step + 1}; "
                "a lower --lr may help, or check the pictures; the last epoch's state is kept"
            )
        loss.backward()
        if self.epoch >= self.recipe.epochs - self.recipe.freeze_epochs:
            for scores in self.network.scores():
                scores.grad = None  # the optimiser leaves it as it is, moments and all
        for parameter in self.network.at_rest(self.epoch, self.recipe.epochs):
            parameter.grad = None
        self.keeper.after_backward()
        for role, optimizer in self.optimizers.items():
            if role == "head" or self.epoch >= self.recipe.head_epochs:
                optimizer.step()
        self.keeper.after_step()
        if self.recipe.size_penalty:
            self.network.confine()
        self._sums.loss += value * len(images)
        shares = self.task.score(output.detach(), target)
        if shares is not None:
            self._sums.metric = (self._sums.metric or 0.0) + float(shares.sum())
        self._sums.count += len(images)

    def _rate(self, epoch: float) -> float:
        """Share of the full learning rate at a moment, given in epochs and fractions of one."""
        own = self.keeper.rate(epoch, self.recipe)
        return lr_factor(self.recipe, epoch) if own is None else own

    @torch.no_grad()
    def _taught(self, images: Tensor) -> Tensor | None:
        """What the teacher makes of a batch."""
        return None if self.teacher is None else self.teacher(images)

    def _validate(self, tick: Callable[[], None]) -> dict[str, Any]:
        score = evaluate(
            self.network.baked(),
            self.task,
            self.val_data,
            self.preprocess,
            self.augment,
            workers=self.workers,
            device=self.device,
            amp=self.amp,
            tick=tick,
        )
        if not math.isfinite(score.loss):
            raise TrainingError(
                f"validation loss is {score.loss} after epoch {self.epoch + 1}; "
                "a lower --lr may help; the last epoch's state is kept"
            )
        sums, metric = self._sums, self.task.metric
        row: dict[str, Any] = {
            "epoch": self.epoch + 1,
            "lr": self.recipe.lr * self._rate(self.epoch),
            "train_loss": sums.loss / sums.count,
        }
        if sums.metric is not None:
            row[f"train_{metric}"] = sums.metric / sums.count
        row["val_loss"] = score.loss
        row |= {f"val_{name}": value for name, value in score.values.items()}
        if self.network.layers and "mask" in self.network.method.stores:
            row["ones"] = mean_ones(self.network)
        return row

    def _is_best(self, row: dict[str, Any]) -> bool:
        if not self.keeper.chooses(self.epoch, self.recipe.epochs):
            return False
        if self.select == "last" or self.best is None:
            return True
        key = f"val_{self.task.metric}"
        if self.task.lower_is_better:
            return bool(row[key] < self.best[key])
        return bool(row[key] > self.best[key])

    # ---- saving and restoring

    def kept_tensors(self) -> dict[str, Tensor]:
        """What the keeper adds to the state, under the names a run's file keeps it by."""
        return {f"keeper/{name}": value for name, value in self.keeper.tensors().items()}

    def state(self) -> State:
        """Everything needed to continue from here."""
        tensors = learnt_tensors(self.network)
        tensors |= {f"counter/{name}": value for name, value in _counters(self.network).items()}
        if self.critic is not None:
            tensors |= {f"critic/{name}": value for name, value in self.critic.state().items()}
        tensors |= self.kept_tensors()
        tensors["rng/cpu"] = torch.get_rng_state()
        if self.device.type == "cuda":
            tensors["rng/cuda"] = torch.cuda.get_rng_state(self.device)
        for role, optimizer in self.optimizers.items():
            for place, parameter in enumerate(_parameters(optimizer)):
                for key, value in optimizer.state.get(parameter, {}).items():
                    if value is not None:
                        tensors[f"optimizer/{role}/{place}/{key}"] = torch.as_tensor(value)
        meta = {
            "epoch": self.epoch,
            "step": self.step,
            "history": self.history,
            "best": self.best,
            "sums": vars(self._sums),
        }
        return State(tensors, meta)

    def restore(self, state: State) -> None:
        """Inverse of `state`."""
        load_learnt(self.network, state)
        self.load_kept(state)
        counters = _counters(self.network)
        for key, value in state.tensors.items():
            kind, _, rest = key.partition("/")
            if kind == "counter":
                counters[rest].copy_(value)
            elif kind == "optimizer":
                role, place, name = rest.split("/")
                parameter = _parameters(self.optimizers[role])[int(place)]
                self.optimizers[role].state[parameter][name] = _like(parameter, value)
        if self.critic is not None:
            prefix = "critic/"
            learnt = {
                name.removeprefix(prefix): value
                for name, value in state.tensors.items()
                if name.startswith(prefix)
            }
            self.critic.restore(learnt)
        torch.set_rng_state(state.tensors["rng/cpu"])
        if "rng/cuda" in state.tensors and self.device.type == "cuda":
            torch.cuda.set_rng_state(state.tensors["rng/cuda"], self.device)
        self.epoch, self.step = state.meta["epoch"], state.meta["step"]
        self.history, self.best = state.meta["history"], state.meta["best"]
        self._sums = _Sums(**state.meta["sums"])
        self._restored = True

    @torch.no_grad()
    def load_kept(self, state: State) -> None:
        """Inverse of `kept_tensors`."""
        for key, value in self.kept_tensors().items():
            value.copy_(state.tensors[key])


def learnt_tensors(network: MaskedNetwork) -> dict[str, Tensor]:
    """Params and the task's own tensors under the names a run's file keeps them by."""
    tensors = {f"params/{layer}/{key}": value for layer, key, value in named_params(network)}
    for role, own in network.own_tensors().items():
        tensors |= {f"own/{role}/{name}": value for name, value in own.items()}
    return {key: value.detach() for key, value in tensors.items()}


@torch.no_grad()
def load_learnt(network: MaskedNetwork, state: State) -> None:
    """Copy a run's params and tensors into a network of the same making."""
    for key, value in learnt_tensors(network).items():
        value.copy_(state.tensors[key])


def _counters(network: MaskedNetwork) -> dict[str, Tensor]:
    """Integer buffers (batch counts of norms): part of the state, not of what is learnt."""
    return {n: b for n, b in network.network.named_buffers() if not b.is_floating_point()}


def _parameters(optimizer: torch.optim.Optimizer) -> list[nn.Parameter]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


def _like(parameter: Tensor, value: Tensor) -> Tensor:
    """`value` on the parameter's device and, where it is an average of it, in its layout."""
    if value.shape != parameter.shape or not value.dim():
        return value.to(parameter.device, copy=True)  # fused Adam counts its steps there
    return torch.empty_like(parameter, requires_grad=False).copy_(value)


def make_optimizers(
    network: MaskedNetwork, recipe: Recipe, more: Sequence[nn.Parameter] = ()
) -> dict[str, torch.optim.Optimizer]:
    """One optimiser for the head, one for the rest, `more` of a keeper included.

    Weight decay reaches only matrices and kernels that are trained themselves: decay on scores
    would pull them across their threshold, on frozen tensors it would change the backbone.

    Raises:
        OptionError: unknown optimiser.
    """
    groups = network.trained_groups()
    head = groups.pop("head", [])
    groups["weights"] = [*groups.get("weights", []), *more]
    decayed = [p for p in groups["weights"] if p.dim() > 1]
    rest = [p for ps in groups.values() for p in ps if not any(p is d for d in decayed)]
    optimizers = {}
    if rest or decayed:
        parts = [(rest, 0.0), (decayed, recipe.weight_decay)]
        optimizers["rest"] = _optimizer(recipe.opt, parts, recipe.lr, recipe.momentum)
    if head:
        matrices = [p for p in head if p.dim() > 1]
        parts = [(matrices, recipe.weight_decay), ([p for p in head if p.dim() <= 1], 0.0)]
        rate = recipe.lr if recipe.head_lr is None else recipe.head_lr
        opt = recipe.head_opt or recipe.opt
        optimizers["head"] = _optimizer(opt, parts, rate, recipe.momentum)
    return optimizers


def _optimizer(
    name: str, parts: list[tuple[list[nn.Parameter], float]], lr: float, momentum: float
) -> torch.optim.Optimizer:
    groups: list[dict[str, Any]] = [
        {"params": parameters, "weight_decay": decay, "full_lr": lr}
        for parameters, decay in parts
        if parameters
    ]
    if name == "adam":
        # L2 as torch's Adam has it; fused is one pass over 23 million scores, not ten
        return torch.optim.Adam(groups, lr=lr, fused=True)
    if name == "adamw":
        return torch.optim.AdamW(groups, lr=lr, fused=True)
    if name == "sgd":
        return torch.optim.SGD(groups, lr=lr, momentum=momentum, fused=True)
    if name == "nesterov":
        return torch.optim.SGD(groups, lr=lr, momentum=momentum, nesterov=True, fused=True)
    raise OptionError(f"--opt {name!r}: expected one of {', '.join(OPTIMIZERS)}")


def mean_ones(network: MaskedNetwork) -> float:
    """Share of ones over all mask bits of a network."""
    sizes = {name: mask["mask"].numel() for name, mask in network.eval().masks().items()}
    shares = network.share_of_ones()
    total = sum(sizes.values())
    return sum(shares[name] * size for name, size in sizes.items()) / max(total, 1)
