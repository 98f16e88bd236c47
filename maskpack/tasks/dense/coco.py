"""COCO's segmentation: annotations/*.json beside train2017/ and val2017/.

Lin et al. 2014, arXiv:1405.0312; panoptic: Kirillov et al. 2019, arXiv:1801.00868.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

from maskpack.common.errors import DataError, OptionError
from maskpack.common.options import check_choice
from maskpack.tasks.base import LabelledImages
from maskpack.tasks.dense.base import DenseOptions, make_options
from maskpack.tasks.dense.coco_instances import instances
from maskpack.tasks.dense.coco_json import Annotations, read_annotations
from maskpack.tasks.dense.coco_panoptic import panoptic
from maskpack.tasks.dense.segmentation import Segmentation, SegmentationOptions

SPLITS = {"train": "train", "test": "val"}  # the labels of COCO's own test split are not public
LABELS = ("instances", "panoptic")


@dataclass(frozen=True)
class CocoOptions(SegmentationOptions):
    """`labels` is "instances" (80 classes of things) or "panoptic" (133 of things and stuff)."""

    labels: str = "instances"
    year: int = 2017

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("labels", self.labels, LABELS)


class CocoSegmentation(Segmentation):
    """COCO's categories by ascending id; with "instances" behind class 0, the background."""

    kind: ClassVar[str] = "coco-segmentation"
    Options: ClassVar[type[DenseOptions]] = CocoOptions


def coco_segmentation(name: str, root: Path, options: Mapping[str, Any]) -> CocoSegmentation:
    """The task of a folder with annotations/, train2017/ and val2017/; val2017 is the test split.

    Each json is read once, whole: that of train2017's instances takes some 3 GB meanwhile.

    Raises:
        OptionError: pycocotools is needed and not installed.
        DataError: something is missing, or a json is not as COCO's are.
    """
    chosen: CocoOptions = make_options(CocoOptions, options)
    if chosen.labels == "instances" and find_spec("pycocotools") is None:
        raise OptionError(f"task {name!r} needs pycocotools: pip install 'maskpack[coco]'")
    if not root.is_dir():
        raise DataError(f"task {name!r}: no folder {str(root)!r}; expected annotations/ in it")
    opened = {}
    for split, place in SPLITS.items():
        here = f"{place}{chosen.year}"
        path = root / "annotations" / f"{chosen.labels}_{here}.json"
        opened[split] = read_annotations(path, root / here)
    train, test = opened.values()
    if train.categories != test.categories:
        raise DataError(f"{test.path}: has other categories than {train.path}")
    made: Callable[[Annotations], LabelledImages]
    made = instances if chosen.labels == "instances" else panoptic
    datasets = {split: made(annotations) for split, annotations in opened.items()}
    classes = [*train.categories.values()]
    if chosen.labels == "instances":
        classes.insert(0, "background")
    return CocoSegmentation(name, classes, datasets, chosen)
