"""A suite from its file to its tables: `maskpack suite`'s twin for Python."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from maskpack.common.errors import BackboneError, OptionError, RunError
from maskpack.suites import builtin_suites
from maskpack.suites.definition import Suite
from maskpack.suites.first import beginning_with
from maskpack.suites.folder import MEASURED, SuiteFolder
from maskpack.suites.plan import Cell, chosen_cells
from maskpack.suites.read import on_backbone, read_suite
from maskpack.suites.tables.build import check_against, suite_tables
from maskpack.suites.tables.write import write_tables

if TYPE_CHECKING:
    from maskpack.suites.open import Opener
    from maskpack.suites.train import Told


def run_suite(
    suite: str | Path | Suite,
    output: str | Path,
    *,
    data: str | Path | None = None,
    backbone: str | None = None,
    first: str | int | None = None,
    tasks: Sequence[str] | None = None,
    methods: Sequence[str] | None = None,
    seeds: Sequence[int] | None = None,
    jobs: int = 1,
    device: str = "auto",
    workers: int = 0,
    trust_code: bool = False,
    against: str | None = None,
    watch: Callable[[Told], None] = lambda told: None,
    tick: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """Train what is not trained yet of a suite into a folder, and return all its tables.

    `suite` is the name of a built-in one or a file, `data` the folder that its tasks' data are in,
    `backbone` another one than the file's, `first` the task (or its number from 1) that is the base
    in place of the file's.
    `tasks`, `methods` and `seeds` choose some of its cells; what those start from is trained too.
    `watch` is told what happens to each cell; `tick` is called often and may raise Stopped: the
    next call goes on from there. With `jobs` above 1 cells are trained in processes of their own,
    for which a script needs its `if __name__ == "__main__":`. A file that names Python code
    (module:function) is believed only with `trust_code`. Methods are tested `against` one of them.

    "failed" of the result has the cells that could not be trained, and why.

    Raises:
        MaskpackError: the suite, its data or the folder are not as they should be; nothing has
            been trained.
        Stopped: what `tick` raised.
    """
    chosen, folder, cells = planned(
        suite,
        output,
        backbone=backbone,
        first=first,
        tasks=tasks,
        methods=methods,
        seeds=seeds,
        trust_code=trust_code,
    )
    if jobs < 1:
        raise OptionError(f"--jobs {jobs}: expected 1 or more")
    check_against(chosen, against)
    from maskpack.runs.folder import Run
    from maskpack.suites.measure import Measurer
    from maskpack.suites.train import train_cells

    with Run(folder.path).locked():  # as a run's folder is: one process at a time
        folder.check(chosen)
        opener = check_suite(chosen, folder, cells, data, device, workers)
        folder.keep(chosen)
        left = [cell for cell in cells if folder.result(cell) is None]
        failed = train_cells(left, opener, jobs=jobs, watch=watch, tick=tick)
        found = found_seeds(folder, chosen)
        Measurer(opener, found).measure(tick)
        tables = suite_tables(chosen, folder, found, folder.read(MEASURED) or {}, against)
        tables["failed"] = {str(cell): reason for cell, reason in failed.items()}
        for ending in ("json", "md", "csv"):
            write_tables(tables, folder.path / f"tables.{ending}")
    return tables


def suite_results(
    output: str | Path,
    suite: str | Path | Suite | None = None,
    *,
    backbone: str | None = None,
    first: str | int | None = None,
    against: str | None = None,
) -> dict[str, Any]:
    """The tables of what is finished in a suite's folder, as `run_suite` returns them.

    Nothing is trained, measured or written, and torch is not imported. `suite`, where it is given,
    may have other published figures than the one that the folder keeps.

    Raises:
        RunError: there is no suite in the folder, or another one.
    """
    kept = kept_suite(SuiteFolder(output))
    chosen, folder, _ = planned(
        kept if suite is None else suite,
        output,
        backbone=backbone,
        first=first,
        trust_code=True,  # none is imported
    )
    measured = folder.read(MEASURED) or {}
    tables = suite_tables(chosen, folder, found_seeds(folder, chosen), measured, against)
    return {**tables, "failed": {}}


def open_suite(source: str | Path) -> tuple[Suite, Path | None]:
    """A suite by name or file; or the one that was trained in a folder, and that folder.

    Raises:
        MaskpackError: as `read_suite`; RunError for a folder without a suite.
    """
    folder = SuiteFolder(source)
    if str(source) in builtin_suites() or not folder.path.is_dir():
        return read_suite(source), None
    return kept_suite(folder), folder.path


def kept_suite(folder: SuiteFolder) -> Suite:
    """The suite that was trained in a folder, under the folder's name.

    Raises:
        RunError: there is none.
    """
    if not folder.kept.is_file():
        raise RunError(f"{folder.path}: no suite was trained here; expected {folder.kept}")
    found = read_suite(folder.kept)
    name = folder.path.resolve().name
    return dataclasses.replace(found, name=name, title=str(found.raw.get("title", name)))


def planned(
    suite: str | Path | Suite,
    output: str | Path,
    *,
    backbone: str | None = None,
    first: str | int | None = None,
    tasks: Sequence[str] | None = None,
    methods: Sequence[str] | None = None,
    seeds: Sequence[int] | None = None,
    trust_code: bool = False,
) -> tuple[Suite, SuiteFolder, list[Cell]]:
    """A suite, its folder, and the cells chosen, in the order in which they are trained.

    Raises:
        MaskpackError: the file is not as it should be, or names code that is not trusted.
        RunError: the folder holds another suite.
    """
    chosen = suite if isinstance(suite, Suite) else read_suite(suite)
    if backbone is not None:
        chosen = on_backbone(chosen, backbone)
    if first is not None:
        chosen = beginning_with(chosen, str(first))
    if chosen.names_code and not trust_code:
        raise BackboneError(
            f"{chosen.where} wants to import Python code, {chosen.names_code!r}; if you trust the "
            "file: --trust-code, or trust_code=True from Python"
        )
    for seed in seeds or ():
        if seed < 0:
            raise OptionError(f"--seeds {seed}: expected 0 or more")
    folder = SuiteFolder(output)
    if folder.path.exists() and not folder.path.is_dir():
        raise RunError(f"{folder.path} is a file; choose a folder with -o")
    folder.check(chosen)
    return chosen, folder, chosen_cells(chosen, tasks, methods, seeds)


def check_suite(
    suite: Suite,
    folder: SuiteFolder,
    cells: Sequence[Cell],
    data: str | Path | None = None,
    device: str = "auto",
    workers: int = 0,
) -> Opener:
    """What opens the cells, after everything that is left to do has been looked at.

    Raises:
        MaskpackError: something of it cannot be done.
    """
    from maskpack.suites.measure import Measurer
    from maskpack.suites.open import Opener

    opener = Opener(suite, folder, Path(data or "."), device, workers)
    left = [cell for cell in cells if folder.result(cell) is None]
    opener.check([*left, *Measurer(opener, found_seeds(folder, suite)).pending()])
    return opener


def found_seeds(folder: SuiteFolder, suite: Suite) -> list[int]:
    """Seeds of the runs in a folder: the suite's own first."""
    names = {path.name for path in folder.path.glob("runs/*/*/seed*")}
    there = {int(name[4:]) for name in names if name[4:].isdecimal()}
    own = [seed for seed in suite.seeds if seed in there]
    return own + sorted(there - set(own))


def plan_rows(folder: SuiteFolder, cells: Sequence[Cell]) -> list[dict[str, Any]]:
    """A row a cell: what it is, what it starts from, where it lies, how far it is."""
    return [
        {
            "task": cell.task,
            "method": cell.label,
            "seed": cell.seed,
            "starts from": "" if cell.start is None else str(cell.start),
            "state": folder.state(cell),
            "run": str(folder.run(cell)),
        }
        for cell in cells
    ]
