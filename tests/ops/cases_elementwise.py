"""Rows for the element-wise primitives and what is composed of them."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from tests.ops.case import Arg, Case
from trine import dtypes
from trine.ops import elementwise as e
from trine.ops.base import apply

ANY = ("float", "int", "uint", "bool")
NUMBER = ("float", "int", "uint")
INTEGER = ("int", "uint")
BITS = ("int", "uint", "bool")


def method(name: str) -> Callable[..., Any]:
    """A method of the first torch tensor."""
    return lambda *xs: getattr(xs[0], name)(*xs[1:])


def real(function: Callable[..., Any]) -> Callable[..., Any]:
    """A NumPy function in float64 whatever goes in."""
    return lambda *xs: function(*[np.asarray(x, np.float64) for x in xs])


def smooth(name: str, low: float, high: float, oracle: Callable[..., Any] | None = None, **more: Any) -> Case:
    """A differentiable function of one float; integers and bools count as float32."""
    return Case(
        f"{name}: floats",
        getattr(e, name),
        (Arg((3, 4), low, high, ANY),),
        real(oracle or getattr(np, name)),
        differentiable=(0,),
        torch=method(name),
        primitives=(name,),
        shapes="any",
        **more,
    )


SMOOTH = [
    smooth("exp", -2, 2),
    smooth("expm1", -2, 2),
    smooth("log", 0.2, 3),
    smooth("log1p", -0.7, 3),
    smooth("log2", 0.2, 3),
    smooth("log10", 0.2, 3),
    smooth("sqrt", 0.2, 3),
    smooth("sin", -4, 4),
    smooth("cos", -4, 4),
    smooth("tan", -1.2, 1.2),
    smooth("asin", -0.9, 0.9, np.arcsin),
    smooth("acos", -0.9, 0.9, np.arccos),
    smooth("atan", -3, 3, np.arctan),
    smooth("sinh", -2, 2),
    smooth("cosh", -2, 2),
    smooth("tanh", -2, 2),
    smooth("asinh", -3, 3, np.arcsinh),
    smooth("acosh", 1.2, 4, np.arccosh),
    smooth("atanh", -0.9, 0.9, np.arctanh),
    smooth("erf", -3, 3, np.vectorize(math.erf, otypes=[np.float64])),
]


def steps(name: str, **more: Any) -> Case:
    """A function that keeps integers and has a gradient of 0 between its steps."""
    return Case(
        f"{name}: numbers",
        getattr(e, name),
        (Arg((3, 4), -3, 3, NUMBER),),
        lambda x: getattr(np, {"round": "rint"}.get(name, name))(x).astype(x.dtype),
        torch=method(name),
        primitives=(name,),
        shapes="any",
        **more,
    )


def power_oracle(x1: np.ndarray, x2: np.ndarray) -> Any:
    if x1.dtype.kind == "f":
        return np.power(x1, x2)
    wrap = 1 << (8 * x1.dtype.itemsize)
    found = [pow(int(a), int(b), wrap) for a, b in zip(*(v.ravel() for v in np.broadcast_arrays(x1, x2)), strict=True)]
    return np.array(found, dtype=object).astype(np.uint64).astype(x1.dtype).reshape(np.broadcast(x1, x2).shape)


ONE = [
    steps("floor"),
    steps("ceil"),
    steps("trunc"),
    steps("round"),
    steps("sign"),
    Case(
        "negative: numbers", e.negative, (Arg(kinds=NUMBER),), np.negative, (0,), primitives=("negative",), shapes="any"
    ),
    Case("abs: numbers", e.abs, (Arg((3, 4), -3, -0.5, NUMBER),), np.abs, (0,), method("abs"), ("abs",), shapes="any"),
    Case("abs: positive", e.abs, (Arg((3, 4), 0.5, 3),), np.abs, (0,), method("abs"), ("abs",)),
    Case("positive: same", e.positive, (Arg(kinds=NUMBER),), np.positive, (0,)),
    Case("square: floats", e.square, (Arg(kinds=NUMBER),), np.square, (0,), method("square"), shapes="any"),
    Case("reciprocal: floats", e.reciprocal, (Arg((3, 4), 0.5, 2),), lambda x: 1 / x, (0,), method("reciprocal")),
    Case(
        "isnan: any", e.isnan, (Arg(kinds=ANY),), np.isnan, primitives=("is_nan",), torch=method("isnan"), shapes="any"
    ),
    Case(
        "isinf: any", e.isinf, (Arg(kinds=ANY),), np.isinf, primitives=("is_inf",), torch=method("isinf"), shapes="any"
    ),
    Case("isfinite: any", e.isfinite, (Arg(kinds=ANY),), np.isfinite, torch=method("isfinite")),
    Case(
        "signbit: floats",
        e.signbit,
        (Arg(),),
        np.signbit,
        primitives=("signbit",),
        torch=method("signbit"),
        shapes="any",
    ),
    Case(
        "bitwise_invert: bits",
        e.bitwise_invert,
        (Arg((3, 4), -9, 9, BITS),),
        np.invert,
        torch=method("bitwise_not"),
        primitives=("bitwise_invert",),
        shapes="any",
    ),
    Case("logical_not: bools", e.logical_not, (Arg(kinds=("bool",)),), np.logical_not, torch=method("logical_not")),
    Case(
        "clip: both sides",
        lambda x: e.clip(x, -1, 1),
        (Arg(kinds=("float", "int"), distinct=True),),
        lambda x: np.clip(x, -1, 1),
        (0,),
        lambda x: x.clamp(-1, 1),
        ("maximum", "minimum"),
        shapes="any",
    ),
    Case(
        "stop_gradient: same", e.stop_gradient, (Arg(kinds=ANY),), lambda x: x, primitives=("identity",), shapes="any"
    ),
]


def pair(
    name: str,
    kinds: tuple[str, ...],
    oracle: Callable[..., Any],
    *,
    low: float = -3,
    high: float = 3,
    differentiable: tuple[int, ...] = (),
    torch: Any = "",
    second: Arg | None = None,
    primitive: str | None = "",
    **more: Any,
) -> Case:
    """A function of two arguments that broadcast."""
    first = Arg((3, 4), low, high, kinds, distinct=True)
    return Case(
        f"{name}: broadcast",
        getattr(e, name),
        (first, second or Arg((3, 4), low, high, kinds)),
        oracle,
        differentiable,
        method(name) if torch == "" else torch,
        () if primitive is None else (primitive or name,),
        shapes="broadcast",
        **more,
    )


APART = Arg((3, 4), 0.6, 2, NUMBER)  # a divisor
SHIFT = Arg((3, 4), 0, 7, INTEGER)

TWO = [
    pair("add", ANY, np.add, differentiable=(0, 1)),
    pair("subtract", NUMBER, np.subtract, differentiable=(0, 1)),
    pair("multiply", ANY, np.multiply, differentiable=(0, 1)),
    pair("divide", ANY, real(np.divide), differentiable=(0, 1), second=Arg((3, 4), 0.6, 2, ANY)),
    pair(
        "floor_divide",
        NUMBER,
        lambda a, b: np.where(b == 0, 0, np.floor_divide(a, np.where(b == 0, 1, b)).astype(a.dtype)),
        second=APART,
        torch=None,
    ),
    pair(
        "remainder",
        NUMBER,
        lambda a, b: np.where(b == 0, 0, np.remainder(a, np.where(b == 0, 1, b)).astype(a.dtype)),
        low=10.2,
        high=11.8,
        second=Arg((3, 4), 4, 5, NUMBER),
        differentiable=(0, 1),
    ),
    Case(
        "remainder: of either sign by either sign",
        e.remainder,
        (Arg((6, 5), -9, 9, NUMBER), Arg((6, 5), -9, 9, NUMBER)),
        lambda a, b: np.where(b == 0, 0, np.remainder(a, np.where(b == 0, 1, b)).astype(a.dtype)),
        primitives=("remainder",),
        tolerance={"float16": 1e-2, "bfloat16": 5e-2, "float32": 1e-5},
    ),
    Case(
        "floor_divide: of either sign by either sign",
        e.floor_divide,
        (Arg((6, 5), -90, 90, NUMBER), Arg((6, 5), -9, 9, NUMBER)),
        lambda a, b: np.where(b == 0, 0, np.floor_divide(a, np.where(b == 0, 1, b)).astype(a.dtype)),
        primitives=("floor_divide",),
    ),
    pair(
        "power",
        NUMBER,
        power_oracle,
        low=0.5,
        high=3,
        differentiable=(0, 1),
        torch=method("pow"),
        primitive="pow",
        second=Arg((3, 4), 0, 4, NUMBER),
    ),
    pair("maximum", ANY, np.maximum, differentiable=(0, 1)),
    pair("minimum", ANY, np.minimum, differentiable=(0, 1)),
    pair("atan2", ANY, real(np.arctan2), low=0.5, differentiable=(0, 1)),
    pair(
        "copysign",
        NUMBER,
        real(np.copysign),
        low=0.4,
        differentiable=(0,),
        second=Arg((3, 4), -3, -1, ("float", "int")),
    ),
    pair("nextafter", ("float",), lambda a, b: a + 0 * b, differentiable=(0,), torch=None),
    pair("hypot", ANY, real(np.hypot), low=0.3, differentiable=(0, 1), primitive=None),
    pair("logaddexp", ANY, real(np.logaddexp), low=-4, high=4, differentiable=(0, 1), primitive=None),
    pair("equal", ANY, np.equal, torch=method("eq")),
    pair("not_equal", ANY, np.not_equal, torch=method("ne"), primitive="equal"),
    pair("less", ANY, np.less),
    pair("less_equal", ANY, np.less_equal),
    pair("greater", ANY, np.greater, primitive="less"),
    pair("greater_equal", ANY, np.greater_equal, primitive="less_equal"),
    pair("bitwise_and", BITS, np.bitwise_and, low=-90, high=90),
    pair("bitwise_or", BITS, np.bitwise_or, low=-90, high=90),
    pair("bitwise_xor", BITS, np.bitwise_xor, low=-90, high=90),
    pair("bitwise_left_shift", INTEGER, np.left_shift, low=-90, high=90, second=SHIFT),
    pair("bitwise_right_shift", INTEGER, np.right_shift, low=-90, high=90, second=SHIFT),
    pair("logical_and", ("bool",), np.logical_and, primitive="bitwise_and"),
    pair("logical_or", ("bool",), np.logical_or, primitive="bitwise_or"),
    pair("logical_xor", ("bool",), np.logical_xor, primitive="bitwise_xor"),
]

CONDITION = Arg((3, 4), kinds=("bool",))
SCALARS = [
    Case(
        "where: broadcast",
        e.where,
        (CONDITION, Arg(kinds=ANY), Arg(kinds=ANY)),
        np.where,
        (1, 2),
        lambda c, a, b: a.where(c, b),
        ("where",),
        shapes="broadcast",
    ),
    Case(
        "where: scalar",
        lambda c, x: e.where(c, x, 0),
        (CONDITION, Arg(kinds=NUMBER)),
        lambda c, x: np.where(c, x, 0).astype(x.dtype),
        (1,),
    ),
    Case("multiply: the same value twice", lambda x: e.multiply(x, x), (Arg(kinds=ANY),), lambda x: x * x, (0,)),
    Case("add: the same value twice", lambda x: e.add(x, x), (Arg(kinds=NUMBER),), lambda x: x + x, (0,)),
    Case("divide: the same value twice", lambda x: e.divide(x, x), (Arg((3, 4), 0.5, 2),), np.ones_like, (0,)),
    Case("power: cube", lambda x: e.power(x, 3), (Arg(kinds=NUMBER),), lambda x: x**3, (0,), lambda x: x**3, ("pow",)),
    Case(
        "power: square of zero",
        lambda x: e.power(x, 2),
        (Arg((3, 4), 0, 0, NUMBER),),
        lambda x: x**2,
        (0,),
        lambda x: x**2,
    ),
    Case("power: square root", lambda x: e.power(x, 0.5), (Arg((3, 4), 0.5, 2),), np.sqrt, (0,), lambda x: x**0.5),
    Case(
        "power: a number to x", lambda x: e.power(2.0, x), (Arg(),), lambda x: 2.0**x, (0,), lambda x: 2.0**x, ("pow",)
    ),
    Case(
        "power: tensor exponents 0, 1, 2 of 0",
        lambda x, n: e.power(x, n),
        (Arg((3,), 0, 0), Arg((3,), 2, 3, ("int64",))),
        lambda x, n: x**n,
        (0,),
        None,
        ("pow",),
    ),
    Case(
        "divide: int by int is float32",
        e.divide,
        (Arg((4,), 1, 9, ("int32",)), Arg((4,), 1, 9, ("int32",))),
        real(np.divide),
        torch=method("divide"),
        result="float32",
    ),
]


def wrapped(x: np.ndarray, to: str) -> Any:
    """A cast of values inside the range of both; `tests/ops/test_special_values.py` holds the edges."""
    return x.astype(np.float64 if dtypes.dtype(to).is_float else to)


CASTS = [
    Case(
        f"cast: to {to.name}",
        lambda x, to=to: e.cast(x, to),
        (Arg((3, 4), 0, 100, ANY),),
        lambda x, to=to: wrapped(x, to.name),
        torch=None,
        primitives=("cast",) if to is dtypes.bool else (),
        shapes="any",
        result=to.name,
        tolerance={"float16": 1e-3, "bfloat16": 8e-3, "float32": 1e-7},
    )
    for to in dtypes.ALL
]
CASTS.append(
    Case(
        "cast: there and back",
        lambda x: e.cast(apply(e.Cast(dtypes.float64), x), x.dtype),
        (Arg(),),
        lambda x: x,
        (0,),
        primitives=("cast",),
    )
)

CASES = [*SMOOTH, *ONE, *TWO, *SCALARS, *CASTS]
