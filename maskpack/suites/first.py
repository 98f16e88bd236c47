"""Another task as the base of a suite: `maskpack suite NAME --first TASK`. No torch."""

from __future__ import annotations

import json
import re

from maskpack.common.errors import OptionError, UnknownName
from maskpack.suites.definition import Suite
from maskpack.suites.read import parse_suite, says

_FIRST = re.compile(r"^first[ \t]*=.*(?:\n|\Z)", re.MULTILINE)


def beginning_with(suite: Suite, first: str) -> Suite:
    """The same suite, its base another task, by name or by number from 1; the others keep order.

    The file's text begins with a line that says so, and the folder of the suite keeps it.

    Raises:
        UnknownName: the suite has no such task.
        OptionError: it has no base, or no task of that number, or does not say `first` in a line of
            its own.
    """
    if suite.base is None:
        raise OptionError(
            f"{suite.where}: --first {first}: it has no [base], so no task is trained before others"
        )
    order = list(suite.raw["tasks"])  # as the file has them, whatever the base
    if first in order:
        name = first
    elif first.isdecimal():
        if not 1 <= int(first) <= len(order):
            raise OptionError(
                f"{suite.where}: --first {first}: expected 1 to {len(order)}, or a task's name"
            )
        name = order[int(first) - 1]
    else:
        raise UnknownName(f"task of {suite.where}", first, order, "or its number")
    if name == suite.base.task:
        return suite
    text = _FIRST.sub("", suite.text, count=1) if "first" in suite.raw else suite.text
    text = f"first = {json.dumps(name, ensure_ascii=False)}\n{text}"
    if not says(text, {**suite.raw, "first": name}):
        raise OptionError(
            f"{suite.where}: --first needs a line first = {suite.raw.get('first')!r} to put "
            f"{name!r} into; change the file"
        )
    return parse_suite(text, suite.where)
