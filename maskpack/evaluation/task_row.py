"""Score one task of a pack from its bits: what `eval` does."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from maskpack import backbones
from maskpack.common.errors import DataError, OptionError, PackFormatError, one_line
from maskpack.common.preprocess import Augment, Preprocess
from maskpack.evaluation.evaluate import Score, evaluate
from maskpack.evaluation.examples import examples
from maskpack.networks.serialize import unpack_task
from maskpack.packs.contents import OWN, Pack, PackedTask
from maskpack.reports.describe import wilson
from maskpack.reports.paper_sizes import ALL, find_scope, separate_bytes, shown_parts
from maskpack.reports.strips import Maker, make_folder, write_strips
from maskpack.reports.summary import original_name
from maskpack.runs.open import check_base, open_base
from maskpack.tasks import Dense, open_task
from maskpack.tasks.base import Classification, LabelledImages, Task
from maskpack.tasks.splits import VAL_FRACTION, train_and_val

if TYPE_CHECKING:
    from torch import nn

    from maskpack.backbones.base import Backbone

IMAGES = 16  # pictures of a task that are saved where nothing else is said


@dataclass
class Bases:
    """Backbones by name and fingerprint, each opened once for all the tasks that share it.

    `backbone`, `weights` and `trust_code` are as in `runs.open.open_base`.
    """

    backbone: str | None = None
    weights: str | None = None
    trust_code: bool = False
    _opened: dict[tuple[object, ...], Backbone] = field(default_factory=dict, repr=False)
    _given: dict[str, Backbone] = field(default_factory=dict, repr=False)

    def give(self, backbone: Backbone) -> None:
        """Use an opened backbone for every pack that was made for its weights."""
        self._given[backbone.fingerprint] = backbone

    def open(self, pack: Pack, task: PackedTask) -> Backbone:
        """The backbone of a task, checked against its pack.

        Raises:
            BackboneError: it cannot be had or is another one.
        """
        if (given := self._given.get(pack.backbone.fingerprint)) is not None:
            check_base(pack, task, given, trust_code=self.trust_code)
            return given
        name = self.backbone or pack.backbone.name
        key = (name, pack.backbone.fingerprint, pack.backbone.head, self._trusts(pack, name))
        if key in self._opened:
            check_base(pack, task, self._opened[key], trust_code=self.trust_code)
        else:
            self._opened[key] = open_base(
                pack,
                task,
                backbone=self.backbone,
                weights=self.weights,
                trust_code=self.trust_code,
            )
        return self._opened[key]

    def _trusts(self, pack: Pack, name: str) -> bool:
        # a run of the user's may open code, which is not to be lent to a pack that names the same
        harmless = not backbones.names_code(name) and not name.startswith(backbones.RUN_PREFIX)
        named = self.backbone is not None or self.trust_code
        return harmless or named or (pack.path is not None and Path(pack.path).is_dir())


@dataclass(frozen=True)
class Exam:
    """A task's pictures and how they go in, as its pack says."""

    task: Task
    preprocess: Preprocess
    augment: Augment
    val_fraction: float
    recorded: Any  # the test score that the pack tells, if it does

    def pictures(self, split: str) -> LabelledImages:
        """Of train, val or test; without a val split of its own, those that training held out."""
        if split == "val":
            return train_and_val(self.task, self.val_fraction)[1]
        return self.task.dataset(split)


def open_exam(
    pack: Pack, name: str, data: str | None = None, task_set: Mapping[str, Any] | None = None
) -> Exam:
    """What a task is scored on. `data` is where its pictures are now.

    `task_set` goes before the options the task was learnt with (where a file is now, mostly).

    Raises:
        OptionError: the task does not say what it was taught.
        PackFormatError: or not well enough.
        DataError: the pictures are missing, or have other classes than the task was learnt on.
    """
    packed = pack.task(name)
    says_its_task(pack, packed)
    try:
        about = dict(packed.info["task"])
        preprocess = Preprocess(**packed.info["preprocess"])
        augment = Augment(**packed.info["augment"])
        original = about["name"]
        recorded = packed.info.get("test", {}).get(about["metric"])
        folder = data if data is not None else packed.info.get("data")
        if not isinstance(original, str) or not isinstance(folder, str | None):
            raise TypeError("the task's name or its folder is no text")
        options = {**about.get("options", {}), **(task_set or {})}
        fraction = packed.info.get("val_fraction", VAL_FRACTION)
        if type(fraction) not in (int, float) or not 0 < fraction < 1:
            raise TypeError(f"val_fraction is {fraction!r}")
    except (KeyError, TypeError, AttributeError, OptionError) as error:
        raise PackFormatError(
            f"{pack.path}: {name}: the header does not say how to score it "
            f"({one_line(repr(error))})"
        ) from error
    task = open_task(original, folder, options=options)
    found = task.describe()
    kinds = [one.get("kind", "classification") for one in (found, about)]
    if kinds[0] != kinds[1]:
        raise DataError(
            f"{name}: the pictures of {folder or original} are for {kinds[0]}, and the task learnt "
            f"is {kinds[1]}; give the right folder with --data TASK=DIR"
        )
    if found.get("classes") != about.get("classes"):
        raise DataError(
            f"{name}: the pictures of {folder or original} have other classes than the task was "
            "learnt on; give the right folder with --data TASK=DIR"
        )
    return Exam(task, preprocess, augment, float(fraction), recorded)


def options_learnt(packed: PackedTask) -> Mapping[str, Any]:
    """The options that a task was learnt with, as its header has them; classification has none."""
    about = packed.info.get("task")
    options = about.get("options") if isinstance(about, Mapping) else None
    return options if isinstance(options, Mapping) else {}


def says_its_task(pack: Pack, packed: PackedTask) -> None:
    """Raise OptionError for a task whose header does not say what it was taught."""
    if "task" not in packed.info:
        raise OptionError(
            f"{pack.path}: {packed.name} does not say what it was taught, so it cannot be scored; "
            "pack its checkpoint again with --task NAME, and --data DIR for a folder of pictures"
        )


def score_task(
    pack: Pack,
    name: str,
    *,
    split: str = "test",
    data: str | None = None,
    backbone: str | None = None,
    weights: str | None = None,
    trust_code: bool = False,
    batch_size: int = 64,
    workers: int = 0,
    device: torch.device | str = "cpu",
    bases: Bases | None = None,
    scope: str = ALL,
    task_set: Mapping[str, Any] | None = None,
    save_images: str | Path | None = None,
    images_count: int = IMAGES,
    say: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """A row: task, method, metric and its value, bytes by part, bits a masked weight, ratio.

    `low` and `high` are the 95 % interval of a metric that is a share of the samples, else None.
    `bytes` has this task's share of the file's header; `ratio` is how often that fits a
    fine-tuned copy in float32. With another `scope` bytes are counted as that paper does
    (`maskpack.reports.paper_sizes`), and a part that it leaves out is None. `bases` keeps
    backbones open from one call to the next, and then says instead of `backbone`, `weights`
    and `trust_code` how they are opened.

    With `save_images` the first `images_count` pictures are written into that folder as strips of
    input, output and target (`maskpack.reports.strips`); `say` takes a line on where, or why there
    are none.

    Raises:
        UnknownName: no such task or scope.
        BackboneError: the backbone cannot be had or is another one.
        DataError: the pictures are missing, or have other classes than the task was learnt on.
        MaskpackError: a strip cannot be written.
    """
    packed = pack.task(name)
    find_scope(scope)
    if save_images is not None:
        if images_count < 1:
            raise OptionError(f"--images-count {images_count}: expected 1 or more")
        make_folder(Path(save_images))  # before the work, which may take long
    says_its_task(pack, packed)
    base = (bases or Bases(backbone, weights, trust_code)).open(pack, packed)
    exam = open_exam(pack, name, data, task_set)
    task = exam.task
    network = unpack_task(packed, base)
    score = evaluate(
        network,
        task,
        exam.pictures(split),
        exam.preprocess,
        exam.augment,
        batch_size=batch_size,
        workers=workers,
        device=device,
    )
    if save_images is not None:
        maker = _maker(pack, packed, split, exam, score)
        say(_saved(Path(save_images), maker, exam, network, images_count, device))
    parts = shown_parts(pack, name, scope)
    total = sum(size for size in parts.values() if size is not None)
    whole = separate_bytes(pack, packed, scope)
    share = isinstance(task, Classification)
    low, high = wilson(round(score.value * score.count), score.count) if share else (None, None)
    weights_masked = masked_weights(packed, base)
    mask_bits = 8 * ((parts["masks"] or 0) + (parts["coefficients"] or 0))
    return {
        "task": name,
        "method": packed.method,
        "norms mode": packed.norms,
        "split": split,
        **score.values,
        "low": low,
        "high": high,
        "recorded": exam.recorded if split == "test" else None,
        "count": score.count,
        "bytes": total,
        "MB": total / 1e6,
        "MiB": total / 2**20,
        "bits per weight": mask_bits / weights_masked if weights_masked else None,
        "ratio": whole / total if total else None,
        "of fine-tuned": total / max(whole, 1),
        **parts,
    }


def _maker(pack: Pack, packed: PackedTask, split: str, exam: Exam, score: Score) -> Maker:
    return Maker(
        packed.name,
        original_name(packed),
        packed.method,
        packed.norms,
        "" if pack.path is None else str(pack.path),
        split,
        next(iter(score.values)),
        score.value,
        exam.task.lower_is_better,
    )


def _saved(
    root: Path,
    maker: Maker,
    exam: Exam,
    network: nn.Module,
    count: int,
    device: torch.device | str,
) -> str:
    """Write a task's first pictures as strips; returns a line that says so."""
    if not isinstance(exam.task, Dense):
        return f"{maker.task}: no pictures to write, as it makes none"
    shown = examples(
        network,
        exam.task,
        exam.pictures(maker.split),
        exam.preprocess,
        exam.augment,
        count=count,
        device=device,
    )
    folder, written = write_strips(root, maker, shown)
    return f"{maker.task}: {written} pictures in {folder}"


def masked_weights(task: PackedTask, base: Backbone) -> int:
    """Weights of the network that a task's masks act on; a kernel's one bit counts for each."""
    streams = (stream for key, stream in task.streams.items() if key not in OWN)
    names = {name for stream in streams for name, _ in stream.table}
    state = base.state()
    return sum(state[name].numel() for name in names)
