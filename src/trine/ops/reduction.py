"""Primitives that reduce axes: sum, prod, max, min, any, all, argmax, argmin, and the cumulative ones.

Floats accumulate in float32 at least. max and min propagate NaN, argmax and argmin find the first NaN.
"""

from __future__ import annotations

import builtins
import math
from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from trine import dtypes
from trine.dtypes import DType
from trine.errors import ArgumentError, DTypeError, ShapeError, Site
from trine.ir import expr
from trine.ir.expr import Expr
from trine.ir.graph import Type, Value
from trine.ops.base import Array, Gradients, Op, V, apply, like, primitive, user_site
from trine.ops.creation import iota, size_value
from trine.ops.elementwise import (
    cast,
    divide,
    equal,
    floating,
    less_equal,
    multiply,
    not_equal,
    sqrt,
    square,
    subtract,
    where,
)
from trine.ops.movement import (
    broadcast_to,
    checked_axes,
    checked_axis,
    concat,
    expand_dims,
    flip,
    moveaxis,
    permute_dims,
    reshape,
    take_slice,
)
from trine.shapes import Size, size_of


class Combining:
    """How two partial results become one, both in the accumulation dtype."""

    def combine(self, a: Expr, b: Expr) -> Expr:
        """One partial result from two; a single element is one, in the accumulation dtype."""
        raise NotImplementedError

    def identity(self, dtype: DType) -> Expr:
        """What combines without changing a bit: fills up vectors."""
        raise NotImplementedError

    def nothing(self, dtype: DType) -> Expr:
        """The result over no elements; not asked where that is an error."""
        return self.identity(dtype)


class _Adding(Combining):
    def combine(self, a: Expr, b: Expr) -> Expr:
        """`a + b`."""
        return expr.add(a, b)

    def identity(self, dtype: DType) -> Expr:
        """-0.0, as 0.0 would change -0.0; of integers 0."""
        return expr.constant(-0.0 if dtype.is_float else 0, dtype)

    def nothing(self, dtype: DType) -> Expr:
        """0."""
        return expr.constant(0, dtype)


class _Multiplying(Combining):
    def combine(self, a: Expr, b: Expr) -> Expr:
        """`a b`."""
        return expr.mul(a, b)

    def identity(self, dtype: DType) -> Expr:
        """1."""
        return expr.constant(1, dtype)


@primitive
class Reduce(Op):
    """The family: the axes named disappear."""

    form = "reduction"
    kinds: ClassVar[tuple[str, ...]] = ("int", "uint", "float")
    empty: ClassVar[bool] = True  # whether an axis of size 0 has a result
    axes: tuple[int, ...]

    def infer(self, *types: Type) -> Type:
        """The shape without the axes."""
        x = types[0]
        if x.dtype.kind not in self.kinds:
            wanted = "bools" if self.kinds == ("bool",) else "numbers"
            raise DTypeError(self.name, f"takes {wanted}, not {x.dtype.name}", got=str(x),
                             fix="x != 0" if wanted == "bools" else "x.astype(trine.int32)")  # fmt: skip
        if not self.empty and builtins.any(x.shape[a] == 0 for a in self.axes):
            raise ShapeError(self.name, "no elements, no result: a reduced axis has size 0", got=str(x))
        return Type(tuple(n for i, n in enumerate(x.shape) if i not in self.axes), self.result(x.dtype))

    def result(self, dtype: DType) -> DType:
        """The dtype of the result."""
        return dtype

    def keep(self, reduced: V, x: Value) -> V:
        """A result with its reduced axes back, of size 1, so that it broadcasts against x."""
        return reshape(reduced, tuple(1 if i in self.axes else n for i, n in enumerate(x.shape)))

    def batch(self, size: Size, batched: Sequence[bool], *inputs: Value) -> Value:
        """The axes move by one."""
        return apply(type(self)(tuple(a + 1 for a in self.axes)), inputs[0])


class Sum(_Adding, Reduce):
    """The sum over axes; 0 of nothing."""

    def reference(self, *arrays: Array) -> Array:
        """By np.sum, accumulated in float32 or wider."""
        x = arrays[0]
        wide = dtypes.dtype(x.dtype).accumulator.numpy
        return np.asarray(x.astype(wide, copy=False).sum(self.axes, dtype=wide)).astype(x.dtype)

    def gradient(self, g: Value, out: Value, *inputs: Value) -> Gradients:
        """`g` to every element."""
        return (broadcast_to(self.keep(g, inputs[0]), inputs[0].shape),)


class Prod(_Multiplying, Reduce):
    """The product over axes; 1 of nothing."""

    def reference(self, *arrays: Array) -> Array:
        """By np.prod, accumulated in float32 or wider."""
        x = arrays[0]
        wide = dtypes.dtype(x.dtype).accumulator.numpy
        return np.asarray(x.astype(wide, copy=False).prod(self.axes, dtype=wide)).astype(x.dtype)

    def gradient(self, g: Value, out: Value, *inputs: Value) -> Gradients:
        """`g` times the product of the other elements, so that zeros need no exception."""
        x = inputs[0]
        kept = [i for i in range(x.ndim) if i not in self.axes]
        order = (*kept, *self.axes)
        rows = permute_dims(x, order)
        sizes = rows.shape
        flat = reshape(rows, (*sizes[: len(kept)], size_of(sizes[len(kept) :])))
        others = reshape(_others(flat), sizes)
        return (multiply(self.keep(g, x), permute_dims(others, [order.index(i) for i in range(x.ndim)])),)


def _others(x: Value) -> Value:
    """At each place of the last axis, the product of the other elements: from the left times from the right."""
    n = x.shape[-1]
    if n == 0:
        return x
    one: Value = broadcast_to(like(x, 1), (*x.shape[:-1], 1))
    begin = (0,) * x.ndim
    count = (*x.shape[:-1], n - 1)
    head = cumulative_prod(concat([one, take_slice(x, begin, count)], axis=-1), axis=-1)
    tail = flip(take_slice(x, (*begin[:-1], 1), count), axis=-1)
    return multiply(head, flip(cumulative_prod(concat([one, tail], axis=-1), axis=-1), axis=-1))


class _Extreme(Combining, Reduce):
    empty = False

    def gradient(self, g: Value, out: Value, *inputs: Value) -> Gradients:
        """`g` in equal parts to the elements that are the extreme."""
        x = inputs[0]
        hit = equal(x, self.keep(out, x))
        ties = apply(Sum(self.axes), cast(hit, x.dtype.accumulator))
        return (where(hit, self.keep(divide(g, ties), x), like(g, 0)),)


class Max(_Extreme):
    """The largest element over axes; NaN if there is one."""

    def reference(self, *arrays: Array) -> Array:
        """By np.max."""
        return np.asarray(arrays[0].max(self.axes)) if self.axes else arrays[0]

    def combine(self, a: Expr, b: Expr) -> Expr:
        """`maximum`."""
        return expr.maximum(a, b)

    def identity(self, dtype: DType) -> Expr:
        """The least value."""
        return expr.constant(_least(dtype), dtype)


class Min(_Extreme):
    """The smallest element over axes; NaN if there is one."""

    def reference(self, *arrays: Array) -> Array:
        """By np.min."""
        return np.asarray(arrays[0].min(self.axes)) if self.axes else arrays[0]

    def combine(self, a: Expr, b: Expr) -> Expr:
        """`minimum`."""
        return expr.minimum(a, b)

    def identity(self, dtype: DType) -> Expr:
        """The largest value."""
        return expr.constant(_largest(dtype), dtype)


class Any(Combining, Reduce):
    """Whether some element holds; not, for none."""

    kinds = ("bool",)

    def reference(self, *arrays: Array) -> Array:
        """By np.any."""
        return np.asarray(arrays[0].any(self.axes))

    def combine(self, a: Expr, b: Expr) -> Expr:
        """`or`."""
        return expr.or_(a, b)

    def identity(self, dtype: DType) -> Expr:
        """False."""
        return expr.constant(False, dtype)


class All(Combining, Reduce):
    """Whether every element holds; so, for none."""

    kinds = ("bool",)

    def reference(self, *arrays: Array) -> Array:
        """By np.all."""
        return np.asarray(arrays[0].all(self.axes))

    def combine(self, a: Expr, b: Expr) -> Expr:
        """`and`."""
        return expr.and_(a, b)

    def identity(self, dtype: DType) -> Expr:
        """True."""
        return expr.constant(True, dtype)


Place = tuple[Expr, Expr]  # a value and its int64 index


class _Arg(Reduce):
    empty = False

    def combine_places(self, a: Place, b: Place) -> Place:
        """Of two elements with their indices the one that wins, whichever comes first; its index is the result."""
        (x, i), (y, j) = a, b
        x_nan, y_nan = (expr.not_(expr.eq(z, z)) for z in (x, y))
        tie = expr.or_(expr.eq(x, y), expr.and_(x_nan, y_nan))
        wins = expr.or_(self.beats(y, x), expr.and_(y_nan, expr.not_(x_nan)))
        second = expr.or_(wins, expr.and_(tie, expr.lt(j, i)))
        return expr.select(second, y, x), expr.select(second, j, i)

    def beats(self, x: Expr, y: Expr) -> Expr:
        """Whether `x` is more of an extreme than `y`; False beside NaN."""
        raise NotImplementedError

    def identity_place(self, dtype: DType) -> Place:
        """A value that beats no element, and the largest index: fills up vectors."""
        return expr.constant(self.weakest(dtype), dtype), expr.constant(_largest(dtypes.int64), dtypes.int64)

    def weakest(self, dtype: DType) -> float:
        """A value that beats no other."""
        raise NotImplementedError

    def result(self, dtype: DType) -> DType:
        """An index."""
        return dtypes.int64


class Argmax(_Arg):
    """The index of the first largest element along one axis; of the first NaN if there is one."""

    def reference(self, *arrays: Array) -> Array:
        """By np.argmax."""
        return np.asarray(_comparable(arrays[0]).argmax(self.axes[0]))

    def beats(self, x: Expr, y: Expr) -> Expr:
        """`y < x`."""
        return expr.lt(y, x)

    def weakest(self, dtype: DType) -> float:
        """The least value."""
        return _least(dtype)


class Argmin(_Arg):
    """The index of the first smallest element along one axis; of the first NaN if there is one."""

    def reference(self, *arrays: Array) -> Array:
        """By np.argmin."""
        return np.asarray(_comparable(arrays[0]).argmin(self.axes[0]))

    def beats(self, x: Expr, y: Expr) -> Expr:
        """`x < y`."""
        return expr.lt(x, y)

    def weakest(self, dtype: DType) -> float:
        """The largest value."""
        return _largest(dtype)


def _least(dtype: DType) -> float:
    return -math.inf if dtype.is_float else int(np.iinfo(dtype.numpy).min)


def _largest(dtype: DType) -> float:
    return math.inf if dtype.is_float else int(np.iinfo(dtype.numpy).max)


def _comparable(x: Array) -> Array:
    """Half types as float32, which NumPy compares with NaN in mind."""
    return x.astype(dtypes.dtype(x.dtype).accumulator.numpy, copy=False)


@primitive
class Cumulative(Op):
    """The family: running results along one axis."""

    form = "cumulative"
    axis: int

    def infer(self, *types: Type) -> Type:
        """The same type."""
        if types[0].dtype is dtypes.bool:
            raise DTypeError(self.name, "takes numbers, not bool", got=str(types[0]), fix="x.astype(trine.int64)")
        return types[0]

    def batch(self, size: Size, batched: Sequence[bool], *inputs: Value) -> Value:
        """The axis moves by one."""
        return apply(type(self)(self.axis + 1), inputs[0])


class CumulativeSum(_Adding, Cumulative):
    """The sum of the elements up to each one, itself included."""

    def reference(self, *arrays: Array) -> Array:
        """By np.cumsum, accumulated in float32 or wider."""
        x = arrays[0]
        wide = dtypes.dtype(x.dtype).accumulator.numpy
        return x.astype(wide, copy=False).cumsum(self.axis, dtype=wide).astype(x.dtype)

    def gradient(self, g: Value, out: Value, *inputs: Value) -> Gradients:
        """The running sum of `g` from the end."""
        return (flip(apply(self, flip(g, axis=self.axis)), axis=self.axis),)


class CumulativeProd(_Multiplying, Cumulative):
    """The product of the elements up to each one, itself included."""

    def reference(self, *arrays: Array) -> Array:
        """By np.cumprod, accumulated in float32 or wider."""
        x = arrays[0]
        wide = dtypes.dtype(x.dtype).accumulator.numpy
        return x.astype(wide, copy=False).cumprod(self.axis, dtype=wide).astype(x.dtype)

    def gradient(self, g: Value, out: Value, *inputs: Value) -> Gradients:
        """Per element i, the running product with 1 in its place, summed with `g` from i on: n**2, exact at zeros."""
        x = moveaxis(inputs[0], self.axis, -1)
        n = x.shape[-1]
        place: Value = iota(x, n, dtypes.int64)
        own = equal(expand_dims(place, axis=1), place)
        runs = cumulative_prod(where(own, like(x, 1), expand_dims(x, axis=-2)), axis=-1)
        later = where(less_equal(expand_dims(place, axis=1), place), expand_dims(moveaxis(g, self.axis, -1), axis=-2),
                      like(g, 0))  # fmt: skip
        return (moveaxis(sum(multiply(runs, later), axis=-1), -1, self.axis),)


# -- The functions -----------------------------------------------------------------------------------------------------

Axis = int | Sequence[int] | None


def _reduce(kind: type[Reduce], x: V, axis: Axis, keepdims: bool) -> V:
    axes = checked_axes(kind.name, axis, x)
    op = kind(axes)
    out = apply(op, x)
    return op.keep(out, x) if keepdims else out


def sum(x: V, /, *, axis: Axis = None, dtype: DType | None = None, keepdims: bool = False) -> V:
    """The sum over `axis` (None: all). Small integers and bools are summed in int64 (uint64), floats in their dtype."""
    return _reduce(Sum, _summable(x, dtype), axis, keepdims)


def prod(x: V, /, *, axis: Axis = None, dtype: DType | None = None, keepdims: bool = False) -> V:
    """The product over `axis` (None: all), with the dtypes of `sum`."""
    return _reduce(Prod, _summable(x, dtype), axis, keepdims)


def _summable(x: V, dtype: DType | None) -> V:
    if dtype is not None:
        return cast(x, dtype)
    if x.dtype.is_float:
        return x
    return cast(x, dtypes.uint64 if x.dtype.kind == "uint" else dtypes.int64)


def max(x: V, /, *, axis: Axis = None, keepdims: bool = False) -> V:
    """The largest element over `axis` (None: all); NaN if there is one."""
    return _reduce(Max, x, axis, keepdims)


def min(x: V, /, *, axis: Axis = None, keepdims: bool = False) -> V:
    """The smallest element over `axis` (None: all); NaN if there is one."""
    return _reduce(Min, x, axis, keepdims)


def any(x: V, /, *, axis: Axis = None, keepdims: bool = False) -> V:
    """Whether some element over `axis` (None: all) is true, or not 0."""
    return _reduce(Any, x if x.dtype is dtypes.bool else not_equal(x, 0), axis, keepdims)


def all(x: V, /, *, axis: Axis = None, keepdims: bool = False) -> V:
    """Whether every element over `axis` (None: all) is true, or not 0."""
    return _reduce(All, x if x.dtype is dtypes.bool else not_equal(x, 0), axis, keepdims)


def _arg(kind: type[Reduce], x: V, axis: int | None, keepdims: bool) -> V:
    if axis is not None:
        return _reduce(kind, x, checked_axis(kind.name, axis, x), keepdims)
    out = apply(kind((0,)), reshape(x, (size_of(x.shape),)))
    return reshape(out, (1,) * x.ndim) if keepdims else out


def argmax(x: V, /, *, axis: int | None = None, keepdims: bool = False) -> V:
    """The int64 index of the first largest element along `axis`, or in the flattened tensor; of the first NaN."""
    return _arg(Argmax, x, axis, keepdims)


def argmin(x: V, /, *, axis: int | None = None, keepdims: bool = False) -> V:
    """The int64 index of the first smallest element along `axis`, or in the flattened tensor; of the first NaN."""
    return _arg(Argmin, x, axis, keepdims)


def mean(x: V, /, *, axis: Axis = None, keepdims: bool = False) -> V:
    """The sum over `axis` (None: all) divided by the number of elements; integers count as float32.

    Half types are summed and divided in float32 and rounded once.
    """
    x = floating(x)
    wide = cast(x, x.dtype.accumulator)
    n = size_of(tuple(x.shape[a] for a in checked_axes("mean", axis, x)))
    return cast(divide(_reduce(Sum, wide, axis, keepdims), size_value(wide, n)), x.dtype)


def var(x: V, /, *, axis: Axis = None, correction: float = 0.0, keepdims: bool = False) -> V:
    """The variance over `axis`: the sum of squared distances from the mean, divided by n - correction.

    Integers count as float32; half types compute in float32 and round once.
    """
    x = floating(x)
    wide = cast(x, x.dtype.accumulator)
    n = size_of(tuple(x.shape[a] for a in checked_axes("var", axis, x)))
    distance = subtract(wide, mean(wide, axis=axis, keepdims=True))
    divisor = subtract(size_value(wide, n), correction) if correction else size_value(wide, n)
    return cast(divide(_reduce(Sum, square(distance), axis, keepdims), divisor), x.dtype)


def std(x: V, /, *, axis: Axis = None, correction: float = 0.0, keepdims: bool = False) -> V:
    """The square root of the variance over `axis`; its gradient is 0 where the variance is."""
    spread = var(x, axis=axis, correction=correction, keepdims=keepdims)
    flat = equal(spread, 0)
    return where(flat, 0, sqrt(where(flat, 1, spread)))


def _running_axis(where: str, axis: int | None, x: Value) -> int:
    if axis is None and x.ndim != 1:
        raise ArgumentError(where, f"axis must be given for a tensor of {x.ndim} axes", got=str(x.type),
                            fix=f"{where}(x, axis=-1)").locate(Site(*user_site()))  # fmt: skip
    return checked_axis(where, axis or 0, x)


def cumulative_sum(x: V, /, *, axis: int | None = None, dtype: DType | None = None) -> V:
    """The running sum along `axis`, which only a tensor of one axis may leave out; dtypes as in `sum`."""
    return apply(CumulativeSum(_running_axis("cumulative_sum", axis, x)), _summable(x, dtype))


def cumulative_prod(x: V, /, *, axis: int | None = None, dtype: DType | None = None) -> V:
    """The running product along `axis`, which only a tensor of one axis may leave out; dtypes as in `sum`."""
    return apply(CumulativeProd(_running_axis("cumulative_prod", axis, x)), _summable(x, dtype))


def count_nonzero(x: V, /, *, axis: Axis = None, keepdims: bool = False) -> V:
    """How many elements over `axis` (None: all) are not 0, int64."""
    return _reduce(Sum, cast(not_equal(x, 0) if x.dtype is not dtypes.bool else x, dtypes.int64), axis, keepdims)


def diff(x: V, /, *, axis: int = -1, n: int = 1, prepend: V | None = None, append: V | None = None) -> V:
    """The differences of neighbours along `axis`, taken `n` times; bools count as int64.

    Args:
        x: numbers.
        axis: where.
        n: how often; the axis gets shorter by 1 each time.
        prepend: values to put in front first.
        append: values to put behind first.

    Raises:
        ArgumentError: n below 0.
    """
    where = checked_axis("diff", axis, x)
    if n < 0:
        raise ArgumentError("diff", f"takes 0 or more differences, not {n}", got=str(n)).locate(Site(*user_site()))
    parts = [part for part in (prepend, x, append) if part is not None]
    x = concat(parts, axis=where)
    x = cast(x, dtypes.int64) if x.dtype is dtypes.bool else x
    for _ in range(n):
        size = x.shape[where]
        count = tuple(size - 1 if i == where and size != 0 else m for i, m in enumerate(x.shape))
        ahead = tuple(1 if i == where and size != 0 else 0 for i in range(x.ndim))
        x = subtract(take_slice(x, ahead, count), take_slice(x, (0,) * x.ndim, count))
    return x
