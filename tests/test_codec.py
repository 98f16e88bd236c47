"""Coded masks: exact, near the bound, the same bytes everywhere, and nothing hostile gets in."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maskpack.packs import bits
from maskpack.packs import mask_codec as codec

SHARES = (0.0, 0.02, 0.3, 0.5, 0.7, 0.9, 0.97, 0.995, 0.9999, 1.0)


def packed(counts: list[int], shares: list[float], seed: int = 0) -> bits.Bytes:
    random = np.random.default_rng(seed)
    parts = [bits.pack_bits(random.random(n) < p) for n, p in zip(counts, shares, strict=True)]
    return np.concatenate(parts) if parts else np.zeros(0, np.uint8)


def bound(data: bits.Bytes, counts: list[int]) -> float:
    """Bytes: the sum over layers of n H(p) / 8."""
    parts = codec._split(data, counts)
    ones = [bits.count_ones(part) for part in parts]
    return sum(codec.entropy_bits(n, k) for n, k in zip(counts, ones, strict=True)) / 8


@settings(deadline=None, max_examples=200)
@given(
    st.lists(st.tuples(st.integers(0, 3000), st.sampled_from(SHARES)), max_size=6),
    st.integers(0, 2**32 - 1),
)
def test_any_layers_come_back(layers: list[tuple[int, float]], seed: int) -> None:
    counts = [n for n, _ in layers]
    data = packed(counts, [p for _, p in layers], seed)
    coded = codec.encode(data, counts)
    assert np.array_equal(codec.decode(coded, counts), data)
    assert coded.size <= data.size + 3 * len(counts) + 4


@pytest.mark.parametrize("share", SHARES)
def test_one_layer_comes_back_at_every_size(share: float) -> None:
    for count in (*range(18), 63, 64, 65, 4096, 100_001):
        data = packed([count], [share], seed=count)
        assert np.array_equal(codec.decode(codec.encode(data, [count]), [count]), data)


@pytest.mark.parametrize(
    ("share", "limit"),
    [
        (0.1, 1.01),
        (0.5, 1.01),
        (0.6, 1.01),
        (0.75, 1.01),
        (0.9, 1.01),
        (0.95, 1.015),
        (0.99, 1.02),
        (0.999, 1.03),
    ],
)
def test_it_stays_near_the_bound(share: float, limit: float) -> None:
    counts = [9408, 4096, 36864, 16384, 147_456, 1_048_576, 2_359_296]
    data = packed(counts, [share] * len(counts))
    coded = codec.encode(data, counts)
    assert np.array_equal(codec.decode(coded, counts), data)
    assert coded.size <= limit * bound(data, counts) + 64


def test_golden_bytes() -> None:
    # a change here is a change of the format
    counts = [100, 5000, 20_000, 64]
    data = packed(counts, [0.5, 0.8, 0.99, 1.0], seed=7)
    assert codec.encode(bits.pack_bits(np.ones(100, bool)), [100]).tolist() == [2, 0, 0]
    rare = np.ones(64, bool)
    rare[[3, 40]] = False
    # Rice, 2 zeros; k = 4, so the distances 3 and 36 are 0 * 16 + 3 and 2 * 16 + 4: a line of
    # 4 bits, 1 0 0 1, and the digits 3 and 4
    assert codec.encode(bits.pack_bits(rare), [64]).tolist() == [2, 2, 4, 0b1001, 3 + (4 << 4)]
    coded = codec.encode(data, counts)
    assert (coded.size, hashlib.sha256(coded.tobytes()).hexdigest()[:16]) == (
        680,
        "bbb8984fb5db1625",
    )


def test_the_frequencies_fill_the_table() -> None:
    for count in (8, 9, 100, 23_454_912, 2**31):
        for rare in {0, 1, 2, count // 100, count // 7, count // 3, count // 2}:
            found = codec._class_frequencies(count, rare)
            assert min(found) >= 1
            assert sum(f * n for f, n in zip(found, codec.CHOOSE, strict=True)) == codec.TOTAL


def test_hostile_streams_are_refused() -> None:
    counts = [100, 5000, 20_000, 0, 64]
    data = packed(counts, [0.5, 0.8, 0.99, 1.0, 0.1])
    good = codec.encode(data, counts)
    random = np.random.default_rng(0)
    for _ in range(1500):
        bad = good.copy()
        kind = random.integers(4)
        if kind == 0:
            bad = bad[: random.integers(good.size)]
        elif kind == 1:
            bad = np.concatenate([bad, random.integers(0, 256, 3).astype(np.uint8)])
        else:
            bad[random.integers(min(good.size, 40) if kind == 2 else good.size)] ^= 1 << (
                random.integers(8)
            )
        try:
            found = codec.decode(bad, counts)
        except ValueError:
            continue
        assert found.size == data.size  # raw bits and Rice's digits carry no check of their own
        for part, count in zip(codec._split(found, counts), counts, strict=True):
            bits.check_bits(part, count)


@pytest.mark.parametrize("code", [codec.RAW, codec.RANS, codec.RICE])
def test_a_few_bytes_cannot_claim_much_memory(code: int) -> None:
    with pytest.raises(ValueError, match="at most"):
        codec.decode(np.array([code, 0, 0], np.uint8), [codec.LARGEST + 1])
    if code != codec.RICE:  # all ones is true of any length
        claim = np.array([code, 0, *[0] * 8], np.uint8)
        with pytest.raises(ValueError, match=r"wanted|short|ends"):
            codec.decode(claim, [codec.LARGEST])
