"""Text files of one picture or class a line."""

from __future__ import annotations

import math
from pathlib import Path

from maskpack.common.errors import DataError, one_line


def lines(path: Path) -> list[tuple[int, str]]:
    """The lines that are not empty, with their numbers; DataError where there are none."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (FileNotFoundError, NotADirectoryError):
        raise DataError(f"{path}: no such file; unpack the archive again, whole") from None
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read as text ({error})") from error
    found = [(i, line.strip()) for i, line in enumerate(text.splitlines(), 1) if line.strip()]
    if not found:
        raise DataError(f"{path}: is empty; unpack the archive again, whole")
    return found


def by_number(path: Path, what: str) -> dict[str, list[str]]:
    """`1 a b` -> {"1": ["a", "b"]}, where `what` are the words of a line: "id x y"."""
    words, table = len(what.split()), dict[str, list[str]]()
    for number, line in lines(path):
        key, *rest = line.split()
        if len(rest) != words - 1:
            raise DataError(one_line(f"{path}: line {number} is {line!r}; expected {what!r}"))
        if key in table:
            raise DataError(one_line(f"{path}: line {number}: {key} stands there a second time"))
        table[key] = rest
    return table


def same_keys(path: Path, table: dict[str, list[str]], listing: Path, keys: list[str]) -> None:
    """Raise DataError unless the file has a line for each picture of `listing`."""
    without = [key for key in keys if key not in table]
    if without:
        raise DataError(
            one_line(
                f"{path}: has {len(table)} lines, none for picture {without[0]} of {listing.name}, "
                f"which has {len(keys)}; the file is cut off, unpack it again"
            )
        )


def numbers(where: str, words: list[str]) -> list[float]:
    """Finite numbers; DataError names what is none."""
    values = []
    for word in words:
        try:
            value = float(word)
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise DataError(one_line(f"{where}: {word!r} is not a number"))
        values.append(value)
    return values
