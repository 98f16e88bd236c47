"""Image-to-image tasks by name. `IMAGE_TO_IMAGE` is the table of contents."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from maskpack.common.errors import DataError
from maskpack.tasks.dense.base import Dense, make_options
from maskpack.tasks.dense.coco import CocoSegmentation, coco_segmentation
from maskpack.tasks.dense.colouring import Colouring
from maskpack.tasks.dense.edges import Edges, edges_task
from maskpack.tasks.dense.photos import Photos, photo_paths
from maskpack.tasks.dense.picture import AutoEncode
from maskpack.tasks.dense.segmentation import Segmentation
from maskpack.tasks.dense.style import StyleTransfer, style_task
from maskpack.tasks.dense.voc import VocSegmentation, voc_segmentation

Opener = Callable[[str, Path | None, Mapping[str, Any]], Dense]


def _of_photos(kind: type[Dense]) -> Opener:
    """Opens a task whose targets are made of the photos themselves."""

    def opened(name: str, root: Path | None, options: Mapping[str, Any]) -> Dense:
        chosen = make_options(kind.Options, options)
        splits = photo_paths(name, needed(name, root, "a folder of photos"))
        return kind(name, {split: Photos(paths) for split, paths in splits.items()}, chosen)

    return opened


def _in_folder(what: str, opened: Callable[[str, Path, Mapping[str, Any]], Dense]) -> Opener:
    """Opens a task that cannot do without a folder."""
    return lambda name, root, options: opened(name, needed(name, root, f"a folder {what}"), options)


def needed(name: str, root: Path | None, what: str) -> Path:
    """The folder of a task that has no pictures without one.

    Raises:
        DataError: none was given.
    """
    if root is None:
        raise DataError(f"task {name!r} needs {what}: --data DIR")
    return root


IMAGE_TO_IMAGE: dict[str, Opener] = {
    "autoencode": _of_photos(AutoEncode),
    "coco-segmentation": _in_folder("with annotations/, train2017/, val2017/", coco_segmentation),
    "colouring": _of_photos(Colouring),
    "edges2photo": _in_folder("of pairs or photos", edges_task),
    "style-transfer": _in_folder("of photos", style_task),
    "voc-segmentation": _in_folder("that holds VOCdevkit/", voc_segmentation),
}
KINDS: tuple[type[Dense], ...] = (
    AutoEncode,
    CocoSegmentation,
    Colouring,
    Edges,
    Segmentation,
    StyleTransfer,
    VocSegmentation,
)
