"""Edges to the bit: NaN, infinities, signed zeros, subnormals, integer limits, against the scalar interpreter."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

import trine
from tests.numerics import interpreter as exact
from tests.numerics.interpreter import FLOAT32, FLOATS, INTEGERS, Float, Integer
from trine import dtypes
from trine.ops import elementwise as e
from trine.ops import reduction as r
from trine.tensor.creation import asarray

EVERY_FLOAT = pytest.mark.parametrize("kind", FLOATS, ids=lambda kind: kind.name)
EVERY_INTEGER = pytest.mark.parametrize("kind", INTEGERS, ids=lambda kind: kind.name)


def numpy(kind: Float | Integer) -> Any:
    return dtypes.dtype(kind.name).numpy


def floats(kind: Float, count: int = 30) -> list[float]:
    """The corners of a format, and random bit patterns of it."""
    least = math.ldexp(1.0, kind.low - kind.precision + 1)
    normal = math.ldexp(1.0, kind.low)
    largest = math.ldexp(2.0 - math.ldexp(1.0, 1 - kind.precision), kind.high)
    corners = [0.0, 1.0, 1.5, 2.0, 3.0, 0.5, 1 / 3, least, normal, normal - least, largest, math.inf, math.nan]
    dtype = numpy(kind)
    drawn = np.frombuffer(np.random.default_rng(0).bytes(count * dtype.itemsize), dtype)
    with np.errstate(all="ignore"):
        both = [x for c in corners for x in (exact.rounded(c, kind), -exact.rounded(c, kind))]
        return [*both, *drawn.astype(np.float64).tolist()]


def integers(kind: Integer) -> list[int]:
    near = [kind.least, kind.least + 1, kind.largest, kind.largest - 1, 0, 1, 2, 3, 7, 100, 9, 17, 33, 65]
    near += [-n for n in (1, 2, 3, 7, 100, 9, 17)] if kind.signed else []
    drawn = np.random.default_rng(1).integers(kind.least, kind.largest, 12, numpy(kind), endpoint=True)
    return [n for n in near if kind.least <= n <= kind.largest] + drawn.tolist()


def same_bits(got: np.ndarray, want: np.ndarray, note: Sequence[Any]) -> None:
    """Equal bits, one NaN being like another."""
    assert got.dtype == want.dtype
    if dtypes.dtype(got.dtype).is_float:
        a, b = got.astype(np.float64), want.astype(np.float64)
        bad = ~((np.isnan(a) & np.isnan(b)) | ((a == b) & (np.signbit(a) == np.signbit(b))))
    else:
        bad = got != want
    where = np.flatnonzero(bad)
    assert not where.size, f"{note[where[0]]}: {got[where[0]]!r} is not {want[where[0]]!r} ({where.size} in all)"


def pairs(values: Sequence[Any], kind: Float | Integer) -> tuple[list[tuple[Any, Any]], Any, Any]:
    both = list(itertools.product(values, values))
    with np.errstate(all="ignore"):
        columns = [
            np.array(column, np.float64 if isinstance(kind, Float) else numpy(kind))
            for column in zip(*both, strict=True)
        ]
        return both, *[asarray(column.astype(numpy(kind))) for column in columns]


def in_float32(rule: Callable[..., float], kind: Float) -> Callable[..., float]:
    """The rule in the dtype itself, or in float32 and rounded for half types."""
    inner = exact.accumulator(kind)
    return lambda *xs: exact.rounded(rule(*xs, inner), kind)


def array(values: Sequence[Any], kind: Float | Integer) -> np.ndarray:
    with np.errstate(all="ignore"):
        wide = np.array(values, np.float64 if isinstance(kind, Float) else numpy(kind))
        return wide.astype(numpy(kind))


# -- Floats ------------------------------------------------------------------------------------------------------------


@EVERY_FLOAT
@pytest.mark.parametrize("name", ["add", "subtract", "multiply", "divide", "remainder", "floor_divide"])
def test_arithmetic_of_floats_is_that_of_the_contract(kind: Float, name: str) -> None:
    both, a, b = pairs(floats(kind), kind)
    rule = in_float32(getattr(exact, name), kind)
    same_bits(getattr(e, name)(a, b).numpy(), array([rule(*pair) for pair in both], kind), both)


@EVERY_FLOAT
def test_square_root_is_correctly_rounded(kind: Float) -> None:
    values = floats(kind, 400)
    rule = in_float32(exact.square_root, kind)
    same_bits(e.sqrt(asarray(array(values, kind))).numpy(), array([rule(x) for x in values], kind), values)


@EVERY_FLOAT
@pytest.mark.parametrize("name", ["maximum", "minimum"])
def test_extremes_propagate_nan_and_order_zeros(kind: Float, name: str) -> None:
    both, a, b = pairs(floats(kind), kind)
    same_bits(getattr(e, name)(a, b).numpy(), array([getattr(exact, name)(*p) for p in both], kind), both)


@EVERY_FLOAT
def test_comparison_is_that_of_ieee(kind: Float) -> None:
    both, a, b = pairs(floats(kind), kind)
    rules: dict[str, Callable[[float, float], bool]] = {
        "equal": lambda x, y: x == y, "not_equal": lambda x, y: x != y, "less": lambda x, y: x < y,
        "less_equal": lambda x, y: x <= y, "greater": lambda x, y: x > y, "greater_equal": lambda x, y: x >= y,
    }  # fmt: skip
    for name, rule in rules.items():
        same_bits(getattr(e, name)(a, b).numpy(), np.array([rule(*pair) for pair in both]), both)


@EVERY_FLOAT
def test_signs_and_steps_keep_nan_infinities_and_zeros(kind: Float) -> None:
    def stepped(step: Callable[[float], float]) -> Callable[[float], float]:
        return lambda x: math.copysign(step(x), x) if math.isfinite(x) else x

    rules: dict[str, Callable[[float], float]] = {
        "negative": lambda x: -x,
        "abs": lambda x: math.copysign(x, 1.0),
        "sign": lambda x: x if x == 0 or math.isnan(x) else math.copysign(1.0, x),
        "floor": stepped(math.floor),
        "ceil": stepped(math.ceil),
        "trunc": stepped(math.trunc),
        "round": stepped(round),
    }
    values = [*floats(kind, 100), -0.4, 0.5, 1.5, 2.5, -0.5, -1.5, -2.5, 0.75, -0.75]
    x = array(values, kind)
    for name, rule in rules.items():
        same_bits(
            getattr(e, name)(asarray(x)).numpy(), array([rule(v) for v in x.astype(np.float64).tolist()], kind), values
        )
    same_bits(
        e.signbit(asarray(x)).numpy()[:20],
        np.array([exact.negative(v) for v in x.astype(np.float64).tolist()])[:20],
        values,
    )
    same_bits(e.isnan(asarray(x)).numpy(), np.isnan(x.astype(np.float64)), values)
    same_bits(e.isinf(asarray(x)).numpy(), np.isinf(x.astype(np.float64)), values)
    same_bits(e.isfinite(asarray(x)).numpy(), np.isfinite(x.astype(np.float64)), values)


@EVERY_FLOAT
def test_copysign_and_nextafter_work_in_the_dtype_itself(kind: Float) -> None:
    both, a, b = pairs([x for x in floats(kind, 10) if not math.isnan(x)], kind)
    same_bits(e.copysign(a, b).numpy(), array([math.copysign(*pair) for pair in both], kind), both)
    same_bits(e.nextafter(a, b).numpy(), array([_next(*pair, kind) for pair in both], kind), both)


def _next(x: float, towards: float, kind: Float) -> float:
    """The neighbour of x by counting bit patterns."""
    if x == towards:
        return towards
    least = math.ldexp(1.0, kind.low - kind.precision + 1)
    if x == 0:
        return math.copysign(least, towards)
    word = {16: np.int16, 32: np.int32, 64: np.int64}[dtypes.dtype(kind.name).bits]
    bits = array([x], kind).view(word)
    grows = (towards > x) == (x > 0)
    return float((bits + word(1 if grows else -1)).view(numpy(kind)).astype(np.float64)[0])


@pytest.mark.parametrize("kind", FLOATS[:2], ids=lambda kind: kind.name)
def test_half_types_compute_functions_in_float32_and_round_once(kind: Float) -> None:
    values = [x for x in floats(kind, 300)]
    x = array(values, kind)
    for name in ("exp", "expm1", "log", "log1p", "log2", "log10", "sin", "cos", "tanh", "erf", "atan", "sinh"):
        wide = getattr(e, name)(asarray(x.astype(np.float32))).numpy()
        want = array([exact.rounded(v, kind) for v in wide.astype(np.float64).tolist()], kind)
        same_bits(getattr(e, name)(asarray(x)).numpy(), want, values)


SPECIAL = {  # array API standard 2024.12, element-wise functions
    "exp": [(math.inf, math.inf), (-math.inf, 0.0), (0.0, 1.0), (-0.0, 1.0)],
    "expm1": [(math.inf, math.inf), (-math.inf, -1.0), (0.0, 0.0), (-0.0, -0.0)],
    "log": [(0.0, -math.inf), (-0.0, -math.inf), (1.0, 0.0), (math.inf, math.inf), (-1.0, math.nan)],
    "log1p": [(-1.0, -math.inf), (0.0, 0.0), (-0.0, -0.0), (math.inf, math.inf), (-2.0, math.nan)],
    "log2": [(0.0, -math.inf), (1.0, 0.0), (8.0, 3.0), (math.inf, math.inf), (-1.0, math.nan)],
    "log10": [(0.0, -math.inf), (1.0, 0.0), (math.inf, math.inf), (-1.0, math.nan)],
    "sqrt": [(0.0, 0.0), (-0.0, -0.0), (math.inf, math.inf), (-1.0, math.nan)],
    "sin": [(0.0, 0.0), (-0.0, -0.0), (math.inf, math.nan), (-math.inf, math.nan)],
    "cos": [(0.0, 1.0), (-0.0, 1.0), (math.inf, math.nan)],
    "tan": [(0.0, 0.0), (-0.0, -0.0), (math.inf, math.nan)],
    "asin": [(0.0, 0.0), (-0.0, -0.0), (2.0, math.nan), (-2.0, math.nan)],
    "acos": [(1.0, 0.0), (2.0, math.nan), (-2.0, math.nan)],
    "atan": [(0.0, 0.0), (-0.0, -0.0)],
    "sinh": [(0.0, 0.0), (-0.0, -0.0), (math.inf, math.inf), (-math.inf, -math.inf)],
    "cosh": [(0.0, 1.0), (-0.0, 1.0), (math.inf, math.inf), (-math.inf, math.inf)],
    "tanh": [(0.0, 0.0), (-0.0, -0.0), (math.inf, 1.0), (-math.inf, -1.0)],
    "asinh": [(0.0, 0.0), (-0.0, -0.0), (math.inf, math.inf), (-math.inf, -math.inf)],
    "acosh": [(1.0, 0.0), (math.inf, math.inf), (0.5, math.nan)],
    "atanh": [(0.0, 0.0), (-0.0, -0.0), (1.0, math.inf), (-1.0, -math.inf), (2.0, math.nan)],
    "erf": [(0.0, 0.0), (-0.0, -0.0), (math.inf, 1.0), (-math.inf, -1.0), (30.0, 1.0)],
}


@EVERY_FLOAT
def test_functions_have_the_special_values_of_the_array_api(kind: Float) -> None:
    for name, table in SPECIAL.items():
        points = [*(x for x, _ in table), math.nan]
        got = getattr(e, name)(asarray(array(points, kind))).numpy()
        same_bits(got, array([*(y for _, y in table), math.nan], kind), [f"{name}({x})" for x in points])


SPECIAL_PAIRS = {
    "power": [
        (math.nan, 0.0, 1.0),
        (1.0, math.nan, 1.0),
        (0.0, -1.0, math.inf),
        (-0.0, -1.0, -math.inf),
        (-0.0, 3.0, -0.0),
        (-math.inf, 3.0, -math.inf),
        (-math.inf, 2.0, math.inf),
        (0.5, math.inf, 0.0),
        (-8.0, 1.5, math.nan),
        (-1.0, math.inf, 1.0),
    ],
    "atan2": [
        (0.0, -0.0, math.pi),
        (-0.0, -0.0, -math.pi),
        (0.0, 0.0, 0.0),
        (-0.0, 1.0, -0.0),
        (math.inf, 1.0, math.pi / 2),
        (math.nan, 1.0, math.nan),
    ],
    "hypot": [
        (math.inf, math.nan, math.inf),
        (math.nan, -math.inf, math.inf),
        (math.nan, 1.0, math.nan),
        (0.0, -0.0, 0.0),
        (3.0, -4.0, 5.0),
        (-math.inf, 2.0, math.inf),
    ],
    "logaddexp": [
        (math.inf, math.inf, math.inf),
        (-math.inf, -math.inf, -math.inf),
        (math.inf, -math.inf, math.inf),
        (-math.inf, 2.0, 2.0),
        (math.nan, 1.0, math.nan),
        (1.0, math.nan, math.nan),
    ],
}


@EVERY_FLOAT
def test_functions_of_two_arguments_have_the_special_values_of_the_array_api(kind: Float) -> None:
    for name, table in SPECIAL_PAIRS.items():
        a, b, want = (array(column, kind) for column in zip(*table, strict=True))
        if name == "atan2":
            want = want.astype(np.float64).round(2).astype(want.dtype)
            got = getattr(e, name)(asarray(a), asarray(b)).numpy()
            same_bits(got.astype(np.float64).round(2).astype(want.dtype), want, table)
        else:
            same_bits(getattr(e, name)(asarray(a), asarray(b)).numpy(), want, table)


def test_erf_is_within_its_bound() -> None:
    """float64 within 4 units in the last place, and float32 within 1, of the C library's, itself within 1."""
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.uniform(-0.6, 0.6, 5000), rng.uniform(-7, 7, 5000), 10.0 ** rng.uniform(-300, 0, 1000)])
    want = np.array([math.erf(v) for v in x])
    assert np.max(np.abs(e.erf(asarray(x)).numpy() - want) / np.spacing(np.abs(want))) <= 5
    x32 = x.astype(np.float32)
    want = np.array([math.erf(float(v)) for v in x32])
    error = np.abs(e.erf(asarray(x32)).numpy().astype(np.float64) - want)
    assert np.max(error / np.spacing(np.abs(want).astype(np.float32)).astype(np.float64)) <= 1


def test_gradient_of_an_extreme_treats_both_arguments_alike_where_one_is_nan() -> None:
    for function in (e.maximum, e.minimum):
        for pair in ((math.nan, 1.0), (1.0, math.nan)):
            a, b = (asarray(x, requires_grad=True) for x in pair)
            function(a, b).backward()
            assert a.grad is not None and b.grad is not None
            assert a.grad.item() == b.grad.item() == 1.0


# -- Integers ----------------------------------------------------------------------------------------------------------


@EVERY_INTEGER
def test_integer_arithmetic_wraps_and_division_by_zero_is_zero(kind: Integer) -> None:
    both, a, b = pairs(integers(kind), kind)
    rules: dict[str, Callable[[int, int], int]] = {
        "add": lambda x, y: exact.wrapped(x + y, kind),
        "subtract": lambda x, y: exact.wrapped(x - y, kind),
        "multiply": lambda x, y: exact.wrapped(x * y, kind),
        "floor_divide": lambda x, y: exact.integer_floor_divide(x, y, kind),
        "remainder": exact.integer_remainder,
        "maximum": max,
        "minimum": min,
        "bitwise_and": lambda x, y: x & y,
        "bitwise_or": lambda x, y: x | y,
        "bitwise_xor": lambda x, y: x ^ y,
        "bitwise_left_shift": lambda x, y: exact.left_shift(x, y, kind),
        "bitwise_right_shift": lambda x, y: exact.right_shift(x, y, kind),
        "power": lambda x, y: exact.integer_power(x, y, kind),
    }
    for name, rule in rules.items():
        want = np.array([rule(*pair) for pair in both], numpy(kind))
        same_bits(getattr(e, name)(a, b).numpy(), want, [(name, *pair) for pair in both])


@EVERY_INTEGER
def test_functions_of_one_integer_wrap_and_steps_keep_it(kind: Integer) -> None:
    values = integers(kind)
    rules: dict[str, Callable[[int], int]] = {
        "negative": lambda x: exact.wrapped(-x, kind), "abs": lambda x: exact.wrapped(abs(x), kind),
        "sign": lambda x: (x > 0) - (x < 0), "bitwise_invert": lambda x: exact.wrapped(~x, kind),
        "floor": lambda x: x, "ceil": lambda x: x, "trunc": lambda x: x, "round": lambda x: x,
    }  # fmt: skip
    for name, rule in rules.items():
        want = np.array([rule(x) for x in values], numpy(kind))
        same_bits(getattr(e, name)(asarray(np.array(values, numpy(kind)))).numpy(), want, values)


def test_right_shift_beyond_the_width_is_zero_for_negative_values() -> None:
    x = asarray([-8, -8, -8, 8], dtype="int8")
    assert (x >> asarray([1, 8, -1, 8], dtype="int8")).tolist() == [-4, 0, 0, 0]


# -- Casts -------------------------------------------------------------------------------------------------------------

BOOL = Integer("bool", 1, False)


def cast_rule(x: float | int, source: Float | Integer, to: Float | Integer) -> float | int:
    if to is BOOL:
        return x != 0
    if isinstance(to, Float):
        return exact.rounded(x, to)
    if isinstance(source, Float):
        return exact.float_to_integer(x, to)
    return exact.wrapped(int(x), to)


def castable(kind: Float | Integer) -> list[Any]:
    """Corners of the format, and values that lie at, and just beside, the ties of the half types."""
    if kind is BOOL:
        return [False, True]
    if isinstance(kind, Integer):
        ties = [s * (2**p + 2**q + d) for p in range(8, 63, 6) for q in (p - 8, p - 9, p - 11, p - 12) if q >= 0
                for d in (-1, 0, 1) for s in (1, -1)]  # fmt: skip
        return integers(kind) + [n for n in ties if kind.least <= n <= kind.largest]
    ties = [s * 2.0**p * (1 + 2.0**-q + d) for p in (-30, -20, -14, 0, 5, 15, 100) for q in (8, 9, 11, 12, 24)
            for d in (-(2.0**-40), -(2.0**-26), 0.0, 2.0**-26, 2.0**-40) for s in (1, -1)]  # fmt: skip
    edges = [n + d for i in INTEGERS for n in (float(i.least), float(i.largest)) for d in (-1.5, -0.5, 0.0, 0.5, 1.5)]
    edges += [-0.5, -0.99, 65519.99, 65520.0, 3.39e38, 3.3961e38]
    return floats(kind, 60) + [exact.rounded(v, kind) for v in ties + edges]


@pytest.mark.parametrize("source", (BOOL, *INTEGERS, *FLOATS), ids=lambda kind: kind.name)
@pytest.mark.parametrize("to", (BOOL, *INTEGERS, *FLOATS), ids=lambda kind: kind.name)
def test_cast_rounds_once_saturates_and_wraps(source: Float | Integer, to: Float | Integer) -> None:
    values = castable(source)
    got = e.cast(asarray(array(values, source)), dtypes.dtype(to.name)).numpy()
    same_bits(got, array([cast_rule(x, source, to) for x in values], to), values)


def test_operands_of_mixed_types_meet_in_the_promoted_type() -> None:
    """int64 beside bfloat16 is first rounded to bfloat16, once, and then added in float32."""
    x, half = asarray([2**40 + 2**32 + 1, 257]), asarray([0.0, 0.0], dtype="bfloat16")
    assert (x + half).tolist() == [float(2**40 + 2**33), 256.0]
    assert e.where(asarray(True), x, half).tolist() == [float(2**40 + 2**33), 256.0]


# -- Reductions --------------------------------------------------------------------------------------------------------


@EVERY_FLOAT
def test_reductions_propagate_nan_and_find_it_first(kind: Float) -> None:
    rows = [
        [1.0, math.nan, 3.0],
        [math.inf, 1.0, -math.inf],
        [2.0, 2.0, 1.0],
        [math.nan, math.inf, math.nan],
        [-0.0, 0.0, -0.0],
    ]
    x = asarray(array(np.array(rows).reshape(-1).tolist(), kind).reshape(5, 3))
    assert r.argmax(x, axis=1).tolist() == [exact.argmax(row) for row in rows]
    assert r.argmin(x, axis=1).tolist() == [1, 2, 2, 0, 0]
    for name in ("max", "min"):
        want = [exact.reduce_floats(row, (3,), (0,), name, kind)[0] for row in rows]
        same_bits(getattr(r, name)(x, axis=1).numpy()[:4], array(want, kind)[:4], rows)
    assert np.isnan(r.sum(x, axis=1).numpy().astype(np.float64)).tolist() == [True, True, False, True, False]


@EVERY_FLOAT
def test_running_sums_are_rounded_from_the_running_value(kind: Float) -> None:
    values = array(np.random.default_rng(3).uniform(-1, 1, 300).tolist(), kind).astype(np.float64).tolist()
    got = r.cumulative_sum(asarray(array(values, kind))).numpy()
    same_bits(got, array(exact.cumulative_sum(values, kind), kind), values)


@EVERY_INTEGER
def test_reductions_of_integers_wrap(kind: Integer) -> None:
    values = integers(kind)
    x = asarray(np.array(values, numpy(kind)))
    for name in ("sum", "prod"):
        want = exact.reduce_integers(values, (len(values),), (0,), name, kind)[0]
        assert getattr(r, name)(x, dtype=dtypes.dtype(kind.name)).item() == want
    assert (r.max(x).item(), r.min(x).item()) == (kind.largest, kind.least)


def test_sums_of_half_types_accumulate_in_float32() -> None:
    x = asarray(np.ones(5000, np.float16))
    assert r.sum(x).item() == 5000.0
    assert r.mean(asarray(np.full(5000, 100.0, np.float16))).item() == 100.0  # the sum alone would overflow
    assert e.cast(r.mean(asarray(np.full(70000, 1.0), dtype="bfloat16")), dtypes.float32).item() == 1.0


def test_empty_reductions() -> None:
    x = asarray(np.zeros((0,), np.float32))
    assert (r.sum(x).item(), r.prod(x).item(), r.any(x).item(), r.all(x).item()) == (0.0, 1.0, False, True)
    for function in (r.max, r.min):
        with pytest.raises(ValueError, match="no elements, no result"):
            function(x)
    for function in (r.argmax, r.argmin):
        with pytest.raises(ValueError, match="no elements, no result"):
            function(x)


def test_promotion_of_python_scalars_keeps_integer_squares_integer_and_float_exponents_float() -> None:
    x = asarray([3], dtype="int32")
    assert (x**2).dtype is dtypes.int32
    assert (x**2.0).dtype is dtypes.float32
    assert (asarray([True]) ** 2).dtype is dtypes.int64
    assert FLOAT32.name == e.where(asarray(True), 1, 2.5).dtype.name


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_numpys_scalars_are_as_weak_as_pythons(dtype: str) -> None:
    x = trine.ones((2,), dtype=dtype)
    for number in (np.float64(8.0), np.sqrt(64), np.float32(8.0), np.int64(8)):
        for result in (x / number, number / x, x * number):
            assert result.dtype is x.dtype
    assert (trine.asarray([1], dtype="int8") + np.int64(3)).dtype is trine.int8
