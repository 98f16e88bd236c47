"""The command line: read options, call one function, print."""

from __future__ import annotations

import errno
import os
import sys

from maskpack.cli.app import app, call, verbosity
from maskpack.common.errors import MaskpackError

# importing a command adds it to the app; --help lists them in this order
# isort: off
from maskpack.cli import train_mask, pack, eval_, inspect_, report_, suite, decathlon  # noqa: F401
from maskpack.cli import extras, data  # noqa: F401

__all__ = ["app", "call", "main"]

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)  # of a disk


def main() -> None:
    """The `maskpack` command."""
    try:
        try:
            app(standalone_mode=True)
        finally:
            sys.stdout.flush()  # here, where what goes wrong can still be told
    except MaskpackError as error:
        if verbosity["verbose"]:
            raise
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
    except BrokenPipeError:  # `| head` has seen enough
        _drop_stdout()
        sys.exit(0)
    except OSError as error:
        if error.errno not in FULL or verbosity["verbose"]:
            raise
        print(f"error: cannot write: {error.strerror}", file=sys.stderr)
        _drop_stdout()
        sys.exit(1)


def _drop_stdout() -> None:
    """Let what is still to be written vanish, or Python complains of it at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
