"""What MATLAB files hold: arrays, and tables as arrays of structs. Read by scipy."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from maskpack.common.errors import DataError, one_line


def read_mat(path: Path, *names: str) -> list[Any]:
    """The variables of these names, each with one axis.

    Raises:
        DataError: scipy is missing, the file cannot be read, or has no such variable.
    """
    if importlib.util.find_spec("scipy") is None:
        raise DataError(
            f"{path.name} is a MATLAB file, which needs the package scipy; run `pip install scipy`"
        )
    import numpy as np
    from scipy.io import loadmat

    if not path.is_file():
        raise DataError(f"{path}: no such file; unpack the archive again, whole")
    try:
        found = loadmat(str(path), squeeze_me=True, appendmat=False)
    # scipy raises ValueError, TypeError, NotImplementedError, zlib.error ... for damaged files
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(
            one_line(f"{path}: cannot be read as a MATLAB file ({reason}); download it again")
        ) from error
    for name in names:
        if name not in found:
            there = ", ".join(sorted(key for key in found if not key.startswith("__"))) or "nothing"
            raise DataError(one_line(f"{path}: has no {name!r}, only {there}; it is another file"))
    return [np.atleast_1d(found[name]).ravel() for name in names]


def rows(path: Path, table: Any, fields: tuple[str, ...]) -> Iterator[tuple[str, list[Any]]]:
    """Where each struct of a table stands, and its values of `fields`, as Python's own.

    Raises:
        DataError: the structs have no such field.
    """
    there = table.dtype.names or ()
    for field in fields:
        if field not in there:
            shown = ", ".join(there) or "no fields"
            raise DataError(one_line(f"{path}: its table has {shown}; expected {field!r} too"))
    for number, row in enumerate(table, start=1):
        yield f"{path}: row {number}", [_plain(row[field]) for field in fields]


def whole(where: str, value: Any) -> int:
    """A whole number: of a uint8 a difference would wrap around."""
    try:
        number = float(value)
        if number == int(number):
            return int(number)
    except (TypeError, ValueError, OverflowError):
        pass
    raise DataError(one_line(f"{where}: {value!r} is not a whole number"))


def _plain(value: Any) -> Any:
    return value.item() if hasattr(value, "item") and getattr(value, "size", 1) == 1 else value
