"""One task from options to result: train what was opened, keep, score."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from maskpack.backbones.widening import next_width, width_of
from maskpack.common.errors import RunError, one_line
from maskpack.evaluation.evaluate import evaluate
from maskpack.methods.base import Carried, steps_to_flip
from maskpack.methods.schedule import lr_factor
from maskpack.networks.serialize import unpack_task
from maskpack.packs import bits
from maskpack.runs.folder import Run
from maskpack.runs.open import pack_run
from maskpack.runs.sequence import save_sequence
from maskpack.tasks import answers
from maskpack.tasks.answers import Marking, write_answers
from maskpack.tasks.base import Classification
from maskpack.tasks.joint import Joint
from maskpack.tasks.splits import train_and_val
from maskpack.training.setup import Options, Session, pick_device
from maskpack.training.trainer import EpochDone, Progress, Stopped, Trainer, load_learnt

if TYPE_CHECKING:
    from maskpack.tasks.base import LabelledImages, Task

# what may differ between a run and its continuation without changing a number
FREE = ("workers", "data", "download", "device", "task_set.style", "task_set.features")


def learn(
    session: Session,
    path: Path | str,
    *,
    resume: bool = False,
    watch: Callable[[Progress | EpochDone], None] = lambda event: None,
    tick: Callable[[], None] = lambda: None,
    say: Callable[[str], None] = lambda line: None,
) -> Run:
    """Train a session into a run's folder and score its best epoch on the test split.

    `watch` sees every step and epoch, `tick` is called between steps and may raise Stopped,
    `say` takes lines worth reading. A finished run is left as it is.

    Raises:
        RunError: the folder holds an epoch already, or was started with other options.
        TrainingError: the loss is not a number.
        Stopped: what `tick` raised; the state was saved first.
    """
    run = Run(path)
    if run.begun() and not resume:
        raise RunError(f"{path} exists; --resume continues it, -o OTHER starts another run")
    with run.locked():
        options = session.resolved()
        if run.begun():
            run.check_same(options, besides=FREE)
            if run.result is not None:
                say(f"{path} is finished already")
                return run
        else:
            run.start(options)
        for _ in run.narrower():
            session = session.grown()
        trainer, is_narrow = _trained(session, run, watch, tick, say)
        while is_narrow:
            width = width_of(session.backbone.module)
            run.set_aside(width)
            session = session.grown()
            say(f"{path}: width {width:g} missed the goal; again, on {session.backbone.name}")
            trainer, is_narrow = _trained(session, run, watch, tick, say)
        if session.sequence is not None:
            best = run.load_best()
            load_learnt(trainer.network, best)
            trainer.load_kept(best)
            save_sequence(run, session.carried(trainer))
        for line in [*verdict(session, run), *trainer.keeper.verdict()]:
            say(line)
        record = trainer.keeper.record()
        kept: dict[str, Any] = {"kept": record} if record else {}
        if run.narrower():
            kept["grown"] = [*run.narrower(), width_of(session.backbone.module)]
        kept["metric"] = session.task.metric
        run.write_result({"test": score_test(session, run), "best": trainer.best, **kept})
    return run


def _trained(
    session: Session,
    run: Run,
    watch: Callable[[Progress | EpochDone], None],
    tick: Callable[[], None],
    say: Callable[[str], None],
) -> tuple[Trainer, bool]:
    """Train a session from where its run stands, and whether it asks for a wider network instead.

    It is asked only where there is one.
    """
    trainer = make_trainer(session)
    for line in advice(session, trainer):
        say(line)
    last = run.load_last()
    if last is not None:
        try:
            trainer.restore(last)
        except (LookupError, TypeError, ValueError, RuntimeError) as error:
            raise RunError(
                f"{run.path}/last.safetensors is damaged or not of this run: "
                f"{one_line(repr(error))}"
            ) from error
        say(f"continuing {run.path} at epoch {trainer.epoch + 1}, step {trainer.step + 1}")
    run.write_metrics(trainer.history)
    can_grow = next_width(session.backbone.module, session.network.method.widest()) is not None

    def is_narrow() -> bool:
        return can_grow and trainer.keeper.too_narrow(trainer.epoch, session.recipe.epochs)

    try:
        if is_narrow():
            return trainer, True
        for event in trainer.run(tick):
            if isinstance(event, EpochDone):
                # best before last: a kill between the two repeats this epoch, no more
                if event.is_best:
                    run.save_best(session.best_state(event.row, trainer.kept_tensors()))
                run.save_last(trainer.state())
                run.write_metrics(trainer.history)
                run.add_timing({"epoch": event.row["epoch"], "seconds": event.seconds})
            watch(event)
            if isinstance(event, EpochDone) and is_narrow():
                return trainer, True
    except Stopped:
        run.save_last(trainer.state())
        raise
    return trainer, False


def make_trainer(session: Session) -> Trainer:
    """The trainer of a session, at its start."""
    train, val = training_splits(session.task, session.options)
    return Trainer(
        session.network,
        session.task,
        train,
        val,
        session.recipe,
        session.preprocess,
        session.augment,
        select=session.options.select,
        seed=session.options.seed,
        workers=session.options.workers,
        device=pick_device(session.options.device),
        amp=session.options.amp,
        teacher=session.teacher,
        carried=session.sequence.carried if session.sequence else Carried(),
    )


def training_splits(task: Task, options: Options) -> tuple[LabelledImages, LabelledImages]:
    """The pictures to train on and those that choose the best epoch."""
    if options.select == "test":
        return task.dataset("train"), task.dataset("test")
    return train_and_val(task, options.val_fraction)


def score_test(session: Session, run: Run) -> dict[str, Any]:
    """Score on the test split of what will be packed, rebuilt from its bits.

    In float32 even under amp, as `eval` will score it. Of a classification the run keeps what was
    answered to each picture.
    """
    task = session.task
    if "test" not in task.splits():
        return {}
    marking = Marking(task.found) if isinstance(task, Classification) else None
    network = unpack_task(pack_run(run).task(), session.backbone)
    score = evaluate(
        network,
        task,
        task.dataset("test"),
        session.preprocess,
        session.augment,
        workers=session.options.workers,
        device=pick_device(session.options.device),
        watch=marking,
    )
    if marking is not None:
        name = session.options.name or session.options.task
        found = marking.answers()
        by_task = task.apart(found) if isinstance(task, Joint) else {name: found}
        write_answers(run.path / answers.FILE, by_task)
    return score.record()


def advice(session: Session, trainer: Trainer) -> list[str]:
    """Weights without a mask; how many steps a bit needs to flip, with a warning if too many."""
    network, recipe = session.network, session.recipe
    method = network.method
    lines = []
    if network.left_out:
        count = len(network.left_out) + len(network.layers)
        lines = [
            f"{method.name} leaves {len(network.left_out)} of {count} weights the backbone's: "
            f"{_some(list(network.left_out))}"
        ]
    if not network.layers or recipe.opt not in ("adam", "adamw"):
        return lines  # only Adam moves a score by about lr a step, whatever its gradient
    distance = min(method.distance_to_flip(network.layer_params(name)) for name in network.layers)
    if not math.isfinite(distance) or recipe.lr <= 0:
        return lines
    needed = steps_to_flip(distance, recipe.lr)
    flipping = range(recipe.head_epochs, recipe.epochs - recipe.freeze_epochs)
    planned = trainer.steps * len(flipping)
    lines.append(f"a mask bit can flip after about {needed} optimiser steps; {planned} are planned")
    reach = sum(lr_factor(recipe, epoch + 0.5) for epoch in flipping)
    if planned < needed or reach * trainer.steps * recipe.lr <= distance:
        lines.append(
            "warning: with this schedule no bit can flip; train longer or raise --lr "
            f"(the nearest score is {distance:.3g} from its threshold, lr is {recipe.lr:g})"
        )
    return lines


def verdict(session: Session, run: Run) -> list[str]:
    """Layers whose best mask says nothing: all ones or all zeros."""
    task = pack_run(run).task()
    if "mask" not in task.streams:
        return []
    full: list[str] = []
    empty: list[str] = []
    for name, shape, values in task.rows("mask"):
        ones = bits.count_ones(values)
        if ones == math.prod(shape):
            full.append(name)
        elif ones == 0:
            empty.append(name)
    total = len(task.streams["mask"].table)
    return [
        f"warning: the mask is all {what} in {len(names)} of {total} layers: {_some(names)}"
        for names, what in ((full, "ones"), (empty, "zeros"))
        if names
    ]


def _some(names: list[str]) -> str:
    shown = ", ".join(names[:5])
    return shown if len(names) <= 5 else f"{shown} and {len(names) - 5} more"
