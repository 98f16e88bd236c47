"""The Visual Decathlon's ten tasks and its score (Rebuffi et al. 2017, arXiv:1705.08045).

    S = sum over the tasks of 1000 / Emax**2 * max(0, Emax - E)**2

E is a task's error on the test pictures, a share, and Emax twice that of a network fine-tuned for
it: fine-tuning has 250 points a task, an error of nothing 1000.
"""

from __future__ import annotations

from collections.abc import Mapping

from maskpack.common.errors import OptionError, UnknownName

PERFECT = 1000.0  # points of a task without errors

# In the challenge's numbering: a category's id is 10**7 times the task's number, plus 1, 2, ...
TASKS = (
    "aircraft",
    "cifar100",
    "daimlerpedcls",
    "dtd",
    "gtsrb",
    "imagenet12",
    "omniglot",
    "svhn",
    "ucf101",
    "vgg-flowers",
)
EMAX: dict[str, float] = {
    "aircraft": 0.7932,
    "cifar100": 0.3576,
    "daimlerpedcls": 0.1436,
    "dtd": 0.8894,
    "gtsrb": 0.0494,
    "imagenet12": 0.8026,
    "omniglot": 0.2462,
    "svhn": 0.0690,
    "ucf101": 0.9760,
    "vgg-flowers": 0.3718,
}


def decathlon_points(task: str, error: float) -> float:
    """Points of one task, 0 to 1000; `error` is a share of its pictures.

    Raises:
        UnknownName: it is none of TASKS.
        OptionError: the error is no share.
    """
    if task not in EMAX:
        raise UnknownName("task of the decathlon", task, TASKS)
    if not 0 <= error <= 1:
        raise OptionError(
            f"decathlon: the error of {task} is {error!r}, expected a share from 0 to 1"
        )
    worst = EMAX[task]
    return PERFECT / worst**2 * max(0.0, worst - error) ** 2


def decathlon_score(errors: Mapping[str, float]) -> float:
    """S, 0 to 10000, of the errors of all ten tasks.

    Raises:
        OptionError: a task is missing, or an error is no share.
        UnknownName: a task is none of TASKS.
    """
    missing = [task for task in TASKS if task not in errors]
    if missing:
        raise OptionError(
            f"decathlon: no error of {', '.join(missing)}; the score is of all {len(TASKS)} tasks"
        )
    return sum(decathlon_points(task, error) for task, error in errors.items())
