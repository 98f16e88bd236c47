"""How each method was trained, side by side: what is not alike stands out. No torch.

Methods are compared task by task: what all of them do otherwise on one task is no difference.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

Row = dict[str, Any]
Options = Mapping[str, Any]  # of a run, flat: "recipe.epochs"
TEST = "TEST SPLIT"  # in capitals: scores of pictures that chose the epoch are too good
SELECTIONS = {"val": "validation", "last": "last epoch", "test": TEST}
DIFFERS = "differs"

# column -> where it stands in a run's options
COLUMNS = {
    "backbone": "backbone",
    "starts from": "start",
    "epochs": "recipe.epochs",
    "batch": "recipe.batch_size",
    "optimiser": "recipe.opt",
    "lr": "recipe.lr",
    "head optimiser": "recipe.head_opt",
    "head lr": "recipe.head_lr",
    "schedule": "recipe.sched",
    "weight decay": "recipe.weight_decay",
    "norms": "norms",
    "img-size": "preprocess.img_size",
    "selection": "select",
}
FAIR = ("backbone", "epochs", "batch", "norms", "img-size", "selection")  # each has a note
# what says which cell it is, or nothing of how it learnt
ASIDE = {"name", "task", "task_set", "method", "set", "seed", "seconds", "fingerprint", "data"}
ASIDE |= {"download", "device", "workers", "weights", "head"}


def protocol_rows(options: Mapping[str, Mapping[str, Options]]) -> list[Row]:
    """A row for each method: its protocol, and under "differs" what most others do otherwise.

    `options` by method and task, with "start" for what a run starts from and "seconds" for how
    long it took. A cell is a value or, where tasks differ, a text.
    """
    methods = {name: {task: _told(own) for task, own in of.items()} for name, of in options.items()}
    found = {key for of in methods.values() for own in of.values() for key in own}
    keys = sorted(key for key in found if key.partition(".")[0] not in ASIDE)
    usual = {key: _usual(list(methods.values()), key) for key in keys}
    rows = []
    for method, of in methods.items():
        other = [
            key for key in keys if any(o.get(key) != usual[key][task] for task, o in of.items())
        ]
        named = [column for column, key in COLUMNS.items() if key in other]
        more = [key for key in other if key not in COLUMNS.values()]
        row: Row = {"method": method}
        row |= {column: _cell(of, key) for column, key in COLUMNS.items()}
        row["seconds"] = round(sum(own["seconds"] for own in of.values()), 3)
        told = [*named, *(f"{key.rpartition('.')[2]} {_cell(of, key)}" for key in more)]
        rows.append(row | {DIFFERS: ", ".join(told) or None})
    return rows


def marked(rows: Sequence[Row]) -> list[Row]:
    """Rows for a person: a value that most other methods have otherwise bears a star."""
    return [
        {key: f"{value} *" if key in _differing(row) else value for key, value in row.items()}
        for row in rows
    ]


def protocol_notes(rows: Sequence[Row]) -> Iterator[str]:
    """What a reader must know before comparing methods, a line each."""
    chosen = [row["method"] for row in rows if TEST in str(row["selection"])]
    if chosen:
        yield (
            f"the TEST SPLIT chose the epoch of {', '.join(chosen)}: such scores are too good; "
            'select = "val" gives fair ones'
        )
    for column in FAIR:
        others = [row for row in rows if column in _differing(row) and TEST not in str(row[column])]
        told = [f"{row['method']} ({row[column]})" for row in others]
        if told:
            yield f"{column} not as the other methods': {', '.join(told)}"


def _differing(row: Row) -> list[str]:
    told = (row[DIFFERS] or "").split(", ")
    return [column for column in COLUMNS if column in told]


def _told(options: Options) -> Options:
    """Options with what is left open filled in, and in words."""
    head = {
        "recipe.head_opt": options.get("recipe.head_opt") or options.get("recipe.opt"),
        "recipe.head_lr": options.get("recipe.head_lr") or options.get("recipe.lr"),
    }
    select = str(options.get("select"))
    return {**options, **head, "select": SELECTIONS.get(select, select)}


def _usual(methods: Sequence[Mapping[str, Options]], key: str) -> dict[str, Any]:
    """By task what most methods have; of several such, what the first of them has."""
    usual: dict[str, Any] = {}
    for task in dict.fromkeys(task for of in methods for task in of):
        values = [of[task].get(key) for of in methods if task in of]
        counts = Counter(map(repr, values))
        usual[task] = next(v for v in values if counts[repr(v)] == max(counts.values()))
    return usual


def _cell(of: Mapping[str, Options], key: str) -> Any:
    """The value of all tasks; where they differ, that of most and which have others: 20 (ab 40)."""
    values = {task: own.get(key) for task, own in of.items()}
    counts = Counter(map(repr, values.values()))
    most = next(v for v in values.values() if counts[repr(v)] == max(counts.values()))
    others = [f"{task} {value}" for task, value in values.items() if value != most]
    if others:
        return f"{most} ({', '.join(others)})"
    return most if most is None or isinstance(most, (int, float, str)) else str(most)
