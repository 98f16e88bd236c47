"""Coded masks: size against the entropy bound, times against np.packbits and np.unpackbits.

    python examples/benchmarks/codec.py
    python examples/benchmarks/codec.py --backbone mobilenet_v2
    python examples/benchmarks/codec.py zoo.safetensors

Random bits with one share of ones in the shapes of a backbone's masks; or the masks that packs
hold, where the share differs from layer to layer. "bound" is the sum over layers of n H(p) / 8
bytes. Times are medians of the rounds on one thread, ratios medians of what each round gave for
the same bits.
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from maskpack.packs import bits
from maskpack.packs import file as packfile
from maskpack.packs import mask_codec as codec
from maskpack.packs.contents import BITS

SHARES = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.97, 0.99, 0.995, 0.999)


def seconds(call: Callable[[], object]) -> float:
    begin = time.process_time()
    call()
    return time.process_time() - begin


def mask_counts(name: str) -> list[int]:
    """Bits of every mask of a backbone, one a weight."""
    import torch
    import torchvision

    from maskpack.backbones.base import find_head
    from maskpack.backbones.layers import find_layers

    with torch.device("meta"):
        network = torchvision.models.get_model(name, weights=None)
    return [math.prod(layer.shape) for layer in find_layers(network, find_head(network)).values()]


def random_masks(counts: Sequence[int]) -> Iterator[tuple[str, bits.Bytes, Sequence[int]]]:
    """Label, packed bits and the layers' counts, for each share of ones."""
    random = np.random.default_rng(0)
    for share in SHARES:
        masks = [random.random(count) < share for count in counts]
        yield str(share), np.concatenate([bits.pack_bits(mask) for mask in masks]), counts


def packed_masks(paths: Sequence[str]) -> Iterator[tuple[str, bits.Bytes, Sequence[int]]]:
    """The same for every task of packs, and each of its streams of bits."""
    for path in paths:
        for task in packfile.read(path).tasks.values():
            for key, stream in task.streams.items():
                if stream.dtype == BITS:
                    counts = [math.prod(shape) for _, shape in stream.table]
                    yield f"{path} {task.name} {key}", np.asarray(task.values(key)), counts


def row(label: str, data: bits.Bytes, counts: Sequence[int], rounds: int) -> str:
    """Size and times of one mask, as cells of the table."""
    sizes = [bits.byte_count(count) for count in counts]
    layers = np.split(data, np.cumsum(sizes)[:-1])
    ones = [bits.count_ones(layer) for layer in layers]
    bound = sum(codec.entropy_bits(n, k) for n, k in zip(counts, ones, strict=True)) / 8
    coded = codec.encode(data, counts)
    assert np.array_equal(codec.decode(coded, counts), data)
    flat = np.unpackbits(data)
    times = [
        (
            seconds(lambda: codec.encode(data, counts)),
            seconds(lambda: np.packbits(flat)),
            seconds(lambda: codec.decode(coded, counts)),
            seconds(lambda: np.unpackbits(data)),
        )
        for _ in range(rounds)
    ]
    encode, _, decode, _ = (statistics.median(column) for column in zip(*times, strict=True))
    # a clock too coarse for a small mask shows 0
    packs = statistics.median(a / max(b, 1e-9) for a, b, _, _ in times)
    unpacks = statistics.median(c / max(d, 1e-9) for _, _, c, d in times)
    return (
        f"| {label} | {sum(ones) / sum(counts):.4f} | {data.size:,} | {coded.size:,} "
        f"| {coded.size / bound if bound else math.inf:.4f} | {encode * 1000:.1f} | {packs:.0f} "
        f"| {decode * 1000:.1f} | {unpacks:.1f} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("packs", nargs="*", metavar="PACK", help="files whose masks to code")
    parser.add_argument("--backbone", default="resnet50", help="torchvision's name, without PACK")
    parser.add_argument("--rounds", type=int, default=7)
    args = parser.parse_args()
    if args.packs:
        first, masks = "mask", packed_masks(args.packs)
    else:
        counts = mask_counts(args.backbone)
        print(f"{args.backbone}: {sum(counts):,} bits in {len(counts)} layers")
        first, masks = "share of ones", random_masks(counts)
    times = ["encode ms", "/ packbits", "decode ms", "/ unpackbits"]
    columns = [first, "ones", "raw bytes", "bytes", "/ bound", *times]
    print("| " + " | ".join(columns) + " |")
    print("|" + " --- |" * len(columns))
    for label, data, layer_counts in masks:
        print(row(label, data, layer_counts, args.rounds), flush=True)


if __name__ == "__main__":
    main()
