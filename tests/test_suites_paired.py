"""McNemar's test against known answers, and methods side by side."""

from __future__ import annotations

import random

import pytest

from maskpack.suites.tables.paired import FEW, Paired, holm, p_value, pair, paired_rows
from maskpack.tasks.answers import Answers


def of(right: str) -> Answers:
    """Answers to as many pictures as there are letters, right where these are 1."""
    return Answers(tuple(map(int, right)), (1,) * len(right))


# ---- the test


@pytest.mark.parametrize(
    ("only", "other", "p"),
    [
        # 2 sum_{i <= min} C(n, i) / 2^n
        (0, 0, 1.0),
        (1, 0, 1.0),
        (3, 3, 1.0),
        (6, 0, 2 / 2**6),
        (10, 2, 2 * (1 + 12 + 66) / 2**12),
        (5, 1, 2 * (1 + 6) / 2**6),
        # (|b - c| - 1)^2 / (b + c), chi-square's tail with one degree of freedom
        (60, 40, 0.05743311963200335),  # 3.61
        (121, 59, 5.450094825427123e-06),  # of 180: 61^2 / 180 = 20.672
        (15, 15, 1.0),
    ],
)
def test_known_answers(only: int, other: int, p: float) -> None:
    assert p_value([1] * only + [-1] * other) == pytest.approx(p, rel=1e-6)
    assert p_value([-1] * only + [1] * other) == pytest.approx(p, rel=1e-6)


def test_both_ways_agree_where_one_takes_over() -> None:
    binomial, chi = [1] * (FEW - 8) + [-1] * 7, [1] * (FEW - 7) + [-1] * 7
    assert len(binomial) < FEW <= len(chi)
    assert p_value(binomial) == pytest.approx(0.0639, abs=1e-3)
    assert p_value(chi) == pytest.approx(0.0455, abs=1e-3)  # exactly .0433


def test_it_is_scipys_binomial_test() -> None:
    stats = pytest.importorskip("scipy.stats")
    for n in range(1, FEW):
        for k in range(n + 1):
            exact = stats.binomtest(k, n).pvalue
            assert p_value([1] * k + [-1] * (n - k)) == pytest.approx(exact)
    for b, c in ((30, 10), (80, 77), (500, 400)):
        tail = stats.chi2.sf((abs(b - c) - 1) ** 2 / (b + c), 1)
        assert p_value([1] * b + [-1] * c) == pytest.approx(tail)


def test_pictures_asked_several_times_are_not_several_pictures() -> None:
    """Three seeds that answer alike say no more than one; one seed against itself says nothing."""
    first, second = of("1" * 40 + "1" * 10 + "0" * 5), of("1" * 40 + "0" * 10 + "1" * 5)
    once = pair({0: first}, {0: second})
    thrice = pair(dict.fromkeys(range(3), first), dict.fromkeys(range(3), second))
    assert once is not None and thrice is not None
    assert (thrice.pictures, thrice.asked) == (55, 165)
    assert (thrice.both, thrice.first, thrice.second) == (3 * once.both, 3 * 10, 3 * 5)
    assert thrice.points == once.points
    assert thrice.p == pytest.approx(once.p)
    for size in (10, 30):  # counted out, and by chi-square
        alike = [3] * size + [-3] * 5
        assert p_value(alike) == pytest.approx(p_value([n // 3 for n in alike]))


def test_chance_alone_is_found_significant_as_often_as_it_should() -> None:
    rng = random.Random(0)
    found = []
    for _ in range(400):  # 30 pictures, two seeds that are right together
        net = [rng.choice((-2, -1, 1, 2)) for _ in range(30)]
        found.append(p_value(net))
    assert 0.02 < sum(p < 0.05 for p in found) / len(found) < 0.07


# ---- pairs


def test_pairs_are_of_the_same_seeds_and_pictures() -> None:
    both = pair({0: of("1100"), 1: of("1111")}, {1: of("1010"), 2: of("0000")})
    assert both == Paired(4, 4, 2, 2, 0, (1, 1))
    assert (both.points, both.p) == (50.0, 0.5)
    assert pair({0: of("1")}, {1: of("1")}) is None
    assert pair({0: of("11")}, {0: of("111")}) is None
    assert pair({0: Answers((1, 0), (1, 0))}, {0: Answers((1, 0), (0, 1))}) is None


def test_rows_by_task_and_all_together() -> None:
    answers = {
        "a": {"tuned": {0: of("1110")}, "masks": {0: of("0111")}, "other": {0: of("1111")}},
        "b": {"tuned": {0: of("100000")}, "masks": {0: of("111111")}},
    }
    rows = paired_rows(answers, "tuned")
    found = {(row["task"], row["method"]): row for row in rows}
    # "other" has no answers to all tasks
    expected = [("a", "masks"), ("a", "other"), ("b", "masks"), ("all tasks", "masks")]
    assert list(found) == expected
    assert all(row["against"] == "tuned" for row in rows)
    a, b, whole = (found[task, "masks"] for task in ("a", "b", "all tasks"))
    keys = ("pictures", "both right", "only method", "only against", "neither", "points")
    assert [a[key] for key in keys] == [4, 2, 1, 1, 0, 0.0]
    assert [b[key] for key in keys] == [6, 1, 5, 0, 0, pytest.approx(500 / 6)]
    assert [whole[key] for key in keys] == [10, 3, 6, 1, 0, 50.0]
    assert b["p"] == b["p, Holm"] == 2 / 2**5
    assert whole["p"] == 2 * (1 + 7) / 2**7
    assert paired_rows({"a": answers["a"]}, "nobody") == []
    assert {row["task"] for row in paired_rows({"a": answers["a"]}, "tuned")} == {"a"}


def test_holm_corrects_for_how_many_are_compared() -> None:
    """Holm's steps: .01 x 3, .03 x 2, and the last not below the one before."""
    assert holm([0.04, 0.01, 0.03]) == pytest.approx([0.06, 0.03, 0.06])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([]) == []
