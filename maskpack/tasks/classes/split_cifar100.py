"""CIFAR-100 as twenty tasks: each superclass, five classes, is one (`cifar100-fish`).

So CPG (Hung et al. 2019) and KSM (Yang et al. 2021) split it, in the order of the names. Other
papers draw five classes by chance; their figures are of other tasks.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from maskpack.common.errors import DataError, UnknownName
from maskpack.common.options import check_choice, converted
from maskpack.common.preprocess import Augment
from maskpack.tasks.base import Classification, LabelledImages
from maskpack.tasks.classes.class_folders import class_folders, split_folders
from maskpack.tasks.classes.torchvision_tasks import cache_folder, torchvision_task
from maskpack.tasks.images import ImageFiles

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image

PREFIX = "cifar100-"
CIFAR = "cifar100"  # all of it, as a task and as a folder of the cache
FOLDERS, BINARY, PYTHON = "cifar100_org", "cifar-100-binary", "cifar-100-python"
SITE = "https://www.cs.toronto.edu/~kriz/cifar.html"

# superclass -> its classes; the files number both by the order of their names
SUPERCLASSES: dict[str, tuple[str, ...]] = {
    "aquatic_mammals": ("beaver", "dolphin", "otter", "seal", "whale"),
    "fish": ("aquarium_fish", "flatfish", "ray", "shark", "trout"),
    "flowers": ("orchid", "poppy", "rose", "sunflower", "tulip"),
    "food_containers": ("bottle", "bowl", "can", "cup", "plate"),
    "fruit_and_vegetables": ("apple", "mushroom", "orange", "pear", "sweet_pepper"),
    "household_electrical_devices": ("clock", "keyboard", "lamp", "telephone", "television"),
    "household_furniture": ("bed", "chair", "couch", "table", "wardrobe"),
    "insects": ("bee", "beetle", "butterfly", "caterpillar", "cockroach"),
    "large_carnivores": ("bear", "leopard", "lion", "tiger", "wolf"),
    "large_man-made_outdoor_things": ("bridge", "castle", "house", "road", "skyscraper"),
    "large_natural_outdoor_scenes": ("cloud", "forest", "mountain", "plain", "sea"),
    "large_omnivores_and_herbivores": ("camel", "cattle", "chimpanzee", "elephant", "kangaroo"),
    "medium_mammals": ("fox", "porcupine", "possum", "raccoon", "skunk"),
    "non-insect_invertebrates": ("crab", "lobster", "snail", "spider", "worm"),
    "people": ("baby", "boy", "girl", "man", "woman"),
    "reptiles": ("crocodile", "dinosaur", "lizard", "snake", "turtle"),
    "small_mammals": ("hamster", "mouse", "rabbit", "shrew", "squirrel"),
    "trees": ("maple_tree", "oak_tree", "palm_tree", "pine_tree", "willow_tree"),
    "vehicles_1": ("bicycle", "bus", "motorcycle", "pickup_truck", "train"),
    "vehicles_2": ("lawn_mower", "rocket", "streetcar", "tank", "tractor"),
}
CLASSES = sorted(name for names in SUPERCLASSES.values() for name in names)
SPLIT_CIFAR100 = {f"{PREFIX}{name}": name for name in SUPERCLASSES}  # task -> superclass

AUGMENT = Augment("random", padding=4, hflip=0.5)
RECORD = 2 + 3 * 32 * 32  # bytes of a picture in a binary file: superclass, class, R, G, B
NORMALISE = ("backbone", "own")


@dataclass(frozen=True)
class SuperclassOptions:
    """`normalise`: by the backbone's mean and deviation, or by the task's own, as CPG does."""

    normalise: str = "backbone"

    def __post_init__(self) -> None:
        check_choice("normalise", self.normalise, NORMALISE)


class Superclass(Classification):
    """A twentieth of CIFAR-100."""

    def __init__(
        self,
        name: str,
        classes: tuple[str, ...],
        datasets: Mapping[str, LabelledImages],
        options: SuperclassOptions | None = None,
    ) -> None:
        super().__init__(name, classes, datasets, AUGMENT)
        self.options = options or SuperclassOptions()

    @functools.cached_property
    def preprocess(self) -> Mapping[str, Any]:  # type: ignore[override]  # an option decides it
        """With normalise=own, mean and deviation of the training pictures, to four digits."""
        if self.options.normalise == "backbone":
            return {}
        import numpy as np

        data = self.dataset("train")
        pictures = (np.asarray(data[index][0]).reshape(-1, 3) for index in range(len(data)))
        pixels = np.concatenate(list(pictures)) / 255.0  # 7.7 million numbers
        mean, std = pixels.mean(0).round(4), pixels.std(0).round(4)
        if not std.all():
            raise DataError(f"task {self.name!r}: a colour is the same everywhere in train")
        return {"mean": tuple(mean.tolist()), "std": tuple(std.tolist())}

    def describe(self) -> dict[str, object]:
        return {**super().describe(), "options": dataclasses.asdict(self.options)}


def split_cifar100_task(
    name: str, root: Path | None, download: bool, options: Mapping[str, Any]
) -> Superclass:
    """The task of a superclass; `name` begins with PREFIX.

    `root` (the cache's folder of `cifar100` where none is given) holds train/ and test/ with
    SUPERCLASS/CLASS/*.png, or train.bin and test.bin, or cifar-100-python/, or a folder of their
    usual names with them.

    Raises:
        UnknownName: no such superclass or option.
        OptionError: a value does not fit its option.
        DataError: the pictures are missing, or not as they are published.
    """
    superclass = name.lower().removeprefix(PREFIX)
    if superclass not in SUPERCLASSES:
        raise UnknownName("superclass of CIFAR-100", superclass, SUPERCLASSES)
    made = _options(options)
    folder = cache_folder(CIFAR) if root is None else root
    try:
        datasets = _datasets(name, superclass, folder, download)
    except OSError as error:
        reason = error.strerror or error
        raise DataError(f"task {name!r}: {error.filename or folder}: {reason}") from error
    return Superclass(name, SUPERCLASSES[superclass], datasets, made)


def _options(given: Mapping[str, Any]) -> SuperclassOptions:
    known = {field.name: field.default for field in dataclasses.fields(SuperclassOptions)}
    for key in given:
        if key not in known:
            raise UnknownName("option of the task", key, known, "see docs/tasks.md")
    return SuperclassOptions(**{k: converted(k, v, known[k]) for k, v in given.items()})


def _datasets(name: str, superclass: str, root: Path, download: bool) -> dict[str, LabelledImages]:
    for place in (root, root / FOLDERS):
        if (place / "train").is_dir():
            return _from_folders(name, superclass, place)
    for place in (root, root / BINARY):
        if (place / "train.bin").is_file():
            return _from_binary(superclass, place)
    within = root.name == PYTHON and root.is_dir()  # and what --download fetches is this folder
    if within and not (root / PYTHON).is_dir():
        return _from_python(name, superclass, root.parent, download)
    if download or (root / PYTHON).is_dir():
        return _from_python(name, superclass, root, download)
    found = "no such folder"
    if root.is_dir():
        names = sorted(path.name + "/" * path.is_dir() for path in root.iterdir())
        found = "found " + (", ".join(names[:5]) + ", ..." * (len(names) > 5) or "nothing")
    raise DataError(
        f"task {name!r}: no CIFAR-100 in {root}, {found}; fetch it by --download or `maskpack data "
        f"fetch {CIFAR} --to {root}`, or put {PYTHON}/ or {BINARY}/ of {SITE} there, unpacked, or "
        f"{FOLDERS}/ with {{train,test}}/{superclass}/CLASS/*.png"
    )


# ---- pictures sorted into folders, as cifar2png does


def _from_folders(name: str, superclass: str, root: Path) -> dict[str, LabelledImages]:
    splits = split_folders(root)
    if "test" not in splits:
        raise DataError(f"task {name!r}: {root} has train/ and no test/; expected both")
    classes = SUPERCLASSES[superclass]
    datasets: dict[str, LabelledImages] = {}
    for split, folder in splits.items():
        place = folder / superclass
        if not place.is_dir():
            inside = sorted(path.name for path in folder.iterdir() if path.is_dir())
            found = ", ".join(inside[:3]) + ", ..." * (len(inside) > 3) or "nothing"
            raise DataError(
                f"{folder}: no folder {superclass!r}, found {found}; expected the twenty "
                f"superclasses, each with a folder for each of its classes"
            )
        by_class = class_folders(place)
        if sorted(by_class) != list(classes):
            raise DataError(
                f"{place}: found {', '.join(sorted(by_class)) or 'nothing'}; expected a folder "
                f"for each of its classes: {', '.join(classes)}"
            )
        paths = [path for pictures in by_class.values() for path in pictures]
        labels = [classes.index(key) for key, pictures in by_class.items() for _ in pictures]
        datasets[split] = ImageFiles(paths, labels)
    return datasets


# ---- CIFAR-100 as it is published


class Pixels:
    """Pictures in memory, uint8 (n, 32, 32, 3)."""

    def __init__(self, pixels: np.ndarray[Any, Any], labels: list[int]) -> None:
        self._pixels = pixels
        self.labels = labels

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Image, int]:
        from PIL import Image

        return Image.fromarray(self._pixels[index]), self.labels[index]


def _from_binary(superclass: str, root: Path) -> dict[str, LabelledImages]:
    return {split: read_binary(root / f"{split}.bin", superclass) for split in ("train", "test")}


def read_binary(path: Path, superclass: str) -> Pixels:
    """The pictures of a superclass in train.bin or test.bin.

    Raises:
        DataError: not a whole number of records, labels that are not CIFAR-100's, or no picture.
    """
    import numpy as np

    if not path.is_file():
        raise DataError(f"{path}: no such file; expected train.bin and test.bin of {BINARY}")
    size = path.stat().st_size
    if not size or size % RECORD:
        raise DataError(
            f"{path}: has {size} bytes; expected records of {RECORD} (superclass, class, 3 x 32 x "
            f"32 pixels), so it is cut short or another file"
        )
    records = np.memmap(path, np.uint8, "r").reshape(-1, RECORD)
    coarse, fine = np.array(records[:, 0]), np.array(records[:, 1])
    owners = np.full(256, 255, np.uint8)  # of labels that there are not: no superclass
    for number, names in enumerate(SUPERCLASSES.values()):
        owners[[CLASSES.index(name) for name in names]] = number
    wrong = np.flatnonzero((owners[fine] != coarse) | (coarse >= len(SUPERCLASSES)))
    if len(wrong):
        at = wrong[0]
        raise DataError(
            f"{path}: picture {at} has superclass {coarse[at]} and class {fine[at]}, which are "
            f"not CIFAR-100's; it is damaged or another file"
        )
    chosen = np.flatnonzero(coarse == list(SUPERCLASSES).index(superclass))
    if not len(chosen):
        raise DataError(f"{path}: has no picture of {superclass}")
    planes = np.asarray(records[chosen, 2:]).reshape(-1, 3, 32, 32)
    pixels = np.ascontiguousarray(planes.transpose(0, 2, 3, 1))
    return Pixels(pixels, [_label(superclass, int(number)) for number in fine[chosen]])


def _from_python(
    name: str, superclass: str, root: Path, download: bool
) -> dict[str, LabelledImages]:
    """Through torchvision, which unpickles the files only after their md5 matches."""
    import numpy as np

    whole = torchvision_task(name, CIFAR, root, download)
    numbers = {CLASSES.index(key) for key in SUPERCLASSES[superclass]}
    datasets: dict[str, LabelledImages] = {}
    for split in whole.splits():
        data = whole.dataset(split)
        chosen = [index for index, label in enumerate(data.labels) if label in numbers]
        if not chosen:
            raise DataError(f"task {name!r}: {root / PYTHON}: no picture of it in {split}")
        # copied, so that the other nineteen twentieths can go
        pixels = np.stack([np.asarray(data[index][0]) for index in chosen])
        labels = [_label(superclass, data.labels[index]) for index in chosen]
        datasets[split] = Pixels(pixels, labels)
    return datasets


def _label(superclass: str, number: int) -> int:
    """Of a class by its number in CIFAR-100's files."""
    return SUPERCLASSES[superclass].index(CLASSES[number])
