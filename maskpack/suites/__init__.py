"""A suite: a named list of tasks, methods and seeds on one base, run as one thing.

A suite is data, a small TOML file (docs/suites.md); the *.toml beside this file come with the
package. From file to tables, a file each:

    definition  what a suite says                                         no torch
    read        the file -> a Suite, every key and value checked          no torch
    first       the suite with another task first                         no torch
    plan        a Suite -> its cells: one training each, and what it starts from
    folder      what stands in the output folder, and whether this suite may go on in it
    open        a cell -> pictures, backbone, options, all opened
    train       cells trained in this process or in several
    measure     finished cells -> packs, sizes, scores measured again
    answer      finished cells -> what their networks answer to each test picture
    run         all of it
    tables/     what is on disk -> rows of tables, files, a page
"""

from __future__ import annotations

from pathlib import Path

HERE = Path(__file__).parent


def builtin_suites() -> dict[str, Path]:
    """The suites that come with the package, by name."""
    return {path.stem: path for path in sorted(HERE.glob("*.toml"))}
