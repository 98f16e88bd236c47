"""maskpack's commands, each in a process of its own, with torch imported once for all of them.

A process is forked from a server that has everything imported, so that a test can afford dozens:
it has its own memory, files, signals and exit code, as one started by `python -m maskpack`.
"""

from __future__ import annotations

import contextlib
import io
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import torch

from maskpack.cli import main

TESTS = Path(__file__).parent
context = multiprocessing.get_context("forkserver")
context.set_forkserver_preload(
    [
        "maskpack.cli",
        "maskpack.training.train_run",
        "maskpack.evaluation.task_row",
        "torchvision.transforms.v2",
        "tinynet",
        "pytest",
    ]
)


@dataclass
class Done:
    """How a command ended; `code` is negative where a signal ended it."""

    code: int
    out: str
    err: str


@dataclass
class Running:
    """A command that runs."""

    process: ForkServerProcess
    out: Path
    err: Path

    @property
    def pid(self) -> int:
        assert self.process.pid is not None
        return self.process.pid

    def send(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def wait(self, timeout: float = 120) -> Done:
        self.process.join(timeout)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()
            raise TimeoutError(f"still running after {timeout} s: {self.err.read_text()}")
        assert self.process.exitcode is not None
        return Done(self.process.exitcode, self.out.read_text(), self.err.read_text())

    def wait_until(self, ready: Callable[[], bool], timeout: float = 60) -> None:
        """Return when `ready()`, or when the process has ended."""
        end = time.monotonic() + timeout
        while self.process.is_alive() and not ready():
            assert time.monotonic() < end, self.err.read_text()
            time.sleep(0.005)


def start(
    folder: Path,
    *arguments: str,
    stdin: str = "",
    environment: Mapping[str, str] | None = None,
    stderr: str | None = None,
    die_at_write: int | None = None,
) -> Running:
    """Start `maskpack ARGUMENTS` in `folder`; stderr may be the path of a terminal.

    With `die_at_write` the process kills itself around the renaming that puts a file in its place:
    before the first one at 0, after it at 1, before the second at 2, and so on.
    """
    streams = folder / ".streams"
    streams.mkdir(exist_ok=True)
    number = len(list(streams.iterdir()))
    paths = [streams / f"{number}.{name}" for name in ("in", "out", "err")]
    for path in paths:
        path.write_text(stdin if path.suffix == ".in" else "")
    if stderr is not None:
        paths[2] = Path(stderr)
    process = context.Process(
        target=_run, args=(folder, arguments, paths, dict(environment or {}), die_at_write)
    )
    process.start()
    return Running(process, paths[1], paths[2])


def run(folder: Path, *arguments: str, **more: object) -> Done:
    """Run `maskpack ARGUMENTS` in `folder` to its end."""
    return start(folder, *arguments, **more).wait()  # type: ignore[arg-type]


@contextlib.contextmanager
def _in(folder: Path) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def run_here(folder: Path, *arguments: str) -> Done:
    """The same within this process: quicker, for commands that end before they train."""
    out, err = io.StringIO(), io.StringIO()
    before, sys.argv = sys.argv, ["maskpack", *arguments]
    try:
        with (
            _in(folder),
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
        ):
            main()
    except SystemExit as ended:
        return Done(int(ended.code or 0), out.getvalue(), err.getvalue())
    finally:
        sys.argv = before
    raise AssertionError("a command ends with SystemExit")


def _run(
    folder: Path,
    arguments: tuple[str, ...],
    streams: list[Path],
    environment: dict[str, str],
    die_at_write: int | None,
) -> None:
    multiprocessing.set_start_method("fork", force=True)  # or loading workers import torch anew
    os.chdir(folder)
    os.environ.update(environment)
    sys.path.insert(0, str(TESTS))
    for number, path in enumerate(streams):
        flags = os.O_RDONLY if number == 0 else os.O_WRONLY | os.O_APPEND
        os.dup2(os.open(path, flags), number)
    sys.stdin, sys.stdout, sys.stderr = (
        os.fdopen(number, mode) for number, mode in enumerate(("r", "w", "w"))
    )
    torch.set_num_threads(1)
    if die_at_write is not None:
        _die_at_write(die_at_write)
    sys.argv = ["maskpack", *arguments]
    try:
        main()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()


def _die_at_write(moment: int) -> None:
    replace, seen = Path.replace, 0

    def counted(self: Path, target: Path) -> Path:
        nonlocal seen
        for done in (False, True):
            if seen == moment:
                os.kill(os.getpid(), signal.SIGKILL)
            seen += 1
            if not done:
                result = replace(self, target)
        return result

    Path.replace = counted  # type: ignore[method-assign,assignment]
