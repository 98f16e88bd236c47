"""A suite: a named list of tasks, methods and seeds on one base, run as one thing.

A suite is data, a small TOML file (docs/suites.md); the *.toml beside this file come with the
package. From file to tables, a room each:

    entries    what a suite says                                         no torch
    reading    the file -> a Suite, every key and value checked          no torch
    plan       a Suite -> its cells: one training each, and what it starts from
    folder     what stands in the output folder, and whether this suite may go on in it
    opening    a cell -> pictures, backbone, options, all opened
    training   cells trained in this process or in several
    measuring  finished cells -> packs, sizes, scores measured again
    answering  finished cells -> what their networks answer to each test picture
    rows       what is on disk -> rows of tables                         no torch
    gathered   answers and options of finished cells, for               no torch
    paired       McNemar's test between methods
    protocol     how methods were trained, side by side
    scopes     bytes of a method as each paper counts them               no torch
    bylayer    ones, zeros, scales and coefficients of packs             no torch
    spent      seconds                                                   no torch
    tidy       all tables -> one long one                                no torch
    written    tables -> files, and what is printed of them              no torch
    watching   what a person sees meanwhile
    running    all of it
"""

from __future__ import annotations

from pathlib import Path

HERE = Path(__file__).parent


def builtin_suites() -> dict[str, Path]:
    """The suites that come with the package, by name."""
    return {path.stem: path for path in sorted(HERE.glob("*.toml"))}
