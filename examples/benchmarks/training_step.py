"""A masked training step against a fine-tuning step, interleaved in one process.

    python examples/benchmarks/training_step.py --backbone mobilenet_v2 --img-size 96

Prints the median of each method's ratio to the fine-tuning step measured just before it. The
weights are random: a step costs the same with any.
"""

from __future__ import annotations

import argparse
import statistics
import time

import torch

from maskpack import attach, open_backbone

METHODS = ("classifier-only", "piggyback", "ksm", "affine")
LR = {"lr": 1e-4, "fused": True}


def step(network: torch.nn.Module, optimizer: torch.optim.Optimizer, data: tuple) -> float:
    images, labels = data
    begin = time.perf_counter()
    optimizer.zero_grad(set_to_none=True)
    torch.nn.functional.cross_entropy(network(images), labels).backward()
    optimizer.step()
    return time.perf_counter() - begin


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backbone", default="mobilenet_v2")
    parser.add_argument("--img-size", type=int, default=96)
    parser.add_argument("-b", "--batch-size", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=15)
    args = parser.parse_args()
    backbone = open_backbone(args.backbone, weights="none")
    size = args.img_size
    images = torch.randn(args.batch_size, 3, size, size).to(memory_format=torch.channels_last)
    data = images, torch.randint(0, 10, (args.batch_size,))
    made = {}
    for method in ("fine-tune", *METHODS):
        # one norms mode for all: its cost is not the mask's
        network = attach(backbone, 10, method, norms="task").to(memory_format=torch.channels_last)
        trained = [p for p in network.parameters() if p.requires_grad]
        made[method] = network.train(), torch.optim.Adam(trained, **LR)
    ratios: dict[str, list[float]] = {method: [] for method in METHODS}
    base = []
    for turn in range(args.rounds + 2):
        for method in METHODS:
            reference = step(*made["fine-tune"], data)
            ratio = step(*made[method], data) / reference
            if turn >= 2:  # two rounds to warm up
                ratios[method].append(ratio)
                base.append(reference)
    print(f"{args.backbone}, {size} px, batch {args.batch_size}, {torch.get_num_threads()} threads")
    print(f"fine-tuning step: {statistics.median(base) * 1000:.0f} ms")
    print("| method | median ratio | quartiles |")
    print("| --- | --- | --- |")
    for method, values in ratios.items():
        low, _, high = statistics.quantiles(values, n=4)
        print(f"| {method} | {statistics.median(values):.2f} | {low:.2f} to {high:.2f} |")


if __name__ == "__main__":
    main()
