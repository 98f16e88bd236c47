"""Colour for grey pictures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from maskpack.options import check_choice
from maskpack.tasks.dense import DenseOptions
from maskpack.tasks.pictures import PictureOptions, Pictures, to_image, to_tensor

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

# Lab values brought to the size that RGB has: L from 0 to 100, a and b from about -110 to 110
LIGHTNESS = 100.0
CHROMA = 110.0


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
        return 2 if self._lab else 3

    @property
    def _lab(self) -> bool:
        return bool(self.options.values == "ab")

    def shown(self, picture: Image) -> Image:
        if self._lab:
            grey = _lab(picture)[:1] / LIGHTNESS
            return to_image(grey.expand(3, -1, -1))
        return picture.convert("L").convert("RGB")

    def target(self, picture: Image, map_: Image | None) -> Tensor:
        if not self._lab:
            return to_tensor(picture)
        import torch

        lab = _lab(picture)  # (3, h, w): the lightness goes along, for the picture it belongs to
        return torch.cat([lab[:1] / LIGHTNESS, lab[1:] / CHROMA])

    def made(self, output: Tensor) -> Tensor:
        return output.tanh() if self._lab else output.sigmoid()

    def real(self, target: Tensor) -> Tensor:
        return target[:, 1:] if self._lab else target

    def rgb(self, output: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        made, real = self.made(output), target
        if not self._lab:
            return made, real
        import torch

        coloured = torch.cat([target[:, :1], made], dim=1)
        return _rgb(coloured), _rgb(target)

    def drawn(self, output: Tensor, picture: Image) -> Image:
        """With "ab" the picture keeps its own lightness at its own size."""
        if not self._lab:
            return super().drawn(output, picture)
        import torch
        from torch.nn.functional import interpolate

        light = _lab(picture)[:1] / LIGHTNESS
        size = list(light.shape[1:])
        chroma = interpolate(self.made(output[None]).cpu(), size, mode="bilinear")[0]
        return to_image(_rgb(torch.cat([light, chroma])[None])[0])

    def drawn_target(self, target: Tensor) -> Image | None:
        return to_image(_rgb(target[None])[0] if self._lab else target)


def _lab(picture: Image) -> Tensor:
    """RGB picture -> CIE Lab (D65), float32 (3, h, w)."""
    import numpy as np
    import torch
    from skimage.color import rgb2lab

    lab: Any = rgb2lab(np.asarray(picture))
    return torch.from_numpy(lab.astype(np.float32)).permute(2, 0, 1)


def _rgb(lab: Tensor) -> Tensor:
    """Scaled Lab (batch, 3, h, w) -> RGB of 0 to 1; colours no screen has are clipped."""
    import warnings

    import numpy as np
    import torch
    from skimage.color import lab2rgb

    scale = torch.tensor([LIGHTNESS, CHROMA, CHROMA]).view(1, 3, 1, 1)
    values = (lab.detach().cpu().float() * scale).permute(0, 2, 3, 1).numpy()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of values outside what RGB can show
        pixels: Any = lab2rgb(values)
    found = torch.from_numpy(pixels.astype(np.float32)).permute(0, 3, 1, 2)
    return found.clamp(0, 1).to(lab.device)
