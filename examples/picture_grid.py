"""What every method of a suite makes of a few pictures, side by side in one file.

    maskpack suite image-to-image-small --data pictures/ -o runs/small
    python examples/picture_grid.py runs/small astronaut.png coffee.png -o grid.jpg

A row a task and picture, a column a method, after the picture itself. Tasks whose name does not
begin with one of `--tasks` are left out.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from PIL import Image, ImageDraw

import maskpack
from maskpack.common.files import replacing
from maskpack.evaluation.task_row import Bases

MARGIN = 16  # pixels above and beside the pictures, for names


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("suite", type=Path, help="the folder of a suite")
    parser.add_argument("pictures", nargs="+", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--tasks", nargs="+", default=[""], help="first letters are enough")
    parser.add_argument("--methods", nargs="+", help="all by default")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--size", type=int, default=128, help="of a picture, in pixels")
    parser.add_argument("--img-size", type=int, help="at which networks see it; as learnt")
    given = parser.parse_args()
    names = sorted(path.name for path in (given.suite / "runs").iterdir())
    tasks = [name for name in names if name.startswith(tuple(given.tasks))]
    found = {path.name for task in tasks for path in (given.suite / "runs" / task).iterdir()}
    methods = [name for name in given.methods or sorted(found) if name in found]
    rows = [
        (task, picture, row(given, task, picture, methods))
        for task in tasks
        for picture in given.pictures
    ]
    draw(rows, ["picture", *methods], given.size, given.output)
    print(given.output)


def row(
    given: argparse.Namespace, task: str, picture: Path, methods: list[str]
) -> list[Image.Image | None]:
    """The picture, and what each method's run makes of it; None where there is no such run."""
    made: list[Image.Image | None] = [Image.open(picture).convert("RGB")]
    for method in methods:
        run = given.suite / "runs" / task / method / f"seed{given.seed}"
        if not (run / "result.json").is_file():
            made.append(None)
            continue
        made.append(maskpack.apply_image(run, picture, img_size=given.img_size, bases=Bases()))
    return made


def draw(
    rows: list[tuple[str, Path, list[Image.Image | None]]],
    columns: list[str],
    size: int,
    output: Path,
) -> None:
    """All of them on a white page, names above the columns and above each task's first row."""
    step = size + 4
    page = Image.new("RGB", (len(columns) * step, len(rows) * (step + MARGIN) + MARGIN), "white")
    pen = ImageDraw.Draw(page)
    for column, name in enumerate(columns):
        pen.text((column * step + 2, 2), name, fill="black")
    for line, (task, picture, parts) in enumerate(rows):
        top = MARGIN + line * (step + MARGIN)
        pen.text((2, top + 2), f"{task}, {picture.stem}", fill="black")
        for column, part in enumerate(parts):
            if part is not None:
                page.paste(part.resize((size, size)), (column * step, top + MARGIN))
    kind = "JPEG" if output.suffix.lower() in (".jpg", ".jpeg") else "PNG"
    with replacing(output) as written:
        page.save(written, kind, quality=88, optimize=True)


if __name__ == "__main__":
    main()
