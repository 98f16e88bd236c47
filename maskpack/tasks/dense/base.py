"""Tasks that make a map of the size of their picture: what all of them share."""

from __future__ import annotations

import dataclasses
import importlib.util
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from maskpack.common.errors import OptionError, UnknownName
from maskpack.common.options import converted
from maskpack.common.preprocess import Augment, Preprocess
from maskpack.tasks.base import LabelledImages, Task, Transform
from maskpack.tasks.transforms import ToNormalised

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

# Small pictures are seen whole; which side is left says little about what is in them.
WHOLE = Augment("resize")


@dataclass(frozen=True)
class DenseOptions:
    """What `--task-set KEY=VALUE` decides; a subclass a task, each field with its default."""


class Dense(Task):
    """A picture in, a map of `outputs` channels and the same size out.

    Beside its picture a data set gives what `target` makes a tensor of: an RGB picture, a map of
    class numbers (PIL mode "L"), or None where the target is made of the picture itself.
    """

    kind: ClassVar[str]
    Options: ClassVar[type[DenseOptions]] = DenseOptions
    augment = WHOLE
    classes_map: ClassVar[bool] = False  # whether targets hold class numbers
    packages: ClassVar[tuple[str, ...]] = ("torchmetrics",)  # of the extra `images`

    def __init__(
        self,
        name: str,
        datasets: Mapping[str, LabelledImages],
        options: DenseOptions | None = None,
        augment: Augment | None = None,
    ) -> None:
        super().__init__(name, datasets, augment)
        self.options: Any = self.Options() if options is None else options
        if datasets:  # else it is only described, or draws
            self._check_packages()

    def _check_packages(self) -> None:
        """Raise OptionError before training where scoring could not follow."""
        missing = [name for name in self.packages if importlib.util.find_spec(name) is None]
        if missing:
            raise OptionError(
                f"task {self.name!r} needs {' and '.join(missing)}, not installed; "
                "pip install 'maskpack[images]'"
            )

    @classmethod
    def described(cls, about: Mapping[str, Any]) -> Dense:
        """The task that `describe` described, without pictures."""
        return cls(about["name"], {}, make_options(cls.Options, about.get("options", {})))

    @property
    def adversarial(self) -> bool:  # type: ignore[override]  # an option decides it here
        return getattr(self.options, "loss", None) == "adversarial"  # some have just one loss

    @abstractmethod
    def shown(self, picture: Image) -> Image:
        """What the network is to see of a picture, as RGB."""

    @abstractmethod
    def target(self, picture: Image, map_: Image | None) -> Tensor:
        """What the network is to give for a picture, at its final size."""

    @abstractmethod
    def drawn(self, output: Tensor, picture: Image) -> Image:
        """One output (outputs, h, w) as a picture for people, of the given picture's size."""

    @abstractmethod
    def drawn_target(self, target: Tensor) -> Image | None:
        """One target as `drawn` would draw a perfect output; None where none is known."""

    def output_shape(self, size: int) -> tuple[int, ...]:
        return (self.outputs(), size, size)

    def transform(self, preprocess: Preprocess, augment: Augment, training: bool) -> Transform:
        return _Pair(self, preprocess, augment, training)

    def describe(self) -> dict[str, object]:
        return {
            "name": self.name,
            "kind": self.kind,
            "metric": self.metric,
            "lower is better": self.lower_is_better,
            "options": dataclasses.asdict(self.options),
        }


class _Pair:
    """From picture and map to the network's input and its target, both img_size x img_size."""

    def __init__(
        self, task: Dense, preprocess: Preprocess, augment: Augment, training: bool
    ) -> None:
        from maskpack.tasks.dense.paired_transform import Geometry

        self._task = task
        self._move = Geometry(preprocess, augment, training)
        self._normalise = ToNormalised(preprocess.mean, preprocess.std)
        self._erasing = augment.random_erasing if training else 0.0

    def __call__(self, picture: Image, map_: Image | None) -> tuple[Tensor, Tensor]:
        picture, map_ = self._move(picture, map_, self._task.classes_map)
        images = self._normalise(self._task.shown(picture))
        if self._erasing:
            from torchvision.transforms.v2 import RandomErasing

            images = RandomErasing(self._erasing)(images)
        return images, self._task.target(picture, map_)


def make_options(kind: type[DenseOptions], values: Mapping[str, Any]) -> Any:
    """A task's options, which may be text as on a command line.

    Raises:
        UnknownName: no such option.
        OptionError: a value does not fit it.
    """
    fields = {field.name: field for field in dataclasses.fields(kind)}
    made: dict[str, Any] = {}
    for key, value in values.items():
        if key not in fields:
            raise UnknownName("option of the task", key, fields, "see docs/tasks.md")
        made[key] = converted(key, value, fields[key].default)
    return kind(**made)
