"""What a network answered to each test picture: taken batch by batch, written, read."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import tinynet
import torch

from maskpack.common.errors import RunError
from maskpack.runs.folder import Run
from maskpack.tasks import answers
from maskpack.tasks.answers import Answers, Marking, read_answers, write_answers
from maskpack.tasks.base import Classification
from maskpack.training.setup import Options, open_session
from maskpack.training.train_run import learn


def test_answers_are_the_largest_output_of_each_picture() -> None:
    marking = Marking(lambda output, target: output.argmax(dim=1))
    marking(torch.tensor([[0.1, 0.9], [0.8, 0.2]]), torch.tensor([1, 1]))
    marking(torch.tensor([[0.0, 1.0]]), torch.tensor([0]))
    found = marking.answers()
    assert found == Answers((1, 0, 1), (1, 1, 0))
    assert found.correct.tolist() == [True, False, False]


def test_reading_is_the_inverse_of_writing(tmp_path: Path) -> None:
    kept = {"birds": Answers((0, 1, 2), (0, 0, 2)), "cars": Answers((), ())}
    write_answers(tmp_path / "answers.json", kept)
    assert read_answers(tmp_path / "answers.json") == kept
    assert read_answers(tmp_path / "none.json") == {}


@pytest.mark.parametrize(
    "text",
    [
        "[1]",
        '{"birds": 3}',
        '{"birds": {"predicted": [1]}}',
        '{"birds": {"predicted": [1], "target": [1, 2]}}',
        '{"birds": {"predicted": [1.5], "target": [1]}}',
        '{"birds": {"predicted": [true], "target": [1]}}',
    ],
)
def test_damaged_answers_are_one_line(tmp_path: Path, text: str) -> None:
    path = tmp_path / "answers.json"
    path.write_text(text)
    with pytest.raises(RunError, match=r"answers\.json: damaged: expected by task a class"):
        read_answers(path)
    path.write_text("{")
    with pytest.raises(RunError, match=r"answers\.json: cannot be read"):
        read_answers(path)


def test_a_run_keeps_the_answers_that_its_score_counts(tmp_path: Path) -> None:
    data = tinynet.write_pictures(tmp_path / "pictures")
    recipe = {"epochs": 2, "lr": 1e-2, "opt": "adam"}
    options = Options("tinynet:build", "p", "fine-tune", data=str(data), recipe=recipe)
    session = open_session(options)
    run = learn(session, tmp_path / "run")
    kept = read_answers(tmp_path / "run" / answers.FILE)
    assert set(kept) == {"p"}
    assert list(kept["p"].target) == list(session.task.dataset("test").labels)
    assert isinstance(session.task, Classification)
    assert kept["p"].correct.mean() == pytest.approx(Run(run.path).result["test"]["accuracy"])
    written = json.loads((tmp_path / "run" / answers.FILE).read_text())
    assert set(written["p"]) == {"predicted", "target"}
