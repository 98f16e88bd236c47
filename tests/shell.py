"""An environment in which a script finds the `maskpack` under test, installed or not."""

from __future__ import annotations

import os
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def environment(folder: Path) -> dict[str, str]:
    """os.environ with a `maskpack` command made in `folder` before all others."""
    commands = folder / "commands"
    commands.mkdir()
    command = commands / "maskpack"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m maskpack "$@"\n', encoding="utf-8")
    command.chmod(0o755)
    path = os.pathsep.join([str(commands), str(Path(sys.executable).parent), os.environ["PATH"]])
    return os.environ | {"PATH": path, "PYTHONPATH": str(ROOT)}
