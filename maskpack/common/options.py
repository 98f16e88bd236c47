"""Options of methods and tasks: KEY=VALUE as text, or as a pack's header has them."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from maskpack.common.errors import OptionError, UnknownName


def converted(key: str, value: Any, default: Any) -> Any:
    """An option's value, which may be text, as the type that its default has.

    Raises:
        OptionError: it does not fit.
    """
    if isinstance(default, bool):
        words = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
        found = words.get(str(value).lower())
        if found is None:
            raise OptionError(f"{key}={value!r}: expected true or false")
        return found
    text = isinstance(default, str)  # may be a word or, for affine's k, a number
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise OptionError(f"{key}={value!r}: expected {'text' if text else 'a number'}")
    try:
        number = float(value)
    except OverflowError:  # an int of a pack's header can have thousands of digits
        number = math.inf
    except ValueError:
        if text:
            return value
        raise OptionError(f"{key}={value!r}: expected a number") from None
    if not math.isfinite(number):
        raise OptionError(f"{key}={value!r}: expected a finite number")
    if isinstance(default, int):
        if not number.is_integer():
            raise OptionError(f"{key}={value!r}: expected a whole number")
        return int(number)
    return number


def check_positive(option: str, value: float) -> None:
    """Raise OptionError unless `value` is above 0."""
    if not value > 0:
        raise OptionError(f"{option}={value!r}: expected a number above 0")


def check_not_negative(option: str, value: float) -> None:
    """Raise OptionError unless `value` is a finite number, 0 or more."""
    if not 0 <= value < math.inf:
        raise OptionError(f"{option}={value!r}: expected a number, 0 or more")


def check_share(option: str, value: float, *, whole: bool = False) -> None:
    """Raise OptionError unless `value` is 0 or more and below 1, or 1 where that is allowed."""
    if not (0 <= value < 1 or (whole and value == 1)):
        raise OptionError(f"{option}={value!r}: expected 0 to {'1' if whole else 'less than 1'}")


def check_choice(option: str, value: object, choices: tuple[str, ...]) -> None:
    """Raise OptionError unless `value` is one of `choices`."""
    if value not in choices:
        raise OptionError(f"{option}={value!r}: expected one of {', '.join(choices)}")


def as_json(value: Any) -> Any:
    """Tuples to lists and so on, so that a value equals itself read back."""
    if isinstance(value, Mapping):
        return {key: as_json(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [as_json(item) for item in value]
    return value


def replaced(value: Any, changes: Mapping[str, Any], what: str) -> Any:
    """A frozen dataclass with some fields changed; UnknownName for a field it has not."""
    names = [field.name for field in dataclasses.fields(value)]
    for key in changes:
        if key not in names:
            raise UnknownName(what, key, names)
    return dataclasses.replace(value, **changes)
