"""The suite of CIFAR-100's twenty tasks: what it says, and on tiny pictures from end to end."""

from __future__ import annotations

import itertools
import re
from pathlib import Path
from typing import Any

import pytest
import tinycifar

import maskpack
from maskpack.common.errors import DataError
from maskpack.runs.folder import Run
from maskpack.runs.open import open_pack
from maskpack.suites.first import beginning_with
from maskpack.suites.options import fields_of
from maskpack.suites.plan import every_cell
from maskpack.suites.read import Suite, parse_suite, read_suite
from maskpack.tasks.classes.split_cifar100 import SUPERCLASSES
from maskpack.training.trainer import Stopped

NETWORK = "vgg16_bn_cifar-w0.001"  # 2 channels where there are 64
TASKS = ("aquatic_mammals", "fish", "flowers")
EPOCHS = {"packnet": 2, "cpg": 3}  # they prune in between


def tiny() -> Suite:
    """The suite with the fewest epochs there can be."""
    text = re.sub(r"\nepochs = \d+", "\nepochs = 1", read_suite("cifar100-20").text)
    for label, epochs in EPOCHS.items():
        head, _, rest = text.partition(f"[methods.{label}]")
        text = f"{head}[methods.{label}]{rest.replace('epochs = 1', f'epochs = {epochs}', 1)}"
    return parse_suite(text, "cifar100-20.toml")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("cifar")
    tinycifar.write_folders(place / "cifar100_org", TASKS)
    return place


@pytest.fixture(scope="module")
def binary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("cifar")
    tinycifar.write_binary(place / "cifar-100-binary")
    return place


def train(data: Path, output: Path, *methods: str, **more: Any) -> dict[str, Any]:
    options: dict[str, Any] = {"backbone": NETWORK, "tasks": TASKS, "methods": methods} | more
    return maskpack.run_suite(tiny(), output, data=data, **options)


def rows(found: dict[str, Any], table: str, **where: object) -> list[dict[str, Any]]:
    listed = found["tables"][table]["rows"]
    return [row for row in listed if all(row.get(key) == value for key, value in where.items())]


# ---- what the file says


def test_the_suite_is_the_papers() -> None:
    suite = read_suite("cifar100-20")
    assert list(suite.tasks) == list(SUPERCLASSES)
    assert suite.backbone == "vgg16_bn_cifar"
    assert suite.base is not None and suite.base.task == "aquatic_mammals"
    cells = every_cell(suite)
    assert len([cell for cell in cells if cell.label == "ksm"]) == 19
    for label in ("packnet", "cpg", "ewc", "mas", "lwf", "lwm"):
        mine = [cell for cell in cells if cell.label == label]
        assert len(mine) == 20, "the first task is one of the sequence"
        assert all(cell.start == before for before, cell in itertools.pairwise(mine))


@pytest.mark.parametrize(
    ("first", "task", "average"),
    [
        ("1", "aquatic_mammals", 79.2),
        ("5", "fruit_and_vegetables", 78.8),
        ("10", "large_man-made_outdoor_things", 79.2),
        ("15", "people", 78.0),
        ("20", "vehicles_2", 78.2),
    ],
)
def test_published_figures_are_there_for_five_first_tasks(
    first: str, task: str, average: float
) -> None:
    suite = beginning_with(read_suite("cifar100-20"), first)
    assert suite.base is not None and suite.base.task == task
    assert next(iter(suite.tasks)) == task
    scores = suite.published.scores
    assert scores.keys() == suite.tasks.keys()
    found = sum(scores[name]["ksm"] for name in suite.tasks) / 20 * 100
    assert found == pytest.approx(average, abs=0.1)


def test_published_averages_are_those_of_the_paper() -> None:
    published = read_suite("cifar100-20").published
    for label, score, seconds in (
        ("packnet", 67.5, 365),
        ("piggyback", 77.9, 111),
        ("cpg", 78.7, 2046),
        ("ksm", 79.2, 94.3),
    ):
        scores = [row[label] for row in published.scores.values()]
        spent = [row[label] for row in published.seconds.values() if isinstance(row, dict)]
        assert len(spent) == 20
        assert sum(scores) / 20 * 100 == pytest.approx(score, abs=0.1)
        assert sum(spent) / 20 == pytest.approx(seconds, abs=1)


def test_every_method_is_trained_as_the_paper_says() -> None:
    suite = read_suite("cifar100-20")
    for label in suite.methods:
        fields = fields_of(suite.options_of("fish", label), Path())
        assert fields["recipe"]["batch_size"] == 32
        assert fields["task_set"] == {"normalise": "own"}
        assert fields["recipe"]["epochs"] == {"packnet": 130, "cpg": 330}.get(label, 100)
    base = fields_of(suite.options_of("aquatic_mammals", "base"), Path())
    assert (base["recipe"]["opt"], base["recipe"]["lr"]) == ("nesterov", 1e-2)


# ---- trained


@pytest.mark.parametrize("layout", ["folders", "binary"])
def test_it_runs_on_each_layout(
    layout: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    found = train(request.getfixturevalue(layout), tmp_path, "piggyback", "ksm", tasks=TASKS[:2])
    assert found["failed"] == {}
    (ours,) = rows(found, "scores", task="fish", figures="ours")
    assert type(ours["piggyback"]) is float and type(ours["ksm"]) is float
    (published,) = rows(found, "scores", task="fish", figures="published")
    assert (published["ksm"], published["cpg"]) == (0.78, 0.762)
    means = {
        task: tuple(
            open_pack(tmp_path / f"runs/{task}/{label}/seed0").task().info["preprocess"]["mean"]
        )
        for task, label in (("aquatic_mammals", "base"), ("fish", "ksm"))
    }
    assert len(set(means.values())) == 2, "each task by its own pictures' mean"
    shared = open_pack(tmp_path / "ksm.safetensors")
    assert list(shared.tasks) == ["fish"]


def test_stopped_it_goes_on_and_trains_nothing_twice(binary: Path, tmp_path: Path) -> None:
    base = tmp_path / "runs/fish/base/seed0/result.json"

    def stop() -> None:
        if base.exists():
            raise Stopped

    with pytest.raises(Stopped):
        train(binary, tmp_path, "piggyback", tasks=TASKS[:2], first="fish", tick=stop)
    before = base.stat().st_mtime_ns
    found = train(binary, tmp_path, "piggyback", tasks=TASKS[:2], first=2)
    assert [(cell["task"], cell["method"]) for cell in found["cells"]] == [
        ("fish", "base"),
        ("aquatic_mammals", "piggyback"),
    ]
    assert base.stat().st_mtime_ns == before


@pytest.mark.slow
def test_every_method_runs_from_end_to_end(binary: Path, tmp_path: Path) -> None:
    suite = tiny()
    found = train(binary, tmp_path, *suite.methods)
    assert found["failed"] == {}
    for task in TASKS:
        (ours,) = rows(found, "scores", task=task, figures="ours")
        for label in suite.methods:
            assert type(ours[label]) is float, (task, label)
    again = rows(found, "forgetting", task="aquatic_mammals", after="fish")
    assert again, "earlier tasks are scored after later ones"
    for label in ("packnet", "cpg"):
        pack = open_pack(tmp_path / f"{label}.safetensors")
        assert list(pack.tasks) == list(TASKS)
    for task in TASKS[1:]:
        run = Run(tmp_path / f"runs/{task}/packnet/seed0")
        assert run.result is not None and run.result["kept"]["owned"] > 0


def test_what_is_missing_is_one_line(tmp_path: Path) -> None:
    tinycifar.write_folders(tmp_path / "cifar100_org", TASKS[:1])
    with pytest.raises(DataError) as caught:
        train(tmp_path, tmp_path / "out", "ksm")
    line = str(caught.value)
    assert line.startswith("cifar100-20.toml: tasks.fish: ")
    assert "no folder 'fish', found aquatic_mammals" in line and "\n" not in line
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(DataError, match=r"tasks.aquatic_mammals: .*maskpack data fetch cifar100"):
        train(empty, tmp_path / "out", "ksm")
    assert not (tmp_path / "out" / "runs").exists()
