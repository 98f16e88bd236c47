"""Errors a user can act on.

MaskpackError
|-- UnknownName       a name that is in no table; lists the known ones
|-- OptionError       an option whose value does not fit
|-- DataError         images, labels or folders that are not as they should be
|-- BackboneError     a network or its weights cannot be had, or do not fit
|-- PackFormatError   a file that is not a pack, is damaged, or lies
|-- RunError          a run's folder is locked, taken, or was made with other options
`-- TrainingError     training cannot go on
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

LONGEST = 300  # characters of a message that quotes a file


def printable(text: str) -> str:
    """Text with line breaks, terminal codes and the like spelt out."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def one_line(message: str) -> str:
    """A message in one line of bearable length, whatever a hostile file put into it."""
    cut = "" if len(message) <= LONGEST else " ..."
    return printable(message[:LONGEST]) + cut


class MaskpackError(Exception):
    """Base of every error that the user, not the programmer, can put right."""


class UnknownName(MaskpackError):
    """A name that is in no table.

    The message gives the nearest known name and all known names.
    """

    def __init__(self, kind: str, name: str, known: Iterable[str], hint: str = "") -> None:
        names = sorted(known)
        near = difflib.get_close_matches(name.lower(), names, n=1)
        guess = f"; did you mean {near[0]!r}?" if near else ""
        tail = f"; {hint}" if hint else ""
        super().__init__(
            f"unknown {kind} {name!r}{guess}; known: {', '.join(names) or 'none'}{tail}"
        )


class OptionError(MaskpackError):
    """An option whose value does not fit."""


class DataError(MaskpackError):
    """Images, labels or folders that are not as they should be."""


class BackboneError(MaskpackError):
    """A network or its weights cannot be had, or do not fit."""


class PackFormatError(MaskpackError):
    """A file that is not a pack, is damaged, or lies about its content."""


class RunError(MaskpackError):
    """A run's folder is locked, taken, or was made with other options."""


class TrainingError(MaskpackError):
    """Training cannot go on (a loss that is not a number, for instance)."""
