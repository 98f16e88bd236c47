"""What a method is: three pure functions of one weight, and how its paper trains it."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from torch import Generator, Tensor, nn

from maskpack.backbones.layers import Layer
from maskpack.backbones.widening import Widen
from maskpack.common.errors import OptionError

Params = Mapping[str, Tensor]  # trainables of one weight, by name
Mask = Mapping[str, Tensor]  # what the file keeps for one weight, by name


@dataclass(frozen=True)
class Field:
    """How one part of a mask is stored: "bits", "u8", "f16" or "f32".

    With `zeros_of`, only where that part's bit is 0; elsewhere its value must be 0. `always` says
    whether every layer has it: if nothing is said (None), all but plain numbers.
    """

    dtype: str
    zeros_of: str | None = None
    always: bool | None = None

    @property
    def needed(self) -> bool:
        """Whether a layer without it is damaged."""
        if self.always is not None:
            return self.always
        return self.dtype == "bits" or self.zeros_of is not None


@dataclass(frozen=True)
class Recipe:
    """How a method is trained, under timm's names. A method's default is its paper's."""

    epochs: int = 30
    batch_size: int = 32
    opt: str = "adam"
    lr: float = 1e-4
    head_opt: str | None = None  # None: as the rest
    head_lr: float | None = None
    momentum: float = 0.9
    weight_decay: float = 0.0  # never on scores, coefficients or anything frozen
    sched: str = "step"
    decay_epochs: int = 15
    decay_rate: float = 0.1
    decay_milestones: tuple[int, ...] = ()  # epochs at which sched="multistep" decays
    warmup_epochs: int = 0
    min_lr: float = 0.0
    head_epochs: int = 0  # so many first epochs only the head learns
    head_init: str = "random"  # or "zeros": what is learnt is then all there is to store
    size_penalty: float = 0.0  # loss (nats) that a kB of coded mask must pay for itself
    distill: float = 0.5  # with a teacher: the share of the loss that is to give its outputs
    temperature: float = 2.0  # which divides its logits and ours
    freeze_epochs: int = 0  # mask bits stay as they are for so many last epochs


@dataclass(frozen=True)
class Earlier:
    """A task that a network knew when it began to learn another.

    `head` is by name inside the head (weight, bias), `norms` by state name: empty where the tasks
    share them.
    """

    name: str
    head: Mapping[str, Tensor]
    norms: Mapping[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class Carried:
    """What a run hands to the next one of a sequence: its tasks, and what its keeper gave.

    Empty where a sequence begins.
    """

    tasks: tuple[Earlier, ...] = ()
    tensors: Mapping[str, Tensor] = field(default_factory=dict)


Batches = Callable[[], Iterable[tuple[Tensor, Tensor]]]  # pictures and targets, anew at each call
Loss = Callable[[Tensor, Tensor], Tensor]  # output, target -> mean of the batch


class Keeper:
    """What a method does beside a task's loss, so that earlier tasks are kept.

    One lives as long as a training. Every hook does nothing until a method overrides it.
    """

    def begin_epoch(self, epoch: int, epochs: int) -> None:
        """Called before the first step of an epoch, counted from 0; not when one is resumed."""

    def loss(self, images: Tensor, output: Tensor) -> Tensor | None:
        """A scalar that is added to the task's loss, once a step, after the forward pass."""

    def after_backward(self) -> None:
        """Called when the gradients are there, and may still be changed."""

    def after_step(self) -> None:
        """Called when the optimiser has moved what it trains: values may be put back."""

    def rate(self, epoch: float, recipe: Recipe) -> float | None:
        """Share of the full learning rate at a moment; None: as the recipe's schedule has it."""

    def chooses(self, epoch: int, epochs: int) -> bool:
        """Whether the network as it is after an epoch, counted from 0, may be the result."""
        return True

    def too_narrow(self, done: int, epochs: int) -> bool:
        """Whether, `done` of the epochs being over, the task asks for a wider network."""
        return False

    def validated(self, epoch: int, row: Mapping[str, object]) -> None:
        """Called with an epoch's line of metrics, before it is asked whether it `chooses`."""

    def trained(self) -> list[nn.Parameter]:
        """What is trained beside the network's own weights."""
        return []

    def tensors(self) -> dict[str, Tensor]:
        """What belongs to the state: kept with it, and copied into these when it is restored."""
        return {}

    def heads(self) -> Sequence[Mapping[str, Tensor]] | None:
        """The heads of `Carried.tasks` as they are now; None: as they came."""
        return None

    def carry(self, batches: Batches, loss: Loss) -> dict[str, Tensor]:
        """What the next task is given, computed on the training pictures with the chosen weights.

        The pictures are transformed as for scoring; `loss` is the task's own.
        """
        return {}

    def record(self) -> dict[str, Any]:
        """What a run's result says of it, with the chosen weights in place; JSON."""
        return {}

    def verdict(self) -> list[str]:
        """Lines worth reading after a training, with the chosen weights in place."""
        return []


class Method(ABC):
    """How a task's weights come from the backbone's. Options are the fields of the subclass."""

    name: ClassVar[str]
    recipe: ClassVar[Recipe] = Recipe()
    norms: ClassVar[str] = "frozen"  # the paper's choice of frozen, scale, stats or task
    masks: ClassVar[bool] = True  # whether weights are masked

    @property
    @abstractmethod
    def stores(self) -> Mapping[str, Field]:
        """What the file keeps for one weight."""

    @abstractmethod
    def init_params(self, weight: Tensor, layer: Layer, generator: Generator) -> dict[str, Tensor]:
        """Trainables at the start, for a weight of any shape."""

    @abstractmethod
    def mask(self, params: Params, training: bool = False) -> dict[str, Tensor]:
        """Exactly what the file keeps, as tensors; differentiable in `params`.

        `training` allows noise, which a method may draw from torch's global generator.
        """

    @abstractmethod
    def effective_weight(self, weight: Tensor, mask: Mask) -> Tensor:
        """What the layer computes with; same shape as `weight`."""

    def adapts(self, layer: Layer) -> bool:
        """Whether a weight can have a mask; those that cannot stay the backbone's."""
        return True

    def shapes(self, weight: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
        """Shapes of those parts of a weight's mask that do not broadcast to the weight's."""
        return {}

    def trained(self, parts: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
        """Names of the modules whose every weight is the task's own; "" is the whole network.

        `parts` are the backbone's (`Backbone.parts`).

        Raises:
            OptionError: the backbone has no such part.
        """
        return ()

    def learning(self, modules: tuple[str, ...], epoch: int, epochs: int) -> tuple[str, ...]:
        """Those of the `trained` modules that learn in an epoch, counted from 0."""
        return modules

    def check(self, recipe: Recipe, metric: str) -> None:  # noqa: B027 - most take any
        """Raise OptionError for a training, of a task with such a metric, that it cannot be."""

    def keeper(self, network: nn.Module, head: str, carried: Carried) -> Keeper | None:
        """What keeps the tasks that `network`, its new head included, knew until now."""
        return None

    def widest(self) -> float:
        """The largest width that a network may grow to; 0: it stays as it is."""
        return 0.0

    def widened(
        self, network: nn.Module, head: str, carried: Carried, widen: Widen
    ) -> tuple[Mapping[str, Tensor], Carried]:
        """Weights of a wider network by state name, and what the task is given that begins there.

        `network` is the narrow one as the task found it, and may be changed. Asked only where
        `widest` allows it.
        """
        raise NotImplementedError

    def weights(self, carried: Carried) -> dict[str, Tensor]:
        """Weights that the tasks of a sequence share, by state name, where its last network has
        others: what `shared` masks is read from these.
        """
        return {}

    def shared(self, number: int, carried: Carried) -> tuple[Method, dict[str, dict[str, Tensor]]]:
        """How a task of a sequence, counted from 0, reads the weights that all its tasks share.

        The method with that task's options, and its masks by layer and field of `stores`.
        """
        return self, {}

    def distance_to_flip(self, params: Params) -> float:
        """How far the nearest score is from its threshold (scores carry no unit)."""
        return math.inf

    def confine(self, params: Params) -> None:  # noqa: B027 - a method may have no scores
        """Keep scores from going further from their threshold than they began; in place.

        Called after each step that a size penalty was part of: a penalty pushes the same way for
        ever, and a bit that has been pushed away could not come back when its gradient asks.
        """


def steps_to_flip(distance: float, lr: float) -> int:
    """First optimiser step at which Adam can take a score over its threshold.

    Adam moves a score by about `lr` a step, so after floor(distance / lr) steps it can stand at
    the threshold, and one more takes it across. Scores are float32, hence the rounding.
    """
    return math.floor(round(distance / lr, 3)) + 1


def find_part(parts: Mapping[str, tuple[str, ...]], part: str) -> tuple[str, ...]:
    """The modules of a part; OptionError where the backbone has no such part."""
    if part not in parts:
        found = f"has just {', '.join(parts)}" if parts else "is no encoder-decoder"
        others = "" if part == "blocks" else "unet, NAME+resize, "
        raise OptionError(
            f"the backbone has no {part}: it {found}; take {others}resnet-generator-9 or another "
            f"with {part}"
        )
    return parts[part]


def nearest(scores: Tensor, *thresholds: float) -> float:
    """Distance of the score that is nearest to one of its thresholds; infinite without scores."""
    if not scores.numel():
        return math.inf
    return min(float((scores.detach() - threshold).abs().min()) for threshold in thresholds)
