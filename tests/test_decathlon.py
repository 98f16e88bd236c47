"""The decathlon's score, against the published tables."""

from __future__ import annotations

import math

import pytest

import maskpack
from maskpack.common.errors import OptionError, UnknownName
from maskpack.datasets.decathlon import EMAX, TASKS, decathlon_points, decathlon_score
from maskpack.suites.read import read_suite

ROUNDING = 0.0005  # accuracies are printed in percent with one decimal
# "piggyback (its authors)" and "affine-simple" are columns of Mancini et al.'s tables 3 and 4
PUBLISHED = {
    "classifier-only": 544,
    "fine-tune": 2500,
    "piggyback (its authors)": 2838,
    "piggyback": 2805,
    "affine-simple": 3263,
    "affine": 3497,
    "residual adapters": 2118,
    "residual adapters, decay": 2621,
    "residual adapters, joint": 2643,
    "DAN": 2852,
}


def errors(label: str, off: float = 0.0) -> dict[str, float]:
    scores = read_suite("decathlon").published.scores
    return {task: 1 - scores[task][label] + off for task in TASKS}


def test_scaling_is_as_published() -> None:
    alphas = {
        "imagenet12": 1552.39,
        "aircraft": 1589.41,
        "cifar100": 7819.97,
        "daimlerpedcls": 48494.35,
        "dtd": 1264.17,
        "gtsrb": 409775.61,
        "vgg-flowers": 7234.05,
        "omniglot": 16497.72,
        "svhn": 210039.91,
        "ucf101": 1049.79,
    }
    assert {*alphas} == {*TASKS} == {*EMAX}
    for task, alpha in alphas.items():
        slope = decathlon_points(task, 0.0) / EMAX[task] ** 2
        assert slope == pytest.approx(alpha, abs=0.005)


def test_points_by_hand() -> None:
    for task in TASKS:
        assert decathlon_points(task, 0.0) == pytest.approx(1000)
        assert decathlon_points(task, EMAX[task] / 2) == pytest.approx(250)
        assert decathlon_points(task, EMAX[task]) == 0
        assert decathlon_points(task, 1.0) == 0
    # 1000 / 0.0494**2 * (0.0494 - 0.008)**2
    assert decathlon_points("gtsrb", 0.008) == pytest.approx(702.34, abs=0.01)


@pytest.mark.parametrize(("label", "total"), PUBLISHED.items())
def test_published_errors_give_the_published_scores(label: str, total: int) -> None:
    """Within what the errors' rounding to 0.1 % can do: from 544 +- 3 to 3497 +- 38."""
    assert read_suite("decathlon").published.total[label] == total
    low, high = (decathlon_score(errors(label, off)) for off in (ROUNDING, -ROUNDING))
    assert low - 1 < total < high + 1
    assert decathlon_score(errors(label)) == pytest.approx(total, rel=0.007)


@pytest.mark.parametrize("label", PUBLISHED)
def test_published_errors_give_each_tasks_points(label: str) -> None:
    points = read_suite("decathlon").published.points
    for task, error in errors(label).items():
        low, high = (decathlon_points(task, error + off) for off in (ROUNDING, -ROUNDING))
        # whole points; one of the hundred, 535 for daimlerpedcls, is 0.3 below its range
        assert low - 1 < points[task][label] < high + 1, task
    total = read_suite("decathlon").published.total[label]
    assert sum(points[task][label] for task in TASKS) == pytest.approx(total, abs=1)


def test_the_published_full_model_recomputed() -> None:
    assert decathlon_score(errors("affine")) == pytest.approx(3495.1, abs=0.05)
    assert maskpack.decathlon_score(errors("affine")) == decathlon_score(errors("affine"))


def test_wrong_errors_are_one_line() -> None:
    with pytest.raises(UnknownName, match="task of the decathlon 'cifar10'; did you mean 'cifar"):
        decathlon_points("cifar10", 0.1)
    for wrong in (-0.1, 1.1, 59.7, math.nan):
        with pytest.raises(OptionError, match=r"the error of svhn is .*, expected a share"):
            decathlon_points("svhn", wrong)
    with pytest.raises(OptionError, match="no error of gtsrb, svhn; the score is of all 10 tasks"):
        decathlon_score({t: 0.1 for t in TASKS if t not in ("gtsrb", "svhn")})
    with pytest.raises(UnknownName, match="'mnist'"):
        decathlon_score({**dict.fromkeys(TASKS, 0.1), "mnist": 0.1})
