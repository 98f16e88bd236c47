"""Colouring, and what all tasks that make pictures share: photos, SSIM, errors of 8-bit values."""

from __future__ import annotations

import importlib.util
import json
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import tinydense
import torch
from PIL import Image
from torch import Tensor

from maskpack.common.errors import DataError, OptionError
from maskpack.common.preprocess import Augment, Preprocess
from maskpack.tasks import open_task
from maskpack.tasks.dense.colouring import SCALE, Colouring, ColouringOptions, lab_to_rgb, to_lab
from maskpack.tasks.dense.picture import AutoEncode, picture_loss, ssim, to_image, to_tensor
from maskpack.training.setup import Options, open_session
from maskpack.training.train_run import learn

RGB = Colouring("colouring", {})
AB = Colouring("colouring", {}, ColouringOptions(values="ab"))


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return tinydense.write_photos(tmp_path / "photos")


def picture(seed: int = 0, width: int = 24, height: int = 16) -> Image.Image:
    """Soft colours, all of which a screen has."""
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(60, 200, (4, 6, 3), dtype=np.uint8))
    return small.resize((width, height), 2)


def corners() -> Image.Image:
    """A grid of all of sRGB, its corners included."""
    levels = (0, 1, 64, 128, 200, 254, 255)
    pixels = np.array(list(product(levels, repeat=3)), np.uint8)
    return Image.fromarray(pixels[None])


# ---- SSIM and the error


def test_ssim_is_that_of_another_library() -> None:
    from skimage.metrics import structural_similarity

    generator = torch.Generator().manual_seed(0)
    real = torch.rand(3, 3, 40, 40, generator=generator)
    made = (real + 0.2 * torch.rand(real.shape, generator=generator)).clamp(0, 1)
    for index, found in enumerate(ssim(made, real).tolist()):
        _, full = structural_similarity(
            made[index].numpy(),
            real[index].numpy(),
            channel_axis=0,
            data_range=1.0,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
            full=True,
        )
        # it reflects borders with the outermost pixel twice: inside they are the same
        assert found == pytest.approx(full.mean(), abs=2e-3)


def test_ssim_has_a_known_range() -> None:
    """Without it a dark pair would be as far apart as a bright one of twice the contrast."""
    black, grey = torch.zeros(1, 3, 16, 16), torch.full((1, 3, 16, 16), 0.5)
    c1 = 0.01**2
    assert ssim(black, grey).tolist() == pytest.approx([c1 / (0.25 + c1)], abs=1e-6)


@pytest.mark.parametrize("size", [8, 9, 10, 11, 16])
def test_small_pictures_have_an_ssim(size: int) -> None:
    real = torch.rand(2, 3, size, size)
    assert ssim(real, real).tolist() == pytest.approx([1.0, 1.0])
    assert (ssim(1 - real, real) < 0.5).all()


def logits(values: Tensor) -> Tensor:
    return values.clamp(1e-6, 1 - 1e-6).logit()


def test_the_error_is_of_8_bit_values() -> None:
    real = torch.full((1, 3, 16, 16), 100 / 255)
    made = torch.full((1, 3, 16, 16), 103 / 255)
    meter = RGB.meter()
    meter.update(logits(made), real, 0.0)
    assert meter.compute()["MSE"] == pytest.approx(9.0, rel=1e-4)


@pytest.mark.parametrize("task", [RGB, AB], ids=["rgb", "ab"])
def test_metrics_do_not_depend_on_the_batches(task: Colouring) -> None:
    outputs = torch.randn(5, task.outputs(), 16, 16)
    targets = torch.stack([task.target(picture(n, 16, 16), None) for n in range(5)])
    whole, single = task.meter(), task.meter()
    whole.update(outputs, targets, 0.0)
    for n in range(5):
        single.update(outputs[n : n + 1], targets[n : n + 1], 0.0)
    assert single.compute() == pytest.approx(whole.compute(), rel=1e-5)


@pytest.mark.parametrize("task", [RGB, AB], ids=["rgb", "ab"])
def test_the_target_is_the_best_output(task: Colouring) -> None:
    targets = torch.stack([task.target(picture(n), None) for n in range(2)])
    real = task.real(targets)
    outputs = real.atanh() if task is AB else logits(real)
    assert float(task.loss(outputs, targets)) == pytest.approx(0, abs=1e-5)
    meter = task.meter()
    meter.update(outputs, targets, 0.0)
    assert meter.compute() == pytest.approx({"SSIM": 1.0, "MSE": 0.0}, abs=1e-3)


def test_a_meter_that_saw_nothing_says_so() -> None:
    assert RGB.meter().compute() == {"SSIM": 0.0, "MSE": 0.0}


def test_losses_by_hand() -> None:
    made, real = torch.tensor([0.0, 1.0]), torch.tensor([0.5, 0.0])
    assert float(picture_loss("l1", made, real)) == 0.75
    assert float(picture_loss("l2", made, real)) == 0.625
    assert float(picture_loss("adversarial", made, real)) == 75.0


def test_pictures_and_tensors_are_inverse() -> None:
    assert to_image(to_tensor(picture())).tobytes() == picture().tobytes()
    assert to_image(torch.tensor([-1.0, 0.5, 2.0]).view(3, 1, 1)).getpixel((0, 0)) == (0, 128, 255)


# ---- Lab


def test_lab_by_hand() -> None:
    """Pure red is L 53.2, a 80.1, b 67.2."""
    red = to_lab(Image.new("RGB", (1, 1), (255, 0, 0))).flatten() * torch.tensor(SCALE)
    assert red.tolist() == pytest.approx([53.24, 80.09, 67.20], abs=0.02)


def test_lab_and_back_is_the_same_picture() -> None:
    scaled = AB.target(corners(), None)
    assert scaled.shape == (3, *corners().size[::-1])
    assert to_image(lab_to_rgb(scaled[None])[0]).tobytes() == corners().tobytes()


def test_every_colour_is_within_the_networks_reach() -> None:
    chroma = AB.real(AB.target(corners(), None)[None])
    assert 0.95 < float(chroma.abs().max()) < 0.99  # tanh gets there, and little is wasted


def lightness_apart(one: Image.Image, other: Image.Image) -> float:
    """The largest difference of L, of 1."""
    return float((to_lab(one)[0] - to_lab(other)[0]).abs().max())


def test_ab_keeps_the_lightness() -> None:
    given = picture(1, 16, 16)
    output = 0.05 * torch.randn(1, 2, 16, 16)  # colours all of which a screen has
    made, _ = AB.rgb(output, AB.target(given, None)[None])
    drawn = AB.drawn(output[0], given)
    for found in (to_image(made[0]), drawn):
        assert lightness_apart(found, given) < 0.006  # 8-bit steps
    assert to_lab(drawn)[1:].abs().mean() < to_lab(given)[1:].abs().mean()


def test_ab_is_drawn_at_the_pictures_own_size_and_sharpness() -> None:
    given = picture(2, 50, 30)
    drawn = AB.drawn(torch.zeros(2, 16, 16), given)
    assert drawn.size == (50, 30)
    assert lightness_apart(drawn, given) < 0.006


# ---- what goes in


@pytest.mark.parametrize("values", ["rgb", "ab"])
def test_the_network_sees_no_colour(photos: Path, values: str) -> None:
    task = open_task("colouring", photos, options={"values": values})
    preprocess = Preprocess(img_size=16, mean=(0.5,) * 3, std=(0.5,) * 3)
    transform = task.transform(preprocess, Augment("rrc", color_jitter=0.3), training=True)
    images, target = transform(*task.dataset("train")[0])
    assert images.shape == target.shape == (3, 16, 16)
    assert torch.equal(images[0], images[1]) and torch.equal(images[0], images[2])
    assert task.outputs() == (3 if values == "rgb" else 2)
    grey = (images[0] + 1) / 2
    if values == "ab":
        assert torch.allclose(grey, target[0], atol=1 / 255)
    else:
        luma = (target * torch.tensor([0.299, 0.587, 0.114]).view(3, 1, 1)).sum(0)
        assert torch.allclose(grey, luma, atol=1.01 / 255)


@pytest.mark.parametrize("task", [RGB, AB], ids=["rgb", "ab"])
def test_a_target_is_drawn_as_the_picture(task: Colouring) -> None:
    drawn = task.drawn_target(task.target(picture(), None))
    assert drawn is not None and drawn.tobytes() == picture().tobytes()


def test_an_auto_encoder_is_to_give_what_it_sees() -> None:
    task = AutoEncode("autoencode", {})
    assert task.shown(picture()).tobytes() == picture().tobytes()
    assert torch.equal(task.target(picture(), None), to_tensor(picture()))


# ---- folders of photos


def test_a_folder_without_splits_gives_a_tenth_for_testing(tmp_path: Path, photos: Path) -> None:
    flat = tmp_path / "flat"
    (flat / "deeper").mkdir(parents=True)
    for number in range(20):
        place = flat / "deeper" if number % 2 else flat
        Image.new("RGB", (8, 8)).save(place / f"{number}.png")
    task = open_task("colouring", flat)
    assert (len(task.dataset("train")), len(task.dataset("test"))) == (18, 2)
    again = open_task("colouring", flat)
    assert again.dataset("test").paths == task.dataset("test").paths  # type: ignore[attr-defined]


def test_photos_to_test_on_are_not_trained_on(tmp_path: Path, photos: Path) -> None:
    (photos / "train").rename(tmp_path / "elsewhere")
    with pytest.raises(DataError, match=r"photos has test/ and no train/$"):
        open_task("colouring", photos)


def test_folders_that_are_no_photos_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="task 'colouring' needs a folder of photos: --data DIR"):
        open_task("colouring")
    with pytest.raises(DataError, match=r"no folder '.*gone'; expected one of photos"):
        open_task("colouring", tmp_path / "gone")
    with pytest.raises(DataError, match=r"has no pictures; expected photos"):
        open_task("colouring", tmp_path)
    (tmp_path / "a.jpg").write_bytes(b"no picture")
    task = open_task("colouring", tmp_path)
    with pytest.raises(DataError, match=r"a\.jpg: cannot be read as an image"):
        task.dataset("train")[0]


def test_a_missing_package_is_named_before_training(
    photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "skimage" else found(name)
    )
    with pytest.raises(OptionError, match=r"needs skimage, not installed; pip install 'maskpack\["):
        open_task("colouring", photos)
    assert Colouring("colouring", {}).describe()["kind"] == "colouring"


# ---- a whole run


@pytest.mark.parametrize("task", ["colouring", "autoencode"])
def test_the_best_epoch_has_the_highest_ssim(photos: Path, tmp_path: Path, task: str) -> None:
    recipe = {"epochs": 3, "batch_size": 2, "opt": "adam", "lr": 1e-2}
    options = Options("tinydense:build", task, "fine-tune", data=str(photos), recipe=recipe)
    run = learn(open_session(options, tinydense.backbone()), tmp_path / "run")
    lines = map(json.loads, (run.path / "metrics.jsonl").read_text().splitlines())
    assert run.result["best"]["val_SSIM"] == max(line["val_SSIM"] for line in lines)
