"""One picture through one task of a pack: no data set is needed, the header says enough."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from maskpack.common.errors import DataError, MaskpackError, OptionError, PackFormatError, one_line
from maskpack.common.files import replacing
from maskpack.common.preprocess import Augment, Preprocess
from maskpack.evaluation.examples import probabilities, transformed
from maskpack.evaluation.task_row import Bases, says_its_task
from maskpack.networks.serialize import unpack_task
from maskpack.packs.contents import Pack, PackedTask
from maskpack.runs.open import open_pack
from maskpack.tasks import described_task
from maskpack.tasks.images import read_image, to_rgb

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image
    from torch import nn

    from maskpack.tasks.dense.base import Dense

ENDINGS = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp")  # of what is written
TOP = 5  # classes told of a picture
JPEG_QUALITY = 95

Row = dict[str, Any]


@dataclass(frozen=True)
class _Opened:
    """A task's network, how pictures go in, and what its header says of the task."""

    network: nn.Module
    preprocess: Preprocess
    augment: Augment
    about: Mapping[str, Any]


def apply_image(
    pack: str | Path | Pack,
    picture: str | Path | Image,
    task: str | None = None,
    *,
    img_size: int | None = None,
    task_set: Mapping[str, Any] | None = None,
    backbone: str | None = None,
    weights: str | None = None,
    trust_code: bool = False,
    device: torch.device | str = "cpu",
    bases: Bases | None = None,
) -> Image:
    """What an image-to-image task makes of one picture, of the picture's own size.

    The network sees the whole picture at `img_size` x `img_size`, by default as learnt. `task` may
    be left out where there is one; `bases`, and what opens them, are as in `score_task`.

    Raises:
        UnknownName: no such task.
        OptionError: the task is classification, or the network does not run on this size.
        DataError: the picture cannot be read.
        BackboneError: the backbone cannot be had or is another one.
        PackFormatError: the header does not say what the task is.
    """
    opened_pack = pack if isinstance(pack, Pack) else open_pack(pack)
    packed = opened_pack.task(task)
    made = _described(opened_pack, packed, task_set or {})
    image = _picture(picture)
    one = _open(opened_pack, packed, img_size, bases or Bases(backbone, weights, trust_code))
    return transformed(one.network, made, image, one.preprocess, device=device)


def classify_image(
    pack: str | Path | Pack,
    picture: str | Path | Image,
    task: str | None = None,
    *,
    top: int = TOP,
    img_size: int | None = None,
    backbone: str | None = None,
    weights: str | None = None,
    trust_code: bool = False,
    device: torch.device | str = "cpu",
    bases: Bases | None = None,
) -> list[Row]:
    """The likeliest classes of one picture, prepared as in scoring: task, class, probability.

    Raises:
        OptionError: the task makes pictures, or the network does not run on this size.
        UnknownName, DataError, BackboneError, PackFormatError: as `apply_image`.
    """
    opened_pack = pack if isinstance(pack, Pack) else open_pack(pack)
    packed = opened_pack.task(task)
    if makes_pictures(opened_pack, packed):
        raise OptionError(f"{packed.name} makes pictures; it is applied by apply_image")
    image = _picture(picture)
    one = _open(opened_pack, packed, img_size, bases or Bases(backbone, weights, trust_code))
    shares = probabilities(one.network, image, one.preprocess, one.augment, device=device)
    classes = one.about.get("classes")
    named = isinstance(classes, list) and all(isinstance(name, str) for name in classes)
    if not isinstance(classes, list) or not named or len(classes) != len(shares):
        raise PackFormatError(
            f"{opened_pack.path}: {packed.name}: the header does not name the network's "
            f"{len(shares)} classes"
        )
    order = shares.argsort(descending=True, stable=True)[:top].tolist()
    return [
        {"task": packed.name, "class": classes[n], "probability": float(shares[n])} for n in order
    ]


def makes_pictures(pack: Pack, packed: PackedTask) -> bool:
    """Whether a task's header says that it is something else than classification.

    Raises:
        OptionError: it says nothing.
    """
    says_its_task(pack, packed)
    about = packed.info["task"]
    return isinstance(about, Mapping) and about.get("kind", "classification") != "classification"


def check_output(path: Path) -> None:
    """Raise where no picture can be written, before anything is computed.

    Raises:
        OptionError: the name's ending is that of no picture.
        MaskpackError: there is no such folder.
    """
    if path.suffix.lower() not in ENDINGS:
        raise OptionError(f"{path}: expected a name that ends in one of {', '.join(ENDINGS)}")
    if not path.parent.is_dir():
        raise MaskpackError(f"{path}: cannot be written: there is no folder {str(path.parent)!r}")


def write_image(path: Path, picture: Image) -> None:
    """Write a picture whole or not at all, in the format of its name's ending."""
    check_output(path)
    options: Row = {"quality": JPEG_QUALITY} if path.suffix.lower() in (".jpg", ".jpeg") else {}
    with replacing(path) as written:
        picture.save(written, **options)


def png_bytes(picture: Image) -> bytes:
    """A picture as a PNG file has it."""
    file = io.BytesIO()
    picture.save(file, "PNG")
    return file.getvalue()


def _picture(given: str | Path | Image) -> Image:
    if isinstance(given, (str, Path)):
        if not Path(given).is_file():
            raise DataError(f"{given}: no such picture")
        return read_image(given)
    return to_rgb(given)


def _described(pack: Pack, packed: PackedTask, task_set: Mapping[str, Any]) -> Dense:
    if not makes_pictures(pack, packed):
        raise OptionError(f"{packed.name} is classification, which makes no picture")
    try:
        about = dict(packed.info["task"])
        about["options"] = {**about.get("options", {}), **task_set}
        made = described_task(about)
        made.outputs()
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise _unsaid(pack, packed, error) from error
    return made


def _open(pack: Pack, packed: PackedTask, img_size: int | None, bases: Bases) -> _Opened:
    info = packed.info
    try:
        about = dict(info["task"])
        preprocess = Preprocess(**info["preprocess"])
        augment = Augment(**info["augment"])
    except (KeyError, TypeError, ValueError, AttributeError, OptionError) as error:
        raise _unsaid(pack, packed, error) from error
    if img_size is not None:
        preprocess = dataclasses.replace(preprocess, img_size=img_size)
    network = unpack_task(packed, bases.open(pack, packed))
    return _Opened(network, preprocess, augment, about)


def _unsaid(pack: Pack, packed: PackedTask, error: Exception) -> PackFormatError:
    return PackFormatError(
        f"{pack.path}: {packed.name}: the header does not say how a picture goes in "
        f"({one_line(repr(error))})"
    )
