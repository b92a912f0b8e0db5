"""Rows for reductions, running results, and what is composed of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tests.ops.case import Arg, Case
from trine import dtypes
from trine.ops import reduction as r

ANY = ("float", "int", "uint", "bool")
NUMBER = ("float", "int", "uint")
CUBE = (2, 3, 4)
ROUGH = {"float16": 1e-2, "bfloat16": 6e-2, "float32": 3e-6}  # of many roundings in a row


def along(
    name: str, oracle: Callable[..., Any], torch: Callable[..., Any] | None, **options: Any
) -> Callable[..., Case]:
    """A row maker: the function and its oracle over given axes."""

    def make(axis: Any, keepdims: bool, arg: Arg, **more: Any) -> Case:
        return Case(
            f"{name}: axis {axis}{', kept' if keepdims else ''} of {arg.shape}{more.pop('note', '')}",
            lambda x: getattr(r, name)(x, axis=axis, keepdims=keepdims),
            (arg,),
            lambda x: oracle(x, axis=axis, keepdims=keepdims),
            torch=None if torch is None or axis == () else lambda x: torch(x, axis, keepdims),  # there () means all
            **(options | more),
        )

    return make


def wide(function: Callable[..., Any]) -> Callable[..., Any]:
    """A NumPy sum or product with the dtypes of the array API: bools count as int64."""
    return lambda x, **more: function(x.astype(np.int64) if x.dtype == bool else x, **more)


def torch_prod(x: Any, axis: Any, keepdims: bool) -> Any:
    """torch takes one axis, or all."""
    if axis is None and not keepdims:
        return x.prod()
    for a in sorted(range(x.ndim) if axis is None else [axis] if isinstance(axis, int) else axis, reverse=True):
        x = x.prod(dim=a, keepdim=keepdims)
    return x


def every(x: Any, axis: Any) -> Any:
    return tuple(range(x.ndim)) if axis is None else axis


sums = along(
    "sum", wide(np.sum), lambda x, a, k: x.sum(dim=every(x, a), keepdim=k), primitives=("sum",), differentiable=(0,)
)
prods = along("prod", wide(np.prod), torch_prod, primitives=("prod",), differentiable=(0,))
maxima = along(
    "max", np.max, lambda x, a, k: x.amax(dim=every(x, a), keepdim=k), primitives=("max",), differentiable=(0,)
)
minima = along(
    "min", np.min, lambda x, a, k: x.amin(dim=every(x, a), keepdim=k), primitives=("min",), differentiable=(0,)
)
anys = along("any", np.any, None, primitives=("any",))
alls = along("all", np.all, None, primitives=("all",))
argmaxima = along("argmax", np.argmax, lambda x, a, k: x.argmax(dim=a, keepdim=k), primitives=("argmax",))
argminima = along("argmin", np.argmin, lambda x, a, k: x.argmin(dim=a, keepdim=k), primitives=("argmin",))
means = along("mean", lambda x, **m: np.mean(np.asarray(x, np.float64), **m), None, differentiable=(0,))
variances = along(
    "var", lambda x, **m: np.var(np.asarray(x, np.float64), **m), None, differentiable=(0,), tolerance=ROUGH
)
deviations = along(
    "std", lambda x, **m: np.std(np.asarray(x, np.float64), **m), None, differentiable=(0,), tolerance=ROUGH
)

AXES = [(None, False), (None, True), (0, False), (-1, True), ((0, 2), False), ((1, 2), True), ((), False)]

CASES: list[Case] = []
for axis, keepdims in AXES:
    CASES += [
        sums(axis, keepdims, Arg(CUBE, -4, 5, ANY)),
        prods(axis, keepdims, Arg(CUBE, -1.5, 1.5, NUMBER), tolerance=ROUGH),
        anys(axis, keepdims, Arg(CUBE, 0, 2, ANY)),
        alls(axis, keepdims, Arg(CUBE, 0, 2, ANY)),
        means(axis, keepdims, Arg(CUBE, -4, 5, ANY)),
    ]
    if axis != ():
        CASES += [
            maxima(axis, keepdims, Arg(CUBE, -4, 5, NUMBER, distinct=True)),
            minima(axis, keepdims, Arg(CUBE, -4, 5, NUMBER, distinct=True)),
            variances(axis, keepdims, Arg(CUBE, -4, 5, ANY)),
            deviations(axis, keepdims, Arg(CUBE, -4, 5, ("float",))),
        ]
    if axis in (None, 0, -1):
        CASES += [
            argmaxima(axis, keepdims, Arg(CUBE, -90, 90, NUMBER, distinct=True)),
            argminima(axis, keepdims, Arg(CUBE, -90, 90, NUMBER, distinct=True)),
        ]

CASES += [
    sums(None, False, Arg((0,), kinds=ANY), shapes="any"),
    sums(1, False, Arg((3, 0), kinds=ANY)),
    sums(0, False, Arg((3, 0), kinds=ANY)),
    sums(None, False, Arg((1100,), -1, 1), note=", long", tolerance=ROUGH),
    prods(None, False, Arg((0,), kinds=NUMBER), shapes="any"),
    prods(1, False, Arg((2, 3), 0, 0, NUMBER), note=", all zeros"),
    prods((0, 2), False, Arg((2, 1, 3), 0, 0, NUMBER), note=", all zeros"),
    maxima(1, False, Arg((0, 3), kinds=NUMBER)),
    minima(1, False, Arg((0, 3), kinds=NUMBER)),
    argmaxima(1, False, Arg((0, 3), kinds=NUMBER)),
    argmaxima(1, False, Arg((4, 9), 0, 0, NUMBER), note=", all equal"),
    argminima(1, False, Arg((4, 9), 0, 0, NUMBER), note=", all equal"),
    anys(None, False, Arg((0,), kinds=ANY), shapes="any"),
    alls(None, False, Arg((0,), kinds=ANY), shapes="any"),
    means(None, False, Arg((1,), kinds=ANY)),
    Case(
        "sum: in another dtype",
        lambda x: r.sum(x, axis=0, dtype=dtypes.int32),
        (Arg((3, 4), -90, 90, ("int",)),),
        lambda x: x.sum(0, dtype=np.int32),
        primitives=("sum",),
    ),
    Case(
        "sum: squares",
        lambda x: r.sum(x * x, axis=-1),
        (Arg(),),
        lambda x: (x * x).sum(-1),
        (0,),
        lambda x: (x * x).sum(-1),
    ),
    Case(
        "var: correction",
        lambda x: r.var(x, axis=0, correction=1.0),
        (Arg((5, 3)),),
        lambda x: x.var(0, ddof=1),
        (0,),
        lambda x: x.var(dim=0, correction=1),
        tolerance=ROUGH,
    ),
]

for axis in (0, 1, -1):
    CASES += [
        Case(
            f"cumulative_sum: axis {axis}",
            lambda x, axis=axis: r.cumulative_sum(x, axis=axis),
            (Arg(CUBE, -4, 5, ANY),),
            lambda x, axis=axis: wide(np.cumsum)(x, axis=axis),
            (0,),
            lambda x, axis=axis: x.cumsum(axis),
            ("cumulative_sum",),
            tolerance=ROUGH,
        ),
        Case(
            f"cumulative_prod: axis {axis}",
            lambda x, axis=axis: r.cumulative_prod(x, axis=axis),
            (Arg(CUBE, -2, 2, NUMBER),),
            lambda x, axis=axis: wide(np.cumprod)(x, axis=axis),
            (0,),
            lambda x, axis=axis: x.cumprod(axis),
            ("cumulative_prod",),
            tolerance=ROUGH,
        ),
    ]
CASES += [
    Case("cumulative_sum: one axis", r.cumulative_sum, (Arg((17,), kinds=NUMBER),), np.cumsum, (0,), tolerance=ROUGH),
    Case("cumulative_sum: empty", r.cumulative_sum, (Arg((0,), kinds=NUMBER),), np.cumsum, (0,)),
    Case(
        "cumulative_prod: zeros",
        r.cumulative_prod,
        (Arg((4,), 0, 0, NUMBER),),
        np.cumprod,
        (0,),
        lambda x: x.cumprod(0),
        ("cumulative_prod",),
    ),
]
CASES += [
    Case(
        "count_nonzero: an axis",
        lambda x: r.count_nonzero(x, axis=1),
        (Arg((3, 4), -1, 2, ("float", "int", "uint", "bool")),),
        lambda x: np.count_nonzero(x, axis=1),
    ),
    Case("diff: once", r.diff, (Arg((3, 5), -9, 9, ("float", "int")),), np.diff, (0,)),
    Case(
        "diff: twice along the first axis",
        lambda x: r.diff(x, axis=0, n=2),
        (Arg((4, 3), -9, 9, ("float", "int")),),
        lambda x: np.diff(x, axis=0, n=2),
        (0,),
    ),
    Case(
        "diff: with ends",
        lambda x, a, b: r.diff(x, prepend=a, append=b),
        (Arg((3, 4)), Arg((3, 1)), Arg((3, 2))),
        lambda x, a, b: np.diff(x, prepend=a, append=b),
        (0, 1, 2),
    ),
    Case("diff: empty", r.diff, (Arg((2, 0)),), np.diff, (0,)),
]
