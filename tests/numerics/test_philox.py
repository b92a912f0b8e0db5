"""The vectorised generator against known answers, and word by word against the scalar interpreter."""

from __future__ import annotations

import math

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.numerics import interpreter as exact
from trine.ops import philox

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
DTYPES = [
    (np.dtype(np.float16), exact.FLOAT16),
    (BFLOAT16, exact.BFLOAT16),
    (np.dtype(np.float32), exact.FLOAT32),
    (np.dtype(np.float64), exact.FLOAT64),
]
NAMED = pytest.mark.parametrize(("dtype", "kind"), DTYPES, ids=[str(d) for d, _ in DTYPES])
# Positions where a wrong counter or a wrong key would show: the words' edges.
KEYS = [(0, 0), (1, 0), (0, 1), (2**32 - 1, 2**32), (2**64 - 1, 2**64 - 1), (0x299F31D0A4093822, 0x0370734413198A2E)]


def test_first_block_is_the_published_answer() -> None:
    """Random123, tests/kat_vectors: counter and key of zeros."""
    assert philox.philox_bits(0, 0, 4).tolist() == [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]


def test_block_deep_in_a_stream_is_the_published_answer() -> None:
    """Random123, tests/kat_vectors: the digits of pi and all ones, reached by the number of the block."""
    out = np.empty((1, 4), np.uint32)
    philox._fill(out, 0x85A308D3243F6A88, 0x299F31D0A4093822, 0x0370734413198A2E)
    assert out.tolist() == [[0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1]]
    philox._fill(out, 2**64 - 1, 2**64 - 1, 2**64 - 1)
    assert out.tolist() == [[0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]]


@pytest.mark.parametrize(("seed", "call"), KEYS)
@pytest.mark.parametrize("count", [0, 1, 3, 4, 5, 18])
def test_words_are_those_of_the_interpreter(seed: int, call: int, count: int) -> None:
    bits = philox.philox_bits(seed, call, count)
    assert bits.dtype == np.uint32
    assert bits.tolist() == [exact.word(seed, call, i) for i in range(count)]


@given(seed=st.integers(0, 2**64 - 1), call=st.integers(0, 2**64 - 1), count=st.integers(0, 9))
@settings(max_examples=50)
def test_words_are_those_of_the_interpreter_for_any_key(seed: int, call: int, count: int) -> None:
    assert philox.philox_bits(seed, call, count).tolist() == [exact.word(seed, call, i) for i in range(count)]


def test_a_longer_call_begins_with_the_shorter_one() -> None:
    long = philox.philox_bits(7, 3, 4 * philox._CHUNK + 9)  # over the edge of a chunk
    assert np.array_equal(long[:1001], philox.philox_bits(7, 3, 1001))
    for i in (4 * philox._CHUNK - 1, 4 * philox._CHUNK, 4 * philox._CHUNK + 8):
        assert long[i] == exact.word(7, 3, i)


def test_seeds_count_modulo_2_to_the_64() -> None:
    assert np.array_equal(philox.philox_bits(-1, 0, 8), philox.philox_bits(2**64 - 1, 0, 8))


def test_a_negative_count_is_an_error() -> None:
    with pytest.raises(ValueError, match="count of words is -1"):
        philox.philox_bits(0, 0, -1)


@NAMED
def test_uniform_is_that_of_the_interpreter_to_the_bit(dtype: np.dtype, kind: exact.Float) -> None:
    n = 501
    got = philox.uniform_from_bits(philox.philox_bits(5, 2, philox.words_for("uniform", dtype, n)), dtype)
    assert got.dtype == dtype
    assert got.shape == (n,)
    assert got.astype(np.float64).tolist() == [exact.uniform(5, 2, i, kind) for i in range(n)]


@NAMED
def test_uniform_stays_below_1_and_reaches_0(dtype: np.dtype, kind: exact.Float) -> None:
    ends = philox.uniform_from_bits(np.array([0, 0, 2**32 - 1, 2**32 - 1], np.uint32), dtype).astype(np.float64)
    assert ends[0] == 0.0
    assert ends[-1] == 1.0 - 2.0**-kind.precision


@pytest.mark.parametrize("dtype", [np.dtype(np.float16), BFLOAT16], ids=str)
@pytest.mark.parametrize("p", [2.0**-9, 0.125, 0.5, 0.875])
def test_half_types_keep_every_comparison_with_their_own_numbers(dtype: np.dtype, p: float) -> None:
    edges = [int(p * 2**32) + d for d in (-300, -256, -1, 0, 1, 255, 300)]
    bits = np.concatenate([philox.philox_bits(1, 1, 4096), np.array(edges, np.uint32)])
    half, single = philox.uniform_from_bits(bits, dtype), philox.uniform_from_bits(bits, np.float32)
    assert np.array_equal(half.astype(np.float32) < p, single < p)


def test_half_types_of_the_smallest_numbers_are_exact() -> None:
    bits = np.arange(1, 2000, dtype=np.uint32) << np.uint32(8)  # float16 is subnormal here
    assert np.array_equal(philox.uniform_from_bits(bits, np.float16).astype(np.float64), np.arange(1, 2000) * 2.0**-24)


def test_uniform_of_an_integer_dtype_is_an_error() -> None:
    with pytest.raises(TypeError, match="no uniform numbers of dtype int32"):
        philox.uniform_from_bits(philox.philox_bits(0, 0, 4), np.int32)


def test_uniform_numbers_are_spread_evenly() -> None:
    """Chi-squared over 256 cells: mean 255, standard deviation 22.6; the fixed seed makes this exact, not a chance."""
    u = philox.uniform_from_bits(philox.philox_bits(11, 0, 1 << 16), np.float32)
    counts = np.bincount((u * 256).astype(np.int64), minlength=256)
    assert 150 < float(np.sum((counts - 256.0) ** 2) / 256.0) < 360


@NAMED
def test_normal_agrees_with_the_interpreter_within_the_stated_error(dtype: np.dtype, kind: exact.Float) -> None:
    n = 401
    bits = philox.philox_bits(9, 4, philox.words_for("normal", dtype, n))
    got = philox.normal_from_bits(bits, dtype)[:n].astype(np.float64)
    want = np.array([exact.normal(9, 4, i, kind) for i in range(n)])
    ulp = 2.0 ** (np.floor(np.log2(np.abs(want))) - (kind.precision - 1))
    if kind is exact.FLOAT64:
        assert np.max(np.abs(got - want) / np.abs(want)) <= 2 * 8 * 2.0**-52  # two implementations, 8 * 2**-52 each
    else:
        assert np.max(np.abs(got - want) / ulp) <= 1  # a tie that fell the other way
        assert np.mean(got != want) < 0.01


def test_normal_at_the_corners() -> None:
    corners = np.array([0, 0, 2**32 - 1, 0, 0, 2**30, 0, 2**31], np.uint32)
    z = philox.normal_from_bits(corners, np.float32).tolist()
    farthest = float(np.float32(math.sqrt(64 * math.log(2))))
    assert z == [farthest, 0.0, 0.0, 0.0, 0.0, farthest, -farthest, 0.0]


def test_normal_of_an_integer_dtype_is_an_error() -> None:
    with pytest.raises(TypeError, match="no normal numbers of dtype uint8"):
        philox.normal_from_bits(philox.philox_bits(0, 0, 4), np.uint8)


def test_normal_numbers_have_the_moments_of_the_normal_distribution() -> None:
    """Mean, variance, third and fourth moment over 200,000: each within 5 standard errors."""
    n = 200_000
    z = philox.normal_from_bits(philox.philox_bits(3, 0, n), np.float32).astype(np.float64)
    for power, moment, variance in [(1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96)]:
        assert abs(np.mean(z**power) - moment) < 5 * math.sqrt(variance / n)
    assert abs(np.mean(z[0::2] * z[1::2])) < 5 / math.sqrt(n / 2)  # the two of a pair are independent


RANGES = [(0, 1), (0, 10), (-5, 6), (0, 2**32), (-(2**40), 2**33 + 7), (-(2**63), 2**63), (2**63 - 3, 2**63)]


@pytest.mark.parametrize(("low", "high"), RANGES)
def test_integers_are_those_of_the_interpreter(low: int, high: int) -> None:
    bits = philox.philox_bits(8, 8, philox.words_for("integers", np.int64, 200))
    got = philox.integers_from_bits(bits, low, high)
    assert got.tolist() == [exact.integer(8, 8, i, low, high) for i in range(200)]


@given(bits=st.lists(st.sampled_from([0, 1, 2**31, 2**32 - 2, 2**32 - 1]), min_size=2, max_size=2), data=st.data())
@settings(max_examples=100)
def test_integers_are_exact_at_the_edges_of_words(bits: list[int], data: st.DataObject) -> None:
    low = data.draw(st.integers(-(2**63), 2**63 - 1))
    high = data.draw(st.integers(low + 1, 2**63))
    got = philox.integers_from_bits(np.array(bits, np.uint32), low, high)
    assert got.tolist() == [low + ((bits[0] | bits[1] << 32) * (high - low) >> 64)]


@pytest.mark.parametrize(("low", "high"), [(0, 0), (3, 2), (-(2**63) - 1, 0), (0, 2**63 + 1)])
def test_an_empty_range_of_integers_is_an_error(low: int, high: int) -> None:
    with pytest.raises(ValueError, match=r"is empty or does not fit int64"):
        philox.integers_from_bits(philox.philox_bits(0, 0, 4), low, high)
