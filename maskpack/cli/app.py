"""What the commands share: the typer app, options that several take, reading and printing."""

from __future__ import annotations

import functools
import inspect
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from maskpack.common.errors import OptionError

if TYPE_CHECKING:
    from rich.console import Console

app = typer.Typer(
    name="maskpack",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
verbosity = {"quiet": False, "verbose": False}

Function = TypeVar("Function", bound=Callable[..., None])
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Only warnings on stderr.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Tracebacks of errors.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
Csv = Annotated[bool, typer.Option("--csv", help="Short for --format csv.")]
Markdown = Annotated[bool, typer.Option("--md", help="Short for --format md.")]
Format = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="table, json, jsonl, csv, tsv or md.  [default: table on a terminal, tsv in a pipe]",
    ),
]
Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda or mps.")]
Workers = Annotated[
    int | None,
    typer.Option("--workers", "-j", help="Loading processes.  [default: cores - 2, at most 4]"),
]


def _version(value: bool) -> None:
    if value:
        from maskpack import __version__

        print(f"maskpack {__version__}")
        raise typer.Exit


@app.callback()
def common(
    quiet: Quiet = False,
    verbose: Verbose = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """One frozen vision backbone, many tasks, each a small file of masks.

    Example: maskpack demo
    """
    verbosity.update(quiet=quiet, verbose=verbose)


def command(name: str, of: typer.Typer = app) -> Callable[[Function], Function]:
    """A command that takes --quiet and --verbose too, which may stand before it or after."""

    def add(function: Function) -> Function:
        @functools.wraps(function)
        def told(*, quiet: bool, verbose: bool, **options: Any) -> None:
            verbosity["quiet"] |= quiet
            verbosity["verbose"] |= verbose
            function(**options)

        flags = {"quiet": Quiet, "verbose": Verbose}
        plain = inspect.signature(function, eval_str=True)
        keyword = inspect.Parameter.KEYWORD_ONLY
        added = [
            inspect.Parameter(flag, keyword, default=False, annotation=kind)
            for flag, kind in flags.items()
        ]
        told.__signature__ = plain.replace(  # type: ignore[attr-defined]
            parameters=[*plain.parameters.values(), *added]
        )
        told.__annotations__ = {
            name: parameter.annotation
            for name, parameter in told.__signature__.parameters.items()  # type: ignore[attr-defined]
        }
        of.command(name)(told)
        return function

    return add


def one_format(
    name: str | None, *, json: bool = False, csv: bool = False, md: bool = False
) -> str | None:
    """The one format asked for; None where none is."""
    from maskpack.reports.tables import FORMATS

    short = {"json": json, "csv": csv, "md": md}
    asked = {given for given, on in short.items() if on} | ({name} if name is not None else set())
    if len(asked) > 1:
        raise typer.BadParameter(f"two formats asked for: {' and '.join(sorted(asked))}")
    if asked - set(FORMATS):
        raise typer.BadParameter(f"--format {name!r}: expected one of {', '.join(FORMATS)}")
    return next(iter(asked), None)


def print_as(
    format: str | None, value: Any, tables: list[tuple[str, list[dict[str, Any]]]]
) -> None:
    """The value as JSON (a list's items one a line as jsonl), or the tables in another format."""
    from maskpack.reports.tables import print_json, print_jsonl, print_rows

    if format == "json":
        print_json(value)
    elif format == "jsonl":
        print_jsonl(value)
    else:
        for title, rows in tables:
            print_rows(title, rows, format)


def pair(option: str, text: str) -> tuple[str, str]:
    """Key and value of a KEY=VALUE that an option was given."""
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise OptionError(f"{option} {text!r}: expected key=value")
    return key.strip(), value.strip()


def whole_numbers(option: str, text: str) -> list[int]:
    """Those that an option was given as 1,2,3, each once."""
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names or not all(name.isdecimal() for name in names):
        raise typer.BadParameter(f"{option} {text!r}: expected whole numbers, such as 0,1,2")
    return list(dict.fromkeys(map(int, names)))


def task_options(
    pairs: list[str] | None, style: str | None, features: str | None
) -> dict[str, str]:
    """What --task-set, --style and --features say of an image-to-image task."""
    files = {"style": style, "features": features}
    chosen = {key: value for key, value in files.items() if value is not None}
    return dict(pair("--task-set", text) for text in pairs or []) | chosen


def default_workers() -> int:
    # on two cores the training itself wants both
    return max(0, min(4, (os.cpu_count() or 1) - 2))


def paths(sources: list[str]) -> Iterator[str]:
    """Paths as given; `-` stands for those on stdin, one a line."""
    for source in sources:
        if source == "-":
            yield from (line.strip() for line in sys.stdin if line.strip())
        else:
            yield source


def stderr() -> Console:
    from rich.console import Console

    return Console(stderr=True)


def call(arguments: list[str]) -> None:
    """Run one command in this process, errors raised as they are."""
    app(arguments, standalone_mode=False)


@contextmanager
def stop_on_signals() -> Iterator[list[int]]:
    """A list that the first SIGINT or SIGTERM puts its number in; a second one kills."""
    caught: list[int] = []
    before: dict[int, Any] = {}

    def note(number: int, _: FrameType | None) -> None:
        caught.append(number)
        for sent, handler in before.items():
            signal.signal(sent, handler)

    for number in (signal.SIGINT, signal.SIGTERM):
        before[number] = signal.signal(number, note)
    try:
        yield caught
    finally:
        for sent, handler in before.items():
            signal.signal(sent, handler)
