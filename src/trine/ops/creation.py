"""Primitives without inputs: counting, and the value of a symbolic size; constants of a shape are broadcast scalars."""

from __future__ import annotations

import numpy as np

from trine.dtypes import DType
from trine.ir import expr
from trine.ir.expr import Expr
from trine.ir.graph import Type, Value
from trine.ops.base import Array, Op, Scalar, V, literal, primitive, source, wrap
from trine.ops.casting import convert
from trine.ops.movement import broadcast_to
from trine.shapes import Shape, Size


@primitive
class Iota(Op):
    """0, 1, 2, ... `size - 1`."""

    form = "creation"
    size: Size
    dtype: DType

    def infer(self, *types: Type) -> Type:
        """One axis of the size."""
        return Type((self.size,), self.dtype)

    def reference(self, *arrays: Array) -> Array:
        """By np.arange."""
        return convert(np.arange(self.size), self.dtype)  # type: ignore[arg-type]  # a size is a number here

    def lower(self, *operands: Expr) -> Expr:
        """The index."""
        return expr.convert(operands[0], self.dtype)


@primitive
class SizeValue(Op):
    """A size as a number of shape (): what a mean over a symbolic axis divides by."""

    form = "creation"
    size: Size
    dtype: DType

    def infer(self, *types: Type) -> Type:
        """A scalar."""
        return Type((), self.dtype)

    def reference(self, *arrays: Array) -> Array:
        """The number."""
        return convert(np.asarray(self.size), self.dtype)

    def lower(self, *operands: Expr) -> Expr:
        """The size."""
        return expr.convert(expr.size(self.size), self.dtype)


def iota(like: Value | type[V], size: Size, dtype: DType) -> V:
    """0, 1, ... `size - 1` in the class of `like`."""
    return source(Iota(size, dtype), like)  # type: ignore[no-any-return]  # the class of the handle given


def size_value(x: V, size: Size) -> V:
    """A size, known or symbolic, as a scalar in the dtype and class of `x`."""
    if isinstance(size, int):
        return wrap(literal(float(size) if x.dtype.is_float else size, x.dtype), x)  # type: ignore[no-any-return]  # the class of the handle given
    return source(SizeValue(size, x.dtype), x)  # type: ignore[no-any-return]  # the class of the handle given


def full(like: V, shape: Shape, value: Scalar, dtype: DType | None = None) -> V:
    """One value repeated over a shape, in the class (and, by default, the dtype) of `like`."""
    return broadcast_to(wrap(literal(value, dtype or like.dtype), like), shape)  # type: ignore[no-any-return]  # the class of the handle given
