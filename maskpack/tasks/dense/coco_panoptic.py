"""COCO's things and stuff: PNGs whose colours number segments, and a json of their categories."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from maskpack.common.errors import DataError
from maskpack.tasks.dense.coco_json import Annotations, member
from maskpack.tasks.dense.mask_files import check_sizes
from maskpack.tasks.dense.segmentation import IGNORE
from maskpack.tasks.images import from_image, read_image

if TYPE_CHECKING:
    from PIL.Image import Image

UNLABELLED = 0  # the number of pixels without a segment


class PanopticImages:
    """Pictures with a PNG each, and the class of every segment.

    Segments lie in one array for all pictures: workers share it, and a dict each they would not.
    """

    def __init__(self, files: list[tuple[str, str]], segments: list[dict[int, int]]) -> None:
        import numpy as np

        self.files = files
        self.labels = [0] * len(files)
        self.starts = np.cumsum([0, *map(len, segments)])
        # ascending, to be looked up by bisection
        pairs = [pair for one in segments for pair in sorted(one.items())]
        self.ids = np.array([key for key, _ in pairs], dtype=np.int64)
        self.classes = np.array([number for _, number in pairs], dtype=np.int64)

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[Image, Image]:
        from PIL import Image

        path, png = self.files[index]
        picture, ids = read_image(path), read_ids(png)
        check_sizes(path, picture.size, png, ids.shape[::-1])
        mine = slice(*self.starts[index : index + 2])
        return picture, Image.fromarray(self._classes(ids, self.ids[mine], self.classes[mine], png))

    def _classes(self, ids: Any, known: Any, classes: Any, where: str) -> Any:
        import numpy as np

        # a last entry that no segment has, for numbers above all others
        known, classes = np.append(known, -1), np.append(classes, IGNORE)
        place = np.searchsorted(known[:-1], ids)
        wrong = ids[(known[place] != ids) & (ids != UNLABELLED)]
        if wrong.size:
            raise DataError(f"{where}: segment {wrong[0]} is not in its segments_info")
        return np.where(ids == UNLABELLED, IGNORE, classes[place]).astype(np.uint8)


def panoptic(annotations: Annotations) -> PanopticImages:
    """Every picture that has an annotation; pixels of no segment do not count.

    Raises:
        DataError: the PNGs are missing, or an annotation is of no picture or category of the file.
    """
    path = annotations.path
    folder = _png_folder(path)
    there = {one.name for one in folder.iterdir()}
    classes = annotations.classes(first=0)
    files, segments = [], []
    for where, record in annotations.each():
        picture = member(record, "image_id", int, where)
        if picture not in annotations.pictures:
            raise DataError(f"{where}: image_id {picture} is not among the images")
        name = member(record, "file_name", str, where)
        if name not in there:
            raise DataError(f"{path}: lists {name!r}, which is not in {folder}")
        files.append((annotations.pictures[picture][0], str(folder / name)))
        segments.append(_segments(record, classes, where))
    if not files:
        raise DataError(f"{path}: has no annotations")
    annotations.records.clear()
    return PanopticImages(files, segments)


def _segments(record: dict[str, Any], classes: dict[int, int], where: str) -> dict[int, int]:
    """Segment number -> class number."""
    found = {}
    for place, segment in enumerate(member(record, "segments_info", list, where)):
        inside = f"{where}: segments_info[{place}]"
        if not isinstance(segment, dict):
            raise DataError(f"{inside}: is {segment!r:.40}, no record")
        category = member(segment, "category_id", int, inside)
        if category not in classes:
            raise DataError(f"{inside}: category_id {category} is not among the categories")
        found[member(segment, "id", int, inside)] = classes[category]
    return found


def _png_folder(path: Path) -> Path:
    """annotations/panoptic_val2017/ or panoptic_val2017/, for annotations/panoptic_val2017.json."""
    places = [path.with_suffix(""), path.parents[1] / path.stem]
    for folder in places:
        if folder.is_dir():
            return folder
    zipped = path.with_suffix(".zip")
    todo = f"unpack {zipped}" if zipped.exists() else f"expected the PNGs of {path.name} there"
    raise DataError(f"{places[0]}: no such folder; {todo}")


def read_ids(path: str) -> Any:
    """Segment numbers (h, w) of a panoptic PNG: R + 256 G + 256^2 B.

    Raises:
        DataError: it cannot be read, or is not RGB.
    """
    import numpy as np

    return from_image(path, partial(_colours, path)) @ np.array([1, 256, 256**2])


def _colours(path: str, png: Image) -> Any:
    import numpy as np

    if png.mode != "RGB" or png.format != "PNG":
        raise DataError(f"{path}: is a {png.format} of mode {png.mode}; expected an RGB PNG")
    return np.array(png).astype(np.int64)
