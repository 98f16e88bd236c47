"""The options of a run, and what they open: everything that training needs, checked."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from maskpack import methods
from maskpack.backbones import RUN_PREFIX
from maskpack.common.errors import OptionError, RunError
from maskpack.common.options import as_json, replaced
from maskpack.common.preprocess import Augment, Preprocess
from maskpack.methods.base import Earlier, Recipe
from maskpack.methods.schedule import SCHEDULES
from maskpack.networks.build import HEAD_INITS, check_output, task_network
from maskpack.networks.masked import LEARNT
from maskpack.networks.serialize import info_of
from maskpack.packs import file as packfile
from maskpack.runs.folder import Run, State
from maskpack.runs.open import open_backbone
from maskpack.runs.sequence import Sequence, begun, keeps, start_of
from maskpack.tasks import open_task
from maskpack.tasks.joint import Joint
from maskpack.tasks.splits import VAL_FRACTION
from maskpack.training.critic import SMALLEST
from maskpack.training.teacher import open_teacher
from maskpack.training.trainer import OPTIMIZERS, SELECTIONS, Trainer, learnt_tensors
from maskpack.training.wider import grown

if TYPE_CHECKING:
    from maskpack.backbones.base import Backbone
    from maskpack.networks.masked import MaskedNetwork
    from maskpack.tasks.base import Task


@dataclass(frozen=True)
class Options:
    """Everything that decides a run. None means: what the method's paper, or the task, does."""

    backbone: str
    task: str
    method: str = "piggyback"
    set: Mapping[str, Any] = field(default_factory=dict)
    name: str | None = None
    weights: str | None = None
    head: str | None = None
    data: str | None = None
    download: bool = False
    task_set: Mapping[str, Any] = field(default_factory=dict)  # options of the task
    norms: str | None = None
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    recipe: Mapping[str, Any] = field(default_factory=dict)  # fields of Recipe
    preprocess: Mapping[str, Any] = field(default_factory=dict)  # fields of Preprocess
    augment: Mapping[str, Any] = field(default_factory=dict)  # fields of Augment
    teacher: str | None = None  # a run or pack of the same task
    no_aug: bool = False
    select: str = "val"
    val_fraction: float = VAL_FRACTION
    seed: int = 0
    amp: bool = False
    workers: int = 0
    device: str = "auto"

    @classmethod
    def of_run(cls, run: Run) -> Options:
        """What a run was started with.

        Raises:
            RunError: the folder is not a run, or its options.json is damaged.
        """
        kept = run.options
        try:
            values = {field.name: kept[field.name] for field in dataclasses.fields(cls)}
            patterns = {key: tuple(values[key]) for key in ("include", "exclude")}
            return cls(**values | patterns)
        except (KeyError, TypeError) as error:
            raise RunError(f"{run.path}/options.json is damaged: {error!r}") from error


@dataclass(frozen=True)
class Session:
    """Options opened: everything `learn` needs, and nothing trained yet."""

    options: Options
    backbone: Backbone
    task: Task
    network: MaskedNetwork
    recipe: Recipe
    preprocess: Preprocess
    augment: Augment
    teacher: nn.Module | None = None
    sequence: Sequence | None = None  # the tasks to keep, where the method keeps any

    def resolved(self) -> dict[str, Any]:
        """Every option with its value, as options.json keeps them."""
        values = dataclasses.asdict(self.options)
        values["name"] = self.options.name or self.options.task
        values["backbone"] = self.backbone.name
        values["fingerprint"] = self.backbone.fingerprint
        values["task_set"] = self.task.describe().get("options", {})
        values["set"] = methods.options_of(self.network.method)
        values["norms"] = self.network.norms
        values["recipe"] = dataclasses.asdict(self.recipe)
        values["preprocess"] = dataclasses.asdict(self.preprocess)
        values["augment"] = dataclasses.asdict(self.augment)
        return as_json(values)

    def info(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """What a pack's header says of how the task was learnt."""
        options = self.options
        return as_json(
            {
                "task": self.task.describe(),
                "data": options.data,
                "preprocess": dataclasses.asdict(self.preprocess),
                "augment": dataclasses.asdict(self.augment),
                "recipe": dataclasses.asdict(self.recipe),
                "select": options.select,
                "val_fraction": options.val_fraction,
                "seed": options.seed,
                **({"teacher": options.teacher} if options.teacher else {}),
                "best": {
                    key: value
                    for key, value in row.items()
                    if key == "epoch" or key.startswith("val_")
                },
            }
        )

    def best_state(self, row: Mapping[str, Any], kept: Mapping[str, Tensor]) -> State:
        """What best.safetensors keeps: enough to pack without the backbone, and the keeper's."""
        meta = {
            "name": self.options.name or self.options.task,
            "method": self.options.method,
            "options": methods.options_of(self.network.method),
            "norms": self.network.norms,
            "layers": list(self.network.layers),
            "backbone": vars(info_of(self.backbone)),
            "info": self.info(row),
        }
        return State({**learnt_tensors(self.network), **kept}, as_json(meta))

    def grown(self) -> Session:
        """The same on the next wider network; `maskpack.training.wider` says what of it is new."""
        assert self.sequence is not None
        network, seed = self.network, self.options.seed
        wide, sequence = grown(self.backbone, network.method, self.sequence, seed)
        again = task_network(
            dataclasses.replace(wide, preprocess=self.preprocess),
            network.method,
            self.task.outputs(),
            norms=network.norms,
            include=self.options.include,
            exclude=self.options.exclude,
            head_init=self.recipe.head_init,
            seed=seed,
        )
        return dataclasses.replace(self, backbone=wide, network=again, sequence=sequence)

    def carried(self, trainer: Trainer) -> Sequence:
        """What the next task of a sequence starts from; the best epoch's state is in place."""
        assert self.sequence is not None
        own = self.network.own_tensors()
        prefix = f"{self.backbone.head}."
        head = {name.removeprefix(prefix): tensor for name, tensor in own["head"].items()}
        learnt = LEARNT[self.network.norms]
        norms = {n: t for n, t in own.get("norms", {}).items() if n.rpartition(".")[2] in learnt}
        info = self.info(trainer.best or {})
        about = {"norms": self.network.norms, "info": info}
        if isinstance(self.task, Joint):
            tasks = []
            for place, part in enumerate(self.task.parts):
                rows = self.task.rows_of(place)
                of_part = {"augment": vars(part.augment), "data": part.data}
                told = as_json({**info, **of_part, "task": part.task.describe()})
                entry = {**about, "name": part.name, "info": told}
                heads = {name: tensor[rows] for name, tensor in head.items()}
                tasks.append((entry, Earlier(part.name, heads)))  # one set of norms for all
        else:
            name = self.options.name or self.options.task
            tasks = [({**about, "name": name}, Earlier(name, head, norms))]
        tensors = trainer.keeper.carry(trainer.pictures, self.task.loss)
        return self.sequence.after(tasks, trainer.keeper.heads(), tensors)


def open_session(
    options: Options,
    backbone: Backbone | None = None,
    task: Task | None = None,
    start: Run | None = None,
) -> Session:
    """Open what the options name and check that they fit together; take what is open already.

    `start` is the run whose network the backbone is, if its name does not say where that lies.

    Raises:
        MaskpackError: a name, a value or a file is wrong; nothing has been written.
    """
    check_options(options)
    method = methods.make(options.method, options.set)
    recipe = replaced(method.recipe, options.recipe, "training option")
    check_recipe(recipe)
    if task is None:
        task = open_task(options.task, options.data, options.download, options.task_set)
    method.check(recipe, task.metric)
    if backbone is None:
        weights = options.weights
        if options.method == "scratch" and not options.backbone.startswith(RUN_PREFIX):
            weights = weights or "none"
        backbone = open_backbone(
            options.backbone, weights=weights, seed=options.seed, head=options.head
        )
    wanted = {**task.preprocess, **options.preprocess}
    preprocess = replaced(backbone.preprocess, wanted, "preprocessing option")
    if preprocess.img_size < 8:
        raise OptionError(f"--img-size {preprocess.img_size}: expected at least 8")
    if task.adversarial and preprocess.img_size < SMALLEST:
        raise OptionError(
            f"--img-size {preprocess.img_size}: a critic needs {SMALLEST} pixels or more; take "
            "another loss, or larger pictures"
        )
    augment = chosen_augment(options, task)
    network = task_network(
        dataclasses.replace(backbone, preprocess=preprocess),
        method,
        task.outputs(),
        norms=options.norms,
        include=options.include,
        exclude=options.exclude,
        head_init=recipe.head_init,
        seed=options.seed,
    )
    sequence = None
    if keeps(method) and isinstance(task, Joint):
        raise OptionError(f"{options.method} learns task after task; joint training is for others")
    if keeps(method) or isinstance(task, Joint):
        of = ""
        if start is None and backbone.name.startswith(RUN_PREFIX):
            path, _, of = backbone.name.removeprefix(RUN_PREFIX).partition("#")
            start = Run(path)
        before = start_of(start, method, options.name or options.task, of)
        sequence = before or begun(method, info_of(backbone))
    teacher = open_teacher(options.teacher, task, preprocess) if options.teacher else None
    check_output(network, task, backbone, preprocess.img_size)
    return Session(options, backbone, task, network, recipe, preprocess, augment, teacher, sequence)


def chosen_augment(options: Options, task: Task) -> Augment:
    """How training pictures are changed: as suits the task, or as the options say.

    Raises:
        MaskpackError: no such option, or a value that does not fit.
    """
    augment = replaced(task.augment, options.augment, "augmentation option")
    return Augment("resize", hflip=0.0) if options.no_aug else augment


def pick_device(name: str) -> torch.device:
    """auto, cpu, cuda, cuda:1, mps -> a device that is there.

    Raises:
        OptionError: it is not there.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise OptionError(f"--device {name!r}: expected auto, cpu, cuda or mps") from None
    there = {
        "cpu": True,
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
    }
    if not there.get(device.type, False):
        found = ", ".join(kind for kind, present in there.items() if present)
        raise OptionError(f"--device {name!r} is not on this machine; found: {found}")
    return device


def check_options(options: Options) -> None:
    """Raise for a value no run can have, before anything is opened or trained."""
    packfile.check_task_name(options.name or options.task)
    pick_device(options.device)
    if options.select not in SELECTIONS:
        raise OptionError(f"--select {options.select!r}: expected one of {', '.join(SELECTIONS)}")
    if not 0 <= options.seed < 1 << 63:
        raise OptionError(f"--seed {options.seed}: expected 0 to 2**63 - 1")
    if options.workers < 0:
        raise OptionError(f"--workers {options.workers}: expected 0 or more")
    if not 0 < options.val_fraction < 1:
        raise OptionError(f"--val-fraction {options.val_fraction}: expected a share of 1")


def check_recipe(recipe: Recipe) -> None:
    """Raise OptionError for a value no training can have."""
    for name in ("epochs", "batch_size", "decay_epochs"):
        if getattr(recipe, name) < 1:
            option = name.replace("_", "-")
            raise OptionError(f"--{option} {getattr(recipe, name)}: expected 1 or more")
    if any(type(epoch) is not int or epoch < 1 for epoch in recipe.decay_milestones):
        found = ",".join(map(str, recipe.decay_milestones))
        raise OptionError(f"--decay-milestones {found}: expected epochs, such as 50,80")
    if (recipe.sched == "multistep") != bool(recipe.decay_milestones):
        raise OptionError("--sched multistep and --decay-milestones go together; give both")
    if "nesterov" in (recipe.opt, recipe.head_opt) and not recipe.momentum:
        raise OptionError("--opt nesterov needs --momentum above 0")
    rates = ("lr", "head_lr", "momentum", "weight_decay", "warmup_epochs", "min_lr")
    if not 0 <= recipe.distill <= 1:
        raise OptionError(f"--distill {recipe.distill}: expected a share of the loss, 0 to 1")
    if not recipe.temperature > 0:
        raise OptionError(f"--temperature {recipe.temperature}: expected a number above 0")
    for name in (*rates, "size_penalty", "head_epochs", "freeze_epochs"):
        value = getattr(recipe, name)
        if value is not None and not (math.isfinite(value) and value >= 0):
            option = name.replace("_", "-")
            raise OptionError(f"--{option} {value}: expected 0 or more")
    for opt in (recipe.opt, recipe.head_opt):
        if opt is not None and opt not in OPTIMIZERS:
            raise OptionError(f"--opt {opt!r}: expected one of {', '.join(OPTIMIZERS)}")
    if recipe.head_init not in HEAD_INITS:
        raise OptionError(
            f"--head-init {recipe.head_init!r}: expected one of {', '.join(HEAD_INITS)}"
        )
    if recipe.sched not in SCHEDULES:
        raise OptionError(f"--sched {recipe.sched!r}: expected one of {', '.join(SCHEDULES)}")
