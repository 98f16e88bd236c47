"""Coded masks on ResNet-50's shapes: size against the entropy bound, times against np.packbits.

    python examples/benchmarks/codec.py

Random bits with one share of ones; bytes over the sum over layers of n H(p) / 8; medians of five,
on one thread, and their ratio to packing and unpacking the same bits in the same round.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
import torchvision

from maskpack import bits, codec


def seconds(call: Callable[[], object]) -> float:
    begin = time.process_time()
    call()
    return time.process_time() - begin


def main() -> None:
    with torch.device("meta"):
        network = torchvision.models.resnet50()
    counts = [p.numel() for p in network.parameters() if p.dim() == 4]
    random = np.random.default_rng(0)
    print(f"{sum(counts):,} bits in {len(counts)} layers")
    print("| share of ones | bytes | / bound | encode ms | / packbits | decode ms | / unpackbits |")
    print("|" + " --- |" * 7)
    for share in (0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.97, 0.99, 0.995, 0.999):
        masks = [random.random(count) < share for count in counts]
        data = np.concatenate([bits.pack_bits(mask) for mask in masks])
        bound = sum(codec.entropy_bits(mask.size, int(mask.sum())) for mask in masks) / 8
        flat = np.concatenate(masks)
        coded = codec.encode(data, counts)
        assert np.array_equal(codec.decode(coded, counts), data)
        rounds = [
            (
                seconds(lambda: codec.encode(data, counts)),  # noqa: B023 -- called at once
                seconds(lambda: np.packbits(flat)),  # noqa: B023
                seconds(lambda: codec.decode(coded, counts)),  # noqa: B023
                seconds(lambda: np.unpackbits(data)),  # noqa: B023
            )
            for _ in range(5)
        ]
        encode, pack, decode, unpack = (
            statistics.median(times) for times in zip(*rounds, strict=True)
        )
        print(
            f"| {share} | {coded.size:,} | {coded.size / bound:.4f} | {encode * 1000:.0f} "
            f"| {encode / pack:.0f} | {decode * 1000:.0f} | {decode / unpack:.1f} |"
        )


if __name__ == "__main__":
    main()
