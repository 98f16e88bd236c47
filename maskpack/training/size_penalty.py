"""How many bits masks take once coded, with a gradient: what training for size works against."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from maskpack.methods.base import Field, Mask
from maskpack.packs.contents import BITS
from maskpack.packs.mask_codec import entropy_bits

VALUE_BITS = {"u8": 8, "f16": 16, "f32": 32}
# of a layer's bits, the least share taken to be the rarer value: the price of the first bit to
# flip would be the logarithm of the layer's size, and few would ever begin
LEAST_SHARE = 1e-3


def coded_size(masks: Mapping[str, Mask], stores: Mapping[str, Field]) -> Tensor:
    """Expected size in bits of the masks of all layers, coded layer by layer.

    The value is the sum of n H(p) over layers of n bits, a share p of them 1 (Shannon 1948), and of
    the values that are kept where bits are 0. The gradient of a bit is its price, the exact
    derivative log2((1 - p) / p), less what a value takes that need not be kept.
    """
    total = torch.zeros(())
    for mask in masks.values():
        for key, field in stores.items():
            if key not in mask or field.dtype != BITS or not mask[key].numel():
                continue
            count = mask[key].numel()
            ones = mask[key].sum()
            found = round(float(ones.detach()))
            share = min(max(found / count, LEAST_SHARE), 1 - LEAST_SHARE)
            price = math.log2((1 - share) / share)
            values = sum(VALUE_BITS[f.dtype] for f in stores.values() if f.zeros_of == key)
            # linear in the bits: that is all a step needs, and one pass over them
            linear = (price - values) * ones
            size = entropy_bits(count, found) + values * (count - found)
            total = total.to(ones.device) + linear - linear.detach() + size
    return total
