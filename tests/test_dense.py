"""Image-to-image tasks from options to score, on a network of four layers."""

from __future__ import annotations

from pathlib import Path

import pytest
import tinydense
import torch
from PIL import Image
from tinynet import write_pictures
from torch import nn

from maskpack.backbones import from_module, open_backbone
from maskpack.common.errors import BackboneError, DataError, OptionError, UnknownName
from maskpack.common.preprocess import Preprocess
from maskpack.evaluation.task_row import Bases, open_exam, score_task
from maskpack.runs.open import open_pack
from maskpack.tasks import described_task, open_task
from maskpack.training.setup import Options, open_session
from maskpack.training.train_run import learn, make_trainer

RECIPE = {"epochs": 2, "batch_size": 2, "opt": "adam", "lr": 1e-2}


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return tinydense.write_photos(tmp_path / "photos")


def _session(task: str, data: Path, method: str = "piggyback", **more: object):
    options = Options("tinydense:build", task, method, data=str(data), recipe=RECIPE, **more)
    return open_session(options, tinydense.backbone())


@pytest.mark.parametrize("loss", ["l1", "l2", "adversarial"])
@pytest.mark.parametrize("values", ["rgb", "ab"])
def test_a_colouring_is_learnt_and_scored_as_recorded(
    photos: Path, tmp_path: Path, loss: str, values: str
) -> None:
    size = 32 if loss == "adversarial" else 16
    chosen = {"loss": loss, "values": values}
    session = _session("colouring", photos, task_set=chosen, preprocess={"img_size": size})
    run = learn(session, tmp_path / "run")
    bases = Bases()
    bases.give(session.backbone)
    row = score_task(open_pack(run.path), "colouring", bases=bases)
    test = run.result["test"]
    assert test.keys() == {"SSIM", "MSE", "loss", "count"}
    assert (row["SSIM"], row["MSE"]) == (test["SSIM"], test["MSE"])
    assert 0 < row["SSIM"] < 1 and 0 < row["MSE"] < 255**2
    assert row["low"] is None


def test_a_described_task_is_the_same_without_its_pictures(photos: Path) -> None:
    task = open_task("colouring", photos, options={"values": "ab", "loss": "l2"})
    assert described_task(task.describe()).describe() == task.describe()
    assert described_task(task.describe()).splits() == ()


def test_options_that_do_not_fit_are_one_line(photos: Path) -> None:
    with pytest.raises(OptionError, match="loss='l3': expected one of l1, l2, adversarial"):
        open_task("colouring", photos, options={"loss": "l3"})
    with pytest.raises(UnknownName, match="unknown option of the task 'los'; did you mean 'loss'"):
        open_task("colouring", photos, options={"los": "l1"})
    with pytest.raises(OptionError, match="is classification, which has no 'loss'"):
        open_task("sketches", options={"loss": "l1"})
    with pytest.raises(OptionError, match=r"photos has no images/ and masks/, so it is classifi"):
        open_task("lungs", photos, options={"loss": "l1"})
    with pytest.raises(DataError, match="no folder 'gone'"):
        open_task("lungs", "gone", options={"loss": "l1"})


def test_a_network_that_gives_something_else_is_refused_before_training(
    photos: Path, tmp_path: Path
) -> None:
    says = (
        r"gives 3 x 18 x 18 numbers for a picture of 17 x 17 .* expects 3 x 17 x 17; .*--img-size"
    )
    with pytest.raises(OptionError, match=says):
        _session("colouring", photos, preprocess={"img_size": 17})
    classes = write_pictures(tmp_path / "classes", each=2)
    with pytest.raises(OptionError, match=r"gives \d x 16 x 16 numbers .*; take a network that cl"):
        _session("colours", classes)
    classifier = open_backbone("tinynet:build")
    options = Options("tinynet:build", "colouring", data=str(photos))
    with pytest.raises(OptionError, match=r"gives 3 numbers .* expects 3 x .*; take unet, resnet-"):
        open_session(options, classifier)


def test_blocks_that_wait_for_the_tasks_stay_as_they_were_drawn(photos: Path) -> None:
    session = _session("autoencode", photos, "scratch", set={"without": "blocks"})
    before = tinydense.backbone().state()
    list(make_trainer(session).run())
    after = session.network.network.state_dict()
    same = {name.partition(".")[0] for name in before if torch.equal(before[name], after[name])}
    assert same == {"block1", "block2"}
    other = {
        name.partition(".")[0] for name in before if not torch.equal(before[name], after[name])
    }
    assert other == {"down", "up"}


def test_a_base_that_was_moved_is_one_line(photos: Path, tmp_path: Path) -> None:
    base = learn(_session("colouring", photos, "scratch"), tmp_path / "base")
    name = f"run:{base.path}"
    options = Options(name, "autoencode", data=str(photos), recipe=RECIPE)
    run = learn(open_session(options), tmp_path / "run")
    base.path.rename(tmp_path / "moved")
    pack = open_pack(run.path)
    with pytest.raises(
        BackboneError, match=r"run was made for run:.*base, which is not here .*--b"
    ):
        score_task(pack, "autoencode")
    row = score_task(pack, "autoencode", backbone=f"run:{tmp_path / 'moved'}")
    assert row["SSIM"] == run.result["test"]["SSIM"]


def test_a_last_layer_that_is_not_the_last_is_refused(photos: Path) -> None:
    options = Options("tinydense:build", "colouring", data=str(photos), task_set={"values": "ab"})
    base = tinydense.backbone()
    inside = from_module(base.module, head="block1.conv", preprocess=base.preprocess)
    with pytest.raises(OptionError, match=r"run with a last layer 'block1\.conv' of 2 outputs: .*"):
        open_session(options, inside)


class Named(nn.Module):
    """As torchvision's segmentation networks answer."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.head = nn.Conv2d(4, 3, 1)

    def forward(self, x):
        return {"out": self.head(self.conv(x))}


def test_a_network_that_gives_no_tensor_is_refused(photos: Path) -> None:
    base = from_module(Named(), head="head", preprocess=Preprocess(img_size=16))
    with pytest.raises(OptionError, match=r"custom gives a dict for a picture of 16 x 16 pixels"):
        open_session(Options("custom", "colouring", data=str(photos)), base)


def test_pictures_of_another_kind_of_task_are_refused(tmp_path: Path) -> None:
    """A folder of masks whose classes are called as those learnt."""
    for split in ("train", "test"):
        for label in "01":
            (tmp_path / "classes" / split / label).mkdir(parents=True)
            Image.new("RGB", (8, 8)).save(tmp_path / "classes" / split / label / "a.png")
            Image.new("RGB", (8, 8)).save(tmp_path / "classes" / split / label / "b.png")
        for kind in ("images", "masks"):
            (tmp_path / "maps" / split / kind).mkdir(parents=True)
            Image.new("L", (8, 8), kind == "masks").save(tmp_path / f"maps/{split}/{kind}/a.png")
    base = open_backbone("tinynet:build")
    data = str(tmp_path / "classes")
    session = open_session(Options("tinynet:build", "x", data=data, recipe={"epochs": 1}), base)
    pack = open_pack(learn(session, tmp_path / "run").path)
    with pytest.raises(DataError, match=r"maps are for segmentation, and the task learnt is class"):
        open_exam(pack, "x", str(tmp_path / "maps"))
