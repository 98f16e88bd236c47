"""`maskpack demo` and `maskpack env`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from maskpack.cli.app import Json, app, call


@app.command()
def demo(
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for its files.")] = Path(
        "maskpack-demo"
    ),
) -> None:
    """Run the main job on real data that comes with the package, in a few minutes.

    Example: maskpack demo -o /tmp/demo
    """
    from maskpack.cli.demo import run_demo

    run_demo(output, call)


@app.command()
def env(json: Json = False) -> None:
    """Print versions, machine and folders, for bug reports.

    Example: maskpack env --json
    """
    import torch

    from maskpack.reports.tables import print_json, print_rows
    from maskpack.runs.folder import environment
    from maskpack.tasks.classes.torchvision_tasks import cache_folder

    folders = {
        "weights": str(Path(torch.hub.get_dir()) / "checkpoints"),
        "data": str(cache_folder("any").parent),
    }
    about = environment() | {"folders": folders}
    if json:
        print_json(about)
        return
    rows = [{"what": k, "found": v} for k, v in about.items() if k not in ("versions", "folders")]
    rows += [{"what": key, "found": value} for key, value in about["versions"].items()]
    rows += [{"what": f"{key} folder", "found": value} for key, value in folders.items()]
    print_rows("environment", rows)
