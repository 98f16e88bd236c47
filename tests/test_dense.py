"""Image-to-image tasks from options to score, on a network of four layers."""

from __future__ import annotations

from pathlib import Path

import pytest
import tinydense

from maskpack.errors import OptionError, UnknownName
from maskpack.learn import Options, learn, open_session
from maskpack.resolve import open_pack
from maskpack.score import Bases, score_task
from maskpack.tasks import described_task, open_task

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
