"""Start-up: `maskpack inspect` and `maskpack --help` against `import torch`, interleaved.

python examples/benchmarks/startup.py zoo.safetensors
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time


def seconds(*command: str) -> float:
    begin = time.perf_counter()
    subprocess.run([sys.executable, *command], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - begin


def main() -> None:
    commands = {
        "inspect": ("-m", "maskpack", "inspect", *sys.argv[1:2]),
        "--help": ("-m", "maskpack", "--help"),
        "import maskpack": ("-c", "import maskpack"),
        "python alone": ("-c", "pass"),
    }
    if len(sys.argv) != 2:
        sys.exit("usage: startup.py PACK")
    ratios: dict[str, list[float]] = {name: [] for name in commands}
    torch = []
    for turn in range(6):
        for name, command in commands.items():
            reference = seconds("-c", "import torch")
            ratio = seconds(*command) / reference
            if turn:  # the first round fills the disk cache
                ratios[name].append(ratio)
                torch.append(reference)
    print(f"import torch: {statistics.median(torch):.2f} s")
    print("| command | median share of import torch |")
    print("| --- | --- |")
    for name, values in ratios.items():
        print(f"| {name} | {statistics.median(values):.3f} |")


if __name__ == "__main__":
    main()
