"""Tasks that make a picture: losses, metrics and how an output becomes one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from maskpack.common.options import check_choice
from maskpack.tasks.dense.base import Dense, DenseOptions

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

    from maskpack.tasks.base import Meter

LOSSES = ("l1", "l2", "adversarial")
L1_WEIGHT = 100.0  # beside the critic's loss: Isola et al. 2017, section 3.3, lambda
MSE_SCALE = 255.0**2  # mean squared errors are reported of 8-bit values, as papers do


@dataclass(frozen=True)
class PictureOptions(DenseOptions):
    """`loss` is l1, l2, or adversarial: pix2pix's critic and 100 times l1."""

    loss: str = "l1"

    def __post_init__(self) -> None:
        check_choice("loss", self.loss, LOSSES)


class Pictures(Dense):
    """RGB out: the sigmoid of the network's three channels. SSIM, and MSE of 8-bit values."""

    kind: ClassVar[str] = "picture"
    metric = "SSIM"
    Options: ClassVar[type[DenseOptions]] = PictureOptions

    def outputs(self) -> int:
        return 3

    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        return picture_loss(self.options.loss, self.made(output), self.real(target))

    def made(self, output: Tensor) -> Tensor:
        """The network's outputs, brought to the range of what they stand for."""
        return output.sigmoid()

    def judged(self, output: Tensor, target: Tensor) -> Tensor:
        return self.made(output)

    def rgb(self, output: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Output and target as pictures: (batch, 3, h, w), 0 to 1."""
        return self.made(output), target

    def meter(self) -> Meter:
        return PictureMeter(self)

    def shown(self, picture: Image) -> Image:
        return picture

    def target(self, picture: Image, map_: Image | None) -> Tensor:
        return to_tensor(picture if map_ is None else map_)

    def drawn(self, output: Tensor, picture: Image) -> Image:
        return to_image(self.made(output[None])[0]).resize(picture.size, 2)  # 2: bilinear

    def drawn_target(self, target: Tensor) -> Image | None:
        return to_image(target)


class PictureMeter:
    """Mean over the pictures of SSIM and of the mean squared error of 8-bit values."""

    def __init__(self, task: Pictures) -> None:
        self._task = task
        self._ssim = 0.0
        self._squares = 0.0
        self._count = 0

    def update(self, output: Tensor, target: Tensor, loss: float) -> None:
        made, real = self._task.rgb(output, target)
        squares = (made - real).square().mean(dim=(1, 2, 3))  # (batch,)
        # Python's floats: a float32 sum over many pictures would lose digits
        self._ssim += sum(ssim(made, real).tolist())
        self._squares += sum(squares.tolist())
        self._count += len(made)

    def compute(self) -> dict[str, float]:
        count = max(self._count, 1)
        return {"SSIM": self._ssim / count, "MSE": MSE_SCALE * self._squares / count}


def ssim(made: Tensor, real: Tensor) -> Tensor:
    """Structural similarity of each pair of pictures (Wang et al. 2004): (batch,).

    made, real: (batch, 3, h, w), 0 to 1. The window is a Gaussian of 11 pixels, deviation 1.5;
    borders are reflected and count, so that pictures of 6 pixels a side have one too.
    """
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torchmetrics tells of packages it would like
        from torchmetrics.functional.image import structural_similarity_index_measure

    # without the range it would be guessed from each batch's own values
    found: Any = structural_similarity_index_measure(made, real, reduction="none", data_range=1.0)
    return found.reshape(len(made))


def picture_loss(name: str, made: Tensor, target: Tensor) -> Tensor:
    """l1 or l2, a mean over all values; of "adversarial", the part that is no critic's."""
    from torch.nn.functional import l1_loss, mse_loss

    if name == "l2":
        return mse_loss(made, target)
    weight = L1_WEIGHT if name == "adversarial" else 1.0
    return weight * l1_loss(made, target)


def to_tensor(picture: Image) -> Tensor:
    """RGB picture -> float32 (3, h, w), 0 to 1."""
    import numpy as np
    import torch

    pixels = torch.from_numpy(np.array(picture, dtype=np.uint8))
    return pixels.permute(2, 0, 1).float().div_(255)


def to_image(values: Tensor) -> Image:
    """Inverse of `to_tensor`, of values that may lie outside 0 to 1."""
    import numpy as np
    from PIL import Image

    pixels: Any = values.detach().clamp(0, 1).mul(255).round().permute(1, 2, 0).cpu().numpy()
    return Image.fromarray(pixels.astype(np.uint8))


class AutoEncode(Pictures):
    """The picture itself: what encoder and decoder learn before residual blocks come between."""

    kind: ClassVar[str] = "autoencode"
