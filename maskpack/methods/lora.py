"""LoRA: two thin factors whose product is added to a weight (Hu et al., 2021, arXiv:2106.09685)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Generator, Tensor, nn

from maskpack.backbones.layers import Layer
from maskpack.common.errors import OptionError
from maskpack.common.options import check_choice, check_positive
from maskpack.methods.base import Field, Mask, Method, Params, Recipe
from maskpack.methods.straight_through import straight_through

A, B = "lora_A", "lora_B"  # peft's names
CONVOLUTIONS = {3: nn.Conv1d, 4: nn.Conv2d, 5: nn.Conv3d}  # by dimensions of their weight
HALF = torch.finfo(torch.float16).max


@dataclass(frozen=True)
class LoRA(Method):
    """weight + alpha / rank * B A, the layers and factors being those of the peft package.

    Of a convolution A has `rank` kernels of the weight's size, (rank, in, height, width), which
    B, (out, rank, 1, 1), mixes; of a linear layer they are (rank, in) and (out, rank). B starts at
    0, and A as peft draws it. What peft cannot merge into a weight stays the backbone's:
    convolutions with groups, transposed ones. A pack is read without peft.
    """

    rank: int = 8
    alpha: float = 8.0
    dtype: str = "fp16"

    name: ClassVar[str] = "lora"
    # the paper has no convolutions; factors of a product want larger steps than weights
    recipe: ClassVar[Recipe] = Recipe(
        opt="adam", lr=3e-3, head_opt="adam", head_lr=1e-3, sched="cosine"
    )

    def __post_init__(self) -> None:
        check_choice("dtype", self.dtype, ("fp16", "fp32"))
        check_positive("rank", self.rank)
        check_positive("alpha", self.alpha)

    @property
    def stores(self) -> Mapping[str, Field]:
        dtype = {"fp16": "f16", "fp32": "f32"}[self.dtype]
        return {A: Field(dtype, always=True), B: Field(dtype, always=True)}

    def adapts(self, layer: Layer) -> bool:
        # an attention whose queries, keys and values have weights of their own is not peft's
        joint = layer.name.rpartition(".")[2] == "in_proj_weight"
        return layer.kind in ("conv", "linear") or (layer.kind == "attention" and joint)

    def shapes(self, weight: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
        return {
            A: (self.rank, *weight[1:]),
            B: (*weight[:1], self.rank, *(1 for _ in weight[2:])),
        }

    def init_params(self, weight: Tensor, layer: Layer, generator: Generator) -> dict[str, Tensor]:
        adapter = self._adapter(weight, generator)
        return {A: adapter.lora_A["default"].weight, B: adapter.lora_B["default"].weight}

    def mask(self, params: Params, training: bool = False) -> dict[str, Tensor]:
        if self.dtype == "fp32":
            return {key: params[key] for key in (A, B)}
        halves = {key: params[key].detach().clamp(-HALF, HALF).half() for key in (A, B)}
        return {key: straight_through(halves[key], params[key]) for key in (A, B)}

    def effective_weight(self, weight: Tensor, mask: Mask) -> Tensor:
        a = mask[A].to(weight.dtype).reshape(self.rank, math.prod(weight.shape[1:]))
        b = mask[B].to(weight.dtype).reshape(math.prod(weight.shape[:1]), self.rank)
        return weight + (b @ a).reshape(weight.shape) * (self.alpha / self.rank)

    def _adapter(self, weight: Tensor, generator: Generator) -> Any:
        """peft's layer for a module that has this weight."""
        try:
            from peft import LoraConfig, inject_adapter_in_model
        except ImportError:
            raise OptionError(
                "method lora needs peft, which is not installed; pip install 'maskpack[lora]'"
            ) from None
        out, inside, *kernel = weight.shape
        skip = torch.nn.utils.skip_init
        if kernel:
            conv = CONVOLUTIONS[weight.dim()]
            module = skip(conv, inside, out, tuple(kernel), bias=False)
        else:
            module = skip(nn.Linear, inside, out, bias=False)
        module.weight = nn.Parameter(weight, requires_grad=False)
        options: Any = {"r": self.rank, "lora_alpha": self.alpha, "target_modules": ["0"]}
        # peft draws from the global generator
        seed = int(torch.randint(1 << 31, (), generator=generator))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            adapted: Any = inject_adapter_in_model(LoraConfig(**options), nn.Sequential(module))
        return adapted[0]
