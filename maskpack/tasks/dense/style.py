"""Photos painted in the style of one painting."""

from __future__ import annotations

import dataclasses
import hashlib
import weakref
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from maskpack.common.errors import BackboneError, DataError, OptionError
from maskpack.common.options import check_positive
from maskpack.common.preprocess import Augment
from maskpack.tasks.base import LabelledImages
from maskpack.tasks.dense.base import DenseOptions, make_options
from maskpack.tasks.dense.photos import Photos, photo_paths
from maskpack.tasks.dense.picture import Pictures, ssim, to_tensor
from maskpack.tasks.images import read_image

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

    from maskpack.tasks.base import Meter
    from maskpack.tasks.dense.perceptual_loss import StyleLoss

DIGITS = 16  # hex digits of a sha256 that tell paintings apart
SMALLEST = 8  # pixels of a painting's short side that leave one to VGG's last layer


@dataclass(frozen=True)
class StyleOptions(DenseOptions):
    """`style` is the painting's file, `features` that of VGG16's weights, torchvision's if "".

    The painting is seen whole, its short side resized to `style_size` pixels; 0 is the size of
    the pictures made, at which its strokes are as wide as theirs can be. `style_hash` is written
    when a task is opened and checked when it is opened again.
    """

    style: str = ""
    features: str = ""
    style_size: int = 0
    content_weight: float = 1e5
    style_weight: float = 1e10
    tv_weight: float = 1e6  # takes the speckle, and less than 1 % of the other two
    style_hash: str = ""

    def __post_init__(self) -> None:
        for name in ("content_weight", "style_weight", "tv_weight"):
            if getattr(self, name) < 0:
                raise OptionError(f"{name}={getattr(self, name)!r}: expected 0 or more")
        check_positive("content_weight + style_weight", self.content_weight + self.style_weight)
        if self.style_size and self.style_size < SMALLEST:
            raise OptionError(
                f"style_size={self.style_size}: expected {SMALLEST} pixels or more, or 0"
            )


class StyleTransfer(Pictures):
    """Content of the photo, style of the painting (Johnson et al. 2016); scored by its loss."""

    kind: ClassVar[str] = "style-transfer"
    metric = "total loss"
    lower_is_better = True
    Options: ClassVar[type[DenseOptions]] = StyleOptions

    def __init__(
        self,
        name: str,
        datasets: Mapping[str, LabelledImages],
        options: DenseOptions | None = None,
        augment: Augment | None = None,
    ) -> None:
        super().__init__(name, datasets, options, augment)
        self._measure: StyleLoss | None = None
        self._last: tuple[weakref.ref[Tensor], dict[str, Tensor]] | None = None

    def __getstate__(self) -> dict[str, Any]:
        # copies and loading workers need no VGG
        return self.__dict__ | {"_measure": None, "_last": None}

    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        if self._measure is None:
            self._measure = self._opened(output)
        parts = self._measure.parts(self.made(output), target)
        # the meter asks for them next, and VGG costs more than most networks
        self._last = weakref.ref(output), {name: part.detach() for name, part in parts.items()}
        return sum(parts.values(), start=output.new_zeros(()))

    def parts(self, output: Tensor, target: Tensor) -> dict[str, float]:
        """The parts of a batch's loss, weighted."""
        if self._last is None or self._last[0]() is not output:
            self.loss(output, target)
        assert self._last is not None
        return {name: float(part) for name, part in self._last[1].items()}

    def _opened(self, output: Tensor) -> StyleLoss:
        from maskpack.tasks.dense.perceptual_loss import StyleLoss, open_features

        chosen = self.options
        painting = read_image(find_painting(self.name, chosen))
        style = to_tensor(_resized(painting, chosen.style_size or min(output.shape[2:])))
        return StyleLoss(
            open_features(str(chosen.features) or None),
            style[None].to(output.device),
            chosen.content_weight,
            chosen.style_weight,
            chosen.tv_weight,
        )

    def meter(self) -> Meter:
        return StyleMeter(self)

    def drawn_target(self, target: Tensor) -> Image | None:
        return None  # nobody has painted it


class StyleMeter:
    """Mean loss and its weighted parts, and mean SSIM between the picture made and the photo."""

    def __init__(self, task: StyleTransfer) -> None:
        self._task = task
        self._sums: dict[str, float] = {}
        self._count = 0

    def update(self, output: Tensor, target: Tensor, loss: float) -> None:
        made, photo = self._task.rgb(output, target)
        means = {"total loss": loss, **self._task.parts(output, target)}
        means["SSIM"] = float(ssim(made, photo).mean())
        for name, mean in means.items():
            self._sums[name] = self._sums.get(name, 0.0) + mean * len(output)
        self._count += len(output)

    def compute(self) -> dict[str, float]:
        if not self._count:
            return {"total loss": 0.0}
        return {name: value / self._count for name, value in self._sums.items()}


def style_task(name: str, root: Path, options: Mapping[str, Any]) -> StyleTransfer:
    """The task of a folder of photos and the painting that `options` name.

    Raises:
        OptionError: no painting is named.
        DataError: it cannot be read, or is another one than before; or there are no photos.
        BackboneError: the file of VGG16's weights is not there.
    """
    chosen = make_options(StyleOptions, options)
    painting = find_painting(name, chosen)
    read_image(painting)  # one that cannot be read is better found before training
    if chosen.features and not Path(str(chosen.features)).is_file():
        raise BackboneError(
            f"task {name!r}: no file {chosen.features!r} of VGG16's weights; give its place with "
            "--features, or take torchvision's with --task-set features="
        )
    splits = photo_paths(name, root)
    datasets = {split: Photos(paths) for split, paths in splits.items()}
    return StyleTransfer(
        name, datasets, dataclasses.replace(chosen, style_hash=file_hash(painting))
    )


def find_painting(task: str, options: StyleOptions) -> Path:
    """The painting's file.

    Raises:
        OptionError: none is named.
        DataError: it is not there, or is another one than the task was learnt with.
    """
    if not options.style:
        raise OptionError(f"task {task!r} needs a painting: --style FILE")
    path = Path(str(options.style)).expanduser()
    if not path.is_file():
        raise DataError(f"task {task!r}: no painting {str(path)!r}; give its place with --style")
    found = file_hash(path)
    if options.style_hash not in ("", found):
        raise DataError(
            f"task {task!r}: {path} is {found}, and the task was learnt with "
            f"{options.style_hash}; give that painting with --style"
        )
    return path


def file_hash(path: Path) -> str:
    """Which file this is, whatever its name."""
    return f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()[:DIGITS]}"


def _resized(painting: Image, short: int) -> Image:
    """The whole painting, its short side `short` pixels."""
    factor = short / min(painting.size)
    width, height = (max(1, round(side * factor)) for side in painting.size)
    return painting.resize((width, height), 1)  # 1: Lanczos, which keeps brush strokes
