"""Write docs/cli.md from the commands' own declarations, those that --help is made from.

    python docs/make_cli.py            # writes docs/cli.md
    python docs/make_cli.py --check    # exits 1 if it is stale

The declarations are read, not the screen: --help changes with the terminal's width and with
typer's version, and this page must not.
"""

from __future__ import annotations

import inspect
import sys
import textwrap
import types
import typing
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from typer.models import ArgumentInfo, OptionInfo

from maskpack.cli import app

PAGE = Path(__file__).with_name("cli.md")
WIDTH, COLUMN = 92, 30  # of a line; where its explanation begins
NAMES = {str: "TEXT", int: "INT", float: "FLOAT", Path: "PATH"}
INTRO = """\
# The command line

Written by `python docs/make_cli.py` from the commands' declarations; do not edit.

Results go to stdout, everything else to stderr: `run=$(maskpack train-mask ...)` holds a path.
Tables are drawn on a terminal and tab-separated in a pipe, each under a line `# its title` and
followed by an empty line; `--format` of `eval` and `inspect` chooses. `-` as a path reads paths
from stdin, one a line. `python -m maskpack` is the same command. `NO_COLOR` is obeyed. Every
command has `--help`; `maskpack --install-completion` teaches the shell to complete them.

| exit code | meaning |
| --- | --- |
| 0 | done |
| 1 | something is wrong with names, data or files; one line, `error: ...`, says what to do |
| 2 | the command line itself is wrong |
| 130, 143 | stopped by Ctrl-C or SIGTERM; `train-mask` saved its state first |
"""


class Entry(NamedTuple):
    """One option or argument as it is listed."""

    panel: str
    left: str
    text: str


def page() -> str:
    """The whole of docs/cli.md."""
    callback = app.registered_callback
    assert callback is not None and callback.callback is not None
    parts = [INTRO, section("maskpack [OPTIONS] COMMAND ...", callback.callback)]
    parts += [section(f"maskpack {name}", function) for name, function in commands()]
    return "\n".join(parts)


def commands() -> Iterator[tuple[str, Callable[..., Any]]]:
    """Every command's name, those of a group with the group's before it, in the order of --help."""
    for prefix, group in [
        ("", app),
        *((f"{g.name} ", g.typer_instance) for g in app.registered_groups),
    ]:
        for command in group.registered_commands:
            assert command.callback is not None
            yield prefix + (command.name or command.callback.__name__), command.callback


def section(usage: str, function: Callable[..., Any]) -> str:
    """A command's heading, its docstring, its example, and its arguments and options."""
    about, _, example = inspect.cleandoc(function.__doc__ or "").partition("\n\nExample: ")
    entries = list(entries_of(function))
    arguments = "".join(f" {e.left}" for e in entries if e.panel == "Arguments")
    heading = f"## {usage.partition(' [OPTIONS]')[0]}"
    usage = usage if "[OPTIONS]" in usage else f"{usage} [OPTIONS]{arguments}"
    lines = [heading, "", f"    {usage}", "", about, ""]
    if example:
        lines += ["```sh", " ".join(example.split()), "```", ""]
    lines.append("```text")
    for place, panel in enumerate(dict.fromkeys(entry.panel for entry in entries)):
        lines += ["", f"{panel}:"] if place else [f"{panel}:"]
        lines += [row for entry in entries if entry.panel == panel for row in listed(entry)]
    return "\n".join([*lines, "```", ""])


def listed(entry: Entry) -> list[str]:
    """An entry's lines: what to type on the left, what it means on the right."""
    text = textwrap.wrap(entry.text, WIDTH - COLUMN, break_on_hyphens=False) or [""]
    left = f"  {entry.left}"
    if len(left) > COLUMN - 2:
        return [left, *(" " * COLUMN + line for line in text)]
    first = left.ljust(COLUMN) + text[0]
    return [first.rstrip(), *(" " * COLUMN + line for line in text[1:])]


def entries_of(function: Callable[..., Any]) -> Iterator[Entry]:
    """Arguments and options of a command, in their order."""
    hints = typing.get_type_hints(function, include_extras=True)
    for name, parameter in inspect.signature(function).parameters.items():
        kind, info = typing.get_args(hints[name])[:2]
        assert isinstance(info, (ArgumentInfo, OptionInfo)), name
        default = parameter.default
        text = info.help or ""
        if default is inspect.Parameter.empty:
            text += "  [required]"
        elif default is not None and not isinstance(default, bool):
            text += f"  [default: {default}]"
        if isinstance(info, ArgumentInfo):
            yield Entry("Arguments", info.metavar or name.upper(), text.strip())
        else:
            left = f"{spelled(name, info, kind)} {metavar(info, kind)}".strip()
            yield Entry(info.rich_help_panel or "Options", left, text.strip())


def spelled(name: str, info: OptionInfo, kind: object) -> str:
    """How an option is typed, the short form first."""
    # in an annotation typer keeps the first spelling where a default would stand
    first = [info.default] if isinstance(info.default, str) else []
    given = sorted([*first, *(info.param_decls or ())], key=len)
    long = f"--{name.replace('_', '-')}"
    if not given:
        return f"{long} / --no-{long[2:]}" if kind is bool else long
    return ", ".join(given)


def metavar(info: OptionInfo, kind: Any) -> str:
    """What follows an option: nothing for a flag."""
    if info.metavar:
        return info.metavar
    if typing.get_origin(kind) in (types.UnionType, typing.Union):
        kind = next(part for part in typing.get_args(kind) if part is not type(None))
    if typing.get_origin(kind) is list:
        return NAMES[typing.get_args(kind)[0]]
    if typing.get_origin(kind) is tuple:
        return " ".join(NAMES[part] for part in typing.get_args(kind))
    return "" if kind is bool else NAMES[kind]


def main() -> int:
    text = page()
    if "--check" not in sys.argv[1:]:
        PAGE.write_text(text, encoding="utf-8")
        return 0
    if PAGE.is_file() and PAGE.read_text(encoding="utf-8") == text:
        return 0
    print("docs/cli.md is stale; write it anew: python docs/make_cli.py", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
