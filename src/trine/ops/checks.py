"""Primitives that check values where they are computed and pass them on: labels, probabilities.

What flows through a check is used by what follows, so no program can leave the check away and keep the result.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from trine import dtypes
from trine.errors import ArgumentError, DTypeError, IndexRangeError, TrineError
from trine.ir.graph import Type, Value
from trine.ops.base import Array, Gradients, Op, V, apply, primitive
from trine.shapes import Size, format_shape

SLACK: Final = 1e-3  # how far rounding may carry a probability outside [0, 1]; half types round to 1e-3


@primitive
class CheckLabels(Op):
    """The labels themselves, each a class from 0 to `classes - 1`; `where` is who asks.

    Attributes:
        classes: the number of classes.
        where: the name in the error.
    """

    form = "check"
    classes: Size
    where: str = "labels"

    def infer(self, *types: Type) -> Type:
        """The same type."""
        if not types[0].dtype.is_integer:
            raise DTypeError(self.where, f"labels are integers, not {types[0].dtype.name}", got=str(types[0]),
                             fix="y_true.astype(trine.int64)")  # fmt: skip
        return types[0]

    def reference(self, *arrays: Array) -> Array:
        """The array, once its range is checked.

        Raises:
            IndexRangeError: a label that is no class.
        """
        labels, classes = arrays[0], int(self.classes)
        outside = np.argwhere((labels < 0) | (labels >= classes))
        if len(outside):
            raise _no_class(self.where, labels, tuple(int(i) for i in outside[0]), classes)
        return labels

    def batch(self, size: Size, batched: Sequence[bool], *inputs: Value) -> Value:
        """The same."""
        return apply(self, *inputs)


def _no_class(where: str, labels: Array, place: tuple[int, ...], classes: int) -> TrineError:
    low, high = int(labels.min()), int(labels.max())
    if low == 1 and high == classes:
        fix = "y_true - 1: these labels count from 1"
    elif low < 0:
        fix = "leave such examples out, or ignore_class= for a label that marks what does not count"
    else:
        fix = f"a last layer of at least {high + 1} units"
    return IndexRangeError(where, f"label {int(labels[place])} at position {format_shape(place)} is none of the "
                           f"{classes} classes: labels count from 0 to {classes - 1}",
                           got=f"{Type(labels.shape, dtypes.dtype(labels.dtype))}, values from {low} to {high}",
                           fix=fix)  # fmt: skip


@primitive
class CheckProbabilities(Op):
    """The values themselves, each from 0 to 1 up to rounding, or NaN; `where` is who asks, `fix` what to try.

    Attributes:
        where: the name in the error.
        what: what the values are called.
        fix: what the error proposes.
    """

    form = "check"
    where: str = "probabilities"
    what: str = "y_pred"
    fix: str = ""

    def infer(self, *types: Type) -> Type:
        """The same type."""
        if not types[0].dtype.is_float:
            raise DTypeError(self.where, f"probabilities are floats, not {types[0].dtype.name}", got=str(types[0]),
                             fix="x.astype(trine.float32)")  # fmt: skip
        return types[0]

    def reference(self, *arrays: Array) -> Array:
        """The array, once its range is checked.

        Raises:
            ArgumentError: a value outside [0, 1].
        """
        x = arrays[0]
        wide = x.astype(dtypes.dtype(x.dtype).accumulator.numpy, copy=False)
        outside = np.argwhere((wide < -SLACK) | (wide > 1 + SLACK))
        if len(outside):
            place = tuple(int(i) for i in outside[0])
            raise ArgumentError(self.where, f"takes probabilities, from 0 to 1, but {self.what} is "
                                f"{float(wide[place]):.4g} at position {format_shape(place)}",
                                got=str(Type(x.shape, dtypes.dtype(x.dtype))), fix=self.fix)  # fmt: skip
        return x

    def gradient(self, g: Value, out: Value, *inputs: Value) -> Gradients:
        """`g`."""
        return (g,)

    def batch(self, size: Size, batched: Sequence[bool], *inputs: Value) -> Value:
        """The same."""
        return apply(self, *inputs)


def check_labels(labels: V, classes: Size, /, *, where: str = "labels") -> V:
    """`labels`, integers from 0 to `classes - 1`.

    Raises:
        DTypeError: no integers.
        IndexRangeError: another label, when the value is computed.
    """
    return apply(CheckLabels(classes, where), labels)


def check_probabilities(x: V, /, *, where: str = "probabilities", what: str = "y_pred", fix: str = "") -> V:
    """`x`, whose elements are from 0 to 1 (up to rounding) or NaN.

    Raises:
        ArgumentError: another value, when it is computed.
    """
    return apply(CheckProbabilities(where, what, fix), x)
