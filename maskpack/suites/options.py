"""Options of a suite's file: those of `train-mask` under the names they have there."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NoReturn

from maskpack.common.errors import OptionError, UnknownName

Kind = tuple[str, Callable[[Any], bool]]  # what is expected, in words, and whether it is that


def is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _numbers(count: int) -> Kind:
    def fits(value: Any) -> bool:
        return isinstance(value, list) and len(value) == count and all(map(is_number, value))

    return f"a list of {count} numbers", fits


def _wholes(value: Any) -> bool:
    return isinstance(value, list) and all(type(item) is int for item in value)


def _texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _settings(value: Any) -> bool:
    scalars = (str, int, float, bool)
    return isinstance(value, dict) and all(isinstance(item, scalars) for item in value.values())


WHOLE: Kind = ("a whole number", lambda value: isinstance(value, int) and is_number(value))
NUMBER: Kind = ("a number", is_number)
TEXT: Kind = ("text", lambda value: isinstance(value, str) and bool(value))
WHOLES: Kind = ("a list of whole numbers", _wholes)
TEXTS: Kind = ("a list of texts", _texts)
SWITCH: Kind = ("true or false", lambda value: isinstance(value, bool))
SETTINGS: Kind = ("a table of numbers, texts, true or false", _settings)
TABLE: Kind = ("a table", lambda value: isinstance(value, dict))

# name -> field of session.Options ("recipe.epochs": of its recipe), and what is expected
OPTIONS: dict[str, tuple[str, Kind]] = {
    "weights": ("weights", TEXT),
    "head": ("head", TEXT),
    "download": ("download", SWITCH),
    "task-set": ("task_set", SETTINGS),
    "style": ("task_set.style", TEXT),
    "features": ("task_set.features", TEXT),
    "set": ("set", SETTINGS),
    "recipe": ("named", TEXT),
    "norms": ("norms", TEXT),
    "include": ("include", TEXTS),
    "exclude": ("exclude", TEXTS),
    "amp": ("amp", SWITCH),
    "select": ("select", TEXT),
    "val-fraction": ("val_fraction", NUMBER),
    "no-aug": ("no_aug", SWITCH),
    "epochs": ("recipe.epochs", WHOLE),
    "batch-size": ("recipe.batch_size", WHOLE),
    "opt": ("recipe.opt", TEXT),
    "lr": ("recipe.lr", NUMBER),
    "head-opt": ("recipe.head_opt", TEXT),
    "head-lr": ("recipe.head_lr", NUMBER),
    "momentum": ("recipe.momentum", NUMBER),
    "weight-decay": ("recipe.weight_decay", NUMBER),
    "sched": ("recipe.sched", TEXT),
    "decay-epochs": ("recipe.decay_epochs", WHOLE),
    "decay-milestones": ("recipe.decay_milestones", WHOLES),
    "decay-rate": ("recipe.decay_rate", NUMBER),
    "warmup-epochs": ("recipe.warmup_epochs", WHOLE),
    "min-lr": ("recipe.min_lr", NUMBER),
    "head-init": ("recipe.head_init", TEXT),
    "head-epochs": ("recipe.head_epochs", WHOLE),
    "size-penalty": ("recipe.size_penalty", NUMBER),
    "distill": ("recipe.distill", NUMBER),
    "temperature": ("recipe.temperature", NUMBER),
    "freeze-epochs": ("recipe.freeze_epochs", WHOLE),
    "img-size": ("preprocess.img_size", WHOLE),
    "crop-pct": ("preprocess.crop_pct", NUMBER),
    "interpolation": ("preprocess.interpolation", TEXT),
    "mean": ("preprocess.mean", _numbers(3)),
    "std": ("preprocess.std", _numbers(3)),
    "train-crop-mode": ("augment.crop_mode", TEXT),
    "scale": ("augment.scale", _numbers(2)),
    "ratio": ("augment.ratio", _numbers(2)),
    "padding": ("augment.padding", WHOLE),
    "hflip": ("augment.hflip", NUMBER),
    "vflip": ("augment.vflip", NUMBER),
    "color-jitter": ("augment.color_jitter", NUMBER),
    "aa": ("augment.auto_augment", TEXT),
    "reprob": ("augment.random_erasing", NUMBER),
}
FILES = ("style", "features")  # options that name a file below the folder of the data
LAYERED = ("set", "task-set")  # of which a later place changes single keys


def check_keys(where: str, values: Mapping[str, Any], known: Mapping[str, Kind]) -> None:
    """Raise unless every key of a table is known and has a value of its kind.

    Raises:
        UnknownName: no such key.
        OptionError: another kind of value.
    """
    for key, value in values.items():
        if key not in known:
            raise UnknownName(f"key of {where}", key, known)
        expected, fits = known[key]
        if not fits(value):
            refuse(where, key, value, expected)


def refuse(where: str, key: str, value: Any, expected: str) -> NoReturn:
    """Raise OptionError for a value that does not fit its key."""
    raise OptionError(f"{where}: {key} = {value!r}, expected {expected}")


def layered(*places: Mapping[str, Any]) -> dict[str, Any]:
    """Options of several places, the later ones before the earlier."""
    merged: dict[str, Any] = {}
    for place in places:
        for key, value in place.items():
            both = key in LAYERED and key in merged
            merged[key] = {**merged[key], **value} if both else value
    return merged


def fields_of(options: Mapping[str, Any], data: Path) -> dict[str, Any]:
    """Arguments of session.Options, and "named", the recipe's name; `data` is where files are."""
    fields: dict[str, Any] = {}
    for key, value in options.items():
        group, _, name = OPTIONS[key][0].partition(".")
        if key in FILES:
            value = str(data / value)
        if key == "task-set":
            value = {k: str(data / v) if k in FILES else v for k, v in value.items()}
        if isinstance(value, list):
            value = tuple(value)
        if name:
            fields.setdefault(group, {})[name] = value
        elif isinstance(value, dict):
            fields[group] = {**fields.get(group, {}), **value}
        else:
            fields[group] = value
    return fields
