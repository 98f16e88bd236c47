"""Oxford's 102 flowers (Nilsback and Zisserman 2008), copied as they are.

jpg/image_00001.jpg ...
imagelabels.mat     `labels`, 1 to 102, of picture 1, 2, ...
setid.mat           `trnid`, `valid` and `tstid`, numbers of pictures

Papers on masks train on trnid and valid together, 2,040 pictures, and test on tstid, 6,149.
"""

from __future__ import annotations

from pathlib import Path

from maskpack.common.errors import DataError
from maskpack.datasets.prepare.listing import Picture, first_folder
from maskpack.datasets.prepare.matlab import read_mat, whole

CLASSES = 102
SETS = {"trnid": "train", "valid": "train", "tstid": "test"}
ARCHIVES = "102flowers.tgz, beside imagelabels.mat and setid.mat,"


def pictures(source: Path) -> list[Picture]:
    """Every picture; `source` holds jpg/ and the two MATLAB files, or a folder that does."""
    root = first_folder([source, source / "flowers-102", source / "102flowers"], "jpg", ARCHIVES)
    labels_path, sets_path = root / "imagelabels.mat", root / "setid.mat"
    (labels,) = read_mat(labels_path, "labels")
    found = []
    for name, ids in zip(SETS, read_mat(sets_path, *SETS), strict=True):
        for value in ids:
            number = whole(f"{sets_path}: {name}", value)
            if not 1 <= number <= len(labels):
                raise DataError(
                    f"{sets_path}: {name} has picture {number}, but {labels_path.name} has "
                    f"{len(labels)} labels, counted from 1"
                )
            label = whole(f"{labels_path}: picture {number}", labels[number - 1])
            if not 1 <= label <= CLASSES:
                raise DataError(
                    f"{labels_path}: picture {number} is of class {label}; expected 1 to {CLASSES}"
                )
            file = f"image_{number:05d}.jpg"
            # three digits, so that names and numbers have one order
            found.append(Picture(SETS[name], f"{label:03d}", file, root / "jpg" / file))
    return found
