"""`pack --head-dtype`, `--budget` and the like: their options, and tasks made smaller by them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from maskpack.cli.app import stderr, verbosity
from maskpack.common.errors import OptionError, UnknownName

if TYPE_CHECKING:
    from maskpack.packing.smaller.choose import Choice
    from maskpack.packs.contents import Pack

PANEL = "Fewer bytes, at some loss"
DTYPES = ("head_dtype", "norm_dtype", "coefficient_dtype", "weight_dtype")


def _option(help: str, metavar: str = "KIND") -> Any:
    return typer.Option(help=help, metavar=metavar, rich_help_panel=PANEL)


HeadDtype = Annotated[
    str,
    _option(
        "fp32, fp16, int8, int4, int3 or int2; or rank8: two factors of that rank in int8, "
        "rank8-int4 in int4."
    ),
]
NormDtype = Annotated[str, _option("fp32, fp16, or int8 to int2: the change to the backbone's.")]
CoefficientDtype = Annotated[str, _option("fp32, fp16, uint8 or uint4: of KSM and affine.")]
WeightDtype = Annotated[str, _option("As --norm-dtype, of whole weights (fine-tune, scratch).")]
Budget = Annotated[
    str | None,
    _option(
        "The file is at most so large (500KB, 1.5MB, 38KiB): of these kinds, what is most "
        "accurate on the validation split.",
        "SIZE",
    ),
]
MaxDrop = Annotated[
    float | None,
    _option(
        "As small as it gets while each task loses at most so many points (percent) of its metric "
        "on the validation split.",
        "POINTS",
    ),
]


def asked(given: dict[str, Any]) -> bool:
    """Whether the command's options ask for anything lossy."""
    limits = given["budget"] is not None or given["max_drop"] is not None
    return limits or any(given[key] != "fp32" for key in DTYPES)


def made_smaller(
    given: dict[str, Any], packs: list[Pack], beside: Pack | None
) -> tuple[list[Pack], list[Choice]]:
    """The packs with their tasks stored as the command's options ask, and what was chosen of what.

    The file will hold the tasks of `beside` too, as they are.
    """
    from maskpack.cli.progress import Measuring
    from maskpack.evaluation.task_row import Bases
    from maskpack.packing.smaller.choose import choose
    from maskpack.packing.smaller.kinds import Storage
    from maskpack.packing.smaller.limits import Limits, parse_size
    from maskpack.packing.smaller.rescore import stored_and_scored
    from maskpack.training.setup import pick_device

    try:
        storage = Storage(*(given[key] for key in DTYPES))
        budget = None if given["budget"] is None else parse_size(given["budget"])
        limits = Limits(budget, given["max_drop"])
    except OptionError as error:
        raise typer.BadParameter(str(error)) from error
    bases = Bases(given["backbone"], given["weights"], given["trust_code"])
    device = pick_device(given["device"])
    data = _data([name for pack in packs for name in pack.tasks], given["data"] or [])
    choices: list[Choice] = []
    with Measuring(stderr(), verbosity["quiet"]) as watch:
        if not limits:
            done = [
                stored_and_scored(pack, storage, bases, data=data, device=device, say=watch.say)
                for pack in packs
            ]
            return done, []
        done = choose(
            packs,
            storage,
            limits,
            bases,
            beside=beside,
            data=data,
            device=device,
            watch=watch,
            show=choices.append,
            say=watch.say,
        )
    return done, choices


def show_tables(choices: list[Choice]) -> None:
    """What was measured of every task, on stderr."""
    from maskpack.reports.tables import draw_rows

    for choice in choices:
        draw_rows(f"{choice.name}: ways to store it", choice.table())


def _data(tasks: list[str], given: list[str]) -> dict[str, str]:
    """Folders of pictures by task name."""
    pairs = [text.partition("=") for text in given]
    for name, equals, _ in pairs:
        if equals and name not in tasks:
            raise UnknownName("task of --data", name, tasks)
    everywhere = {task: text for text, equals, _ in pairs if not equals for task in tasks}
    return everywhere | {name: folder for name, equals, folder in pairs if equals}
