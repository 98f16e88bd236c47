"""Learning without memorizing (Dhar et al., 2019, arXiv:1811.08051)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from maskpack.common.errors import OptionError
from maskpack.common.options import check_choice, check_not_negative, check_positive
from maskpack.methods.base import Carried, Keeper, Recipe
from maskpack.methods.sequences.lwf import distillation
from maskpack.methods.sequences.old_outputs import Recall, View
from maskpack.methods.sequences.one_network import OneNetwork

TINY = 1e-8  # a map shorter than that has no direction


@dataclass(frozen=True)
class LwM(OneNetwork):
    """Adds beta * LwF's distillation + gamma * `attention_distance` (eq. 3).

    The distance is between what the network looks at now and what it looked at when the training
    began, to see the same class: of all classes of all earlier tasks the one that the network of
    then (`top="old"`) or of now (`top="new"`) holds to be likeliest, by its logit. In the paper
    classes of all tasks share one head; here each task has its own, and distillation is by task.
    """

    beta: float = 1.0  # the paper gives no value of either
    gamma: float = 1.0
    temperature: float = 2.0
    top: str = "old"

    name: ClassVar[str] = "lwm"
    recipe: ClassVar[Recipe] = Recipe(opt="sgd", lr=1e-3, weight_decay=5e-4, head_epochs=5)

    def __post_init__(self) -> None:
        check_not_negative("beta", self.beta)
        check_not_negative("gamma", self.gamma)
        check_positive("temperature", self.temperature)
        check_choice("top", self.top, ("old", "new"))

    def keeper(self, network: nn.Module, head: str, carried: Carried) -> Keeper:
        return _Attentive(self, network, head, carried)


class _Attentive(Recall):
    def __init__(self, method: LwM, network: nn.Module, head: str, carried: Carried) -> None:
        super().__init__(method.name, network, head, carried)
        self.method = method
        self._tried = False

    def loss(self, images: Tensor, output: Tensor) -> Tensor | None:
        if not self.tasks:
            return None
        then, now = self.then(images, differentiable=True), self.now(images)
        kept = distillation(then, now, self.method.temperature)
        return self.method.beta * kept + self.method.gamma * self._attention(then, now)

    def _attention(self, then: Sequence[View], now: Sequence[View]) -> Tensor:
        decides = [logits(view) for view in (then if self.method.top == "old" else now)]
        top = torch.cat(decides, 1).argmax(dim=1, keepdim=True)  # (batch, 1), over all heads
        distances, start = [], 0
        for was, is_now in zip(then, now, strict=True):
            looked = attention(score(was, top - start), was.map, keep_graph=False)
            looks = attention(score(is_now, top - start), is_now.map, keep_graph=True)
            if not self._tried and is_now.map is not None:
                check_differentiable(looks, is_now.map)
                self._tried = True
            distances.append(attention_distance(looked, looks))
            start += logits(was).shape[1]
        return torch.stack(distances).sum()


def logits(view: View) -> Tensor:
    """Those of all its heads side by side, (batch, classes of all); of pixels, their mean."""
    return torch.cat([o.flatten(2).mean(2) if o.dim() > 2 else o for o in view.outputs], 1)


def score(view: View, top: Tensor) -> Tensor:
    """The logit of each picture's class `top`, both (batch, 1); 0 where another view has it.

    Of a score of 0 nothing is looked at, so that the picture counts in the other view alone.
    """
    found = logits(view)
    inside = (top >= 0) & (top < found.shape[1])
    return torch.where(inside, found.gather(1, top.clamp(0, found.shape[1] - 1)), 0.0)


def attention(score: Tensor, features: Tensor | None, keep_graph: bool) -> Tensor:
    """Grad-CAM of a score (batch, 1) on feature maps (batch, channels, h, w), as (batch, h * w).

    relu(sum_k alpha_k A_k), with alpha_k the mean over places of d score / d A_k (Selvaraju et
    al., 2017, arXiv:1610.02391, eq. 1 and 2). With `keep_graph` it can be differentiated, through
    alpha as well.

    Raises:
        OptionError: the network has no feature map.
    """
    if features is None:
        raise OptionError(
            "lwm compares what a network looks at, and this one has no feature map of more than "
            "one place before its last layer; take a convolutional network, or larger pictures"
        )
    gradient = torch.autograd.grad(
        score.sum(), features, create_graph=keep_graph, allow_unused=True
    )[0]
    if gradient is None:  # made beside the way to the head
        return features.new_zeros(len(features), features[0, 0].numel()).float()
    alpha = gradient.mean((2, 3), keepdim=True)
    found = (alpha * features).sum(1).relu().flatten(1).float()
    return found if keep_graph else found.detach()


def check_differentiable(looks: Tensor, features: Tensor) -> None:
    """Raise OptionError where attention cannot be differentiated: fused kernels of torch cannot."""
    try:
        torch.autograd.grad(looks.sum(), features, retain_graph=True, allow_unused=True)
    except RuntimeError as error:
        first = str(error).splitlines()[0]
        raise OptionError(
            "lwm differentiates gradients between the last feature map and the last layer, and "
            f"this network cannot: {first}; take a convolutional network"
        ) from error


def attention_distance(old: Tensor, new: Tensor) -> Tensor:
    """Mean over pictures of sum_j | Q_old,j / ||Q_old||_2 - Q_new,j / ||Q_new||_2 | (eq. 2).

    Maps are (batch, places). One that is zero everywhere, since nothing speaks for the class,
    has no direction to compare: its picture counts 0.
    """
    lengths = [q.norm(dim=1, keepdim=True) for q in (old, new)]
    exists = (lengths[0] > TINY) & (lengths[1] > TINY)
    was, now = (q / length.clamp_min(TINY) for q, length in zip((old, new), lengths, strict=True))
    return torch.where(exists, (was - now).abs(), 0.0).sum(1).mean()
