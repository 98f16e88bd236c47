"""A network that learns to tell real pictures from made ones, beside the one that makes them.

Isola et al. 2017 (pix2pix), arXiv:1611.07004. It serves training alone and is never packed.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from maskpack.backbones.base import seeded

WIDTHS = (64, 128, 256, 512)  # 70 x 70 pixels are seen by each judgement
SMALLEST = 32  # pixels a side that leave a patch to judge
LR = 2e-4
BETAS = (0.5, 0.999)


class PatchGAN(nn.Module):
    """Picture and map side by side -> one logit a patch (section 3.2.2 and appendix 6.1.2)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(channels, WIDTHS[0], 4, 2, 1), nn.LeakyReLU(0.2)]
        for before, width in pairwise(WIDTHS):
            # the last keeps the size, and a picture of 32 pixels still has several patches
            stride = 1 if width == WIDTHS[-1] else 2
            layers += [nn.Conv2d(before, width, 4, stride, 1, bias=False)]
            layers += [nn.BatchNorm2d(width), nn.LeakyReLU(0.2)]
        self.layers = nn.Sequential(*layers, nn.Conv2d(WIDTHS[-1], 1, 4, 1, 1))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, 0.0, 0.02)

    def forward(self, pair: Tensor) -> Tensor:  # (batch, channels, h, w)
        judged: Tensor = self.layers(pair)
        return judged


class Critic:
    """A PatchGAN and its optimiser.

    `channels` are those of the input and of what is judged together.
    """

    def __init__(self, channels: int, device: torch.device, seed: int) -> None:
        with seeded(seed):
            self.network = PatchGAN(channels)
        self.network.to(device)
        parameters = self.network.parameters()
        self.optimizer = torch.optim.Adam(parameters, lr=LR, betas=BETAS)

    def learn(self, images: Tensor, made: Tensor, real: Tensor) -> None:
        """One step of telling `real` from `made` (eq. 1); the loss is halved, as in section 3.3."""
        self.optimizer.zero_grad(set_to_none=True)
        loss = self._judge(images, real, 1.0) + self._judge(images, made.detach(), 0.0)
        (loss / 2).backward()
        self.optimizer.step()

    def loss(self, images: Tensor, made: Tensor) -> Tensor:
        """How far the critic is from taking `made` for real: -log D(x, G(x))."""
        self.network.requires_grad_(False)  # it learns nothing here, and half the work is saved
        loss = self._judge(images, made, 1.0)
        self.network.requires_grad_(True)
        return loss

    def _judge(self, images: Tensor, shown: Tensor, real: float) -> Tensor:
        logits = self.network(torch.cat([images, shown], dim=1))
        return binary_cross_entropy_with_logits(logits, torch.full_like(logits, real))

    def state(self) -> dict[str, Tensor]:
        """Weights and the optimiser's moments, by name."""
        tensors = {f"network/{name}": value for name, value in self.network.state_dict().items()}
        for place, parameter in enumerate(self.network.parameters()):
            for key, value in self.optimizer.state.get(parameter, {}).items():
                tensors[f"moments/{place}/{key}"] = torch.as_tensor(value)
        return {name: value.detach() for name, value in tensors.items()}

    @torch.no_grad()
    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Inverse of `state`."""
        parameters = list(self.network.parameters())
        own = self.network.state_dict()
        for name, value in tensors.items():
            kind, _, rest = name.partition("/")
            if kind == "network":
                own[rest].copy_(value)
            else:
                place, _, key = rest.partition("/")
                device = "cpu" if key == "step" else parameters[int(place)].device
                self.optimizer.state[parameters[int(place)]][key] = value.to(device, copy=True)
