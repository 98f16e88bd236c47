"""Validation splits carved out of train."""

from __future__ import annotations

from collections import Counter

import pytest
import tiny
from hypothesis import given
from hypothesis import strategies as st

from maskpack.common.errors import OptionError
from maskpack.tasks import Subset, carve_validation, open_task
from maskpack.tasks.splits import SPLIT_SEED, is_carved, train_and_val


def test_carving_is_the_same_for_ever() -> None:
    labels = [0, 1] * 10
    assert carve_validation(labels, 0.2)[1] == [10, 11, 13, 16]
    assert carve_validation(labels, 0.2, seed=1)[1] != carve_validation(labels, 0.2)[1]


@given(
    labels=st.lists(st.integers(0, 4), max_size=60),
    fraction=st.floats(0.001, 0.999),
    seed=st.integers(0, 2**31),
)
def test_every_class_keeps_its_share(labels: list[int], fraction: float, seed: int) -> None:
    train, val = carve_validation(labels, fraction, seed)
    assert sorted(train + val) == list(range(len(labels)))
    assert train == sorted(train)
    assert val == sorted(val)
    counts = Counter(labels)
    held = Counter(labels[index] for index in val)
    for label, count in counts.items():
        if count == 1:
            assert held[label] == 0
        else:
            assert 1 <= held[label] < count
            assert abs(held[label] - fraction * count) <= 1


def test_no_validation_when_none_is_wanted() -> None:
    assert carve_validation([0, 0, 1, 1], 0) == ([0, 1, 2, 3], [])


@pytest.mark.parametrize("fraction", [-0.1, 1.0, float("nan")])
def test_absurd_fraction(fraction: float) -> None:
    with pytest.raises(OptionError, match="validation fraction"):
        carve_validation([0, 1], fraction)


def test_subset_keeps_labels_without_opening_pictures() -> None:
    whole = open_task("fashion").dataset("train")
    part = Subset(whole, [1999, 0])
    assert (len(part), part.labels) == (2, [9, 0])
    assert part[0][0].tobytes() == whole[1999][0].tobytes()


def test_validation_pictures_are_a_split_of_their_own_or_a_share_of_train() -> None:
    own, none = tiny.task(train=12, val=6), tiny.task(train=12, val=0)
    assert not is_carved(own)
    assert [len(part) for part in train_and_val(own, 0.25)] == [12, 6]
    assert is_carved(none)
    train, val = train_and_val(none, 0.25)
    labels = none.dataset("train").labels
    carved = carve_validation(labels, 0.25, SPLIT_SEED)
    for part, indices in zip((train, val), carved, strict=True):
        assert isinstance(part, Subset)
        assert part.indices == indices


def test_a_share_of_no_picture_is_refused() -> None:
    with pytest.raises(OptionError, match=r"--val-fraction 0.1: no picture is left for validation"):
        train_and_val(tiny.task(train=3, val=0))
