"""Style transfer: its losses by hand, its painting, the weights it looks through, a whole run."""

from __future__ import annotations

import copy
import dataclasses
import json
import pickle
from collections.abc import Iterator
from pathlib import Path

import pytest
import tinydense
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor

from maskpack.backbones.base import seeded
from maskpack.common.errors import BackboneError, DataError, OptionError
from maskpack.evaluation.evaluate import evaluate_batches
from maskpack.evaluation.task_row import Bases, score_task
from maskpack.runs.open import open_pack
from maskpack.tasks import described_task, open_task
from maskpack.tasks.dense import perceptual_loss as perceptual
from maskpack.tasks.dense.perceptual_loss import (
    StyleLoss,
    VGG16Features,
    gram_matrix,
    open_features,
    total_variation,
)
from maskpack.tasks.dense.style import StyleTransfer
from maskpack.training.setup import Options, open_session
from maskpack.training.train_run import learn

PARTS = ("content loss", "style loss", "variation loss")


@pytest.fixture(scope="module")
def features(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A file of random weights for VGG16."""
    path = tmp_path_factory.mktemp("weights") / "vgg16.safetensors"
    with seeded(0):
        save_file(VGG16Features().state_dict(), path)
    yield path
    open_features.cache_clear()


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return tinydense.write_photos(tmp_path / "photos")


@pytest.fixture
def painting(tmp_path: Path) -> Path:
    path = tmp_path / "painting.png"
    generator = torch.Generator().manual_seed(1)
    pixels = torch.randint(0, 255, (24, 40, 3), generator=generator, dtype=torch.uint8)
    Image.fromarray(pixels.numpy()).save(path)
    return path


def opened(photos: Path, painting: Path, features: Path, **more: object) -> StyleTransfer:
    given = {"style": str(painting), "features": str(features), **more}
    task = open_task("style-transfer", photos, options=given)
    assert isinstance(task, StyleTransfer)
    return task


def batch(size: int = 4, pixels: int = 16) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(2)
    shape = (size, 3, pixels, pixels)
    return torch.randn(shape, generator=generator), torch.rand(shape, generator=generator)


# ---- the losses


def test_a_gram_matrix_by_hand() -> None:
    features = torch.tensor([[[[1.0, 2.0]], [[3.0, 4.0]]]])  # (1, 2, 1, 2)
    expected = torch.tensor([[[5.0, 11.0], [11.0, 25.0]]]) / (2 * 1 * 2)
    assert torch.equal(gram_matrix(features), expected)


def test_total_variation_by_hand() -> None:
    picture = torch.tensor([[[[0.0, 1.0], [0.5, 0.5]]]])
    assert float(total_variation(picture)) == pytest.approx((1 + 0) / 2 + (0.5 + 0.5) / 2)


class _Pixels(torch.nn.Module):
    """Stands for VGG16: every tap is the picture itself."""

    def forward(self, pictures: Tensor, last: str = "relu4_3") -> dict[str, Tensor]:
        return dict.fromkeys(perceptual.TAPS, pictures)


def test_the_parts_by_hand() -> None:
    made = torch.tensor([[[[1.0, 2.0]]], [[[0.0, 1.0]]]])  # (2, 1, 1, 2)
    content = torch.tensor([[[[1.0, 0.0]]], [[[0.0, 0.0]]]])
    style = torch.tensor([[[[3.0, 1.0, 2.0, 2.0]]]])
    wider = made.expand(-1, -1, 2, -1)  # neighbours below are equal
    loss = StyleLoss(_Pixels(), style, content=10.0, gram=100.0, variation=1000.0)  # type: ignore[arg-type]
    parts = loss.parts(wider, content.expand(-1, -1, 2, -1))
    assert tuple(parts) == PARTS
    assert float(parts["content loss"]) == pytest.approx(10 * (0 + 4 + 0 + 1) / 4)
    # grams: (1 + 4) / 2 and (0 + 1) / 2, the style's (9 + 1 + 4 + 4) / 4; four taps alike
    squares = ((2.5 - 4.5) ** 2 + (0.5 - 4.5) ** 2) / 2
    assert float(parts["style loss"]) == pytest.approx(100 * 4 * squares)
    assert float(parts["variation loss"]) == pytest.approx(1000 * 1)


def test_a_picture_has_its_own_content_and_style(features: Path) -> None:
    _, picture = batch(1)
    loss = StyleLoss(open_features(str(features)), picture, 1e5, 1e10, 0.0)
    assert loss.parts(picture, picture) == dict.fromkeys(PARTS, 0.0)
    other = loss.parts(1 - picture, picture)
    assert other["content loss"] > 0 and other["style loss"] > 0 == other["variation loss"]


def test_the_features_are_torchvisions(features: Path) -> None:
    from torchvision.models import vgg16
    from torchvision.transforms.v2.functional import normalize

    with torch.device("meta"):
        theirs = vgg16(weights=None).features[:23]
    theirs.load_state_dict(
        {name.removeprefix("features."): value for name, value in load_file(features).items()},
        assign=True,
    )
    _, pictures = batch(2)
    x = normalize(pictures, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    ours = open_features(str(features))(pictures)
    for name, index in perceptual.TAPS.items():
        assert torch.allclose(ours[name], theirs[: index + 1](x), atol=1e-6), name


def test_the_loss_does_not_depend_on_what_shares_a_batch(
    photos: Path, painting: Path, features: Path
) -> None:
    task = opened(photos, painting, features, tv_weight=1e6)
    output, target = batch(4)
    whole = float(task.loss(output, target))
    singles = [float(task.loss(output[n : n + 1], target[n : n + 1])) for n in range(4)]
    assert whole == pytest.approx(sum(singles) / 4, rel=1e-4)


def test_metrics_take_no_second_look(
    photos: Path, painting: Path, features: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = opened(photos, painting, features)
    looks = []
    look = VGG16Features.forward
    monkeypatch.setattr(
        VGG16Features,
        "forward",
        lambda self, pictures, *last: looks.append(last) or look(self, pictures, *last),
    )
    score = evaluate_batches(torch.nn.Conv2d(3, 3, 1), task, [batch(2), batch(1)])
    once = [(), ("relu2_2",)]  # the picture made, and the photo's content
    assert looks == [(), *once, *once]  # the painting comes first
    assert list(score.values) == ["total loss", *PARTS, "SSIM"]
    assert score.value == score.loss == pytest.approx(sum(score.values[p] for p in PARTS))


def test_parts_of_another_batch_are_not_mistaken(
    photos: Path, painting: Path, features: Path
) -> None:
    task = opened(photos, painting, features)
    first, target = batch(1)
    second = first + 1
    expected = task.parts(second, target)
    task.loss(first, target)
    assert task.parts(second, target) == expected


def test_no_graph_is_kept_from_step_to_step(photos: Path, painting: Path, features: Path) -> None:
    task = opened(photos, painting, features)
    output, target = batch(1)
    output.requires_grad_()
    task.loss(output, target).backward()
    assert output.grad is not None and output.grad.abs().sum() > 0
    assert task._last is not None and not any(v.requires_grad for v in task._last[1].values())
    assert all(p.grad is None for p in open_features(str(features)).parameters())


# ---- the painting


def test_the_painting_is_seen_at_the_size_of_the_pictures(
    photos: Path, painting: Path, features: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    look = VGG16Features.forward
    monkeypatch.setattr(
        VGG16Features,
        "forward",
        lambda self, pictures, *last: seen.append(pictures.shape) or look(self, pictures, *last),
    )
    for size, expected in ((0, (16, 27)), (48, (48, 80))):
        task = opened(photos, painting, features, style_size=size)
        task.loss(*batch(1))
        assert seen[0] == (1, 3, *expected)
        seen.clear()


def test_opening_looks_through_nothing(
    photos: Path, painting: Path, features: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(perceptual, "open_features", None)
    task = opened(photos, painting, features)
    assert task.splits() == ("train", "test")
    assert described_task(task.describe()).describe() == task.describe()


def test_copies_and_workers_get_no_vgg(photos: Path, painting: Path, features: Path) -> None:
    task = opened(photos, painting, features)
    loss = task.loss(*batch(1))
    assert len(pickle.dumps(task)) < 10_000
    for other in (copy.deepcopy(task), pickle.loads(pickle.dumps(task))):
        assert torch.equal(other.loss(*batch(1)), loss)


def test_tasks_share_one_vgg(photos: Path, painting: Path, features: Path) -> None:
    assert open_features(str(features)) is open_features(str(features))
    assert not any(p.requires_grad for p in open_features(str(features)).parameters())


def test_opening_vgg_leaves_the_random_numbers_alone(features: Path) -> None:
    before = torch.get_rng_state()
    open_features.cache_clear()
    open_features(str(features))
    assert torch.equal(torch.get_rng_state(), before)


def test_drawing_needs_no_painting(photos: Path, painting: Path, features: Path) -> None:
    about = opened(photos, painting, features).describe()
    painting.unlink()
    task = described_task(about)
    output, target = batch(1)
    assert task.drawn(output[0], Image.new("RGB", (30, 20))).size == (30, 20)
    assert task.drawn_target(target[0]) is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"content_weight": "-1"}, "content_weight=-1.0: expected 0 or more"),
        ({"content_weight": "0", "style_weight": "0"}, "expected a number above 0"),
        ({"style_size": "4"}, "style_size=4: expected 8 pixels or more, or 0"),
    ],
)
def test_weights_that_do_not_fit_are_one_line(
    photos: Path, painting: Path, features: Path, options: dict[str, str], message: str
) -> None:
    with pytest.raises(OptionError, match=message):
        opened(photos, painting, features, **options)


def test_a_painting_is_asked_for(photos: Path) -> None:
    with pytest.raises(
        OptionError, match=r"^task 'style-transfer' needs a painting: --style FILE$"
    ):
        open_task("style-transfer", photos)
    with pytest.raises(DataError, match=r"^task 'style-transfer' needs a folder of photos"):
        open_task("style-transfer", options={"style": "x.jpg"})


def test_a_painting_that_is_not_there_is_named(photos: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no painting 'gone.jpg'; give its place with --style$"):
        open_task("style-transfer", photos, options={"style": "gone.jpg"})
    with pytest.raises(DataError, match="no painting"):
        open_task("style-transfer", photos, options={"style": "2017"})
    (tmp_path / "broken.jpg").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"broken\.jpg: cannot be read as an image"):
        open_task("style-transfer", photos, options={"style": str(tmp_path / "broken.jpg")})


# ---- VGG's weights


def test_a_file_of_weights_that_is_not_there_is_named(photos: Path, painting: Path) -> None:
    with pytest.raises(BackboneError, match=r"no file 'x\.pth' of VGG16's weights; give its place"):
        opened(photos, painting, Path("x.pth"))


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    save_file({"conv1.weight": torch.ones(3)}, tmp_path / "other.safetensors")
    with pytest.raises(
        BackboneError, match=r"other\.safetensors: no weights of VGG16 under"
    ) as told:
        open_features(str(tmp_path / "other.safetensors"))
    assert "\n" not in str(told.value)


def test_weights_of_another_shape_are_refused(tmp_path: Path, features: Path) -> None:
    state = load_file(features) | {"features.0.weight": torch.ones(1, 512, 1, 1)}
    save_file(state, tmp_path / "odd.safetensors")
    with pytest.raises(BackboneError, match=r"features\.0\.weight is \(1, 512, 1, 1\) and should"):
        open_features(str(tmp_path / "odd.safetensors"))


def test_a_whole_vgg_of_torch_is_read_too(tmp_path: Path, features: Path) -> None:
    state = load_file(features)
    state |= {"features.24.weight": torch.ones(2), "classifier.0.bias": torch.ones(2)}
    torch.save(state, tmp_path / "vgg16.pth")
    ours = open_features(str(tmp_path / "vgg16.pth")).state_dict()
    assert all(torch.equal(ours[name], state[name]) for name in ours)


def test_without_a_network_the_way_out_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError("no network here")

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", refuse)
    with pytest.raises(BackboneError, match=r"weights of vgg16 could not .* with --features FILE"):
        open_features()


# ---- a whole run


def test_a_style_is_learnt_and_scored_as_recorded(
    photos: Path, painting: Path, features: Path, tmp_path: Path
) -> None:
    given = {"style": str(painting), "features": str(features)}
    options = Options(
        "tinydense:build",
        "style-transfer",
        "piggyback",
        name="gogh",
        data=str(photos),
        task_set=given,
        recipe={"epochs": 2, "batch_size": 2, "opt": "adam", "lr": 1e-2},
    )
    session = open_session(options, tinydense.backbone())
    run = learn(session, tmp_path / "run")
    pack = open_pack(run.path)
    bases = Bases()
    bases.give(session.backbone)
    row = score_task(pack, "gogh", bases=bases)
    test = run.result["test"]
    assert test.keys() == {"total loss", *PARTS, "SSIM", "loss", "count"}
    assert [row[name] for name in ("total loss", "SSIM")] == [test["total loss"], test["SSIM"]]
    assert row["recorded"] == test["total loss"]
    lines = map(json.loads, (run.path / "metrics.jsonl").read_text().splitlines())
    assert run.result["best"]["val_total loss"] == min(line["val_total loss"] for line in lines)

    # the same painting elsewhere is that painting; another one under its name is not
    moved = painting.rename(tmp_path / "moved.png")
    found = {"style": str(moved)}
    assert score_task(pack, "gogh", bases=bases, task_set=found)["SSIM"] == test["SSIM"]
    again = dataclasses.replace(options, task_set=given | found)
    assert learn(open_session(again, session.backbone), run.path, resume=True).result == run.result
    Image.new("RGB", (20, 20), "red").save(painting)
    with pytest.raises(DataError, match=r"is sha256:\w+, and the task was learnt with sha256:\w+"):
        score_task(pack, "gogh", bases=bases)
