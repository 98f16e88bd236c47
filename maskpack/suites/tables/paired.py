"""Methods against each other on the same pictures: McNemar's test. No torch.

Of two networks only the pictures that one of them answers rightly and the other does not can tell
which is better (McNemar, Psychometrika 12, 1947). If neither is, each of these falls to either
side with equal chance: exactly a matter of coins where they are few, else chi-square with one
degree of freedom and Edwards's correction for continuity (Psychometrika 13, 1948).

With several seeds a picture is asked several times. That are not as many pictures: the net count of
each picture takes the place of one answer, as Durkalski et al. (Statistics in Medicine 22, 2003)
do for clusters of pairs of one size. With one seed it is McNemar's test.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from maskpack.tasks.answers import Answers

Row = dict[str, Any]
FEW = 25  # pictures that differ; for fewer the chance is counted out
ALL = "all tasks"


@dataclass(frozen=True)
class Paired:
    """Answers of one method against another's. `net` is by picture that they do not answer alike:
    in how many seeds more the first was right.
    """

    pictures: int = 0
    asked: int = 0  # pictures times seeds
    both: int = 0
    first: int = 0  # only the first was right
    second: int = 0
    net: tuple[int, ...] = field(default=(), repr=False)

    def __add__(self, other: Paired) -> Paired:
        """Both together, every picture counting as much."""
        return Paired(
            self.pictures + other.pictures,
            self.asked + other.asked,
            self.both + other.both,
            self.first + other.first,
            self.second + other.second,
            self.net + other.net,
        )

    @property
    def points(self) -> float:
        """How much higher the first's accuracy is, in percent."""
        return 100 * (self.first - self.second) / max(self.asked, 1)

    @property
    def p(self) -> float:
        """Chance of so large a difference, either way, between methods that are equally good."""
        return p_value(self.net)


def pair(first: Mapping[int, Answers], second: Mapping[int, Answers]) -> Paired | None:
    """Answers by seed of two methods; None unless they share seeds, and the pictures."""
    seeds = [seed for seed in first if seed in second]
    if not seeds or len({a[s].target for a in (first, second) for s in seeds}) > 1:
        return None
    ours, theirs = (
        np.stack([answers[seed].correct for seed in seeds]).astype(np.int64)
        for answers in (first, second)
    )  # (seeds, pictures)
    net: npt.NDArray[np.int64] = (ours - theirs).sum(axis=0)
    return Paired(
        ours.shape[1],
        ours.size,
        int((ours & theirs).sum()),
        int((ours > theirs).sum()),
        int((ours < theirs).sum()),
        tuple(net[net != 0].tolist()),
    )


def p_value(net: Sequence[int]) -> float:
    """Two-sided chance of so large a sum, were each of these numbers' signs a coin's."""
    if not net:
        return 1.0
    if len(net) < FEW:
        return _exact(net)
    total, squares = abs(sum(net)), sum(n * n for n in net)
    half = math.gcd(*net)  # of the step from one possible sum to the next; 1 with one seed
    chi = max(0, total - half) ** 2 / squares
    return math.erfc(math.sqrt(chi / 2))  # chi-square's tail, one degree of freedom


def _exact(net: Sequence[int]) -> float:
    """Of all ways to set the signs, the share whose sum is as far from 0; ones give a binomial."""
    sums = Counter({0: 1})
    for size in map(abs, net):
        after: Counter[int] = Counter()
        for total, ways in sums.items():
            after[total + size] += ways
            after[total - size] += ways
        sums = after
    far = abs(sum(net))
    return sum(ways for total, ways in sums.items() if abs(total) >= far) / 2 ** len(net)


def holm(values: Sequence[float]) -> list[float]:
    """p-values of one family, so that the chance of any false find stays what it says.

    Holm, Scandinavian Journal of Statistics 6, 1979: the smallest is multiplied by how many there
    are, the next by one less, and so on, none made smaller than the one before.
    """
    found, above = [0.0] * len(values), 0.0
    for place, n in enumerate(sorted(range(len(values)), key=lambda n: values[n])):
        above = max(above, min(1.0, (len(values) - place) * values[n]))
        found[n] = above
    return found


def paired_rows(
    answers: Mapping[str, Mapping[str, Mapping[int, Answers]]], reference: str
) -> list[Row]:
    """A row for each task and method against a reference, and for all tasks together.

    `answers` by task, method and seed. "p, Holm" is corrected for the methods of its task.
    """
    rows: list[Row] = []
    pooled: dict[str, Paired] = {}
    counts: Counter[str] = Counter()
    for task, methods in answers.items():
        found: dict[str, Paired] = {}
        for method, mine in methods.items():
            both = pair(mine, methods[reference]) if reference in methods else None
            if method != reference and both is not None:
                found[method] = both
                pooled[method] = pooled.get(method, Paired()) + both
                counts[method] += 1
        rows += _family(task, found, reference)
    if len(answers) < 2:
        return rows
    whole = {method: both for method, both in pooled.items() if counts[method] == len(answers)}
    return rows + list(_family(ALL, whole, reference))


def _family(task: str, found: Mapping[str, Paired], reference: str) -> Iterator[Row]:
    values = {method: both.p for method, both in found.items()}
    corrected = dict(zip(values, holm(list(values.values())), strict=True))
    for method, both in found.items():
        yield {
            "task": task,
            "method": method,
            "against": reference,
            "pictures": both.pictures,
            "seeds": both.asked // max(both.pictures, 1),
            "both right": both.both,
            "only method": both.first,
            "only against": both.second,
            "neither": both.asked - both.both - both.first - both.second,
            "points": both.points,
            "p": values[method],
            "p, Holm": corrected[method],
        }
