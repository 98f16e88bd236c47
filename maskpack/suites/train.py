"""Train the cells of a suite: one after another in this process, or several at once."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from multiprocessing.synchronize import Event

import torch

from maskpack.common.errors import MaskpackError
from maskpack.suites.open import Opener
from maskpack.suites.plan import Cell
from maskpack.training.train_run import learn
from maskpack.training.trainer import EpochDone, Progress, Stopped

OFTEN = 0.3  # seconds between two reports of a process, and between two looks at signals


@dataclass(frozen=True)
class Told:
    """What happens to a cell: it "started", is at a "step", says a "line", "finished", "failed".

    `share` is how much of it is done.
    """

    cell: Cell
    kind: str
    text: str = ""
    share: float = 0.0


Watch = Callable[[Told], None]


def train_cells(
    cells: Sequence[Cell], opener: Opener, *, jobs: int, watch: Watch, tick: Callable[[], None]
) -> dict[Cell, str]:
    """Train cells, each after those that it needs; returns those that failed, with why.

    One that fails takes only those with it that need it. `tick` is called often and may
    raise Stopped: whatever is being trained is then saved first.

    Raises:
        Stopped: what `tick` raised.
    """
    if jobs > 1 and len(cells) > 1:
        return _train_at_once(cells, opener, min(jobs, len(cells)), watch, tick)
    failed: dict[Cell, str] = {}
    for cell in cells:
        tick()
        try:
            _check_start(cell, failed)
            _train(cell, opener, watch, tick)
        except MaskpackError as error:
            failed[cell] = str(error)
            watch(Told(cell, "failed", str(error)))
    return failed


def _check_start(cell: Cell, failed: dict[Cell, str]) -> None:
    missing = next((needed for needed in cell.needs if needed in failed), None)
    if missing is not None:
        raise MaskpackError(f"not trained, as it needs {missing}")


def _train(cell: Cell, opener: Opener, watch: Watch, tick: Callable[[], None]) -> None:
    watch(Told(cell, "started"))
    session = opener.session(cell)
    epochs = session.recipe.epochs

    def step(event: Progress | EpochDone) -> None:
        if isinstance(event, Progress):
            done = (event.epoch + event.step / event.steps) / epochs
            text = f"epoch {event.epoch + 1}/{epochs}, loss {event.loss:.4f}"
            watch(Told(cell, "step", text, done))

    def say(line: str) -> None:
        watch(Told(cell, "line", line))

    run = learn(session, opener.folder.run(cell), resume=True, watch=step, tick=tick, say=say)
    score = run.result["test"] if run.result else {}
    found = ""
    if score:
        entry = opener.suite.tasks.get(cell.task)  # a joint training is of all tasks
        metric = entry.metric if entry and entry.metric else session.task.metric
        found = f"{metric} {opener.suite.value(cell.task, metric, score):.4f}, "
    watch(Told(cell, "finished", f"{found}{run.seconds():.1f} s", 1.0))


# ---- several at once


@dataclass
class _Worker:
    process: SpawnProcess
    connection: Connection
    cell: Cell | None = None


def _train_at_once(
    cells: Sequence[Cell], opener: Opener, jobs: int, watch: Watch, tick: Callable[[], None]
) -> dict[Cell, str]:
    waiting = list(cells)
    failed: dict[Cell, str] = {}
    with _workers(opener, jobs) as (workers, stop):
        try:
            while waiting or any(worker.cell for worker in workers):
                tick()
                for cell in [cell for cell in waiting if failed.keys() & {*cell.needs}]:
                    waiting.remove(cell)
                    missing = next(needed for needed in cell.needs if needed in failed)
                    failed[cell] = f"not trained, as it needs {missing}"
                    watch(Told(cell, "failed", failed[cell]))
                _hand_out(waiting, workers)
                _listen(workers, failed, watch)
                if waiting and not workers:
                    raise MaskpackError("every process that trained has ended")
        except BaseException:
            stop.set()  # each saves its state and ends
            while any(worker.cell for worker in workers):
                _listen(workers, failed, watch)
            raise
    return failed


def _hand_out(waiting: list[Cell], workers: Sequence[_Worker]) -> None:
    """Give a cell to every idle worker, as long as there are some that can begin."""
    busy = {worker.cell for worker in workers if worker.cell}
    for worker in workers:
        ready = (cell for cell in waiting if not {*cell.needs} & {*busy, *waiting})
        if worker.cell is None and (cell := next(ready, None)) is not None:
            waiting.remove(cell)
            busy.add(cell)
            worker.cell = cell
            worker.connection.send(cell)


def _listen(workers: list[_Worker], failed: dict[Cell, str], watch: Watch) -> None:
    """Take what the workers have to tell, waiting a moment for it; drop those that have ended."""
    by_connection = {worker.connection: worker for worker in workers}
    for connection in wait(list(by_connection), timeout=OFTEN):
        worker = by_connection[connection]  # type: ignore[index]
        try:
            told: Told | None = worker.connection.recv()
        except (EOFError, OSError):
            workers.remove(worker)
            if worker.cell is not None:
                worker.process.join()
                failed[worker.cell] = f"its process ended with code {worker.process.exitcode}"
                watch(Told(worker.cell, "failed", failed[worker.cell]))
            continue
        if told is None:  # it was stopped, and has saved
            worker.cell = None
            continue
        watch(told)
        if told.kind in ("finished", "failed"):
            worker.cell = None
        if told.kind == "failed":
            failed[told.cell] = told.text


@contextmanager
def _workers(opener: Opener, jobs: int) -> Iterator[tuple[list[_Worker], Event]]:
    """Processes that train what they are sent, the machine's cores dealt among them."""
    context = multiprocessing.get_context("spawn")  # forked, torch's threads would be missing
    stop = context.Event()
    threads = max(1, (os.cpu_count() or 1) // jobs)
    shut = Opener(opener.suite, opener.folder, opener.data, opener.device, opener.workers)
    workers = []
    for _ in range(jobs):
        ours, theirs = context.Pipe()
        # not daemons, as those may have no loading processes
        process = context.Process(target=_work, args=(theirs, stop, shut, threads, os.getpid()))
        process.start()
        theirs.close()
        workers.append(_Worker(process, ours))
    started = list(workers)
    try:
        yield workers, stop
    finally:
        for worker in started:
            worker.connection.close()  # it ends when it hears no more
        for worker in started:
            worker.process.join()


def _work(connection: Connection, stop: Event, opener: Opener, threads: int, parent: int) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # a terminal sends them to all; `stop` says when
    torch.set_num_threads(threads)
    told_at = 0.0

    def tick() -> None:
        if stop.is_set() or os.getppid() != parent:
            raise Stopped

    def watch(told: Told) -> None:
        nonlocal told_at
        now = time.monotonic()
        if told.kind == "step" and now - told_at < OFTEN:
            return
        told_at = now
        connection.send(told)

    try:
        while True:
            cell: Cell = connection.recv()
            try:
                _train(cell, opener, watch, tick)
            except Stopped:
                connection.send(None)
            except MaskpackError as error:
                connection.send(Told(cell, "failed", str(error)))
    except (EOFError, BrokenPipeError, ConnectionError):
        return  # nobody is there any more
