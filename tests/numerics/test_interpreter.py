"""The scalar interpreter against facts it does not share: NumPy's scalars, ml_dtypes, fractions, published answers."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.numerics import interpreter as exact
from tests.numerics.interpreter import BFLOAT16, FLOAT16, FLOAT32, FLOAT64, FLOATS, INTEGERS, Float, Integer

NUMPY: dict[str, Any] = {
    "float16": np.dtype(np.float16),
    "bfloat16": np.dtype(ml_dtypes.bfloat16),
    "float32": np.dtype(np.float32),
    "float64": np.dtype(np.float64),
}
EVERY_FLOAT = pytest.mark.parametrize("kind", FLOATS, ids=lambda kind: kind.name)
EVERY_INTEGER = pytest.mark.parametrize("kind", INTEGERS, ids=lambda kind: kind.name)
NATIVE = pytest.mark.parametrize("kind", [FLOAT32, FLOAT64], ids=lambda kind: kind.name)


def same(a: float, b: float) -> bool:
    """Equal bits, one NaN being like another."""
    return (math.isnan(a) and math.isnan(b)) or (a == b and exact.negative(a) == exact.negative(b))


def random_floats(kind: Float, count: int, seed: int = 0) -> list[float]:
    """Random bit patterns of `kind`, so that every exponent, subnormals, infinities and NaN occur; and the corners."""
    rng = np.random.default_rng(seed)
    dtype = NUMPY[kind.name]
    with np.errstate(invalid="ignore"):  # of signalling NaNs
        drawn = np.frombuffer(rng.bytes(count * dtype.itemsize), dtype).astype(np.float64).tolist()
    least = math.ldexp(1.0, kind.low - kind.precision + 1)
    largest = math.ldexp(2.0 - math.ldexp(1.0, 1 - kind.precision), kind.high)
    corners = [0.0, -0.0, 1.0, -1.0, math.inf, -math.inf, math.nan, least, -least, largest, -largest, 1.0 + 2.0**-7]
    return [*corners, *drawn]


def near(kind: Float, count: int, seed: int = 0) -> list[float]:
    """Random numbers of `kind` between -1 and 1."""
    drawn = np.random.default_rng(seed).uniform(-1, 1, count).astype(NUMPY[kind.name])
    return drawn.astype(np.float64).tolist()


# -- Rounding and arithmetic -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [FLOAT16, BFLOAT16, FLOAT32], ids=lambda kind: kind.name)
def test_rounding_from_float32_and_float64_is_that_of_numpy(kind: Float) -> None:
    source = FLOAT32 if kind is BFLOAT16 else FLOAT64  # ml_dtypes rounds float64 twice, through float32
    for x in random_floats(source, 3000):
        with np.errstate(all="ignore"):
            want = float(NUMPY[source.name].type(x).astype(NUMPY[kind.name]))
        assert same(exact.rounded(x, kind), want), x


def test_bfloat16_is_rounded_from_float64_once() -> None:
    assert exact.rounded(1 + 2.0**-8 + 2.0**-40, BFLOAT16) == 1 + 2.0**-7
    assert exact.rounded(1 + 2.0**-8, BFLOAT16) == 1.0  # a tie, to even
    assert exact.rounded(1 + 3 * 2.0**-8, BFLOAT16) == 1 + 2.0**-6  # a tie, to even


@EVERY_FLOAT
def test_every_value_of_a_format_is_its_own_rounding(kind: Float) -> None:
    for x in random_floats(kind, 2000):
        assert same(exact.rounded(x, kind), x)


@EVERY_FLOAT
def test_rounding_goes_to_the_nearer_neighbour_and_at_a_tie_to_the_even_one(kind: Float) -> None:
    dtype = NUMPY[kind.name]
    for x in near(kind, 200, seed=1):
        up = float(np.nextafter(dtype.type(x), dtype.type(2)))
        a, b = Fraction(x), Fraction(up)
        for part, want in [(Fraction(1, 3), x), (Fraction(2, 3), up)]:
            n, d = (a + (b - a) * part).as_integer_ratio()
            assert exact.ratio_rounded(n, d, kind) == want
        tie = exact.ratio_rounded(*((a + b) / 2).as_integer_ratio(), kind)
        unit = math.ldexp(1.0, kind.precision - math.frexp(tie)[1])
        assert tie in (x, up)
        assert tie * unit % 2 == 0


@pytest.mark.parametrize(
    ("kind", "edge"),
    [(FLOAT16, 65520), (BFLOAT16, 2**128 - 2**119), (FLOAT32, 2**128 - 2**103), (FLOAT64, 2**1024 - 2**970)],
    ids=lambda v: getattr(v, "name", ""),
)
def test_overflow_begins_half_a_unit_above_the_largest_number(kind: Float, edge: int) -> None:
    assert exact.rounded(edge, kind) == math.inf
    assert exact.rounded(-edge, kind) == -math.inf
    assert math.isfinite(exact.rounded(edge - 1, kind))


@NATIVE
@pytest.mark.parametrize("name", ["add", "subtract", "multiply", "divide"])
def test_arithmetic_is_that_of_the_processor(kind: Float, name: str) -> None:
    scalar = NUMPY[kind.name].type
    values = random_floats(kind, 70)
    for a in values:
        for b in values[:12] + values[40:60]:
            with np.errstate(all="ignore"):
                want = float(getattr(np, name)(scalar(a), scalar(b)))
            assert same(getattr(exact, name)(a, b, kind), want), (a, b)


@NATIVE
def test_square_root_is_that_of_the_processor(kind: Float) -> None:
    for x in random_floats(kind, 2000):
        with np.errstate(all="ignore"):
            assert same(exact.square_root(x, kind), float(np.sqrt(NUMPY[kind.name].type(x)))), x


@given(st.tuples(*[st.floats(width=32, allow_nan=False, allow_infinity=False)] * 3))
@settings(max_examples=300)
def test_fma_is_the_exact_value_rounded_once(abc: tuple[float, float, float]) -> None:
    a, b, c = abc
    got = exact.fma(a, b, c, FLOAT64)
    value = Fraction(a) * Fraction(b) + Fraction(c)
    assert got == value.numerator / value.denominator  # Python divides integers with one rounding


def test_fma_differs_from_a_product_and_a_sum() -> None:
    x = 1 + 2.0**-12
    assert exact.fma(x, x, -1 - 2.0**-11, FLOAT32) == 2.0**-24
    assert exact.add(exact.multiply(x, x, FLOAT32), -1 - 2.0**-11, FLOAT32) == 0.0


@pytest.mark.parametrize(
    ("a", "b", "c", "want"),
    [
        (0.0, 1.0, -0.0, 0.0),
        (-0.0, 1.0, -0.0, -0.0),
        (-0.0, 1.0, 0.0, 0.0),
        (2.0, 3.0, -6.0, 0.0),
        (-2.0, 3.0, 6.0, 0.0),
        (math.inf, 0.0, 1.0, math.nan),
        (math.inf, -1.0, math.inf, math.nan),
        (math.inf, -1.0, 5.0, -math.inf),
        (1e300, -1e300, math.inf, math.inf),
        (1.0, math.nan, 1.0, math.nan),
        (2.0**-100, -(2.0**-100), 0.0, -0.0),
    ],
)
def test_fma_of_special_values(a: float, b: float, c: float, want: float) -> None:
    assert same(exact.fma(a, b, c, FLOAT32), want)


@pytest.mark.parametrize("kind", [FLOAT16, BFLOAT16], ids=lambda kind: kind.name)
@pytest.mark.parametrize("name", ["add", "multiply", "divide"])
def test_half_arithmetic_is_float32_arithmetic_rounded(kind: Float, name: str) -> None:
    scalar = NUMPY[kind.name].type
    values = random_floats(kind, 60)
    for a in values:
        for b in values[::3]:
            with np.errstate(all="ignore"):
                wide = getattr(np, name)(np.float32(scalar(a)), np.float32(scalar(b)))
                want = float(wide.astype(NUMPY[kind.name]))
            assert same(exact.in_half(getattr(exact, name), a, b, kind=kind), want), (a, b)


@NATIVE
def test_float_floor_division_and_remainder_are_those_of_numpy(kind: Float) -> None:
    scalar = NUMPY[kind.name].type
    values = [*random_floats(kind, 40), *(8.0 * x for x in near(kind, 30)), 3.0, 0.5]
    for a in values:
        for b in values[:12] + values[-24:]:
            with np.errstate(all="ignore"):
                quotient, rest = float(scalar(a) // scalar(b)), float(np.remainder(scalar(a), scalar(b)))
            assert same(exact.floor_divide(a, b, kind), quotient), (a, b)
            assert same(exact.remainder(a, b, kind), rest), (a, b)


def test_maximum_and_minimum_propagate_nan_and_order_the_zeros() -> None:
    for a, b in [(math.nan, 1.0), (-math.inf, math.nan), (math.nan, math.nan)]:
        assert math.isnan(exact.maximum(a, b))
        assert math.isnan(exact.minimum(a, b))
    for a, b in [(0.0, -0.0), (-0.0, 0.0)]:
        assert same(exact.maximum(a, b), 0.0)
        assert same(exact.minimum(a, b), -0.0)
    assert same(exact.maximum(-0.0, -0.0), -0.0)
    assert (exact.maximum(2.0, -3.0), exact.minimum(2.0, -3.0)) == (2.0, -3.0)


@pytest.mark.parametrize(("x", "want"), [(-0.0, -0.0), (-1.0, 0.0), (3.0, 3.0), (math.nan, math.nan)])
def test_relu_keeps_nan_and_the_sign_of_zero(x: float, want: float) -> None:
    assert same(exact.relu(x), want)


# -- Integers ----------------------------------------------------------------------------------------------------------


def integer_dtype(kind: Integer) -> Any:
    return np.dtype(kind.name)


def some_integers(kind: Integer) -> list[int]:
    drawn = np.random.default_rng(kind.bits).integers(kind.least, kind.largest, 20, integer_dtype(kind), endpoint=True)
    return [kind.least, kind.least + kind.signed, 0, 1, 2, 7, kind.largest, *drawn.tolist()]


@EVERY_INTEGER
def test_integer_arithmetic_wraps_like_numpy(kind: Integer) -> None:
    dtype = integer_dtype(kind)
    values = some_integers(kind)
    left, right = (np.array(side, dtype) for side in zip(*[(a, b) for a in values for b in values], strict=True))
    pairs = list(zip(left.tolist(), right.tolist(), strict=True))
    for ufunc, operation in [
        (np.add, lambda a, b: a + b),
        (np.subtract, lambda a, b: a - b),
        (np.multiply, lambda a, b: a * b),
    ]:
        assert ufunc(left, right).tolist() == [exact.wrapped(operation(a, b), kind) for a, b in pairs]


@EVERY_INTEGER
def test_integer_division_is_that_of_numpy_and_0_by_zero(kind: Integer) -> None:
    dtype = integer_dtype(kind)
    values = some_integers(kind)
    for a in values:
        assert exact.integer_floor_divide(a, 0, kind) == 0
        assert exact.integer_remainder(a, 0) == 0
        for b in (v for v in values if v):
            with np.errstate(all="ignore"):
                want = int(dtype.type(a) // dtype.type(b)), int(dtype.type(a) % dtype.type(b))
            assert (exact.integer_floor_divide(a, b, kind), exact.integer_remainder(a, b)) == want, (a, b)


@pytest.mark.parametrize("kind", [k for k in INTEGERS if k.signed], ids=lambda kind: kind.name)
def test_the_most_negative_integer_over_minus_1_wraps(kind: Integer) -> None:
    assert exact.integer_floor_divide(kind.least, -1, kind) == kind.least
    assert exact.wrapped(-kind.least, kind) == kind.least


@EVERY_INTEGER
def test_shifts_within_the_width_are_those_of_numpy_and_0_beyond(kind: Integer) -> None:
    dtype = integer_dtype(kind)
    for x in some_integers(kind):
        for by in range(kind.bits):
            assert exact.left_shift(x, by, kind) == int(np.left_shift(dtype.type(x), dtype.type(by)))
            assert exact.right_shift(x, by, kind) == int(np.right_shift(dtype.type(x), dtype.type(by)))
        for by in (kind.bits, kind.bits + 1, kind.largest, -1):
            assert exact.left_shift(x, by, kind) == exact.right_shift(x, by, kind) == 0


@EVERY_INTEGER
def test_integer_power_is_repeated_multiplication(kind: Integer) -> None:
    for base in some_integers(kind):
        product = 1
        for exponent in range(9):
            assert exact.integer_power(base, exponent, kind) == product
            product = exact.wrapped(product * base, kind)
    assert [exact.integer_power(b, e, kind) for b, e in [(1, -3), (2, -1), (0, -2)]] == [1, 0, 0]
    assert [exact.integer_power(-1, e, kind) for e in (-1, -2)] == [-1, 1]


# -- Casts -------------------------------------------------------------------------------------------------------------


@EVERY_INTEGER
def test_casts_of_floats_truncate_and_saturate(kind: Integer) -> None:
    cases = {
        math.nan: 0,
        math.inf: kind.largest,
        -math.inf: kind.least,
        1e30: kind.largest,
        -1e30: kind.least,
        1.999: 1,
        -0.999: 0,
        -1.5: -1 if kind.signed else 0,
        float(kind.largest + 1): kind.largest,
        100.7: 100,
    }
    for x, want in cases.items():
        assert exact.float_to_integer(x, kind) == want, x


@EVERY_INTEGER
def test_casts_between_integers_wrap_like_numpy(kind: Integer) -> None:
    for source in INTEGERS:
        values = some_integers(source)
        want = np.array(values, integer_dtype(source)).astype(integer_dtype(kind)).tolist()
        assert [exact.wrapped(x, kind) for x in values] == want


@EVERY_INTEGER
@pytest.mark.parametrize("to", [FLOAT32, FLOAT64], ids=lambda to: to.name)
def test_casts_from_integers_round_once_like_the_processor(kind: Integer, to: Float) -> None:
    values = some_integers(kind)
    want = np.array(values, integer_dtype(kind)).astype(NUMPY[to.name]).astype(np.float64).tolist()
    assert [exact.rounded(x, to) for x in values] == want


def test_casts_from_integers_to_half_types_round_once() -> None:
    x = 2**31 + 2**23 + 1  # above a tie; through float32 the 1 is lost and the tie goes down
    assert exact.rounded(x, BFLOAT16) == 2.0**31 + 2.0**24
    assert exact.rounded(exact.rounded(x, FLOAT32), BFLOAT16) == 2.0**31
    assert exact.rounded(2049, FLOAT16) == 2048.0
    assert exact.rounded(2051, FLOAT16) == 2052.0


# -- Contractions ------------------------------------------------------------------------------------------------------

SEGMENTS = [
    ((8, 8, 0), [(0, 0)]),
    ((8, 8, 1), [(0, 1)]),
    ((8, 8, 256), [(0, 256)]),
    ((8, 8, 511), [(0, 511)]),
    ((8, 8, 512), [(0, 256), (256, 512)]),
    ((8, 8, 784), [(0, 256), (256, 512), (512, 784)]),
    ((1, 10, 784), [(0, 256), (256, 512), (512, 784)]),
    ((4096, 2, 1024), [(0, 256), (256, 512), (512, 768), (768, 1024)]),
    ((8, 1, 15), [(0, 15)]),
    ((8, 1, 31), [(0, 31)]),
    ((1, 1, 32), [(0, 16), (16, 32)]),
    ((8, 1, 50), [(0, 16), (16, 32), (32, 50)]),
]


@pytest.mark.parametrize(("sizes", "want"), SEGMENTS, ids=lambda v: str(v) if len(v) == 3 else "")
def test_segments_are_those_of_the_published_table(sizes: tuple[int, int, int], want: list[tuple[int, int]]) -> None:
    assert exact.segments(*sizes) == want


@given(m=st.integers(0, 5000), n=st.integers(0, 5000), k=st.integers(0, 100_000))
def test_segments_cover_k_in_pieces_shorter_than_two_lengths(m: int, n: int, k: int) -> None:
    cut = exact.segments(m, n, k)
    length = 16 if n == 1 else 256
    assert cut[0][0] == 0
    assert cut[-1][1] == k
    assert all(a[1] == b[0] for a, b in itertools.pairwise(cut))
    assert all(stop - start == length for start, stop in cut[:-1])
    assert cut[-1][1] - cut[-1][0] < 2 * length


def test_segments_do_not_depend_on_the_number_of_rows() -> None:
    for n, k in [(1, 700), (10, 700), (64, 5000)]:
        assert {tuple(exact.segments(m, n, k)) for m in (1, 2, 16, 4096)} == {tuple(exact.segments(1, n, k))}


def bracket(count: int) -> Any:
    """How `pairwise` nests `count` parts, as nested tuples."""
    return exact.pairwise(list(range(count)), lambda a, b: (a, b))


def test_the_pairwise_tree_is_that_of_the_page() -> None:
    assert bracket(1) == 0
    assert bracket(2) == (0, 1)
    assert bracket(3) == ((0, 1), 2)
    assert bracket(5) == (((0, 1), (2, 3)), 4)
    assert bracket(7) == (((0, 1), (2, 3)), ((4, 5), 6))


@pytest.mark.parametrize("count", [*range(1, 34), 100, 127, 128, 129])
def test_the_pairwise_tree_can_be_built_level_by_level_or_from_a_stream(count: int) -> None:
    """A program may add neighbours until one is left, or keep one part for each set bit of the count so far."""
    level: list[Any] = list(range(count))
    while len(level) > 1:
        level = [tuple(level[i : i + 2]) if i + 1 < len(level) else level[i] for i in range(0, len(level), 2)]
    stack: list[tuple[int, Any]] = []
    for part in range(count):
        size, tree = 1, part
        while stack and stack[-1][0] == size:
            size, tree = 2 * size, (stack.pop()[1], tree)
        stack.append((size, tree))
    stream = stack.pop()[1]
    while stack:
        stream = (stack.pop()[1], stream)
    assert level[0] == stream == bracket(count)


def error_bound(roundings: int, magnitude: Fraction, kind: Float) -> Fraction:
    u = Fraction(1, 2**kind.precision)
    return roundings * u / (1 - roundings * u) * magnitude


@EVERY_FLOAT
@pytest.mark.parametrize(("n", "k"), [(2, 1), (2, 300), (2, 700), (1, 50), (1, 333)])
def test_contraction_is_within_the_stated_error(kind: Float, n: int, k: int) -> None:
    flat = near(kind, k + k * n, seed=k)
    a, b = [flat[:k]], [flat[k + i * n : k + (i + 1) * n] for i in range(k)]
    cut = exact.segments(1, n, k)
    roundings = max(stop - start for start, stop in cut) + math.ceil(math.log2(len(cut)))
    for j, got in enumerate(exact.matrix_product(a, b, kind)[0]):
        products = [Fraction(x) * Fraction(row[j]) for x, row in zip(a[0], b, strict=True)]
        magnitude = sum(map(abs, products), Fraction(0))
        bound = error_bound(roundings, magnitude, exact.accumulator(kind))
        if exact.accumulator(kind) is not kind:
            bound = bound * (1 + Fraction(1, 2**kind.precision)) + abs(Fraction(got)) * Fraction(1, 2**kind.precision)
        assert abs(Fraction(got) - sum(products, Fraction(0))) <= bound


def float32_contraction(row: Sequence[float], column: Sequence[float], cut: Sequence[tuple[int, int]]) -> float:
    """The defined order by NumPy's own scalars; the products must be exact in float32, so that FMA is mul and add."""
    sums = []
    for start, stop in cut:
        total = np.float32(0)
        for x, y in zip(row[start:stop], column[start:stop], strict=True):
            total = total + np.float32(x) * np.float32(y)
        sums.append(total)
    while len(sums) > 1:
        sums = [sums[i] + sums[i + 1] if i + 1 < len(sums) else sums[i] for i in range(0, len(sums), 2)]
    return float(sums[0])


@pytest.mark.parametrize(("n", "k"), [(2, 511), (2, 512), (3, 1300), (1, 32), (1, 200)])
def test_contraction_of_half_types_is_the_order_followed_by_hand(n: int, k: int) -> None:
    flat = near(FLOAT16, k + k * n, seed=n)
    a, b = [flat[:k]], [flat[k + i * n : k + (i + 1) * n] for i in range(k)]
    got = exact.matrix_product(a, b, FLOAT16)[0]
    for j in range(n):
        total = float32_contraction(a[0], [row[j] for row in b], exact.segments(1, n, k))
        assert got[j] == float(np.float16(total))


def test_contraction_shows_its_order() -> None:
    """2**24 swallows a 1 that follows it in its segment, and keeps the sum of another segment."""
    column = [[1.0, 1.0]] * 512
    alone = [2.0**24] + [0.0] * 255
    ones = [1.0] * 256
    assert exact.matrix_product([alone + ones], column, FLOAT32)[0][0] == 2.0**24 + 256
    assert exact.matrix_product([[2.0**24, *ones[1:], *[0.0] * 256]], column, FLOAT32)[0][0] == 2.0**24
    assert exact.matrix_product([[*ones[1:], 2.0**24, *[0.0] * 256]], column, FLOAT32)[0][0] == 2.0**24 + 256


def test_contraction_rows_do_not_depend_on_their_neighbours() -> None:
    k, n = 530, 3
    flat = near(FLOAT32, 4 * k + k * n, seed=5)
    a, b = [flat[i * k : (i + 1) * k] for i in range(4)], [flat[4 * k + i * n :][:n] for i in range(k)]
    whole = exact.matrix_product(a, b, FLOAT32)
    assert [exact.matrix_product([row], b, FLOAT32)[0] for row in a] == whole
    # A column of its own has n = 1, and with that other segments.
    assert [row[0] for row in exact.matrix_product(a, [r[:1] for r in b], FLOAT32)] != [row[0] for row in whole]


def test_contraction_may_be_accumulated_in_another_format() -> None:
    a, b = [[2.0**24, 1.0, -(2.0**24)]], [[1.0], [1.0], [1.0]]
    assert exact.matrix_product(a, b, FLOAT32) == [[0.0]]
    assert exact.matrix_product(a, b, FLOAT32, accumulate=FLOAT64) == [[1.0]]
    assert exact.matrix_product([[60000.0, 60000.0, -60000.0]], b, FLOAT16) == [[60000.0]]


def test_contraction_of_nothing_is_positive_zero_and_so_is_one_of_negative_zeros() -> None:
    assert same(exact.contract([], 1, 1, FLOAT32), 0.0)
    assert same(exact.contract([(-0.0, 1.0)] * 3, 1, 2, FLOAT32), 0.0)
    assert math.isnan(exact.contract([(0.0, math.inf), (1.0, 1.0)], 1, 2, FLOAT32))


def test_integer_contraction_wraps() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.integers(-128, 128, (3, 40), np.int8), rng.integers(-128, 128, (40, 2), np.int8)
    want = (a.astype(np.int64) @ b.astype(np.int64)).astype(np.int32).tolist()
    assert exact.integer_matrix_product(a.tolist(), b.tolist(), exact.INT32) == want
    assert exact.integer_matrix_product([[100, 100]], [[100], [100]], exact.INT8) == [[32]]


def as_tensor(array: Any) -> exact.Tensor:
    return {index: float(x) for index, x in np.ndenumerate(array)}


def brute_convolution(x: Any, w: Any, how: exact.Window) -> Any:
    """By spreading, padding and correlating arrays of integers, which NumPy does without rounding."""
    for axis, (p, q, s) in enumerate(zip(how.before, how.after, how.spread, strict=True), start=1):
        wide = np.zeros((*x.shape[:axis], (x.shape[axis] - 1) * s + 1, *x.shape[axis + 1 :]))
        wide[(slice(None),) * axis + (slice(None, None, s),)] = x
        x = np.pad(wide, [(p, q) if a == axis else (0, 0) for a in range(x.ndim)])
    reach = tuple((t - 1) * d + 1 for t, d in zip(w.shape, how.dilation, strict=False))
    view = np.lib.stride_tricks.sliding_window_view(x, reach, tuple(range(1, x.ndim - 1)))
    view = view[(slice(None), *(slice(None, None, s) for s in how.stride))]
    view = view[(..., *(slice(None, None, d) for d in how.dilation))]  # [batch, *out, channels, *taps]
    rank = len(reach)
    return np.tensordot(np.moveaxis(view, rank + 1, -1), w, rank + 1)


WINDOWS = [
    exact.Window((1, 1), (0, 0), (0, 0), (1, 1), (1, 1)),
    exact.Window((2, 1), (1, 1), (1, 0), (1, 1), (1, 1)),
    exact.Window((1, 1), (2, 0), (1, 2), (2, 1), (1, 1)),
    exact.Window((1, 1), (2, 1), (1, 1), (1, 1), (2, 3)),
]


@pytest.mark.parametrize("how", WINDOWS)
def test_convolution_is_that_of_numpy_on_integers(how: exact.Window) -> None:
    rng = np.random.default_rng(1)
    x, w = rng.integers(-9, 10, (2, 5, 4, 3)), rng.integers(-9, 10, (3, 2, 3, 2))
    got = exact.convolution(as_tensor(x), x.shape, as_tensor(w), w.shape, how, FLOAT32)
    assert got == as_tensor(brute_convolution(x, w, how))


def test_convolution_is_a_contraction_over_taps_then_channels() -> None:
    x, w = near(FLOAT32, 3 * 100, seed=8), near(FLOAT32, 3 * 100 * 2, seed=9)
    how = exact.Window((1,), (0,), (0,), (1,), (1,))
    image, kernel = np.reshape(x, (1, 3, 100)), np.reshape(w, (3, 100, 2))
    got = exact.convolution(as_tensor(image), (1, 3, 100), as_tensor(kernel), (3, 100, 2), how, FLOAT32)
    want = exact.matrix_product([x], np.reshape(w, (300, 2)).tolist(), FLOAT32)[0]
    assert [got[(0, 0, f)] for f in range(2)] == want


def test_convolution_padding_takes_part_and_holes_do_not() -> None:
    w = {(0, 0, 0): math.inf, (1, 0, 0): 1.0}
    padded = exact.Window((1,), (1,), (0,), (1,), (1,))
    spread = exact.Window((1,), (0,), (0,), (1,), (2,))
    x = {(0, 0, 0): 2.0, (0, 1, 0): 3.0}
    assert math.isnan(exact.convolution(x, (1, 2, 1), w, (2, 1, 1), padded, FLOAT32)[(0, 0, 0)])
    assert exact.convolution(x, (1, 2, 1), w, (2, 1, 1), spread, FLOAT32) == {(0, 0, 0): math.inf, (0, 1, 0): 3.0}


# -- Reductions --------------------------------------------------------------------------------------------------------


def nest(a: Any, b: Any) -> Any:
    return (a, b)


def test_the_last_axis_is_reduced_lane_by_lane_then_by_halves() -> None:
    assert exact.over_last_axis([0], nest) == 0
    assert exact.over_last_axis([0, 1, 2], nest) == ((0, 2), 1)
    assert exact.over_last_axis(list("abcde"), nest) == ((("a", "e"), "c"), ("b", "d"))
    two_rounds = exact.over_last_axis(list(range(66)), nest)
    leftmost = two_rounds
    while isinstance(leftmost[0], tuple):
        leftmost = leftmost[0]
    assert leftmost == (0, 64)  # lane 0 in order, before lanes meet


def float32_lanes(values: Sequence[float]) -> float:
    """The order over the last axis by NumPy's vectors, padded with -0.0, which changes no sum."""
    blocks = []
    for start in range(0, len(values), 1024):
        padded = np.full(1024, -0.0, np.float32)
        part = np.array(values[start : start + 1024], np.float32)
        padded[: len(part)] = part
        rows = padded.reshape(16, 64)
        lanes = rows[0].copy()
        for row in rows[1:]:
            lanes += row
        while len(lanes) > 1:
            lanes = lanes[: len(lanes) // 2] + lanes[len(lanes) // 2 :]
        blocks.append(lanes[0])
    while len(blocks) > 1:
        blocks = [blocks[i] + blocks[i + 1] if i + 1 < len(blocks) else blocks[i] for i in range(0, len(blocks), 2)]
    return float(blocks[0])


SIZES = [1, 2, 31, 63, 64, 65, 127, 1000, 1023, 1024, 1025, 1100, 3000, 5 * 1024]


@pytest.mark.parametrize("size", SIZES)
def test_the_sum_over_the_last_axis_is_that_of_padded_vectors(size: int) -> None:
    values = near(FLOAT32, size, seed=size)
    assert exact.reduce_floats(values, [size], [0], "sum", FLOAT32) == [float32_lanes(values)]


def float32_rows(table: Any) -> list[float]:
    """The order over rows by NumPy's vectors: one row after another in blocks of 64, then neighbours."""
    blocks = []
    for start in range(0, len(table), 64):
        total = table[start].copy()
        for row in table[start + 1 : start + 64]:
            total += row
        blocks.append(total)
    while len(blocks) > 1:
        blocks = [blocks[i] + blocks[i + 1] if i + 1 < len(blocks) else blocks[i] for i in range(0, len(blocks), 2)]
    return [float(x) for x in blocks[0]]


@pytest.mark.parametrize("rows", [1, 2, 63, 64, 65, 128, 200, 450])
def test_the_sum_over_rows_is_that_of_vectors(rows: int) -> None:
    values = near(FLOAT32, rows * 3, seed=rows)
    table = np.array(values, np.float32).reshape(rows, 3)
    assert exact.reduce_floats(values, [rows, 3], [0], "sum", FLOAT32) == float32_rows(table)


@EVERY_FLOAT
@pytest.mark.parametrize("size", [1, 64, 100, 1025, 2500])
def test_sums_are_within_the_stated_error(kind: Float, size: int) -> None:
    values = near(kind, size, seed=2)
    blocks, longest = -(-size // 1024), min(16, -(-size // 64))
    roundings = longest - 1 + 6 + math.ceil(math.log2(blocks))
    total, magnitude = sum(map(Fraction, values)), sum(abs(Fraction(x)) for x in values)
    got = exact.reduce_floats(values, [size], [0], "sum", kind)[0]
    bound = error_bound(roundings, magnitude, exact.accumulator(kind))
    if exact.accumulator(kind) is not kind:
        bound = bound * (1 + Fraction(1, 2**kind.precision)) + abs(Fraction(got)) * Fraction(1, 2**kind.precision)
    assert abs(Fraction(got) - total) <= bound


def test_half_sums_are_rounded_once() -> None:
    ones = [1.0] * 3000
    assert exact.reduce_floats(ones, [3000], [0], "sum", FLOAT16) == [3000.0]
    assert exact.reduce_floats(ones, [3000], [0], "sum", BFLOAT16) == [3008.0]
    assert exact.reduce_floats([60000.0, 60000.0, -60000.0], [3], [0], "sum", FLOAT16) == [60000.0]


def test_neighbouring_axes_are_merged_and_the_last_group_goes_first() -> None:
    assert exact.axis_groups([2, 3, 4, 5], [0, 1]) == [(6, True), (20, False)]
    assert exact.axis_groups([2, 3, 4, 5], [0, 2, 3]) == [(2, True), (3, False), (20, True)]
    assert exact.axis_groups([7, 1, 7], [0, 2]) == [(7, True), (1, False), (7, True)]
    assert exact.axis_groups([], []) == []


def test_a_reduction_over_several_axes_is_composed_of_groups() -> None:
    shape = [3, 70, 2, 33]
    values = near(FLOAT32, math.prod(shape), seed=4)

    def total(values: list[float], shape: list[int], axes: list[int]) -> list[float]:
        return exact.reduce_floats(values, shape, axes, "sum", FLOAT32)

    assert total(values, shape, [2, 3]) == total(values, [210, 66], [1])
    assert total(values, shape, [0, 1]) == total(values, [210, 66], [0])
    assert total(values, shape, [0, 1, 2, 3]) == total(values, [math.prod(shape)], [0])
    assert total(values, shape, [1, 3]) == total(total(values, shape, [3]), shape[:3], [1])
    assert total(values, shape, []) == values


def test_a_kept_axis_of_size_1_makes_rows_of_what_is_before_it() -> None:
    """Else a program for any number of columns would differ from one for a single column."""
    values = near(FLOAT32, 300, seed=6)
    assert exact.reduce_floats(values, [300, 1], [0], "sum", FLOAT32) == [exact.over_rows(values, float32_add)]
    assert exact.over_rows(values, float32_add) != exact.over_last_axis(values, float32_add)


def float32_add(a: float, b: float) -> float:
    return float(np.float32(a) + np.float32(b))


def test_columns_do_not_depend_on_their_neighbours() -> None:
    values = near(FLOAT32, 400, seed=7)
    whole = exact.reduce_floats(values, [100, 4], [0], "sum", FLOAT32)
    assert [exact.reduce_floats(values[j::4], [100, 1], [0], "sum", FLOAT32)[0] for j in range(4)] == whole


def test_reductions_of_nothing() -> None:
    assert exact.reduce_floats([], [0], [0], "sum", FLOAT32) == [0.0]
    assert exact.reduce_floats([], [0, 2], [0], "prod", FLOAT32) == [1.0, 1.0]
    assert exact.reduce_floats([], [2, 0], [0], "max", FLOAT32) == []
    with pytest.raises(ValueError, match="no value for it"):
        exact.reduce_floats([], [0], [0], "max", FLOAT32)


def test_reductions_keep_nan_and_the_sign_of_zero() -> None:
    assert same(exact.reduce_floats([-0.0] * 70, [70], [0], "sum", FLOAT32)[0], -0.0)
    assert same(exact.reduce_floats([-0.0, 0.0], [2], [0], "sum", FLOAT32)[0], 0.0)
    for operation in ("sum", "prod", "max", "min"):
        values = [1.0] * 500 + [math.nan] + [2.0] * 700
        assert math.isnan(exact.reduce_floats(values, [1201], [0], operation, FLOAT32)[0])


@given(st.lists(st.sampled_from([0.0, -0.0, 1.5, -2.0, math.inf, -math.inf, math.nan]), min_size=1, max_size=150))
def test_max_and_min_do_not_depend_on_the_order(values: list[float]) -> None:
    for operation in ("max", "min"):
        forward = exact.reduce_floats(values, [len(values)], [0], operation, FLOAT32)[0]
        backward = exact.reduce_floats(values[::-1], [len(values), 1], [0], operation, FLOAT32)[0]
        assert same(forward, backward)


@pytest.mark.parametrize("operation", ["prod", "max", "min"])
def test_products_and_extremes_are_those_of_numpy_where_nothing_is_rounded(operation: str) -> None:
    values = [2.0, -1.0, 0.5, 4.0, -0.25] * 30
    want = float(getattr(np, operation)(np.array(values)))
    assert exact.reduce_floats(values, [150], [0], operation, FLOAT64) == [want]


@EVERY_INTEGER
@pytest.mark.parametrize("operation", ["sum", "prod", "max", "min"])
def test_integer_reductions_are_those_of_numpy(kind: Integer, operation: str) -> None:
    dtype = integer_dtype(kind)
    values = some_integers(kind)
    extra = {"dtype": dtype} if operation in ("sum", "prod") else {}
    want = int(getattr(np, operation)(np.array(values, dtype), **extra))
    assert exact.reduce_integers(values, [len(values)], [0], operation, kind) == [want]


def test_cumulative_sums_are_those_of_numpy_and_half_types_round_each_result() -> None:
    values = near(FLOAT32, 500, seed=3)
    want = np.cumsum(np.array(values, np.float32)).astype(np.float64).tolist()
    assert exact.cumulative_sum(values, FLOAT32) == want
    assert exact.cumulative_sum([1.0] * 2100, FLOAT16)[-1] == 2100.0


def test_argmax_takes_the_first_nan_else_the_first_of_the_largest() -> None:
    assert exact.argmax([1.0, 3.0, 3.0, 2.0]) == 1
    assert exact.argmax([-0.0, 0.0]) == 0
    assert exact.argmax([math.inf, math.nan, math.nan]) == 1


# -- Scatter-add and gradients -----------------------------------------------------------------------------------------


def test_scatter_add_is_that_of_numpy_in_float32() -> None:
    rng = np.random.default_rng(0)
    target, updates = near(FLOAT32, 10, seed=1), near(FLOAT32, 400, seed=2)
    places = rng.integers(0, 10, 400).tolist()
    want = np.array(target, np.float32)
    np.add.at(want, places, np.array(updates, np.float32))
    assert exact.scatter_add(target, places, updates, FLOAT32) == want.astype(np.float64).tolist()


def test_scatter_add_goes_in_the_order_of_the_indices() -> None:
    assert exact.scatter_add([0.0], [0, 0, 0], [2.0**24, 1.0, 1.0], FLOAT32) == [2.0**24]
    assert exact.scatter_add([0.0], [0, 0, 0], [1.0, 1.0, 2.0**24], FLOAT32) == [2.0**24 + 2]


def test_scatter_add_rounds_a_half_type_once_and_leaves_the_rest_alone() -> None:
    got = exact.scatter_add([2048.0, -0.0], [0, 0], [1.0, 1.0], FLOAT16)
    assert got[0] == 2050.0
    assert same(got[1], -0.0)


def test_gradient_contributions_are_added_from_the_left() -> None:
    assert exact.fan_in([2.0**24, 1.0, 1.0], FLOAT32) == 2.0**24
    assert exact.fan_in([1.0, 1.0, 2.0**24], FLOAT32) == 2.0**24 + 2
    assert exact.fan_in([2048.0, 1.0, 1.0], FLOAT16) == 2048.0  # each addition is an operation, rounded


# -- Random numbers ----------------------------------------------------------------------------------------------------

# Random123 (Salmon, Moraes, Dror, Shaw, SC 2011), tests/kat_vectors: counter, key, answer.
PHILOX = [
    ([0] * 4, [0] * 2, (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ([0xFFFFFFFF] * 4, [0xFFFFFFFF] * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (
        [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
        [0xA4093822, 0x299F31D0],
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]


@pytest.mark.parametrize(("counter", "key", "want"), PHILOX)
def test_philox_gives_the_published_answers(counter: list[int], key: list[int], want: tuple[int, ...]) -> None:
    assert exact.philox4x32(counter, key) == want


def test_philox_with_7_rounds_gives_the_published_answer() -> None:
    assert exact.philox4x32([0] * 4, [0] * 2, 7) == (0x5F6FB709, 0x0D893F64, 0x4F121F81, 0x4F730A48)


def test_words_take_their_place_in_counter_and_key() -> None:
    assert exact.word(0, 0, 2) == 0xBC57AC4C
    assert exact.word(0x299F31D0A4093822, 0x0370734413198A2E, 4 * 0x85A308D3243F6A88 + 3) == 0x24126EA1
    assert exact.long_word(0, 0, 1) == 0x9B00DBD8BC57AC4C


@EVERY_FLOAT
def test_uniform_numbers_are_values_of_their_format_below_1(kind: Float) -> None:
    for i in range(200):
        u = exact.uniform(0, 1, i, kind)
        assert 0.0 <= u < 1.0
        assert exact.rounded(u, kind) == u


def test_uniform_takes_the_top_bits() -> None:
    assert exact.uniform(0, 0, 0, FLOAT32) == 0x6627E8 / 2**24
    assert exact.uniform(0, 0, 0, FLOAT64) == (0xE169C58D6627E8D5 >> 11) / 2**53
    assert exact.uniform(0, 0, 0, BFLOAT16) == 0xCC / 2**9  # 0x6627E8 begins with a 0 bit; then eight are kept


def test_dropping_bits_stays_below_1_where_rounding_would_not() -> None:
    largest = 1.0 - 2.0**-24
    assert exact.rounded(largest, FLOAT16) == exact.rounded(largest, BFLOAT16) == 1.0
    assert exact.truncated(largest, FLOAT16) == 1.0 - 2.0**-11
    assert exact.truncated(largest, BFLOAT16) == 1.0 - 2.0**-8
    assert exact.truncated(3 * 2.0**-24, FLOAT16) == 3 * 2.0**-24  # subnormal, and exact
    assert exact.truncated(0.0, BFLOAT16) == 0.0


def test_normal_numbers_are_the_polar_form_of_their_two_words() -> None:
    u, v = (0x6627E8D5 + 1) / 2**32, 0xE169C58D / 2**32
    pair = [exact.normal(0, 0, i, FLOAT32) for i in range(2)]
    assert math.isclose(math.hypot(*pair), math.sqrt(-2 * math.log(u)), rel_tol=2.0**-23)
    assert math.isclose(math.atan2(pair[1], pair[0]) % (2 * math.pi), 2 * math.pi * v, rel_tol=2.0**-22)


def test_integers_stay_in_their_range_and_reach_all_of_it() -> None:
    drawn = [exact.integer(1, 1, i, -2, 3) for i in range(200)]
    assert set(drawn) == {-2, -1, 0, 1, 2}
