"""Pictures to tensors: sizes, crops, values by hand, options that are refused."""

from __future__ import annotations

import json
import math
import pickle
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from PIL import Image

from maskpack.common.errors import OptionError
from maskpack.common.preprocess import AUTO_AUGMENTS, Augment, Preprocess
from maskpack.tasks.transforms import eval_transform, train_transform

PLAIN = Preprocess(img_size=8, crop_pct=0.5, mean=(0.5, 0.25, 0.0), std=(0.5, 0.25, 1.0))
WHOLE = Augment(crop_mode="resize", hflip=0.0)
SEED = np.random.default_rng(0)
PHOTO = Image.fromarray(SEED.integers(0, 256, (24, 40, 3), dtype=np.uint8))


def test_values_are_normalised_by_hand() -> None:
    image = Image.new("RGB", (8, 8), (255, 51, 102))
    found = eval_transform(PLAIN, WHOLE)(image)
    assert (found.shape, found.dtype) == ((3, 8, 8), torch.float32)
    expected = torch.tensor([1.0, -0.2, 0.4]).view(3, 1, 1).expand(3, 8, 8)
    assert torch.allclose(found, expected, atol=1e-6)


def test_scoring_resizes_the_short_side_and_takes_the_centre() -> None:
    image = Image.new("RGB", (32, 16))
    image.paste((255, 255, 255), (12, 4, 20, 12))
    found = eval_transform(Preprocess(img_size=8, crop_pct=0.5), Augment())(image)
    assert (found > 0).all()  # 16 is the resized short side: the centre 8 x 8 is all white


def test_resize_mode_shows_the_whole_picture_in_training_and_scoring() -> None:
    for make in (train_transform, eval_transform):
        found = make(PLAIN, WHOLE)(PHOTO)
        small = np.asarray(PHOTO.resize((8, 8), Image.Resampling.BILINEAR), dtype=np.float32)
        expected = (torch.from_numpy(small).permute(2, 0, 1) / 255 - column(PLAIN.mean)) / column(
            PLAIN.std
        )
        assert torch.allclose(found, expected, atol=1e-6)


def column(values: tuple[float, ...]) -> torch.Tensor:
    return torch.tensor(values).view(3, 1, 1)


def test_flips() -> None:
    plain = eval_transform(PLAIN, WHOLE)(PHOTO)
    across = train_transform(PLAIN, replace(WHOLE, hflip=1.0))(PHOTO)
    upside = train_transform(PLAIN, replace(WHOLE, vflip=1.0))(PHOTO)
    assert torch.equal(across, plain.flip(2))
    assert torch.equal(upside, plain.flip(1))


def test_a_random_crop_is_a_piece_of_the_resized_picture() -> None:
    whole = eval_transform(replace(PLAIN, img_size=16, crop_pct=1.0), WHOLE)(
        PHOTO.crop((0, 0, 24, 24))
    )  # (3, 16, 16)
    cut = train_transform(PLAIN, Augment("random", hflip=0.0))
    seen = set()
    torch.manual_seed(0)
    for _ in range(300):
        found = cut(PHOTO.crop((0, 0, 24, 24)))
        places = [
            (top, left)
            for top in range(9)
            for left in range(9)
            if torch.equal(whole[:, top : top + 8, left : left + 8], found)
        ]
        assert len(places) == 1
        seen.update(places)
    assert {0, 8} <= {top for top, _ in seen} and {0, 8} <= {left for _, left in seen}


def test_padding_lets_a_random_crop_shift_a_picture_into_the_black() -> None:
    white = Image.new("RGB", (32, 32), "white")
    plain = Preprocess(img_size=32, crop_pct=1.0, mean=(0.0,) * 3, std=(1.0,) * 3)
    cut = train_transform(plain, Augment("random", padding=4, hflip=0.0))
    torch.manual_seed(0)
    shares = {float(cut(white).mean()) for _ in range(200)}
    assert {height * width / 1024 for height in (28, 32) for width in (28, 32)} <= shares
    assert min(shares) == 28 * 28 / 1024 and max(shares) == 1
    # without padding, and when scoring, the picture is as it was
    for same in (
        train_transform(plain, Augment("random", hflip=0.0)),
        eval_transform(plain, Augment("random", padding=4)),
    ):
        assert bool((same(white) == 1).all())


def test_center_trains_on_what_is_scored() -> None:
    still = Augment("center", hflip=0.0)
    assert torch.equal(train_transform(PLAIN, still)(PHOTO), eval_transform(PLAIN, still)(PHOTO))
    assert torch.equal(
        eval_transform(PLAIN, still)(PHOTO), eval_transform(PLAIN, Augment("random"))(PHOTO)
    )


@pytest.mark.parametrize(
    "augment",
    [
        Augment(),
        Augment(color_jitter=0.4, vflip=0.5),
        Augment(random_erasing=1.0),
        Augment("random", hflip=0.0),
        Augment("random", padding=4),
        *(Augment(auto_augment=name) for name in AUTO_AUGMENTS),
    ],
)
def test_training_is_drawn_from_torchs_generator_and_can_be_sent_to_workers(
    augment: Augment,
) -> None:
    transform = pickle.loads(pickle.dumps(train_transform(PLAIN, augment)))
    torch.manual_seed(0)
    first = transform(PHOTO)
    assert (first.shape, first.dtype) == ((3, 8, 8), torch.float32)
    second = transform(PHOTO)
    torch.manual_seed(0)
    assert torch.equal(transform(PHOTO), first)
    assert not torch.equal(first, second)


def test_erased_pixels_are_the_mean_colour() -> None:
    white = Image.new("RGB", (8, 8), "white")
    torch.manual_seed(0)
    found = train_transform(PLAIN, replace(WHOLE, random_erasing=1.0))(white)
    assert (found == 0).any()


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "nearest", "lanczos"])
def test_interpolations(interpolation: str) -> None:
    chosen = replace(PLAIN, interpolation=interpolation)
    small = PHOTO.resize((8, 8), Image.Resampling[interpolation.upper()])
    expected = eval_transform(PLAIN, WHOLE)(small)
    assert torch.equal(eval_transform(chosen, WHOLE)(PHOTO), expected)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("img_size", [0, -1, 9000, 10**30, 8.0, True, "8", None]),
        ("crop_pct", [0, -0.5, 1.5, math.nan, "1", None, 10**400]),
        ("mean", [(), (0.5,), (0.5,) * 4, (0, 0, math.inf), "abc", (0, 0, 10**400)]),
        ("std", [(), (1, 1), (1, 1, 0), (1, -1, 1), (1, 1, math.nan), [1, 1, None]]),
    ],
)
def test_values_no_picture_can_have(name: str, values: list[object]) -> None:
    for value in values:
        with pytest.raises(OptionError, match=f"{name} is "):
            Preprocess(**{name: value})  # type: ignore[arg-type]


def test_a_preprocess_comes_back_from_json() -> None:
    assert Preprocess(**json.loads(json.dumps(asdict(PLAIN)))) == PLAIN


def test_unknown_interpolation() -> None:
    with pytest.raises(OptionError, match="interpolation is 'cubic'; known: bicubic, bilinear,"):
        eval_transform(Preprocess(interpolation="cubic"), Augment())


def test_augment_comes_back_from_json() -> None:
    augment = Augment(scale=(0.5, 1.0))
    listed = {name: list(v) if isinstance(v, tuple) else v for name, v in asdict(augment).items()}
    assert Augment(**listed) == augment  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"crop_mode": "middle"}, "crop_mode is 'middle'; known: rrc, resize, random, center"),
        ({"auto_augment": "rand"}, "auto_augment is 'rand'; known: randaugment"),
        ({"padding": -1}, "padding is -1; expected 0 to 8192 pixels"),
        ({"padding": 1.5}, "padding is 1.5"),
        ({"hflip": 1.5}, "hflip is 1.5; a probability"),
        ({"random_erasing": float("nan")}, "random_erasing is nan"),
        ({"color_jitter": -1.0}, "color_jitter is -1.0"),
        ({"scale": (0.0, 1.0)}, "scale is"),
        ({"scale": (0.5, 1.5)}, "at most 1.0"),
        ({"ratio": (2.0, 1.0)}, "0 < low <= high"),
    ],
)
def test_wrong_option(options: dict[str, object], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        Augment(**options)  # type: ignore[arg-type]
