"""A teacher is a finished network of the same task, and what does not fit is said in a line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tinynet import write_pictures

import maskpack
from maskpack.common.errors import MaskpackError, OptionError
from maskpack.runs.folder import Run
from maskpack.runs.open import open_pack


def fit(folder: Path, name: str, pictures: str = "pictures", **more: Any) -> Run:
    recipe = {"epochs": 1, "opt": "adam", "lr": 1e-2} | more.pop("recipe", {})
    options = {"preprocess": {"img_size": 16}} | more
    return maskpack.fit(
        "tinynet:build",
        "image-folder",
        output=folder / name,
        data=str(folder / pictures),
        recipe=recipe,
        **options,
    )


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("place")
    write_pictures(folder / "pictures")
    write_pictures(folder / "others", classes=("bright", "dark"))
    fit(folder, "teacher", method="fine-tune")
    return folder


def learnt(run: Run) -> dict[str, Any]:
    return open_pack(run.path).task().arrays("head")


def test_a_taught_run_learns_otherwise_and_says_by_whom(place: Path) -> None:
    taught, alone = (
        fit(place, name, recipe={"lr": 1e-2}, **more)
        for name, more in (("taught", {"teacher": str(place / "teacher")}), ("alone", {}))
    )
    differ = [name for name, a in learnt(taught).items() if (a != learnt(alone)[name]).any()]
    assert differ, "the same seed, pictures and steps: only the teacher can have made a difference"
    info = open_pack(taught.path).task().info
    assert info["teacher"] == str(place / "teacher")
    assert "teacher" not in open_pack(alone.path).task().info


def test_a_teacher_of_other_classes_is_refused(place: Path) -> None:
    with pytest.raises(
        OptionError, match=r"learnt other classes .*; give a run or pack of the same"
    ):
        fit(place, "no", "others", teacher=str(place / "teacher"))
    assert not (place / "no").exists()


def test_a_teacher_of_other_pictures_is_refused(place: Path) -> None:
    preprocess = {"img_size": 16, "mean": (0.1, 0.2, 0.3)}
    with pytest.raises(OptionError, match=r"its pictures' mean is .*; train with its --mean"):
        fit(place, "no", teacher=str(place / "teacher"), preprocess=preprocess)


def test_a_teacher_that_is_not_there_is_refused(place: Path) -> None:
    with pytest.raises(MaskpackError, match="no such file; expected a pack or a run's folder"):
        fit(place, "no", teacher=str(place / "nobody"))


def test_only_classification_has_a_teacher(place: Path) -> None:
    with pytest.raises(OptionError, match="--teacher is for classification, not for autoencode"):
        maskpack.fit(
            "tinynet:build",
            "autoencode",
            output=place / "no",
            data=str(place / "pictures"),
            teacher=str(place / "teacher"),
            head="pointwise",
        )
