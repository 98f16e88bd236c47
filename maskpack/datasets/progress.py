"""What a person sees of fetching, on stderr: a bar on a terminal, else a line now and then."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from maskpack.common.live import PLAIN_SECONDS, Shown

if TYPE_CHECKING:
    from rich.console import Console


class Watch:
    """Sees nothing: the base of those that do."""

    def say(self, line: str) -> None:
        """Something happened."""

    def step(self, what: str, done: int, total: int | None, unit: str = "bytes") -> None:
        """So much of `what` is done; total None: nobody knows of how much."""


class Downloads(Shown, Watch):
    """Shows lines and the bytes that came; use as a context manager."""

    def __init__(self, console: Console, quiet: bool = False) -> None:
        super().__init__(console, quiet)
        self._bars: dict[str, Any] = {}
        self._bars_begun: dict[str, tuple[float, int]] = {}

    def __enter__(self) -> Downloads:
        if self.console.is_terminal and not self.quiet:
            from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

            self._live = Progress(
                TextColumn("{task.description}", markup=False),
                BarColumn(bar_width=24),
                TextColumn("{task.fields[numbers]}"),
                TimeRemainingColumn(),
                console=self.console,
                transient=True,
            )
            self._live.start()
        return self

    def step(self, what: str, done: int, total: int | None, unit: str = "bytes") -> None:
        if self._live is not None:
            if what not in self._bars:
                self._bars[what] = self._live.add_task(what, total=total, numbers="")
                self._bars_begun[what] = time.monotonic(), done
            numbers = amount(done, total, unit) + self._speed(what, done, unit)
            self._live.update(self._bars[what], completed=done, total=total, numbers=numbers)
            if done == total:
                self._live.remove_task(self._bars.pop(what))
        elif time.monotonic() - self._last_line > PLAIN_SECONDS:
            self._last_line = time.monotonic()
            self.say(f"{what}: {amount(done, total, unit)}")

    def _speed(self, what: str, done: int, unit: str) -> str:
        began, before = self._bars_begun[what]
        seconds = time.monotonic() - began
        return f", {amount((done - before) / seconds, None, unit)}/s" if seconds > 1 else ""


def amount(done: float, total: float | None, unit: str) -> str:
    """How much, as a person reads it: bytes in MB, what else there is in whole numbers."""
    scale, digits, name = (1e6, 1, "MB") if unit == "bytes" else (1, 0, unit)
    whole = "" if total is None else f" of {total / scale:,.{digits}f}"
    return f"{done / scale:,.{digits}f}{whole} {name}"
