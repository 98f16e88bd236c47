"""What the networks of finished cells answer to each test picture: read, or asked again."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from maskpack.common.preprocess import Augment, Preprocess
from maskpack.evaluation.evaluate import Score, evaluate
from maskpack.networks.serialize import unpack_task
from maskpack.packs.contents import PackedTask
from maskpack.runs.folder import Run
from maskpack.runs.open import pack_run
from maskpack.suites.definition import ALL
from maskpack.suites.open import Opener
from maskpack.suites.plan import Cell
from maskpack.tasks.answers import FILE, Marking, read_answers, write_answers
from maskpack.tasks.base import Classification
from maskpack.tasks.joint import Joint
from maskpack.training.setup import pick_device


def has_answers(opener: Opener, cell: Cell, of: Cell) -> bool:
    """Whether what the network of a cell answers to the task of another is kept, or need not be."""
    if "accuracy" not in (opener.folder.result(of) or {}):
        return True  # no classification
    kept = read_answers(opener.folder.run(cell) / FILE)
    return bool(kept) if of.task == ALL else of.task in kept


def answer(opener: Opener, cell: Cell, tick: Callable[[], None]) -> None:
    """Keep the answers of a cell that was trained when runs did not keep any."""
    packed = pack_run(Run(opener.folder.run(cell))).task()
    score_again(opener, cell, packed, unpack_task(packed, opener.under(cell)), cell, tick)


def score_again(
    opener: Opener,
    cell: Cell,
    packed: PackedTask,
    network: nn.Module,
    keeping: Cell | None,
    tick: Callable[[], None],
) -> Score:
    """Score a network on the test split of a cell's task, as `packed` says pictures go in.

    What it answers is kept in the folder of `keeping`, whose network it is.
    """
    task = opener.task(cell)
    marking = Marking(task.found) if isinstance(task, Classification) else None
    score = evaluate(
        network,
        task,
        task.dataset("test"),
        Preprocess(**packed.info["preprocess"]),
        Augment(**packed.info["augment"]),
        workers=opener.workers,
        device=pick_device(opener.device),
        tick=tick,
        watch=marking,
    )
    if marking is not None and keeping is not None:
        path = opener.folder.run(keeping) / FILE
        found = marking.answers()
        new = task.apart(found) if isinstance(task, Joint) else {cell.task: found}
        write_answers(path, read_answers(path) | new)
    return score
