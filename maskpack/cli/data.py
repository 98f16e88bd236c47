"""`maskpack data`: data sets listed, fetched and prepared."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from maskpack.cli.app import (
    Csv,
    Format,
    Json,
    Markdown,
    app,
    command,
    one_format,
    print_as,
    stderr,
    verbosity,
)
from maskpack.common.errors import OptionError, UnknownName

if TYPE_CHECKING:
    from maskpack.datasets.counts import Published

REGISTRY = "registry"  # its tasks come together

data = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
app.add_typer(data, name="data", short_help="List, fetch and prepare data sets.")


@data.callback()
def about() -> None:
    """List data sets, fetch them from where they are published, make class folders of them.

    Example: maskpack data list
    """


@command("list", data)
def list_(
    format: Format = None,
    json: Json = False,
    csv: Csv = False,
    md: Markdown = False,
) -> None:
    """List the data sets known by name: their published counts, whether they are there, how to get.

    Example: maskpack data list --json
    """
    format = one_format(format, json=json, csv=csv, md=md)
    rows = list(_rows())
    print_as(format, rows, [("data sets", rows)])


@command("fetch", data)
def fetch(
    names: Annotated[
        list[str],
        typer.Argument(metavar="NAME...", help="As in the list; registry: its three tasks."),
    ],
    to: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Folder of the data set; of several, each in DIR/NAME.  [default: the cache's]",
        ),
    ] = None,
    mirror: Annotated[
        str | None,
        typer.Option(metavar="URL", help="Address of a folder that has the same files."),
    ] = None,
) -> None:
    """Fetch data sets, unpack and prepare them; run it again to go on. Prints their folders.

    Example: maskpack data fetch cubs flowers --to data
    """
    from maskpack.datasets import BY_HAND, SOURCES
    from maskpack.tasks.classes.torchvision_tasks import ALIASES, TORCHVISION

    keys = [ALIASES.get(name.lower(), name.lower()) for name in names]
    known = {*SOURCES, *BY_HAND, *TORCHVISION, REGISTRY}
    for key in keys:
        if key not in known:
            raise UnknownName("data set", key, known)
        if mirror is not None and key not in SOURCES:
            raise OptionError(f"--mirror: {key} is not fetched by address; leave it out for {key}")
    for key in keys:
        folder = _folder(key) if to is None else to if len(keys) == 1 else to / key
        _fetch(key, folder, mirror)
        print(folder)


def _fetch(key: str, folder: Path, mirror: str | None) -> None:
    from maskpack.datasets import BY_HAND, SOURCES, Downloads, fetch_task

    if key not in (REGISTRY, *SOURCES, *BY_HAND):
        from maskpack.tasks.classes.torchvision_tasks import torchvision_task

        torchvision_task(key, key, folder, download=True)
        return
    with Downloads(stderr(), verbosity["quiet"]) as watch:
        if key == REGISTRY:
            from maskpack.datasets.registry import fetch_registry

            fetch_registry(folder, watch)
        else:
            fetch_task(key, folder, mirror=mirror, watch=watch)


@command("prepare", data)
def prepare_(
    name: Annotated[str, typer.Argument(help="cubs, stanford_cars, flowers, wikiart or sketch.")],
    source: Annotated[
        Path,
        typer.Option("--from", metavar="DIR", help="The original, as its archives unpack."),
    ],
    to: Annotated[
        Path | None, typer.Option(metavar="DIR", help="[default: the folder of the cache]")
    ] = None,
) -> None:
    """Make train/CLASS and test/CLASS of a data set as it is published. Prints the folder.

    Example: maskpack data prepare cubs --from CUB_200_2011 --to data/cubs
    """
    from functools import partial

    from maskpack.datasets import Downloads
    from maskpack.datasets.prepare import prepare

    target = _folder(name) if to is None else to
    with Downloads(stderr(), verbosity["quiet"]) as watch:
        done = prepare(name, source, target, partial(watch.step, name, unit="pictures"))
        counts = ", ".join(f"{count:,} in {split}" for split, count in done.counts.items())
        watch.say(f"{target}: {done.classes:,} classes, {counts}")
    print(target)


def _folder(name: str) -> Path:
    from maskpack.tasks.classes.torchvision_tasks import cache_folder

    return cache_folder(name)


def _rows() -> Iterator[dict[str, Any]]:
    """A row a data set: those that come with the package first."""
    from maskpack.datasets.counts import PUBLISHED, Published
    from maskpack.datasets.fetch import is_prepared
    from maskpack.datasets.registry import REGISTRY as SMALL
    from maskpack.datasets.sources import BY_HAND
    from maskpack.tasks import BUILTIN, TORCHVISION
    from maskpack.tasks.classes.imagenet_to_sketch import IMAGENET_TO_SKETCH

    for name in sorted(BUILTIN):
        yield _row(name, PUBLISHED[name], None, True, "comes with maskpack")
    for name, small in SMALL.items():
        place = _folder(REGISTRY) / name
        counts = Published(small.classes, small.train, small.test)
        yield _row(f"{REGISTRY}/{name}", counts, place, place.is_dir(), _fetched(REGISTRY))
    for name, entry in IMAGENET_TO_SKETCH.items():
        place = _folder(name)
        counts = Published(entry.classes, entry.train, entry.test)
        how = f"maskpack data prepare {name} --from DIR" if name in BY_HAND else _fetched(name)
        yield _row(name, counts, place, is_prepared(place), how)
    for name in sorted(TORCHVISION.keys() - IMAGENET_TO_SKETCH.keys()):
        place = _folder(name)
        there = (place / TORCHVISION[name].folder).exists()
        yield _row(name, PUBLISHED[name], place, there, _fetched(name))


def _fetched(name: str) -> str:
    return f"maskpack data fetch {name}"


def _row(name: str, counts: Published, place: Path | None, there: bool, how: str) -> dict[str, Any]:
    return {
        "data set": name,
        "classes": counts.classes,
        "train": counts.train,
        "val": counts.val or None,
        "test": counts.test,
        "there": "yes" if there else "no",
        "get": how,
        "folder": None if place is None else str(place),
    }
