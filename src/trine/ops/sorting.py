"""Primitives that order elements: sort, argsort, searchsorted; top-k on them.

All are stable. NaN is larger than every number, so it comes last in ascending and first in descending order; -0.0 and
0.0 are equal.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from trine import dtypes
from trine.dtypes import promote
from trine.errors import ArgumentError, ShapeError, Site, TrineError
from trine.ir.graph import Type, Value
from trine.ops.base import Array, Gradients, Op, Scalar, V, apply, primitive, user_site
from trine.ops.elementwise import isnan, less, logical_and, logical_not, logical_or, operand
from trine.ops.indexing import take, take_along_axis
from trine.ops.movement import broadcast_to, checked_axis, expand_dims, reshape, take_slice
from trine.ops.reduction import sum
from trine.shapes import Size


@primitive
class Ordering(Op):
    """The family: one axis is ordered, the others are batches."""

    form = "sort"
    axis: int
    descending: bool = False

    def order(self, x: Array) -> Array:
        """The places of the elements in order, equal ones in the order they have."""
        keys = x.astype(dtypes.dtype(x.dtype).accumulator.numpy, copy=False)
        if not self.descending:
            return np.argsort(keys, self.axis, kind="stable")
        back = np.argsort(np.flip(keys, self.axis), self.axis, kind="stable")
        return np.flip(x.shape[self.axis] - 1 - back, self.axis)

    def batch(self, size: Size, batched: Sequence[bool], *inputs: Value) -> Value:
        """The axis moves by one."""
        return apply(type(self)(self.axis + 1, self.descending), inputs[0])


class Sort(Ordering):
    """The elements in order along the axis."""

    def infer(self, *types: Type) -> Type:
        """The same type."""
        return types[0]

    def reference(self, *arrays: Array) -> Array:
        """By np.argsort, stable."""
        return np.take_along_axis(arrays[0], self.order(arrays[0]), self.axis)

    def gradient(self, g: Value, out: Value, *inputs: Value) -> Gradients:
        """`g` at the place where each element went: the order of the order."""
        place = apply(Argsort(self.axis), apply(Argsort(self.axis, self.descending), inputs[0]))
        return (take_along_axis(g, place, axis=self.axis),)


class Argsort(Ordering):
    """The int64 places of the elements in order along the axis."""

    def infer(self, *types: Type) -> Type:
        """The same shape."""
        return Type(types[0].shape, dtypes.int64)

    def reference(self, *arrays: Array) -> Array:
        """By np.argsort, stable."""
        return self.order(arrays[0]).astype(np.int64, copy=False)


@primitive
class Searchsorted(Op):
    """The int64 places at which elements of x2 go into the ascending x1: before equal ones (left) or behind (right)."""

    form = "sort"
    side: str = "left"

    def infer(self, *types: Type) -> Type:
        """The shape of x2."""
        x1, x2 = types
        if x1.ndim != 1:
            raise ShapeError(self.name, f"the sorted values have 1 axis, not {x1.ndim}", got=f"{x1}, {x2}",
                             fix="trine.vmap for several of them")  # fmt: skip
        promote(self.name, x1.dtype, x2.dtype)
        return Type(x2.shape, dtypes.int64)

    def reference(self, *arrays: Array) -> Array:
        """By np.searchsorted in the promoted dtype, half types in float32."""
        x1, x2 = arrays
        wide = promote(self.name, dtypes.dtype(x1.dtype), dtypes.dtype(x2.dtype)).accumulator.numpy
        found = np.searchsorted(x1.astype(wide, copy=False), x2.astype(wide, copy=False), self.side)  # type: ignore[call-overload]  # NumPy's stubs want a literal
        return np.asarray(found, np.int64)

    def batch(self, size: Size, batched: Sequence[bool], *inputs: Value) -> Value:
        """With shared x1 nothing changes; else the elements of x1 before each of x2 are counted."""
        x1, x2 = inputs
        if not batched[0]:
            return apply(self, x1, x2)
        wide = x2 if batched[1] else broadcast_to(x2, (size, *x2.shape))
        x1 = reshape(x1, (size, *(1,) * (wide.ndim - 1), x1.shape[1]))
        wide = expand_dims(wide, axis=-1)
        return sum(_precedes(x1, wide) if self.side == "left" else logical_not(_precedes(wide, x1)), axis=-1)


def _precedes(a: V, b: V) -> V:
    """Whether a comes before b where NaN comes last."""
    if not b.dtype.is_float:
        return less(a, b)
    last = logical_and(logical_not(isnan(a)), isnan(b)) if a.dtype.is_float else isnan(b)
    return logical_or(less(a, b), last)


# -- The functions -----------------------------------------------------------------------------------------------------


def sort(x: V, /, *, axis: int = -1, descending: bool = False, stable: bool = True) -> V:
    """The elements of `x` in ascending (or descending) order along `axis`; NaN counts as the largest.

    The order is stable whatever `stable` says, which the array API permits.
    """
    return apply(Sort(checked_axis("sort", axis, x), bool(descending)), x)


def argsort(x: V, /, *, axis: int = -1, descending: bool = False, stable: bool = True) -> V:
    """The int64 indices that put `x` in order along `axis`, equal elements in the order they have."""
    return apply(Argsort(checked_axis("argsort", axis, x), bool(descending)), x)


def topk(x: V, k: int, /, *, axis: int = -1) -> tuple[V, V]:
    """The `k` largest elements along `axis`, largest first, and their int64 indices.

    NaN counts as the largest; of equal elements the first comes first.

    Raises:
        ArgumentError: `k` below 0 or above the size of the axis.
    """
    at = checked_axis("topk", axis, x)
    n = x.shape[at]
    try:
        if not 0 <= k <= n:
            raise ArgumentError("topk", f"k is {k}, axis {at} has size {n}", got=str(x.type), fix=f"k from 0 to {n}")
    except TrineError as error:
        raise error.locate(Site(*user_site())) from None
    order = apply(Argsort(at, True), x)
    first = take_slice(order, (0,) * x.ndim, (*x.shape[:at], k, *x.shape[at + 1 :]))
    return take_along_axis(x, first, axis=at), first


def searchsorted(x1: V, x2: V | Scalar, /, *, side: str = "left", sorter: V | None = None) -> V:
    """The int64 indices at which elements of `x2` can go into `x1`, which is ascending, so that it stays so.

    Args:
        x1: values along one axis, ascending, NaN last.
        x2: what to place, of any shape.
        side: "left" gives the first such index, "right" the last.
        sorter: indices that put `x1` in ascending order, where it is not.

    Raises:
        ArgumentError: another side.
        ShapeError: `x1` does not have exactly one axis.
    """
    if side not in ("left", "right"):
        raise ArgumentError("searchsorted", f"the side is 'left' or 'right', not {side!r}", got=repr(side)).locate(
            Site(*user_site()))  # fmt: skip
    ordered = x1 if sorter is None else take(x1, sorter, axis=0)
    return apply(Searchsorted(side), ordered, operand(x2, x1))
