"""COCO's things: polygons and run lengths -> class numbers, through pycocotools."""

from __future__ import annotations

import json
import warnings
from typing import TYPE_CHECKING, Any

from maskpack.common.errors import DataError
from maskpack.tasks.dense.coco_json import Annotations, member
from maskpack.tasks.dense.mask_files import check_sizes, class_map
from maskpack.tasks.dense.segmentation import IGNORE
from maskpack.tasks.images import read_image

if TYPE_CHECKING:
    from PIL.Image import Image

FEWEST = 6  # numbers of a polygon: three corners


class InstanceImages:
    """Pictures, and the shapes of each as json text.

    A million lists would take gigabytes, in each worker again as soon as it looks at them.
    """

    def __init__(
        self, where: str, pictures: list[tuple[str, int, int]], shapes: list[bytes], classes: int
    ) -> None:
        self.where = where
        self.pictures = pictures
        self.shapes = shapes
        self.classes = classes
        self.labels = [0] * len(pictures)

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, index: int) -> tuple[Image, Image]:
        path, width, height = self.pictures[index]
        picture = read_image(path)
        check_sizes(path, picture.size, f"the entry in {self.where}", (width, height))
        numbers = drawn(json.loads(self.shapes[index]), height, width, f"{self.where}: {path}")
        return picture, class_map(numbers, self.classes, self.where)


def instances(annotations: Annotations) -> InstanceImages:
    """Every picture listed, also those without a thing in them.

    Raises:
        DataError: an annotation is of no picture or category of the file.
    """
    classes = annotations.classes(first=1)
    by_picture: dict[int, list[tuple[int, bool, Any]]] = {key: [] for key in annotations.pictures}
    for where, record in annotations.each():
        picture = member(record, "image_id", int, where)
        category = member(record, "category_id", int, where)
        if picture not in by_picture:
            raise DataError(f"{where}: image_id {picture} is not among the images")
        if category not in classes:
            raise DataError(f"{where}: category_id {category} is not among the categories")
        shape = member(record, "segmentation", object, where)
        by_picture[picture].append((classes[category], bool(record.get("iscrowd")), shape))
    annotations.records.clear()
    shapes = [json.dumps(by_picture.pop(key)).encode() for key in annotations.pictures]
    pictures = list(annotations.pictures.values())
    return InstanceImages(str(annotations.path), pictures, shapes, 1 + len(classes))


def drawn(shapes: list[tuple[int, bool, Any]], height: int, width: int, where: str) -> Any:
    """Class numbers (h, w): 0 behind all, then crowds as 255, then the larger below the smaller.

    Raises:
        DataError: a shape is not as COCO's.
    """
    import numpy as np

    numbers = np.zeros((height, width), dtype=np.uint8)
    layers = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of pycocotools' arrays, by numpy 2
        for number, crowd, shape in shapes:
            inside = _inside(shape, height, width, where)
            layers.append((not crowd, -int(inside.sum()), IGNORE if crowd else number, inside))
    for *_, number, inside in sorted(layers, key=lambda layer: layer[:2]):
        numbers[inside] = number
    return numbers


def _inside(shape: Any, height: int, width: int, where: str) -> Any:
    """Booleans (h, w) as COCO.annToMask gives them, of what does not crash it."""
    import numpy as np
    from pycocotools import mask as runs

    try:
        if not isinstance(shape, dict):
            if not isinstance(shape, list) or not all(isinstance(one, list) for one in shape):
                raise ValueError("it is neither polygons nor run lengths")
            # exports have corners of no area, which pycocotools would take for boxes
            polygons = [polygon for polygon in shape if len(polygon) >= FEWEST]
            if not polygons:
                return np.zeros((height, width), dtype=bool)
            far = 2 * max(height, width)
            if not all(-far < float(value) < far for one in polygons for value in one):
                raise ValueError("a corner lies far outside the picture")
            found = runs.merge(runs.frPyObjects(polygons, height, width))
        else:
            size, found = list(shape["size"]), shape
            if size != [height, width]:
                raise ValueError(f"it is {size} high and wide, the picture {[height, width]}")
            if isinstance(shape["counts"], list):
                counts = shape["counts"]
                # pycocotools would leave what is missing as the memory was
                if min(counts, default=0) < 0 or sum(counts) != height * width:
                    raise ValueError(f"its runs are {sum(counts)} pixels, not {height * width}")
                found = runs.frPyObjects(shape, height, width)
        return runs.decode(found).astype(bool)
    # pycocotools raises plain Exception, among others
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"{where}: a segmentation cannot be drawn ({reason})") from error
