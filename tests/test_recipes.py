"""Named recipes: what they decide, and that the user's own word comes first."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from tinynet import TinyNet, write_pictures

import maskpack
from maskpack import methods
from maskpack.backbones import from_module
from maskpack.common.errors import OptionError, UnknownName
from maskpack.methods.base import Recipe
from maskpack.networks.masked import NORM_MODES
from maskpack.training.named_recipes import RECIPES, with_recipe
from maskpack.training.setup import Options, check_recipe


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize("method", ["piggyback", "ksm", "affine"])
def test_what_a_recipe_says_fits_the_method(name: str, method: str) -> None:
    options = with_recipe(Options("resnet50", "birds", method), name)
    made = methods.make(method, options.set)
    check_recipe(dataclasses.replace(made.recipe, **options.recipe))
    assert options.norms in NORM_MODES
    assert options.recipe["size_penalty"] > 0


def test_the_small_recipe_pays_more_for_size() -> None:
    small, accurate = (RECIPES[name].recipe["size_penalty"] for name in ("small", "accurate"))
    assert small > accurate > Recipe().size_penalty == 0, "and unasked there is no penalty"


def test_what_is_given_comes_first() -> None:
    given = Options(
        "resnet50",
        "birds",
        "affine",
        norms="task",
        recipe={"lr": 1e-5, "epochs": 3},
        set={"init_high": "1e-2"},
    )
    options = with_recipe(given, "small")
    assert options.norms == "task"
    assert options.recipe["lr"] == 1e-5
    assert options.recipe["epochs"] == 3
    assert options.set["init_high"] == "1e-2"
    assert options.set["init"] == "zeros", "the rest is the recipe's"


def test_an_unknown_recipe_lists_the_known() -> None:
    with pytest.raises(UnknownName, match=r"recipe 'smal'; did you mean 'small'\?; known: "):
        with_recipe(Options("resnet50", "birds"), "smal")


def test_a_method_without_masks_has_no_recipe_for_them() -> None:
    with pytest.raises(OptionError, match="--recipe small is for methods with masks, not fine-tun"):
        with_recipe(Options("resnet50", "birds", "fine-tune"), "small")


def test_fit_takes_a_recipe_by_name(tmp_path: Path) -> None:
    write_pictures(tmp_path / "pictures")
    run = maskpack.fit(
        from_module(TinyNet(), name="tiny"),
        "image-folder",
        output=tmp_path / "run",
        data=str(tmp_path / "pictures"),
        preprocess={"img_size": 16},
        recipe={"epochs": 1},
        recipe_name="small",
    )
    assert run.options["recipe"]["size_penalty"] == RECIPES["small"].recipe["size_penalty"]
    assert run.options["norms"] == "scale"
