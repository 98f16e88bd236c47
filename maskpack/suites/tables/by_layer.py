"""Packs of a suite -> rows by layer, as papers plot them. No torch.

Share of ones and affine k: Mancini et al. 2018, arXiv:1805.11119, figure 4. Ones and scaled
kernels: Yang et al. 2021, arXiv:2009.05668, figure 6.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from maskpack.packs.contents import Pack
from maskpack.reports.describe import content
from maskpack.reports.summary import layers_of

Row = dict[str, Any]
TITLES = {
    "zeros": "share of zeros by layer",
    "ones": "share of ones by layer",
    "scaled": "share of zeros with a scale by layer (KSM)",
    "coefficients": "coefficients by layer",
}
BOUNDS = ("mean", "min", "max")


def layer_tables(packs: Iterable[tuple[str, Pack]], tasks: Sequence[str]) -> dict[str, list[Row]]:
    """Rows of each of TITLES, from packs by method; every row has its values by task.

    Of coefficients that differ within a layer there are rows of the smallest and largest too.
    """
    tables: dict[str, list[Row]] = {key: [] for key in TITLES}
    for method, pack in packs:
        layers: dict[tuple[str, tuple[int, ...]], dict[str, Row]] = {}
        for name in tasks:
            if name in pack.tasks:
                task = pack.tasks[name]
                for layer in layers_of(task, content(task).layers):
                    layers.setdefault((layer["layer"], layer["shape"]), {})[name] = layer
        for (name, shape), by_task in layers.items():
            bits = next(iter(by_task.values()))["bits"]
            about: Row = {"method": method, "layer": name, "shape": list(shape), "bits": bits}
            zeros = {task: layer["zeros"] for task, layer in by_task.items()}
            ones = {task: layer["ones"] / max(bits, 1) for task, layer in by_task.items()}
            tables["zeros"].append({**about, "zeros": zeros})
            tables["ones"].append({**about, "ones": ones})
            scaled = {task: layer["scaled"] for task, layer in by_task.items() if "scaled" in layer}
            if scaled:
                tables["scaled"].append({**about, "scaled": scaled})
            tables["coefficients"] += _coefficients(method, name, by_task)
    return tables


def _coefficients(method: str, layer: str, by_task: Mapping[str, Row]) -> list[Row]:
    rows: list[Row] = []
    kept = dict.fromkeys(key for found in by_task.values() for key in found["coefficients"])
    for key in kept:
        found = {
            task: about["coefficients"][key]
            for task, about in by_task.items()
            if key in about["coefficients"]
        }
        several = any(about["min"] != about["max"] for about in found.values())
        for bound in BOUNDS if several else BOUNDS[:1]:
            values = {task: about[bound] for task, about in found.items()}
            about = {"method": method, "layer": layer, "coefficient": key, "of": bound}
            rows.append({**about, "value": values})
    return rows
