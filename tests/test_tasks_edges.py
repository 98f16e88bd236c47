"""Edges to photos: side-by-side files, edges found in photos, and folders that are neither."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tinydense
import torch
from PIL import Image

from maskpack.common.errors import DataError, OptionError
from maskpack.common.preprocess import Augment, Preprocess
from maskpack.evaluation.task_row import Bases, score_task
from maskpack.runs.open import open_pack
from maskpack.tasks import Dense, described_task, open_task
from maskpack.tasks.dense.edges import edges
from maskpack.training.setup import Options, open_session
from maskpack.training.train_run import learn

SIZE = 20  # pixels of a picture's side
PREPROCESS = Preprocess(img_size=16, crop_pct=1.0, mean=(0.0,) * 3, std=(1.0,) * 3)


def write_pairs(folder: Path, counts: dict[str, int] | None = None) -> Path:
    """SPLIT/N_AB.jpg as pix2pix has them: a black line on white, and the photo it belongs to."""
    rng = np.random.default_rng(0)
    for split, count in (counts or {"train": 6, "val": 4}).items():
        (folder / split).mkdir(parents=True)
        for number in range(count):
            place = rng.integers(4, 16)
            left = np.full((SIZE, SIZE, 3), 255, np.uint8)
            left[:, place] = 0
            right = np.zeros((SIZE, SIZE, 3), np.uint8)
            right[:, :place] = (200, 60, 30)
            pair = Image.fromarray(np.hstack([left, right]))
            pair.save(folder / split / f"{number}_AB.jpg", quality=95)
    return folder


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    return write_pairs(tmp_path / "pairs")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return tinydense.write_photos(tmp_path / "photos")


def opened(folder: Path, **options: object) -> Dense:
    task = open_task("edges2photo", folder, options=options)
    assert isinstance(task, Dense)
    return task


# ---- pairs


def test_pairs_are_told_by_their_shape(pairs: Path, photos: Path) -> None:
    assert opened(pairs).options.source == "pairs"
    assert opened(photos).options.source == "photos"


def test_val_is_the_test_split_of_pairs(pairs: Path) -> None:
    task = opened(pairs)
    assert {split: len(task.dataset(split)) for split in task.splits()} == {"train": 6, "test": 4}


def test_test_beside_val_is_test(tmp_path: Path) -> None:
    task = opened(write_pairs(tmp_path / "all", {"train": 2, "val": 3, "test": 1}))
    counts = {split: len(task.dataset(split)) for split in task.splits()}
    assert counts == {"train": 2, "val": 3, "test": 1}


@pytest.mark.parametrize("direction", ["AtoB", "BtoA"])
def test_the_halves_go_where_the_direction_says(pairs: Path, direction: str) -> None:
    shown, wanted = opened(pairs, direction=direction).dataset("train")[0]
    assert shown.size == wanted.size == (SIZE, SIZE)
    left = shown if direction == "AtoB" else wanted
    assert np.asarray(left)[:, -1].mean() > 240  # the page is white
    right = wanted if direction == "AtoB" else shown
    assert np.asarray(right)[:, -1].mean() < 20  # the photo is dark there


def test_both_halves_are_cropped_alike(pairs: Path) -> None:
    """The line on the left lies where the colour on the right ends."""
    task = opened(pairs)
    transform = task.transform(PREPROCESS, Augment("rrc", scale=(0.5, 1.0)), training=True)
    found = 0
    for index in range(6):
        images, target = transform(*task.dataset("train")[index])
        assert images.shape == target.shape == (3, 16, 16)
        across = target[0].mean(0)  # red
        line = int(images[0].mean(0).argmin())
        if 2 <= line <= 13:
            found += 1
            steps = (across[1:] - across[:-1]).abs()
            assert abs(int(steps.argmax()) - line) <= 2
    assert found


def test_a_pair_of_another_shape_is_named_when_it_is_met(pairs: Path) -> None:
    task = opened(pairs)
    Image.new("RGB", (30, 20)).save(pairs / "train" / "0_AB.jpg")
    with pytest.raises(DataError, match=r"0_AB\.jpg: is 30 x 20 pixels; a pair is twice as wide"):
        task.dataset("train")[0]


def test_plain_photos_are_no_pairs(photos: Path) -> None:
    with pytest.raises(DataError, match=r"20 x 20 pixels; .*plain photos are --task-set source=ph"):
        opened(photos, source="pairs")


def test_pairs_need_a_train_folder(tmp_path: Path, pairs: Path) -> None:
    with pytest.raises(DataError, match=r"train has no train/ with pairs in it$"):
        opened(pairs / "train")
    (pairs / "train").rename(tmp_path / "elsewhere")
    with pytest.raises(DataError, match=r"pairs has val/ and no train/$"):
        opened(pairs)


def test_one_odd_picture_among_pairs_is_asked_about(pairs: Path) -> None:
    Image.new("RGB", (30, 20)).save(pairs / "train" / "0_AB.jpg")
    with pytest.raises(DataError, match=r"5 of 6 pictures .*0_AB\.jpg is not; .*source=photos"):
        opened(pairs)
    assert opened(pairs, source="photos").options.source == "photos"


def test_one_wide_photo_makes_no_pairs(photos: Path) -> None:
    Image.new("RGB", (40, 20)).save(photos / "train" / "wide.png")
    assert opened(photos).options.source == "photos"


def test_a_file_that_cannot_be_read_is_named(pairs: Path) -> None:
    (pairs / "train" / "0_AB.jpg").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"0_AB\.jpg: cannot be read as an image"):
        opened(pairs)


def test_no_pictures_no_folder_and_no_data_are_one_line(tmp_path: Path) -> None:
    (tmp_path / "empty" / "train").mkdir(parents=True)
    with pytest.raises(DataError, match=r"train has no pictures; expected photos"):
        opened(tmp_path / "empty")
    with pytest.raises(DataError, match=r"no folder '.*nowhere'; expected one of photos$"):
        opened(tmp_path / "nowhere")
    with pytest.raises(DataError, match="needs a folder of pairs or photos: --data DIR"):
        open_task("edges2photo")


# ---- edges found in photos


def test_edges_are_thin_black_lines_where_the_brightness_changes() -> None:
    pixels = np.zeros((32, 32, 3), np.uint8)
    pixels[:, 16:] = 220
    pixels[:, 15] = 60  # else two columns are as steep as each other
    found = np.asarray(edges(Image.fromarray(pixels), 1.5))
    assert found.shape == (32, 32, 3) and set(np.unique(found)) == {0, 255}
    rows, columns, _ = np.nonzero(found == 0)
    assert set(columns) <= {15, 16} and len(set(rows)) > 24
    assert (found == 0).all(2).sum(1)[4:-4].tolist() == [1] * 24


def test_edges_are_found_after_the_picture_has_its_size(photos: Path) -> None:
    """Else lines of large photos would be grey and thin, those of small ones thick."""
    task = opened(photos)
    large = Image.open(photos / "train" / "0.png").resize((200, 200))
    transform = task.transform(PREPROCESS, Augment("rrc"), training=True)
    for _ in range(4):
        images, target = transform(large, None)
        assert set(images.unique().tolist()) <= {0.0, 1.0}
        assert torch.equal(images[0], images[1]) and len(target.unique()) > 2


def test_a_wider_blur_finds_fewer_edges(photos: Path) -> None:
    photo = Image.open(photos / "train" / "0.png").convert("RGB")
    lines = [(np.asarray(edges(photo, sigma)) == 0).sum() for sigma in (0.5, 1.5)]
    assert lines[0] >= lines[1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"source": "hed"}, "source='hed': expected one of auto, pairs, photos"),
        ({"direction": "left"}, "direction='left': expected one of AtoB, BtoA"),
        ({"sigma": "0"}, "sigma=0.0: expected a number above 0"),
        ({"source": "photos", "direction": "BtoA"}, "direction='BtoA' is for source=pairs"),
        ({"direction": "BtoA"}, "direction='BtoA' is for source=pairs"),
        ({"loss": "l3"}, "loss='l3': expected one of l1, l2, adversarial"),
    ],
)
def test_options_that_do_not_fit_are_one_line(
    photos: Path, options: dict[str, str], message: str
) -> None:
    with pytest.raises(OptionError, match=message):
        opened(photos, **options)


# ---- a whole run


@pytest.mark.parametrize("source", ["pairs", "photos"])
@pytest.mark.parametrize("loss", ["l1", "l2"])
def test_edges_are_learnt_and_scored_as_recorded(
    request: pytest.FixtureRequest, tmp_path: Path, source: str, loss: str
) -> None:
    folder = request.getfixturevalue(source)
    options = Options(
        "tinydense:build",
        "edges2photo",
        data=str(folder),
        task_set={"loss": loss},
        recipe={"epochs": 2, "batch_size": 2, "opt": "adam", "lr": 1e-2},
    )
    session = open_session(options, tinydense.backbone())
    assert session.resolved()["task_set"]["source"] == source
    assert described_task(session.task.describe()).describe() == session.task.describe()
    run = learn(session, tmp_path / "run")
    bases = Bases()
    bases.give(session.backbone)
    row = score_task(open_pack(run.path), "edges2photo", bases=bases)
    test = run.result["test"]
    assert (row["SSIM"], row["MSE"]) == (test["SSIM"], test["MSE"])
    assert test["count"] == 4


def test_a_task_of_pairs_is_not_scored_on_photos(pairs: Path, photos: Path, tmp_path: Path) -> None:
    options = Options("tinydense:build", "edges2photo", data=str(pairs), recipe={"epochs": 1})
    session = open_session(options, tinydense.backbone())
    run = learn(session, tmp_path / "run")
    with pytest.raises(DataError, match="a pair is twice as wide as high"):
        score_task(open_pack(run.path), "edges2photo", data=str(photos))
