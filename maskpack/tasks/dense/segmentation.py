"""Semantic segmentation: a class for every pixel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from maskpack.common.errors import DataError
from maskpack.common.options import check_choice
from maskpack.common.preprocess import Augment
from maskpack.tasks.base import LabelledImages
from maskpack.tasks.dense.base import Dense, DenseOptions, make_options
from maskpack.tasks.dense.picture import picture_loss

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

    from maskpack.tasks.base import Meter

IGNORE = 255  # class number of pixels that count neither in training nor in scoring
LOSSES = ("ce", "l1", "l2", "adversarial")


@dataclass(frozen=True)
class SegmentationOptions(DenseOptions):
    """`loss` is ce (cross entropy), or of the classes' probabilities l1, l2 or adversarial."""

    loss: str = "ce"

    def __post_init__(self) -> None:
        check_choice("loss", self.loss, LOSSES)


class Segmentation(Dense):
    """Class numbers of pixels, 255 where none counts; mean IoU over the whole split.

    Raises DataError for fewer than two classes, or more than 255 can number.
    """

    kind: ClassVar[str] = "segmentation"
    metric = "mIoU"
    Options: ClassVar[type[DenseOptions]] = SegmentationOptions
    classes_map: ClassVar[bool] = True

    def __init__(
        self,
        name: str,
        classes: Sequence[str],
        datasets: Mapping[str, LabelledImages],
        options: DenseOptions | None = None,
        augment: Augment | None = None,
    ) -> None:
        super().__init__(name, datasets, options, augment)
        self.classes = tuple(classes)
        if not 2 <= len(self.classes) <= IGNORE:
            found = len(self.classes)
            raise DataError(f"task {name!r}: needs 2 to {IGNORE} classes, found {found}")

    @classmethod
    def described(cls, about: Mapping[str, Any]) -> Segmentation:
        options = make_options(cls.Options, about.get("options", {}))
        return cls(about["name"], about["classes"], {}, options)

    def outputs(self) -> int:
        return len(self.classes)

    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        # the mean over no pixel at all would be 0 / 0
        counted = (target != IGNORE).sum().clamp(min=1)
        if self.options.loss == "ce":
            from torch.nn.functional import cross_entropy

            total = cross_entropy(output, target, ignore_index=IGNORE, reduction="sum")
            return total / counted
        mean = picture_loss(self.options.loss, self.judged(output, target), self.real(target))
        return mean * target.numel() / counted

    def judged(self, output: Tensor, target: Tensor) -> Tensor:
        counts = (target != IGNORE)[:, None]  # else a critic would know targets by their holes
        return output.softmax(dim=1) * counts

    def real(self, target: Tensor) -> Tensor:
        from torch.nn.functional import one_hot

        inside = target.clamp(max=self.outputs() - 1)
        counts = (target != IGNORE)[:, None]
        return one_hot(inside, self.outputs()).permute(0, 3, 1, 2).float() * counts

    def meter(self) -> Meter:
        return IoUMeter(self.outputs())

    def shown(self, picture: Image) -> Image:
        return picture

    def target(self, picture: Image, map_: Image | None) -> Tensor:
        import numpy as np
        import torch

        return torch.from_numpy(np.array(map_, dtype=np.int64))  # (h, w)

    def drawn(self, output: Tensor, picture: Image) -> Image:
        return _coloured(output.argmax(dim=0)).resize(picture.size, 0)  # 0: nearest

    def drawn_target(self, target: Tensor) -> Image | None:
        return _coloured(target)

    def describe(self) -> dict[str, object]:
        return super().describe() | {"classes": list(self.classes)}


class IoUMeter:
    """Mean over classes of intersection / union, both counted over the whole split.

    A class in neither outputs nor targets does not count; one in outputs alone counts 0.
    """

    def __init__(self, classes: int) -> None:
        import warnings

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torchmetrics tells of packages it would like
            from torchmetrics.classification import MulticlassJaccardIndex

        # numbers are checked when a mask is read; looking again would sort every batch's pixels
        self._iou = MulticlassJaccardIndex(
            classes, average="macro", ignore_index=IGNORE, validate_args=False
        )
        self._right = 0
        self._count = 0

    def update(self, output: Tensor, target: Tensor, loss: float) -> None:
        found = output.argmax(dim=1)
        self._iou.to(output.device).update(found, target)
        self._right += int(((found == target) & (target != IGNORE)).sum())
        self._count += int((target != IGNORE).sum())

    def compute(self) -> dict[str, float]:
        if not self._count:
            return {"mIoU": 0.0, "pixel accuracy": 0.0}
        return {"mIoU": float(self._iou.compute()), "pixel accuracy": self._right / self._count}


def _coloured(classes: Tensor) -> Image:
    """Class numbers (h, w) as a picture in the colours of the VOC palette."""
    import numpy as np
    from PIL import Image

    picture = Image.fromarray(classes.cpu().numpy().astype(np.uint8))
    picture.putpalette(voc_palette())  # makes a grey picture one of mode "P"
    return picture.convert("RGB")


def voc_palette() -> list[int]:
    """R, G, B of class 0, then of class 1, ... to 255: the bits of a number, dealt to channels."""
    colours = []
    for number in range(256):
        rest, colour = number, [0, 0, 0]
        for place in range(7, -1, -1):
            for channel in range(3):
                colour[channel] |= (rest >> channel & 1) << place
            rest >>= 3
        colours += colour
    return colours
