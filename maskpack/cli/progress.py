"""Training and measuring as a person watches them, on stderr: live on a terminal, else lines."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from maskpack.common.live import PLAIN_SECONDS, Shown

if TYPE_CHECKING:
    from rich.console import Console

    from maskpack.packing.smaller.ladder import Row
    from maskpack.training.trainer import EpochDone, Progress


class Watcher(Shown):
    """Takes a trainer's events; use as a context manager."""

    def __init__(self, console: Console, epochs: int, metric: str, quiet: bool = False) -> None:
        super().__init__(console, quiet)
        self.epochs = epochs
        self.metric = metric
        self.ones: float | None = None
        self._task: Any = None

    def __enter__(self) -> Watcher:
        if self.console.is_terminal and not self.quiet:
            from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
            from rich.progress import Progress as Bar

            self._live = Bar(
                TextColumn("epoch {task.fields[epoch]}"),
                BarColumn(bar_width=24),
                TextColumn("{task.fields[numbers]}"),
                TimeRemainingColumn(),
                console=self.console,
                transient=True,
            )
            self._live.start()
        return self

    def __call__(self, event: Progress | EpochDone) -> None:
        from maskpack.training.trainer import EpochDone

        if isinstance(event, EpochDone):
            self._epoch(event)
        elif self._live is not None:
            self._step(event)
        elif time.monotonic() - self._last_line > PLAIN_SECONDS:
            self._last_line = time.monotonic()
            self.say(
                f"epoch {event.epoch + 1}/{self.epochs} step {event.step}/{event.steps} "
                f"{self._numbers(event)}"
            )

    def _step(self, event: Progress) -> None:
        total = event.steps * self.epochs
        done = event.epoch * event.steps + event.step
        fields = {"epoch": f"{event.epoch + 1}/{self.epochs}", "numbers": self._numbers(event)}
        if self._task is None:
            self._task = self._live.add_task("", total=total, completed=done, **fields)
        else:
            self._live.update(self._task, completed=done, **fields)

    def _epoch(self, event: EpochDone) -> None:
        self._last_line = time.monotonic()
        row, metric = event.row, self.metric
        self.ones = row.get("ones")
        ones = "" if self.ones is None else f", ones {self.ones:.2%}"
        best = ", best so far" if event.is_best else ""
        known = row.get(f"train_{metric}")
        trained = "" if known is None else f"{metric} {known:.4f}, "
        self.say(
            f"epoch {row['epoch']}/{self.epochs}: loss {row['train_loss']:.4f}, {trained}"
            f"val loss {row['val_loss']:.4f}, val {metric} "
            f"{row[f'val_{metric}']:.4f}{ones}, {event.seconds:.1f} s{best}"
        )

    def _numbers(self, event: Progress) -> str:
        ones = "" if self.ones is None else f" ones {self.ones:.2%}"
        metric = "" if event.metric is None else f" {self.metric} {event.metric:.4f}"
        return f"loss {event.loss:.4f}{metric}{ones} {event.images_per_second:.0f} images/s"


class Measuring(Shown):
    """Takes the rows that `choose` measures; use as a context manager."""

    def __init__(self, console: Console, quiet: bool = False) -> None:
        super().__init__(console, quiet)
        self._counts: dict[str, int] = {}

    def __enter__(self) -> Measuring:
        if self.console.is_terminal and not self.quiet:
            self._live = self.console.status("opening ...")
            self._live.start()
        return self

    def __call__(self, name: str, row: Row) -> None:
        self._counts[name] = self._counts.get(name, 0) + 1
        kinds = ", ".join(f"{part} {kind}" for part, kind in row.storage.changed.items())
        line = (
            f"{name}, combination {self._counts[name]}: {kinds or 'as it is'}, "
            f"{row.bytes:,} bytes, validation {row.metric:.4f}, loss {row.loss:.4f}"
        )
        if self._live is not None:
            from rich.text import Text

            self._live.update(Text(line))
        elif time.monotonic() - self._last_line > PLAIN_SECONDS:
            self._last_line = time.monotonic()
            self.say(line)
