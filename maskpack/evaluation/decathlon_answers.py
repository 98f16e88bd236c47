"""Tasks of the Visual Decathlon -> the file that its server scores, and points where labels are."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from maskpack.common.errors import DataError, OptionError, PackFormatError, one_line
from maskpack.common.files import write_text
from maskpack.common.preprocess import Augment, Preprocess
from maskpack.datasets.decathlon import TASKS, decathlon_points, decathlon_score
from maskpack.evaluation.evaluate import evaluate
from maskpack.evaluation.task_row import Bases
from maskpack.networks.serialize import unpack_task
from maskpack.packs.contents import Pack
from maskpack.tasks import DECATHLON, Classification
from maskpack.tasks.classes.decathlon import category_id, json_path, labels_of, pictures_of
from maskpack.tasks.images import ImageFiles

Row = dict[str, Any]


@dataclass
class Submission:
    """What was found of each test picture, and a row for each task: pictures, accuracy, points.

    Accuracy and points are None where the test pictures have no labels.
    """

    results: list[dict[str, int]] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)

    @property
    def missing(self) -> list[str]:
        """Tasks that nothing answers yet; the server wants all ten."""
        return [task for task in TASKS if task not in {row["task"] for row in self.rows}]

    @property
    def score(self) -> float | None:
        """S; None unless all ten tasks have labels."""
        if self.missing or any(row["accuracy"] is None for row in self.rows):
            return None
        return decathlon_score({row["task"]: 1 - row["accuracy"] for row in self.rows})

    def write(self, path: Path) -> None:
        """A list of {"image_id", "category_id"}, as COCO's results are written."""
        write_text(path, json.dumps(self.results, separators=(",", ":")) + "\n")


def submit(
    packs: Sequence[Pack],
    data: str | Path,
    *,
    bases: Bases | None = None,
    batch_size: int = 64,
    workers: int = 0,
    device: torch.device | str = "cpu",
    say: Callable[[str], None] = lambda line: None,
) -> Submission:
    """Answer the test pictures of the decathlon's tasks that packs hold; others are passed over.

    `data` is the folder with annotations/ and data/. `say` takes a line before each task.

    Raises:
        OptionError: no pack holds such a task, or two hold the same.
        DataError: pictures are missing, or have other classes than the task was learnt on.
        BackboneError: a backbone cannot be had or is another one.
    """
    root, opened = Path(data).expanduser(), bases or Bases()
    found = {task: (pack, name) for task, pack, name in _tasks_of(packs)}
    made = Submission()
    for task in TASKS:
        if task in found:
            say(f"answering {task} ...")
            _answer(made, task, *found[task], root, opened, batch_size, workers, device)
    return made


def _tasks_of(packs: Sequence[Pack]) -> Iterator[tuple[str, Pack, str]]:
    """The decathlon's name of each task in packs, and where it is."""
    places: dict[str, Pack] = {}
    for pack in packs:
        for name, packed in pack.tasks.items():
            about = packed.info.get("task")
            original = about.get("name") if isinstance(about, dict) else None
            task = DECATHLON.get(original) if isinstance(original, str) else None
            if task is None:
                continue
            if task in places:
                raise OptionError(
                    f"decathlon: {task} is in {places[task].path} and in {pack.path}; give one"
                )
            places[task] = pack
            yield task, pack, name
    if not places:
        given = ", ".join(str(pack.path) for pack in packs) or "nothing"
        raise OptionError(
            f"{given}: no task of the decathlon; expected some trained as --task decathlon-aircraft"
        )


def _answer(
    made: Submission,
    task: str,
    pack: Pack,
    name: str,
    root: Path,
    bases: Bases,
    batch_size: int,
    workers: int,
    device: torch.device | str,
) -> None:
    packed = pack.task(name)
    try:
        preprocess = Preprocess(**packed.info["preprocess"])
        augment = Augment(**packed.info["augment"])
        classes = list(map(str, packed.info["task"]["classes"]))
    except (KeyError, TypeError, OptionError) as error:
        raise PackFormatError(
            f"{pack.path}: {name}: the header does not say how its pictures go in "
            f"({one_line(repr(error))})"
        ) from error
    pictures = pictures_of(root, task, "test_stripped")
    if pictures.classes and pictures.classes != classes:
        raise DataError(
            f"{json_path(root, task, 'test_stripped')}: has other categories than {name} of "
            f"{pack.path} was learnt on"
        )
    network = unpack_task(packed, bases.open(pack, packed))
    unlabelled = ImageFiles(pictures.paths, [0] * len(pictures.paths))
    labels: list[int] = []

    def note(output: Tensor, _: Any) -> None:
        labels.extend(output.argmax(dim=1).tolist())

    evaluate(
        network,
        Classification(name, classes, {"train": unlabelled}),
        unlabelled,
        preprocess,
        augment,
        batch_size=batch_size,
        workers=workers,
        device=device,
        watch=note,
    )
    answers = dict(zip(pictures.ids, labels, strict=True))
    accuracy = _accuracy(root, task, answers)
    made.results += [
        {"image_id": key, "category_id": category_id(task, label)} for key, label in answers.items()
    ]
    made.rows.append(
        {
            "task": task,
            "method": packed.method,
            "pictures": len(answers),
            "accuracy": accuracy,
            "points": None if accuracy is None else decathlon_points(task, 1 - accuracy),
            "pack": str(pack.path),
        }
    )


def _accuracy(root: Path, task: str, answers: dict[int, int]) -> float | None:
    """Share of right answers, where annotations/TASK_test.json has labels."""
    if not json_path(root, task, "test").is_file():
        return None
    labelled = labels_of(root, task, "test")
    right = dict(zip(labelled.ids, labelled.labels, strict=True))
    if right.keys() != answers.keys():
        raise DataError(
            f"{json_path(root, task, 'test')}: lists other pictures than {task}_test_stripped.json"
        )
    return sum(answers[key] == label for key, label in right.items()) / len(right)
