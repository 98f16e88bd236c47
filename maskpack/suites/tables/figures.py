"""Tables of a suite -> its figures: size against score, forgetting, layers, similarity."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from maskpack.reports.render.figures import Figure, Heat, Line, Lines, Point, Scatter
from maskpack.reports.render.sections import AFFINE, LINES, Section
from maskpack.reports.render.wording import bytes_text, measure_text, score_text
from maskpack.reports.summary import pareto_front

Row = dict[str, Any]
Tables = Mapping[str, Sequence[Row]]
AVERAGE = "average"
LOWER = ("MSE", "MAE", "LPIPS")  # metrics that are better when lower, beside every loss
FIGURES = "figures"  # the column that says ours, spread, published
SHARE = "Share of pictures answered rightly"


def lower_is_better(metric: str | None) -> bool:
    """Whether a metric of a suite's table is better when lower, by its name."""
    name = (metric or "").partition(" on ")[0]
    return name in LOWER or name.endswith("loss")


def methods_of(rows: Sequence[Row]) -> list[str]:
    """The columns of a table of scores that are methods."""
    aside = ("task", "metric", FIGURES)
    return list(dict.fromkeys(key for row in rows for key in row if key not in aside))


def sections_of(tables: Tables) -> list[Section]:
    """Every plot of a suite there is something to show in."""
    found = [
        Section(
            "size",
            "Size against score",
            "Bytes that a task adds to the files (log scale; the mean over the tasks, without a "
            "network that they share) against the mean score over the seeds, of a sequence "
            "after its last task. Bars are one standard deviation over the seeds; the line is the "
            "Pareto front.",
            tuple(_scatters(tables)),
        ),
        Section(
            "sequences",
            "Forgetting in sequences",
            "Each task (rows) after each task (columns) was learnt by the same network: the "
            "diagonal is its score when it was learnt, to the right of it what later tasks left.",
            tuple(_sequences(tables.get("sequences", ()))),
        ),
        Section(
            "ones",
            "Ones by layer",
            "Share of mask bits that are 1.",
            tuple(_by_layer(tables.get("ones", ()), "ones", "Share of ones")),
        ),
        Section(
            "scaled",
            "Scaled share by layer (KSM)",
            "Share of mask bits that are 0 and have a scaling coefficient above 0; the other zeros "
            "remove what they stand for.",
            tuple(_by_layer(tables.get("scaled", ()), "scaled", "Share scaled")),
        ),
        Section(
            "affine",
            "Affine coefficients by layer",
            "k0 · W + k1 + k2 · M + k3 · W · M. Layers without a point keep the fixed value; where "
            "there is one k a channel, the line is their mean and the band spans all of them.",
            tuple(_coefficients(tables.get("coefficients", ()))),
        ),
        Section(
            "similarity",
            "Similarity of masks",
            "The share of bits that are equal in two tasks' masks.",
            tuple(_similarities(tables.get("similarity", ()))),
        ),
    ]
    return [section for section in found if section.figures]


# ---- size against score


def _scatters(tables: Tables) -> Iterator[Scatter]:
    """Of the average; where tasks have metrics of their own there is none, and each has a panel."""
    rows = tables.get("scores", ())
    sizes = {
        row["method"]: row["bytes a task"]
        for row in tables.get("bytes", ())
        if row["scope"] == "all"
    }
    tasks = list(dict.fromkeys(row["task"] for row in rows))
    for task in [AVERAGE] if AVERAGE in tasks else tasks:
        mine = {row[FIGURES]: row for row in rows if row["task"] == task}
        metric = mine["ours"]["metric"]
        points = list(_points(mine, sizes, metric))
        if points:
            names = tuple((point.series, point.label) for point in points)
            lower = lower_is_better(metric)
            score = f"test {measure_text(metric, lower)}"
            title = "Average over the tasks" if task == AVERAGE else task
            yield Scatter(f"size-{task}", title, score, tuple(points), names, lower=lower)


def _points(
    mine: Mapping[str, Row], sizes: Mapping[str, float], metric: str | None
) -> Iterator[Point]:
    ours, last, spread = (mine.get(key, {}) for key in ("ours", "at the end", "spread"))
    found: list[tuple[str, float, float]] = []
    for method in methods_of([mine["ours"]]):
        score = last.get(method) if last.get(method) is not None else ours.get(method)
        if score is not None and sizes.get(method, 0) > 0:
            found.append((method, sizes[method], score))
    lower = lower_is_better(metric)
    front = pareto_front([(size, score) for _, size, score in found], lower=lower)
    for n, (method, size, score) in enumerate(found):
        about = [method, f"{metric} {score_text(score)}", f"{bytes_text(size)} a task"]
        around = spread.get(method) if last.get(method) is None else None
        low, high = (None, None) if not around else (score - around, score + around)
        on_front = n in front and len(found) > 1
        yield Point(method, size, score, low, high, n, False, on_front, tuple(about))


# ---- forgetting


def _sequences(rows: Sequence[Row]) -> Iterator[Heat]:
    for method in dict.fromkeys(row["method"] for row in rows):
        mine = [row for row in rows if row["method"] == method]
        tasks = tuple(row["task"] for row in mine)
        metrics = {row["metric"] for row in mine}
        if len(tasks) < 2 or len(metrics) != 1:
            continue  # shades of several metrics say nothing beside one another
        metric = str(metrics.pop())
        values = tuple(
            tuple(
                row["when learnt"] if n == m else row.get(f"after {after}") if m > n else None
                for m, after in enumerate(tasks)
            )
            for n, row in enumerate(mine)
        )
        name = SHARE if metric == "accuracy" else metric
        yield Heat(f"sequence-{method}", method, name, tasks, tasks, values, True, diagonal=True)


# ---- by layer


def _by_layer(rows: Sequence[Row], key: str, name: str) -> Iterator[Figure]:
    """A figure a method, a line a task: the layers of one network, masked alike."""
    for method in dict.fromkeys(row["method"] for row in rows):
        mine = [row for row in rows if row["method"] == method]
        by_task = {
            task: {row["layer"]: row[key].get(task) for row in mine if task in row[key]}
            for task in dict.fromkeys(task for row in mine for task in row[key])
        }
        layers = tuple(dict.fromkeys(row["layer"] for row in mine))
        yield _figure(f"{key}-{method}", method, name, layers, by_task, {}, share=True)


def _coefficients(rows: Sequence[Row]) -> Iterator[Figure]:
    for method in dict.fromkeys(row["method"] for row in rows):
        layers = tuple(dict.fromkeys(row["layer"] for row in rows if row["method"] == method))
        for key, name in AFFINE.items():
            bounds: dict[str, dict[str, dict[str, float]]] = {}
            for row in rows:
                if (row["method"], row["coefficient"]) == (method, key):
                    for task, value in row["value"].items():
                        of = bounds.setdefault(row["of"], {}).setdefault(task, {})
                        of[row["layer"]] = value
            if bounds:
                title, means = f"{name}, {method}", bounds.pop("mean")
                yield _figure(f"{key}-{method}", title, name, layers, means, bounds, share=False)


def _figure(
    key: str,
    title: str,
    name: str,
    layers: Sequence[str],
    by_task: Mapping[str, Mapping[str, float | None]],
    bounds: Mapping[str, Mapping[str, Mapping[str, float]]],
    *,
    share: bool,
) -> Figure:
    """Lines while they can be told apart, else shades."""
    values = {task: tuple(map(found.get, layers)) for task, found in by_task.items()}
    if len(values) > LINES:
        return Heat(key, title, name, tuple(values), tuple(layers), tuple(values.values()))
    ends = [
        {
            task: tuple(map(bounds.get(end, {}).get(task, found).get, layers))
            for task, found in by_task.items()
        }
        for end in ("min", "max")
    ]
    lines = tuple(
        Line(task, n, found, *([end[task] for end in ends] if bounds else []))
        for n, (task, found) in enumerate(values.items())
    )
    return Lines(key, title, name, tuple(layers), lines, share)


# ---- similarity


def _similarities(rows: Sequence[Row]) -> Iterator[Heat]:
    for method in dict.fromkeys(row["method"] for row in rows):
        mine = {
            row["task"]: row["similarity"]
            for row in rows
            if (row["method"], row[FIGURES]) == (method, "ours")
        }
        tasks = tuple(mine)
        if len(tasks) > 1:
            values = tuple(tuple(mine[a].get(b) for b in tasks) for a in tasks)
            name = "Share of equal bits"
            yield Heat(f"similarity-{method}", method, name, tasks, tasks, values, True)
