"""What a person sees on stderr of something long: a live line on a terminal, and lines above it."""

from __future__ import annotations

import time
from types import TracebackType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

PLAIN_SECONDS = 30.0  # between two plain lines about one thing, where nothing is live


class Shown:
    """The base of those that show something; use as a context manager."""

    def __init__(self, console: Console, quiet: bool = False) -> None:
        self.console = console
        self.quiet = quiet
        self._live: Any = None
        self._last_line = time.monotonic()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def say(self, line: str) -> None:
        """A line of its own, above the live one."""
        if not self.quiet or line.startswith("warning"):
            self.console.print(line, markup=False, highlight=False, soft_wrap=True)
