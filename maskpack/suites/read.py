"""A suite's file -> a Suite, with every key and value checked. No torch."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from maskpack import methods
from maskpack.common.errors import OptionError, UnknownName, one_line
from maskpack.suites import builtin_suites
from maskpack.suites.definition import (
    ALL,
    BASE,
    BaseEntry,
    MethodEntry,
    Published,
    Suite,
    TaskEntry,
)
from maskpack.suites.options import (
    OPTIONS,
    SWITCH,
    TABLE,
    TEXT,
    Kind,
    check_keys,
    is_number,
    refuse,
)
from maskpack.suites.tables.points import KINDS

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

SEEDS: Kind = (
    "a list of different whole numbers, 0 or more",
    lambda value: (
        isinstance(value, list)
        and bool(value)
        and all(type(seed) is int and seed >= 0 for seed in value)
        and len(set(value)) == len(value)
    ),
)
ABOUT: dict[str, Kind] = dict.fromkeys(("title", "about", "paper"), TEXT)
TOP: dict[str, Kind] = {"backbone": TEXT, "first": TEXT, "seeds": SEEDS} | dict.fromkeys(
    ("base", "options", "methods", "tasks", "published", "score"), TABLE
)
OPTION_KEYS: dict[str, Kind] = {key: kind for key, (_, kind) in OPTIONS.items()}
SWITCHES = ("sequence", "with-base", "joint")
METHOD_KEYS: dict[str, Kind] = {
    "method": TEXT,
    "teacher": TEXT,
    **dict.fromkeys(SWITCHES, SWITCH),
    **OPTION_KEYS,
}
BASE_KEYS: dict[str, Kind] = {"task": TEXT, "method": TEXT, **OPTION_KEYS}
TASK_KEYS: dict[str, Kind] = {
    **dict.fromkeys(("task", "data", "metric", "source"), TEXT),
    "methods": TABLE,
    **OPTION_KEYS,
}
PUBLISHED: dict[str, Kind] = {
    "source": TEXT,
    **dict.fromkeys(
        ("scores", "after", "sizes", "counted", "similarity", "points", "total", "seconds"), TABLE
    ),
}
INSTEAD = ("on", "first")  # figures for another backbone, for another first task
_NAME = re.compile(r"\w[\w.+-]*")
_BACKBONE = re.compile(r"^backbone[ \t]*=.*$", re.MULTILINE)


def read_suite(source: str | Path) -> Suite:
    """A suite by the name of a built-in one, or by its file's.

    Raises:
        UnknownName: neither, or a key or name in the file that is not known.
        OptionError: the file cannot be read, or a value does not fit.
    """
    known = builtin_suites()
    path = known.get(str(source), Path(source))
    if not path.is_file():
        if path.suffix == ".toml":
            raise OptionError(f"{path}: no such file")
        raise UnknownName("suite", str(source), known, hint="or give a .toml file")
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise OptionError(f"{path}: cannot be read: {one_line(str(error))}") from None
    return parse_suite(text, str(source) if str(source) in known else str(path))


def on_backbone(suite: Suite, backbone: str) -> Suite:
    """The same suite on another backbone, its file's text changed with it.

    Raises:
        OptionError: the file does not say its backbone in a line of its own.
    """
    line = f"backbone = {json.dumps(backbone, ensure_ascii=False)}"
    text = _BACKBONE.sub(lambda _: line, suite.text, count=1)
    if not says(text, {**suite.raw, "backbone": backbone}):
        raise OptionError(
            f"{suite.where}: --backbone needs a line backbone = {suite.backbone!r} to put "
            f"{backbone!r} into; change the file"
        )
    return parse_suite(text, suite.where)


def says(text: str, raw: Mapping[str, Any]) -> bool:
    """Whether a file's text, one line of it changed, is TOML and says `raw`."""
    try:
        return tomllib.loads(text) == raw
    except tomllib.TOMLDecodeError:
        return False


def parse_suite(text: str, where: str) -> Suite:
    """A suite from its file's text; `where` names it in messages.

    Raises:
        UnknownName: a key or name that is not known.
        OptionError: no TOML, something missing, or a value that does not fit.
    """
    try:
        raw = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise OptionError(f"{where}: not TOML: {one_line(str(error))}") from None
    check_keys(where, raw, ABOUT | TOP)
    for key in ("backbone", "methods", "tasks"):
        if not raw.get(key):
            raise OptionError(f"{where}: no {key}; see docs/suites.md")
    check_keys(f"{where}: options", raw.get("options", {}), OPTION_KEYS)
    entries = _methods(where, raw["methods"])
    base = _base(where, raw.get("base"), raw["tasks"], raw.get("first"))
    tasks = _tasks(where, raw["tasks"], [*entries, *([base.method] if base else [])])
    if base is not None:
        tasks = {base.task: tasks[base.task], **tasks}
    return Suite(
        where,
        Path(where).stem,
        text,
        raw,
        raw.get("title", Path(where).stem),
        raw.get("paper", ""),
        raw["backbone"],
        base,
        raw.get("options", {}),
        entries,
        tasks,
        tuple(raw.get("seeds", [0])),
        _published(where, raw.get("published", {}), tasks, raw["backbone"], raw.get("first")),
        _score(where, raw.get("score")),
    )


def _score(where: str, given: Mapping[str, Any] | None) -> str | None:
    if given is None:
        return None
    check_keys(f"{where}: score", given, {"kind": TEXT})
    kind: str = given.get("kind", "")
    if kind not in KINDS:
        raise UnknownName(f"kind of {where}: score", kind, KINDS)
    return kind


def _methods(where: str, given: Mapping[str, Any]) -> dict[str, MethodEntry]:
    entries: dict[str, MethodEntry] = {}
    for label, values in given.items():
        place = f"{where}: methods.{label}"
        _check_entry(where, "methods", label, values)
        check_keys(place, values, METHOD_KEYS)
        method = values.get("method", label)
        _check_method(place, method)
        own = _options(values)
        switches = {key.replace("-", "_"): values[key] for key in SWITCHES if key in values}
        teacher = values.get("teacher")
        entry = MethodEntry(label, method, **switches, teacher=teacher, options=own)
        if teacher is not None and (teacher not in entries or entries[teacher].joint):
            known = [name for name, other in entries.items() if not other.joint]
            raise UnknownName(f"teacher of {place}", teacher, known, "those above it")
        entries[label] = entry
        if entry.joint and (entry.sequence or entry.with_base):
            raise OptionError(f"{place}: joint = true is no sequence; leave one of the two out")
        if entry.joint and teacher is not None:
            raise OptionError(f"{place}: joint = true has no teacher; leave one of the two out")
        if entry.sequence and method == "scratch":
            raise OptionError(f"{place}: scratch begins anew with each task; leave sequence out")
        if entry.with_base and not entry.sequence:
            raise OptionError(f"{place}: with-base = true is for a sequence; add sequence = true")
    if BASE in entries:
        raise OptionError(f"{where}: methods.{BASE}: this name is the base's; take another")
    return entries


def _base(
    where: str, given: Mapping[str, Any] | None, tasks: Mapping[str, Any], first: str | None
) -> BaseEntry | None:
    """The base, trained on the task `first` where there is one, not on its own."""
    if given is None:
        if first is not None:
            raise OptionError(f"{where}: first = {first!r}, but no [base]; leave it out")
        return None
    place = f"{where}: base"
    check_keys(place, given, BASE_KEYS)
    if "task" not in given:
        raise OptionError(f"{place}: no task; expected the name of one of the tasks")
    if given["task"] not in tasks:
        raise UnknownName(f"task of {place}", given["task"], tasks)
    if first is not None and first not in tasks:
        raise UnknownName(f"task of {where}: first", first, tasks)
    base = BaseEntry(first or given["task"], given.get("method", "scratch"), _options(given))
    _check_method(place, base.method)
    return base


def _tasks(where: str, given: Mapping[str, Any], labels: list[str]) -> dict[str, TaskEntry]:
    entries: dict[str, TaskEntry] = {}
    for name, values in given.items():
        place = f"{where}: tasks.{name}"
        _check_entry(where, "tasks", name, values)
        if name == ALL:
            raise OptionError(f"{place}: this name is joint training's; take another")
        check_keys(place, values, TASK_KEYS)
        by_method = values.get("methods", {})
        for label, own in by_method.items():
            if label not in labels:
                raise UnknownName(f"method of {place}", label, labels)
            if not isinstance(own, dict):
                refuse(place, f"methods.{label}", own, "a table")
            check_keys(f"{place}.methods.{label}", own, OPTION_KEYS)
        about = {key: values[key] for key in ("data", "metric", "source") if key in values}
        entries[name] = TaskEntry(
            name,
            values.get("task", name),
            **about,
            options=_options(values),
            by_method=by_method,
        )
    return entries


def _published(
    where: str,
    given: Mapping[str, Any],
    tasks: Mapping[str, Any],
    backbone: str,
    first: str | None,
) -> Published:
    """Figures for any backbone, and in their place those that are there for this one.

    Those of another first task are all there is where the suite has that one first.
    """
    place = f"{where}: published"
    check_keys(place, given, PUBLISHED | dict.fromkeys(INSTEAD, TABLE))
    found = {key: value for key, value in given.items() if key not in INSTEAD}
    _check_figures(place, found, tasks)
    for case in INSTEAD:
        for name, own in given.get(case, {}).items():
            if not isinstance(own, dict):
                refuse(f"{place}.{case}", name, own, "a table")
            check_keys(f"{place}.{case}.{name}", own, PUBLISHED)
            _check_figures(f"{place}.{case}.{name}", own, tasks)
    for name in given.get("first", {}):
        if name not in tasks:
            raise UnknownName(f"task of {place}.first", name, tasks)
    if first is not None:
        about = {key: found[key] for key in ("source",) if key in found}
        return Published(**{**about, **given.get("first", {}).get(first, {})})
    return Published(**{**found, **given.get("on", {}).get(backbone, {})})


def _check_figures(place: str, given: Mapping[str, Any], tasks: Mapping[str, Any]) -> None:
    for key in ("scores", "after", "points", "seconds"):
        for task, row in given.get(key, {}).items():
            if key == "seconds" and task not in tasks and not isinstance(row, dict):
                _check_numbers(f"{place}.{key}", {task: row})
                continue  # of a method, all tasks together
            _check_row(f"{place}.{key}", task, row, tasks)
    for key in ("sizes", "total"):
        _check_numbers(f"{place}.{key}", given.get(key, {}))
    for label, text in given.get("counted", {}).items():
        if not isinstance(text, str):
            refuse(f"{place}.counted", label, text, "text")
    for label, matrix in given.get("similarity", {}).items():
        if not isinstance(matrix, dict):
            refuse(f"{place}.similarity", label, matrix, "a table")
        for task, row in matrix.items():
            _check_row(f"{place}.similarity.{label}", task, row, tasks)
            for other in row:
                if other not in tasks:
                    raise UnknownName(f"task of {place}.similarity.{label}.{task}", other, tasks)


def _check_row(place: str, task: str, row: Any, tasks: Mapping[str, Any]) -> None:
    """A task of the suite, and numbers; a label may be one that the suite does not train."""
    if task not in tasks:
        raise UnknownName(f"task of {place}", task, tasks)
    if not isinstance(row, dict):
        refuse(place, task, row, "a table")
    _check_numbers(f"{place}.{task}", row)


def _check_numbers(place: str, row: Mapping[str, Any]) -> None:
    for key, value in row.items():
        if not is_number(value):
            refuse(place, key, value, "a number")


def _check_entry(where: str, table: str, name: str, values: Any) -> None:
    if not isinstance(values, dict):
        refuse(f"{where}: {table}", name, values, f"a table [{table}.{name}]")
    if not _NAME.fullmatch(name):
        raise OptionError(
            f"{where}: {table}.{name!r}: names a folder too, so letters, digits and . _ + - only"
        )


def _check_method(place: str, name: str) -> None:
    """Raise UnknownName unless it is a method that is trained, or module:Class."""
    if name not in methods.TRAINED and ":" not in name:
        hint = "a label of your own needs a key method"
        raise UnknownName(f"method of {place}", name, methods.TRAINED, hint)


def _options(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if key in OPTIONS}
