"""What a network makes of pictures, as pictures: examples of a split, and any one picture."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from maskpack.common.errors import OptionError, PackFormatError
from maskpack.common.preprocess import Augment, Preprocess
from maskpack.reports.strips import Example
from maskpack.tasks.dense.paired_transform import Geometry
from maskpack.tasks.transforms import ToNormalised, eval_transform

if TYPE_CHECKING:
    from PIL.Image import Image

    from maskpack.tasks.base import LabelledImages
    from maskpack.tasks.dense.base import Dense

WHOLE = Augment("resize")


def examples(
    network: nn.Module,
    task: Dense,
    pictures: LabelledImages,
    preprocess: Preprocess,
    augment: Augment,
    *,
    count: int,
    device: torch.device | str = "cpu",
) -> Iterator[Example]:
    """The first `count` pictures as they are scored: what the network sees of each, what it gives,
    and the target where it is known, all img_size x img_size.
    """
    move = Geometry(preprocess, augment, training=False)
    for index in range(min(count, len(pictures))):
        picture, map_ = pictures[index]
        moved, moved_map = move(picture, map_, task.classes_map)
        shown = task.shown(moved)
        output = _dense_output(network, task, shown, preprocess, device)
        parts = {"input": shown, "output": task.drawn(output, moved)}
        target = task.drawn_target(task.target(moved, moved_map))
        if target is not None:
            parts["target"] = target
        yield Example(_digest(picture), parts)


def transformed(
    network: nn.Module,
    task: Dense,
    picture: Image,
    preprocess: Preprocess,
    *,
    device: torch.device | str = "cpu",
) -> Image:
    """What the network makes of an RGB picture, of the picture's own size.

    The network sees the whole of it at img_size x img_size.

    Raises:
        OptionError: the network does not run on pictures of this img_size, or a package is missing.
        PackFormatError: its output is not what the task makes.
    """
    moved, _ = Geometry(preprocess, WHOLE, training=False)(picture, None)
    try:
        output = _dense_output(network, task, task.shown(moved), preprocess, device)
        return task.drawn(output, picture)
    except ImportError as error:  # Lab and edges are made by a library
        raise OptionError(
            f"task {task.name!r} needs {error.name}, not installed; pip install 'maskpack[images]'"
        ) from error


def probabilities(
    network: nn.Module,
    picture: Image,
    preprocess: Preprocess,
    augment: Augment,
    *,
    device: torch.device | str = "cpu",
) -> Tensor:
    """Of each class, float32 (classes,), for an RGB picture prepared as in scoring.

    Raises:
        OptionError: the network does not run on pictures of this img_size.
        PackFormatError: its output is no list of classes.
    """
    image = eval_transform(preprocess, augment)(picture)
    output = _output(network, image, device)
    if output.ndim != 1:
        raise PackFormatError(_odd(output, "classes"))
    return output.softmax(dim=0)


def _dense_output(
    network: nn.Module,
    task: Dense,
    shown: Image,
    preprocess: Preprocess,
    device: torch.device | str,
) -> Tensor:
    """(outputs, h, w) of what the network is to see of a picture."""
    image = ToNormalised(preprocess.mean, preprocess.std)(shown)
    output = _output(network, image, device)
    if output.ndim != 3 or output.shape[0] != task.outputs():
        raise PackFormatError(_odd(output, f"{task.outputs()} x height x width"))
    return output


@torch.no_grad()
def _output(network: nn.Module, image: Tensor, device: torch.device | str) -> Tensor:
    """For one picture (3, h, w), float32 without the batch's dimension, on the CPU."""
    network = network.eval().to(device).to(memory_format=torch.channels_last)
    batch = image[None].to(device, memory_format=torch.channels_last)
    try:
        output: Tensor = network(batch)
    except Exception as error:  # a size it cannot halve, mostly; its code may raise anything
        shape = " x ".join(str(n) for n in image.shape)
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise OptionError(
            f"the network does not run on {shape} pictures: {first}; choose another --img-size"
        ) from error
    return output[0].float().cpu()


def _odd(output: Tensor, expected: str) -> str:
    found = " x ".join(str(n) for n in output.shape) or "one number"
    return f"the network gives {found} for a picture; its task expects {expected}"


def _digest(picture: Image) -> str:
    """Equal for equal pictures, wherever they come from."""
    found = hashlib.blake2b(f"{picture.size}".encode(), digest_size=8)
    found.update(picture.tobytes())
    return found.hexdigest()
