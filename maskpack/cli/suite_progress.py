"""What happens to a suite's cells as a person watches it: live on a terminal, else lines."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from maskpack.common.live import PLAIN_SECONDS, Shown

if TYPE_CHECKING:
    from rich.console import Console

    from maskpack.suites.train import Told


class Cells(Shown):
    """Takes what happens to the cells of a suite; use as a context manager.

    `total` cells are to be trained; `done` of them are finished already.
    """

    def __init__(self, console: Console, total: int, done: int, quiet: bool = False) -> None:
        super().__init__(console, quiet)
        self.total, self.done = total, done
        self._bars: dict[object, Any] = {}
        self._all: Any = None

    def __enter__(self) -> Cells:
        if self.console.is_terminal and not self.quiet:
            from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
            from rich.progress import Progress as Bar

            self._live = Bar(
                TextColumn("{task.description}"),
                BarColumn(bar_width=24),
                TextColumn("{task.fields[numbers]}"),
                TimeElapsedColumn(),
                console=self.console,
                transient=True,
            )
            self._live.start()
            self._all = self._live.add_task(
                "all", total=self.total, completed=self.done, numbers=self._count()
            )
        return self

    def __call__(self, told: Told) -> None:
        name = str(told.cell)
        if told.kind in ("finished", "failed"):
            self.done += told.kind == "finished"
            what = told.text if told.kind == "finished" else f"failed: {told.text}"
            warn = "warning: " if told.kind == "failed" else ""
            self.say(f"{warn}[{self._count()}] {name}: {what}")
        elif told.kind == "line":
            warn = "warning: " if told.text.startswith("warning: ") else ""
            self.say(f"{warn}{name}: {told.text.removeprefix(warn)}")
        elif told.kind == "started" and self._live is None:
            self.say(f"[{self._count()}] {name}: started")
        elif self._live is None and time.monotonic() - self._last_line > PLAIN_SECONDS:
            self._last_line = time.monotonic()
            self.say(f"[{self._count()}] {name}: {told.text}")
        if self._live is not None:
            self._show(told, name)

    def _show(self, told: Told, name: str) -> None:
        if told.kind in ("finished", "failed"):
            if told.cell in self._bars:
                self._live.remove_task(self._bars.pop(told.cell))
        elif told.cell not in self._bars:
            self._bars[told.cell] = self._live.add_task(name, total=1.0, numbers="")
        elif told.kind == "step":
            self._live.update(self._bars[told.cell], completed=told.share, numbers=told.text)
        going = sum(task.completed for task in self._live.tasks if task.id != self._all)
        self._live.update(self._all, completed=self.done + going, numbers=self._count())

    def _count(self) -> str:
        return f"{self.done}/{self.total}"
