"""Choose an option of a suite's method by the validation pictures: a grid, and what it gives.

    python examples/benchmarks/grid.py registry --data DIR -o grid --method packnet \
        --tasks sketches --lr 1e-4 3e-4 1e-3
    python examples/benchmarks/grid.py registry --data DIR -o grid --method ewc \
        --tasks digits signs --set strength 40 400 4000

Trains the method, as the suite has it but for that option, on some tasks with seed 0, and
prints the accuracy on each task's validation pictures: of a sequence, with the network that its
last task left. A finished run is never trained again. docs/results.md says what was chosen; about
one minute a run and core at 64 px.
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path
from typing import Any

import maskpack
from maskpack.common.preprocess import Augment, Preprocess
from maskpack.evaluation.evaluate import evaluate
from maskpack.networks.serialize import unpack_task
from maskpack.runs.open import open_base, open_pack
from maskpack.suites.definition import Suite
from maskpack.suites.read import parse_suite, read_suite
from maskpack.tasks import open_task
from maskpack.tasks.splits import train_and_val


def value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def toml(given: Any) -> str:
    """A TOML value; tables inline."""
    if isinstance(given, dict):
        pairs = (f"{json.dumps(key)} = {toml(item)}" for key, item in given.items())
        return "{ " + ", ".join(pairs) + " }"
    return f"[{', '.join(map(toml, given))}]" if isinstance(given, list) else json.dumps(given)


def variants(suite: Suite, method: str, key: str, values: list[str], is_set: bool) -> dict:
    """The method's table with one option changed, by label."""
    tables = {}
    for text in values:
        table = {"method": suite.methods[method].method, **suite.raw["methods"][method]}
        if is_set:
            table["set"] = {**table.get("set", {}), key: value(text)}
        else:
            table[key] = value(text)
        tables[f"{method}-{key}-{text}"] = table
    return tables


def validation(run: Path) -> dict[str, float]:
    """Accuracy on the validation pictures of every task that a run's network answers."""
    pack = open_pack(run)
    found = {}
    for name, packed in pack.tasks.items():
        info = packed.info
        task = open_task(info["task"]["name"], info["data"])
        _, val = train_and_val(task)
        network = unpack_task(packed, open_base(pack, packed))
        preprocess, augment = Preprocess(**info["preprocess"]), Augment(**info["augment"])
        found[name] = evaluate(network, task, val, preprocess, augment).value
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("suite")
    parser.add_argument("--data", required=True)
    parser.add_argument("-o", "--output", type=Path, default=Path("grid"))
    parser.add_argument("--method", required=True, help="a label of the suite's")
    parser.add_argument("--tasks", nargs="+", required=True, help="in order")
    parser.add_argument("--lr", nargs="+", default=[], help="learning rates to try")
    parser.add_argument("--set", nargs="+", default=[], metavar="NAME VALUE", help="an option's")
    parser.add_argument("--jobs", type=int, default=1)
    args = parser.parse_args()
    suite = read_suite(args.suite)
    key, values = ("lr", args.lr) if args.lr else (args.set[0], args.set[1:])
    tables = variants(suite, args.method, key, values, not args.lr)
    tasks = {name: suite.raw["tasks"][name] for name in args.tasks}
    of_all = {key: suite.raw[key] for key in ("backbone", "options") if key in suite.raw}
    kept = {**of_all, "methods": tables, "tasks": tasks}
    text = "\n".join(f"{name} = {toml(table)}" for name, table in kept.items())
    found = maskpack.run_suite(
        parse_suite(text, f"{suite.name}.toml"),
        args.output / f"{args.method}-{key}",
        data=args.data,
        jobs=args.jobs,
        watch=lambda told: told.kind in ("finished", "failed") and print(told.cell, told.text),
    )
    print(f"\n| {args.method} | {' | '.join(args.tasks)} | mean |")
    print("|" + " --- |" * (len(args.tasks) + 2))
    for label in tables:
        runs = [Path(cell["run"]) for cell in found["cells"] if cell["method"] == label]
        scores: dict[str, float] = {}
        for run in runs:  # of a sequence, a later run says it anew
            scores |= validation(run)
        row = [scores[name] for name in args.tasks if name in scores]
        told = " | ".join(f"{score:.3f}" for score in [*row, statistics.fmean(row or [0])])
        print(f"| {label.removeprefix(args.method + '-')} | {told} |")


if __name__ == "__main__":
    main()
