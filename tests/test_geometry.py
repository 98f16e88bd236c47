"""A picture and its map stay in register, whatever is done to them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from maskpack.common.errors import OptionError
from maskpack.common.preprocess import Augment, Preprocess
from maskpack.tasks.dense.paired_transform import Geometry
from maskpack.tasks.transforms import ToNormalised, eval_transform

PREPROCESS = Preprocess(img_size=16, crop_pct=0.8, mean=(0.5,) * 3, std=(0.5,) * 3)
RANDOM = Augment("rrc", scale=(0.2, 0.9), hflip=0.5, vflip=0.5)
WHOLE = Augment("resize", hflip=0.5, vflip=0.5)
PIECES = Augment("random", hflip=0.5, vflip=0.5)


def coordinates(width: int = 60, height: int = 40) -> Image.Image:
    """Red says how far right a pixel is, green how far down, four values a pixel."""
    y, x = np.mgrid[:height, :width]
    return Image.fromarray(np.stack([4 * x, 4 * y, 0 * x], -1).astype(np.uint8))


def classes(width: int = 60, height: int = 40) -> Image.Image:
    """Class numbers of a chequered board, far apart."""
    y, x = np.mgrid[:height, :width]
    return Image.fromarray(np.where((x // 10 + y // 10) % 2, 255, 3).astype(np.uint8))


@pytest.mark.parametrize("augment", [RANDOM, WHOLE, PIECES], ids=["crops", "whole", "pieces"])
@pytest.mark.parametrize("training", [True, False])
def test_picture_and_map_are_moved_alike(augment: Augment, training: bool) -> None:
    move = Geometry(PREPROCESS, augment, training)
    seen = set()
    for _ in range(8):
        picture, map_ = move(coordinates(), coordinates())
        assert map_ is not None and picture.size == map_.size == (16, 16)
        assert np.array_equal(np.asarray(picture), np.asarray(map_))
        seen.add(picture.tobytes())
    assert (len(seen) > 1) == training


@pytest.mark.parametrize("augment", [RANDOM, WHOLE, PIECES], ids=["crops", "whole", "pieces"])
def test_classes_lie_where_their_pixels_are(augment: Augment) -> None:
    """The class of a pixel can be told from the coordinates that its colour gives."""
    move = Geometry(PREPROCESS, augment, training=True)
    for _ in range(8):
        picture, map_ = move(coordinates(), classes(), classes=True)
        right, down, _ = np.moveaxis(np.asarray(picture).astype(int), -1, 0)
        expected = np.where((right // 40 + down // 40) % 2, 255, 3)
        # nearest and bilinear may differ by a pixel of the picture, so at a square's border only
        inside = (np.abs(right % 40 - 20) < 12) & (np.abs(down % 40 - 20) < 12)
        assert inside.sum() > 30
        assert np.array_equal(np.asarray(map_)[inside], expected[inside])


@pytest.mark.parametrize("augment", [RANDOM, WHOLE, PIECES], ids=["crops", "whole", "pieces"])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "lanczos"])
def test_class_numbers_are_never_mixed(augment: Augment, interpolation: str) -> None:
    preprocess = Preprocess(img_size=16, interpolation=interpolation)
    for training in (True, False):
        _, map_ = Geometry(preprocess, augment, training)(coordinates(), classes(), classes=True)
        assert set(np.unique(np.asarray(map_))) <= {3, 255}


@pytest.mark.parametrize(("flip", "axis"), [("hflip", 1), ("vflip", 0)])
def test_flips_turn_both(flip: str, axis: int) -> None:
    flips = {"hflip": 0.0, "vflip": 0.0}
    plain = Geometry(PREPROCESS, Augment("resize", **flips), training=True)
    turned = Geometry(PREPROCESS, Augment("resize", **{**flips, flip: 1.0}), training=True)
    before = plain(coordinates(16, 16), classes(16, 16), classes=True)
    after = turned(coordinates(16, 16), classes(16, 16), classes=True)
    for one, other in zip(before, after, strict=True):
        assert np.array_equal(np.flip(np.asarray(one), axis), np.asarray(other))


def test_scoring_is_what_classification_sees_and_draws_nothing() -> None:
    normalise = ToNormalised(PREPROCESS.mean, PREPROCESS.std)
    for augment in (RANDOM, Augment("resize", hflip=1.0, color_jitter=0.9)):
        before = torch.get_rng_state()
        picture, none = Geometry(PREPROCESS, augment, training=False)(coordinates(), None)
        assert none is None
        assert torch.equal(torch.get_rng_state(), before)
        expected = eval_transform(PREPROCESS, augment)(coordinates())
        assert torch.equal(normalise(picture), expected)


def test_colours_change_in_the_picture_alone() -> None:
    augment = Augment("resize", hflip=0.0, color_jitter=0.8)
    picture, map_ = Geometry(PREPROCESS, augment, training=True)(coordinates(), coordinates())
    plain, _ = Geometry(PREPROCESS, augment, training=False)(coordinates(), None)
    assert np.array_equal(np.asarray(map_), np.asarray(plain))
    assert not np.array_equal(np.asarray(picture), np.asarray(plain))


def test_what_moves_pictures_alone_is_refused() -> None:
    with pytest.raises(OptionError, match=r"--aa randaugment moves pictures without their maps"):
        Geometry(PREPROCESS, Augment(auto_augment="randaugment"), training=True)
    with pytest.raises(OptionError, match=r"--padding 4 would be a class of a map; leave it out"):
        Geometry(PREPROCESS, Augment("random", padding=4), training=True)
