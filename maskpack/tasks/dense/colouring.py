"""Colour for grey pictures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from maskpack.common.options import check_choice
from maskpack.tasks.dense.base import DenseOptions
from maskpack.tasks.dense.picture import PictureOptions, Pictures, to_image, to_tensor

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

# what L, a and b are divided by: sRGB has L to 100, a from -86.2 to 98.2, b from -107.9 to 94.5
SCALE = (100.0, 110.0, 110.0)


@dataclass(frozen=True)
class ColouringOptions(PictureOptions):
    """`values` is what the network gives: all of RGB, or just a and b of CIE Lab ("ab").

    With "ab" the lightness stays the given picture's.
    """

    values: str = "rgb"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("values", self.values, ("rgb", "ab"))


class Colouring(Pictures):
    """Grey in (ITU-R 601 luma of RGB, or L of Lab), colour out; scored as RGB either way."""

    kind: ClassVar[str] = "colouring"
    Options: ClassVar[type[DenseOptions]] = ColouringOptions
    packages: ClassVar[tuple[str, ...]] = (*Pictures.packages, "skimage")

    def outputs(self) -> int:
        return 2 if self._ab else 3

    @property
    def _ab(self) -> bool:
        return bool(self.options.values == "ab")

    def shown(self, picture: Image) -> Image:
        if self._ab:
            return to_image(to_lab(picture)[:1].expand(3, -1, -1))
        return picture.convert("L").convert("RGB")

    def target(self, picture: Image, map_: Image | None) -> Tensor:
        # with "ab" the lightness goes along, for the picture that the colours belong to
        return to_lab(picture) if self._ab else to_tensor(picture)

    def made(self, output: Tensor) -> Tensor:
        return output.tanh() if self._ab else output.sigmoid()

    def real(self, target: Tensor) -> Tensor:
        return target[:, 1:] if self._ab else target

    def rgb(self, output: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        made = self.made(output)
        if not self._ab:
            return made, target
        import torch

        return lab_to_rgb(torch.cat([target[:, :1], made], dim=1)), lab_to_rgb(target)

    def drawn(self, output: Tensor, picture: Image) -> Image:
        """With "ab" the picture keeps its own lightness at its own size."""
        if not self._ab:
            return super().drawn(output, picture)
        import torch
        from torch.nn.functional import interpolate

        light = to_lab(picture)[None, :1]
        size = list(light.shape[2:])
        chroma = interpolate(self.made(output[None]).cpu(), size, mode="bilinear")
        return to_image(lab_to_rgb(torch.cat([light, chroma], dim=1))[0])

    def drawn_target(self, target: Tensor) -> Image | None:
        return to_image(lab_to_rgb(target[None])[0] if self._ab else target)


def to_lab(picture: Image) -> Tensor:
    """RGB picture -> CIE Lab (D65) by SCALE: float32 (3, h, w), 0 to 1 and -1 to 1."""
    import numpy as np
    import torch
    from skimage.color import rgb2lab

    lab: Any = rgb2lab(np.asarray(picture)) / SCALE
    return torch.from_numpy(lab.astype(np.float32)).permute(2, 0, 1)


def lab_to_rgb(lab: Tensor) -> Tensor:
    """Lab as `to_lab` gives it, (batch, 3, h, w) -> RGB of 0 to 1.

    Colours that no screen has are clipped.
    """
    import warnings

    import numpy as np
    import torch
    from skimage.color import lab2rgb

    values = lab.detach().cpu().permute(0, 2, 3, 1).numpy() * np.array(SCALE, np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of values outside what RGB can show
        pixels: Any = lab2rgb(values)
    found = torch.from_numpy(pixels.astype(np.float32)).permute(0, 3, 1, 2)
    return found.clamp(0, 1).to(lab.device)
