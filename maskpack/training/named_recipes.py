"""Ways to train masks by name: `train-mask --recipe small`. `RECIPES` is the table of contents."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from maskpack import methods
from maskpack.common.errors import OptionError, UnknownName
from maskpack.training.setup import Options


@dataclass(frozen=True)
class NamedRecipe:
    """What a recipe decides where the user does not."""

    norms: str
    recipe: Mapping[str, Any]  # fields of methods.base.Recipe
    set: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # options by method


FAST: dict[str, Any] = {
    "opt": "adam",
    "lr": 3e-4,
    "head_opt": "adam",
    "head_lr": 1e-3,
    "sched": "cosine",
}
RARE: dict[str, dict[str, Any]] = {  # options by method, for masks that cost little
    "affine": {"init": "zeros", "init_low": 5e-3, "init_high": 5e-3},
    "ksm": {"coefficients": "u8"},
}
RECIPES = {  # measured in docs/results.md
    "small": NamedRecipe(
        "scale", FAST | {"head_init": "zeros", "head_epochs": 1, "size_penalty": 0.025}, RARE
    ),
    "accurate": NamedRecipe("task", FAST | {"size_penalty": 0.008}),
}


def with_recipe(options: Options, name: str) -> Options:
    """Options with what a named recipe decides, wherever they leave it open.

    Raises:
        UnknownName: no such recipe.
        OptionError: the method masks nothing.
    """
    if name not in RECIPES:
        raise UnknownName("recipe", name, RECIPES)
    if not methods.method_class(options.method).masks:
        raise OptionError(f"--recipe {name} is for methods with masks, not {options.method}")
    choice = RECIPES[name]
    return dataclasses.replace(
        options,
        norms=options.norms or choice.norms,
        recipe={**choice.recipe, **options.recipe},
        set={**choice.set.get(options.method, {}), **options.set},
    )
