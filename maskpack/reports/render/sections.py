"""A summary -> the figures there is something to show in, under their headings."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from maskpack.reports.render.figures import Figure, Heat, Line, Lines, Point, Scatter
from maskpack.reports.render.wording import bytes_text, measure_text, score_text

Row = dict[str, Any]
LINES = 8  # in one plot; more are a heat map, and series beyond share one grey
LOWER = " Where a lower score is better, the front runs along the bottom, and best is lowest."
AFFINE = {
    "k0": "k0, of the weight",
    "k1": "k1, constant",
    "k2": "k2, of the mask",
    "k3": "k3, of the masked weight",
}


@dataclass(frozen=True)
class Section:
    """Figures that belong together, under a heading, with a sentence on how to read them."""

    key: str
    title: str
    text: str
    figures: tuple[Figure, ...]


def sections(summary: Mapping[str, Any]) -> list[Section]:
    """Every plot there is something to show in."""
    tasks: list[Row] = summary["tasks"]
    series = series_of(tasks)
    scatters = tuple(_scatters(summary, series))
    ordered = sorted(tasks, key=lambda row: (row["original"], series[row["label"]][0]))
    found = [
        Section(
            "size",
            "Size against accuracy",
            "Bytes of a task as part of its file, header included (log scale), against its score "
            "on the test pictures. The line is the Pareto front: no other point has fewer bytes "
            "and as good a score. Bars are 95 % intervals; points whose bars overlap are not told "
            "apart by this many pictures, and a front of single runs favours the lucky ones."
            + (LOWER if any(figure.lower for figure in scatters) else ""),
            scatters,
        ),
        Section(
            "zeros",
            "Zeros by layer",
            "Share of mask bits that are 0: weights the task removes (Piggyback), scales (KSM) or "
            "leaves out of the masked terms (affine).",
            tuple(_by_layer(ordered, series, "zeros", "Share of zeros", _of("zeros"))),
        ),
        Section(
            "entropy",
            "Entropy by layer",
            "What a mask bit of the layer costs under the best code of independent bits; 1 is a "
            "mask that no code makes smaller.",
            tuple(_by_layer(ordered, series, "entropy", "Bits a mask bit", _of("entropy"))),
        ),
        Section(
            "similarity",
            "Similarity of masks",
            "Every two masks on one backbone, over the layers they share: the share of equal bits "
            "(hover for what independent masks with as many ones would have), and of the bits that "
            "are 0 in either, the share that is 0 in both.",
            tuple(_similarities(summary, ordered)),
        ),
        Section(
            "affine",
            "Affine coefficients by layer",
            "k0 · W + k1 + k2 · M + k3 · W · M. Layers without a point keep the fixed value; where "
            "there is one k a channel, the line is their mean and the band spans all of them.",
            tuple(
                figure
                for key, name in AFFINE.items()
                for figure in _by_layer(ordered, series, key, name, _coefficient(key), share=False)
            ),
        ),
        Section(
            "scaled",
            "Scaled share by layer (KSM)",
            "Share of mask bits that are 0 and have a scaling coefficient above 0; the other zeros "
            "remove what they stand for.",
            tuple(_by_layer(ordered, series, "scaled", "Share scaled", _of("scaled"))),
        ),
    ]
    return [section for section in found if section.figures]


def series_of(tasks: Sequence[Row]) -> dict[str, tuple[int, str]]:
    """Number and name of the series of each task, by label: its method, and its norms where one
    method comes with several.
    """
    modes: dict[str, set[str]] = {}
    for row in tasks:
        modes.setdefault(row["method"], set()).add(row["norms mode"])
    numbers: dict[str, int] = {}
    found = {}
    for row in sorted(tasks, key=lambda row: (row["method"], row["norms mode"])):
        name = row["method"]
        if len(modes[name]) > 1:
            name += f", {row['norms mode']} norms"
        found[row["label"]] = (numbers.setdefault(name, len(numbers)), name)
    return found


# ---- size against score


def _scatters(summary: Mapping[str, Any], series: Mapping[str, tuple[int, str]]) -> list[Scatter]:
    """One panel for what was learnt more than once, one for all that was learnt once."""
    rows = {row["label"]: row for row in summary["tasks"]}
    found, single = [], []
    for about in summary["originals"]:
        scored = [rows[label] for label in about["tasks"] if rows[label]["test"] is not None]
        if len(scored) > 1:
            measure = about["metric"], about["lower is better"]
            found.append(_scatter(about["task"], measure, scored, series))
        else:
            single += scored
    measures = [(row["metric"], row["lower is better"]) for row in single]
    for measure in dict.fromkeys(measures):
        scored = [row for row, mine in zip(single, measures, strict=True) if mine == measure]
        title = "Tasks given once" if found else "All tasks"
        if len(scored) == 1:
            title = scored[0]["original"]
        found.append(_scatter(title, measure, scored, series, rivals=False))
    return found


def _scatter(
    title: str,
    measure: tuple[str | None, bool],
    rows: Sequence[Row],
    series: Mapping[str, tuple[int, str]],
    *,
    rivals: bool = True,
) -> Scatter:
    """`measure`: the metric, and whether a lower one is better; `rivals`: the points are of one
    task, so that one can beat another.
    """
    counts = Counter(row["backbone"] for row in rows)
    backbones = tuple(sorted(counts, key=lambda name: (-counts[name], name)))
    by_place = called_alike(rows)
    wholes = [row["fine-tuned bytes"] for row in rows]
    alike = len(backbones) == 1 and max(wholes) < 1.2 * min(wholes)
    points = tuple(
        Point(
            row["where"].rpartition("/")[2] if by_place else row["label"],
            row["total"],
            row["test"],
            row["low"],
            row["high"],
            series[row["label"]][0],
            row["backbone"] != backbones[0],
            rivals and row["on front"],
            _about(row, series[row["label"]][1]),
        )
        for row in rows
    )
    names = tuple(sorted({series[row["label"]] for row in rows}))
    whole = float(sorted(wholes)[len(wholes) // 2]) if alike else None
    score = f"test {measure_text(*measure)}"
    return Scatter(f"size-{title}", title, score, points, names, whole, backbones, measure[1])


def called_alike(rows: Sequence[Row]) -> bool:
    """Do tasks have one name, so that their files tell them apart?"""
    return len({row["task"] for row in rows}) == 1 and all(row["where"] for row in rows)


def names(rows: Sequence[Row]) -> tuple[str, ...]:
    """What to call tasks that stand side by side."""
    alike = called_alike(rows)
    return tuple(row["where"] if alike else row["label"] for row in rows)


def _about(row: Row, series: str) -> tuple[str, ...]:
    score = f"{row['metric']} {score_text(row['test'])}"
    if row["low"] is not None:
        score += f" ({score_text(row['low'])} to {score_text(row['high'])})"
    whole = f"{row['of fine-tuned']:.2%} of a fine-tuned copy"
    return (
        row["label"],
        f"{series} on {row['backbone']}",
        score,
        f"{bytes_text(row['total'])}, {whole}",
    )


# ---- by layer

Value = Callable[[Row], tuple[float, float, float] | None]  # of a layer: value, low, high


def _of(key: str) -> Value:
    return lambda layer: (layer[key],) * 3 if key in layer else None


def _coefficient(key: str) -> Value:
    def value(layer: Row) -> tuple[float, float, float] | None:
        found = layer["coefficients"].get(key)
        return (found["mean"], found["min"], found["max"]) if found else None

    return value


def _by_layer(
    tasks: Sequence[Row],
    series: Mapping[str, tuple[int, str]],
    key: str,
    name: str,
    value: Value,
    *,
    share: bool = True,
) -> list[Lines | Heat]:
    """A figure a backbone: lines while they can be told apart, else shades."""
    found: list[Lines | Heat] = []
    by_backbone: dict[str, list[Row]] = {}
    for row in tasks:
        if any(value(layer) is not None for layer in row["layers"]):
            by_backbone.setdefault(row["fingerprint"], []).append(row)
    for rows in by_backbone.values():
        layers = layer_names(rows)
        labels = names(rows)
        lines = [
            _line(label, row, series[row["label"]][0], layers, value)
            for label, row in zip(labels, rows, strict=True)
        ]
        backbone = rows[0]["backbone"]
        title = backbone if share else f"{name}, {backbone}" if len(by_backbone) > 1 else name
        plain = f"{key}-{backbone}"
        if len(lines) <= LINES:
            lines = _told_apart(lines)
            found.append(Lines(plain, title, name, layers, tuple(lines), share))
        else:
            values = tuple(line.values for line in lines)
            found.append(Heat(plain, title, name, labels, layers, values))
    return found


def layer_names(rows: Sequence[Row]) -> tuple[str, ...]:
    """Layers of tasks on one backbone in the network's order, those of the most layers first."""
    longest = sorted(rows, key=lambda row: -len(row["layers"]))
    return tuple(dict.fromkeys(layer["layer"] for row in longest for layer in row["layers"]))


def _line(label: str, row: Row, series: int, layers: Sequence[str], value: Value) -> Line:
    found = {layer["layer"]: value(layer) for layer in row["layers"]}
    values = [found.get(name) for name in layers]
    middle, low, high = (
        tuple(None if three is None else three[n] for three in values) for n in range(3)
    )
    band = (low, high) if low != high else ((), ())
    return Line(label, series, middle, *band)


def _told_apart(lines: list[Line]) -> list[Line]:
    """A colour a line: that of its method where these differ, else one after the other."""
    if len({line.series for line in lines}) == len(lines):
        return lines
    return [Line(line.label, n, line.values, line.lows, line.highs) for n, line in enumerate(lines)]


# ---- similarity


def _similarities(summary: Mapping[str, Any], ordered: Sequence[Row]) -> list[Heat]:
    places = {row["label"]: n for n, row in enumerate(ordered)}
    found: list[Heat] = []
    for about in summary["similarity"]:
        if len(about["tasks"]) < 2:
            continue
        order = sorted(range(len(about["tasks"])), key=lambda n: places[about["tasks"][n]])
        labels = names([ordered[places[about["tasks"][n]]] for n in order])
        for key, name in (
            ("similarity", "Share of equal bits"),
            ("jaccard", "Share of zeros in common"),
        ):
            values = tuple(tuple(about[key][n][m] for m in order) for n in order)
            more = tuple(tuple(_by_chance(about["chance"][n][m]) for m in order) for n in order)
            title = f"{name}, {about['backbone']}"
            plain = f"{key}-{about['backbone']}"
            extra = more if key == "similarity" else ()
            found.append(Heat(plain, title, name, labels, labels, values, True, extra))
    return found


def _by_chance(value: float | None) -> str:
    return "" if value is None else f"{value:.2%} by chance"
