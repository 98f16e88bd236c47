"""Numbers as small integers: worked bytes, round trips of any shape, and streams that lie."""

from __future__ import annotations

import math
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from maskpack.packs import mask_codec as codec
from maskpack.packs import number_codec as quantize
from maskpack.packs.number_codec import RANGES, Floats, Shape, decode, encode

SIGNED = ("int8", "int4", "int3", "int2")
SHAPES = st.lists(st.lists(st.integers(0, 5), max_size=3).map(tuple), max_size=4)


def floats(*values: float) -> Floats:
    """One row."""
    return np.array([values], np.float32)


def drawn(shapes: list[Shape], seed: int, kind: str) -> list[Floats]:
    rng = np.random.default_rng(seed)
    arrays = [rng.normal(0, 3, shape).astype(np.float32) for shape in shapes]
    return [np.abs(array) for array in arrays] if kind.startswith("u") else arrays


# ---- worked by hand


def test_int8_is_a_scale_and_a_byte_a_value() -> None:
    data = encode([floats(127, -50, 0) / 64], "int8")
    assert data.tobytes().hex(" ") == "00 24 7f ce 00"  # 1/64 in float16, 127, -50, 0
    assert decode(data, [(1, 3)], "int8")[0].tolist() == [[127 / 64, -50 / 64, 0]]


def test_uint8_reaches_255() -> None:
    data = encode([floats(255, 0, 128) / 64], "uint8")
    assert data.tobytes().hex(" ") == "00 24 ff 00 80"
    assert decode(data, [(1, 3)], "uint8")[0].tolist() == [[255 / 64, 0, 2]]


def test_few_bits_are_planes_of_masks() -> None:
    values = floats(2, 0, -1, 3, 0, -3, 1, 2)
    planes = [
        [1, 0, 1, 1, 0, 1, 1, 1],  # more than 0?
        [1, 0, 1, 1, 0, 1],  # of these six, more than 1?
        [0, 1, 1, 0],  # of these four, more than 2?
        [0, 1, 0, 1, 0, 0],  # of the six that are not 0, negative?
    ]
    expected = np.float16(1).tobytes()
    for plane in planes:
        packed = np.packbits(np.array(plane, np.uint8), bitorder="little")
        coded = codec.encode(packed, [len(plane)]).tobytes()
        expected += bytes([len(coded)]) + coded
    data = encode([values], "int3")
    assert data.tobytes() == expected
    assert decode(data, [(1, 8)], "int3")[0].tolist() == values.tolist()


def test_every_row_has_a_scale_of_its_own() -> None:
    array = np.array([[7, -7, 1], [0.7, 0.1, 0], [0, 0, 0]], np.float32)
    found = decode(encode([array], "int4"), [(3, 3)], "int4")[0]
    assert found[0].tolist() == [7, -7, 1]
    assert found[1] == pytest.approx([0.7, 0.1, 0], rel=1e-3)
    assert found[2].tolist() == [0, 0, 0]


@pytest.mark.parametrize("kind", list(RANGES))
def test_with_a_group_short_arrays_are_float16_and_long_ones_have_many_scales(kind: str) -> None:
    short, long = np.linspace(0, 9, 32, dtype=np.float32), np.zeros(33, np.float32)
    long[0], long[32] = 1000, 0.25
    data = encode([short, long], kind, group=32)
    found = decode(data, [(32,), (33,)], kind, group=32)
    assert found[0] == pytest.approx(short, rel=2**-10)
    assert found[1] == pytest.approx(long, rel=2**-10), "the outlier has another scale"
    values = 32 + 33 if kind in ("int8", "uint8") else 0
    assert data.size - values >= 2 * (32 + 2)


def test_an_outlier_is_clipped_where_that_is_nearer() -> None:
    values = floats(*[1, -1] * 50, 2)
    found = decode(encode([values], "int2"), [(1, 101)], "int2")[0][0]
    assert set(np.abs(found).tolist()) == {found[-1]}
    assert found[0] < 1.1, "a scale of 2 would round every 1 to 0 or to 2"


def test_the_largest_singular_values_are_kept() -> None:
    array = np.diag(floats(4, 2, 1)[0]) @ np.eye(3, 5, dtype=np.float32)
    for rank in (1, 2):
        found = decode(encode([array], "int8", rank), [(3, 5)], "int8", rank)[0]
        kept = array.copy()
        kept[rank:] = 0
        assert found == pytest.approx(kept, abs=4e-3)


def test_without_a_group_an_array_of_one_dimension_has_one_scale() -> None:
    data = encode([np.full(1000, 3, np.float32)], "int2")
    assert data.size < 20
    assert (decode(data, [(1000,)], "int2")[0] == 3).all()


# ---- any shape


@given(
    shapes=SHAPES, kind=st.sampled_from(list(RANGES)), rank=st.integers(0, 3), seed=st.integers()
)
def test_any_shape_of_any_kind_and_rank_comes_back(
    shapes: list[Shape], kind: str, rank: int, seed: int
) -> None:
    rank = rank if kind in SIGNED else 0
    arrays = drawn(shapes, abs(seed), kind)
    data = encode(arrays, kind, rank)
    found = decode(data, shapes, kind, rank)
    assert [array.shape for array in found] == shapes
    assert all(array.dtype == np.float32 for array in found)
    for array, other in zip(arrays, found, strict=True):
        if rank:  # of two rounded factors nothing is promised but that they are better than none
            assert ((array - other) ** 2).sum() <= 1.1 * (array**2).sum() + 1e-6
            continue
        pairs = [(array, other)] if array.ndim < 2 else zip(array, other, strict=True)
        for row, kept in pairs:
            largest = float(np.abs(row).max(initial=0))
            step = largest / RANGES[kind][1]
            # half a step each, and what a float16 scale may leave clipped
            worst = np.sqrt(row.size) * (step / 2 + largest * 2**-10)
            assert np.linalg.norm(row - kept) <= worst + 1e-6


@given(shapes=SHAPES, kind=st.sampled_from(list(RANGES)), seed=st.integers(0, 99))
def test_what_is_rounded_already_stays(shapes: list[Shape], kind: str, seed: int) -> None:
    once = decode(encode(drawn(shapes, seed, kind), kind), shapes, kind)
    twice = decode(encode(once, kind), shapes, kind)
    for a, b in zip(once, twice, strict=True):
        assert b == pytest.approx(a, rel=2e-3)


def test_more_bits_are_nearer() -> None:
    array = np.random.default_rng(0).normal(size=(4, 300)).astype(np.float32)
    errors = [
        float(((decode(encode([array], kind), [(4, 300)], kind)[0] - array) ** 2).mean())
        for kind in SIGNED
    ]
    assert errors == sorted(errors)
    assert errors[0] < 1e-4
    assert errors[-1] < 0.2, "a Gaussian in three levels keeps 81 % of its variance (Max 1960)"


def test_a_value_costs_what_it_is_worth() -> None:
    rng = np.random.default_rng(0)
    mostly = np.where(rng.random(40_000) < 0.02, rng.choice([-1.0, 1.0], 40_000), 0)
    size = encode([mostly.astype(np.float32)[None]], "int4").size
    entropy = codec.entropy_bits(40_000, int((mostly != 0).sum())) + (mostly != 0).sum()
    assert size < 1.05 * entropy / 8 + 100


@pytest.mark.parametrize("value", [1e7, math.inf, math.nan])
def test_values_beyond_float16_are_refused(value: float) -> None:
    with pytest.raises(ValueError, match="beyond what a float16 scale reaches"):
        encode([floats(1, value)], "int8")


# ---- streams that lie


@pytest.mark.parametrize("kind", list(RANGES))
@pytest.mark.parametrize("rank", [0, 1])
def test_a_cut_or_longer_stream_is_refused(kind: str, rank: int) -> None:
    shapes: list[Shape] = [(3, 40), (5,)]
    data = encode(drawn(shapes, 1, kind), kind, rank)
    for size in range(data.size):
        with pytest.raises(ValueError):
            decode(data[:size], shapes, kind, rank)
    with pytest.raises(ValueError, match="bytes too many"):
        decode(np.append(data, np.uint8(0)), shapes, kind, rank)


@given(place=st.integers(0, 10_000), value=st.integers(0, 255), kind=st.sampled_from(list(RANGES)))
def test_a_flipped_byte_gives_numbers_or_one_line(place: int, value: int, kind: str) -> None:
    shapes: list[Shape] = [(3, 40), (5,)]
    data = encode(drawn(shapes, 1, kind), kind)
    data[place % data.size] = value
    try:
        found = decode(data, shapes, kind)
    except ValueError as error:
        assert str(error) and "\n" not in str(error)
    else:
        assert [array.shape for array in found] == shapes
        assert all(np.isfinite(array).all() for array in found)


@pytest.mark.parametrize("scale", [-1.0, math.nan, math.inf])
def test_a_scale_that_is_none_is_refused(scale: float) -> None:
    data = np.concatenate([np.array([scale], "<f2").view(np.uint8), np.ones(4, np.uint8)])
    with pytest.raises(ValueError, match="a scale is negative, NaN or infinite"):
        decode(data, [(1, 4)], "int8")


@pytest.mark.parametrize(
    ("shape", "rank", "line"),
    [
        ((1 << 40,), 0, "values in 40 bytes, expected at most"),
        ((1, 1 << 40), 0, "values in 40 bytes, expected at most"),
        ((1 << 40, 1), 0, "40 bytes, the scales of 1099511627776 rows alone need"),
        ((1 << 40, 0), 0, "40 bytes, the scales of 1099511627776 rows alone need"),
        ((1 << 24, 1 << 24), 1, "values in 40 bytes, expected at most"),
        ((1 << 30, 1 << 18), 1 << 17, "40 bytes, the scales of 262144 rows alone need"),
    ],
)
@pytest.mark.parametrize("kind", ["int8", "int4", "int2"])
def test_a_claim_of_many_values_is_refused_at_once(
    shape: Shape, rank: int, line: str, kind: str
) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=line):
            decode(np.zeros(40, np.uint8), [shape], kind, rank)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_what_would_not_be_believed_is_not_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quantize, "BELIEVED", 1000)
    zeros = np.zeros((1, 1001), np.float32)
    with pytest.raises(ValueError, match="expected at most"):
        encode([zeros], "int2")
