"""A run on disk: a folder that training can be stopped in, and continued from, at any moment.

options.json      every resolved option
environment.json  versions and machine
metrics.jsonl     one line per epoch
timing.jsonl      seconds per epoch, apart because they differ from run to run
last.safetensors  everything needed to continue
best.safetensors  what is packed: params and the task's own tensors of the best epoch
carried.safetensors  in a sequence: what the next task starts from (maskpack.runs.sequence)
narrow/WIDTH/     attempts on networks too narrow for the task's goal (maskpack.training.wider)
answers.json      the class found in each test picture, of a classification
result.json       the score on the test split, written once at the end
lock              held while a process trains
"""

from __future__ import annotations

import fcntl
import json
import os
import platform
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from maskpack.common.errors import MaskpackError, RunError
from maskpack.common.files import remove_parts, replacing, write_text
from maskpack.common.version import __version__
from maskpack.packs.file import canonical_json

LAST = "last.safetensors"
NARROW = "narrow"
KEY = "maskpack-run"  # the one metadata key, so that equal states are equal bytes


@dataclass(frozen=True)
class State:
    """A moment of training: tensors by name and JSON beside them."""

    tensors: Mapping[str, Tensor]
    meta: Mapping[str, Any]


class Run:
    """The folder of one training."""

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)

    def exists(self) -> bool:
        return (self.path / "options.json").is_file()

    def begun(self) -> bool:
        """Whether there is something to lose: a run that stopped before has its options only."""
        states = (self.path / LAST, self.path / NARROW)
        return self.exists() and any(path.exists() for path in states)

    @property
    def options(self) -> dict[str, Any]:
        """Every resolved option.

        Raises:
            RunError: the folder is not a run.
        """
        return self._json("options.json")

    @property
    def result(self) -> dict[str, Any] | None:
        """What the test split gave; None while the run is unfinished."""
        return self._json("result.json") if (self.path / "result.json").is_file() else None

    def start(self, options: Mapping[str, Any]) -> None:
        """Make the folder and write what will not change."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RunError(f"{self.path}: cannot be made: {error.strerror}") from error
        self._write("environment.json", environment())
        self._write("options.json", options)

    def check_same(self, options: Mapping[str, Any], besides: Collection[str] = ()) -> None:
        """Raise RunError when the run was started with other options, `besides` aside."""
        before, now = _flat(self.options), _flat(options)
        for key in sorted(before.keys() | now.keys()):
            free = key in besides or key.partition(".")[0] in besides
            if before.get(key) != now.get(key) and not free:
                raise RunError(
                    f"{self.path} was started with {key}={before.get(key)!r}, now "
                    f"{key}={now.get(key)!r}; resume with the same options, or choose another "
                    "folder with -o"
                )

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes out; the lock goes with the process, however that ends.

        Raises:
            RunError: another process trains in this folder.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            file = (self.path / "lock").open("a+")
        except OSError as error:
            raise RunError(f"{self.path}: cannot be used: {error.strerror}") from error
        with file:
            try:
                # lockf, not flock: loading workers inherit the latter and outlive a SIGKILL
                fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                file.seek(0)
                holder = file.read().strip() or "unknown"
                raise RunError(
                    f"{self.path} is in use by process {holder}; wait for it or choose another "
                    "folder with -o"
                ) from None
            file.truncate(0)
            file.write(str(os.getpid()))
            file.flush()
            remove_parts(self.path)
            yield

    def save_last(self, state: State) -> None:
        save_state(self.path / LAST, state)

    def save_best(self, state: State) -> None:
        save_state(self.path / "best.safetensors", state)

    def load_last(self) -> State | None:
        """The state to continue from; None before the first was written."""
        path = self.path / LAST
        return load_state(path) if path.is_file() else None

    def set_aside(self, width: float) -> None:
        """Move what was trained on a network of this width away; the next one begins anew."""
        folder = self.path / NARROW / f"{width:g}"
        folder.mkdir(parents=True, exist_ok=True)
        for name in ("metrics.jsonl", "best.safetensors", LAST):  # the last of them counts
            if (self.path / name).is_file():
                (self.path / name).replace(folder / name)

    def narrower(self) -> list[float]:
        """Widths of the networks that were too narrow, the narrowest first.

        Raises:
            RunError: a folder that is no width stands among theirs.
        """
        found = [path.parent.name for path in (self.path / NARROW).glob(f"*/{LAST}")]
        try:
            return sorted(map(float, found))
        except ValueError:
            raise RunError(
                f"{self.path / NARROW} holds {', '.join(sorted(found))}; expected widths, as in 1.5"
            ) from None

    def load_best(self) -> State:
        """The best epoch's params and tensors.

        Raises:
            RunError: no epoch has been finished.
        """
        path = self.path / "best.safetensors"
        self.options  # noqa: B018 -- says first when the folder is no run at all
        if not path.is_file():
            raise RunError(f"{self.path}: no epoch is finished yet; train on with --resume")
        return load_state(path)

    def write_metrics(self, rows: list[dict[str, Any]]) -> None:
        """All epochs' lines at once, so that a killed run never leaves half of one."""
        text = "".join(canonical_json(row) + "\n" for row in rows)
        write_text(self.path / "metrics.jsonl", text)

    def add_timing(self, row: Mapping[str, Any]) -> None:
        with (self.path / "timing.jsonl").open("a", encoding="utf-8") as file:
            file.write(canonical_json(dict(row)) + "\n")

    def seconds(self) -> float:
        """Training time so far, all sessions together."""
        path = self.path / "timing.jsonl"
        lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
        total = 0.0
        for line in lines:
            with suppress(ValueError, KeyError, TypeError):  # half a line, of a killed process
                total += json.loads(line)["seconds"]
        return total

    def write_result(self, result: Mapping[str, Any]) -> None:
        self._write("result.json", result)

    def _write(self, name: str, value: Mapping[str, Any]) -> None:
        write_text(self.path / name, json.dumps(value, indent=2, sort_keys=True) + "\n")

    def _json(self, name: str) -> dict[str, Any]:
        path = self.path / name
        try:
            value = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise RunError(f"{self.path} is not a run (no {name} in it)") from None
        except (OSError, ValueError, RecursionError) as error:
            raise RunError(f"{path}: cannot be read: {error}") from None
        if not isinstance(value, dict):
            raise RunError(f"{path}: {type(value).__name__}, expected a JSON object")
        return value


def _flat(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options with those of a group (recipe, augment, ...) beside the others: `recipe.epochs`."""
    flat: dict[str, Any] = {}
    for key, value in options.items():
        inner = value if isinstance(value, dict) else {}
        flat |= {f"{key}.{name}": item for name, item in inner.items()} if inner else {key: value}
    return flat


def save_state(path: Path, state: State) -> None:
    """Write a state whole or not at all."""
    tensors = {key: value.detach().cpu().contiguous() for key, value in state.tensors.items()}
    with replacing(path) as written:
        try:
            save_file(tensors, written, metadata={KEY: canonical_json(state.meta)})
        except SafetensorError as error:
            raise MaskpackError(f"{path}: cannot be written: {error}") from error


def load_state(path: Path) -> State:
    """Inverse of `save_state`.

    Raises:
        RunError: damaged, or not a run's.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata_ = file.metadata() or {}
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        meta = json.loads(metadata_[KEY])
    except (OSError, SafetensorError, KeyError, ValueError, RecursionError) as error:
        raise RunError(f"{path}: not a run's state or damaged: {error}") from error
    if not isinstance(meta, dict):
        raise RunError(f"{path}: damaged: {type(meta).__name__}, expected a JSON object")
    return State(tensors, meta)


def environment() -> dict[str, Any]:
    """Versions and machine, for the record and for `maskpack env`."""
    packages = ["torch", "torchvision", "numpy", "safetensors", "bitarray", "timm"]
    versions = {"maskpack": __version__}  # right from source too
    for package in packages:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = "not installed"
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "versions": versions,
        "threads": torch.get_num_threads(),
        "cuda": torch.cuda.get_device_name(0) if torch.cuda.is_available() else None,
        "mps": torch.backends.mps.is_available(),
    }
