"""Layers that make one tensor of several, given as a list."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from trine.nn.checks import argument_error
from trine.nn.module import Module
from trine.ops.elementwise import add, maximum, minimum, multiply, subtract
from trine.ops.movement import concat
from trine.tensor.tensor import Tensor


class _Merge(Module):
    """What element-wise merging shares: the inputs are combined from the left, and broadcast."""

    combine: ClassVar[Any]

    def forward(self, inputs: Sequence[Tensor]) -> Tensor:
        """The inputs combined."""
        first: Tensor
        first, *others = _several(self, inputs)
        for other in others:
            first = type(self).combine(first, other)
        return first


class Add(_Merge):
    """The sum of the inputs.

    Shapes: a list of `[...]`, which broadcast.

    Raises:
        ArgumentError: fewer than two inputs, or no list.
        ShapeError: they do not broadcast.

    Example:
        >>> import trine
        >>> from trine import nn
        >>> nn.Add()([trine.asarray([1.0, 2.0]), trine.asarray([3.0, 4.0])]).tolist()
        [4.0, 6.0]
    """

    combine = staticmethod(add)


class Subtract(_Merge):
    """The first input minus the second.

    Shapes: a list of two `[...]`, which broadcast.

    Raises:
        ArgumentError: not two inputs.
        ShapeError: they do not broadcast.

    Example:
        >>> import trine
        >>> from trine import nn
        >>> nn.Subtract()([trine.asarray([1.0, 2.0]), trine.asarray([3.0, 3.0])]).tolist()
        [-2.0, -1.0]
    """

    combine = staticmethod(subtract)

    def forward(self, inputs: Sequence[Tensor]) -> Tensor:
        """The difference."""
        if len(_several(self, inputs)) != 2:
            raise argument_error(self, f"takes two inputs; got {len(inputs)}")
        return super().forward(inputs)


class Multiply(_Merge):
    """The product of the inputs.

    Shapes: a list of `[...]`, which broadcast.

    Raises:
        ArgumentError: fewer than two inputs, or no list.
        ShapeError: they do not broadcast.

    Example:
        >>> import trine
        >>> from trine import nn
        >>> nn.Multiply()([trine.asarray([1.0, 2.0]), trine.asarray([3.0, 4.0])]).tolist()
        [3.0, 8.0]
    """

    combine = staticmethod(multiply)


class Average(_Merge):
    """The mean of the inputs.

    Shapes: a list of `[...]`, which broadcast.

    Raises:
        ArgumentError: fewer than two inputs, or no list.
        ShapeError: they do not broadcast.

    Example:
        >>> import trine
        >>> from trine import nn
        >>> nn.Average()([trine.asarray([1.0, 2.0]), trine.asarray([3.0, 4.0])]).tolist()
        [2.0, 3.0]
    """

    combine = staticmethod(add)

    def forward(self, inputs: Sequence[Tensor]) -> Tensor:
        """The mean."""
        return super().forward(inputs) / len(inputs)


class Maximum(_Merge):
    """The largest of the inputs, element by element; NaN if there is one.

    Shapes: a list of `[...]`, which broadcast.

    Raises:
        ArgumentError: fewer than two inputs, or no list.
        ShapeError: they do not broadcast.

    Example:
        >>> import trine
        >>> from trine import nn
        >>> nn.Maximum()([trine.asarray([1.0, 5.0]), trine.asarray([3.0, 4.0])]).tolist()
        [3.0, 5.0]
    """

    combine = staticmethod(maximum)


class Minimum(_Merge):
    """The smallest of the inputs, element by element; NaN if there is one.

    Shapes: a list of `[...]`, which broadcast.

    Raises:
        ArgumentError: fewer than two inputs, or no list.
        ShapeError: they do not broadcast.

    Example:
        >>> import trine
        >>> from trine import nn
        >>> nn.Minimum()([trine.asarray([1.0, 5.0]), trine.asarray([3.0, 4.0])]).tolist()
        [1.0, 4.0]
    """

    combine = staticmethod(minimum)


class Concatenate(Module):
    """The inputs one after the other along an axis.

    Shapes: a list of `[...]` that differ along `axis` alone.

    Args:
        axis: along which.

    Raises:
        ArgumentError: fewer than two inputs, or no list.
        ShapeError: sizes off the axis differ, or there is no such axis.

    Example:
        >>> import trine
        >>> from trine import nn
        >>> nn.Concatenate()([trine.ones((2, 3)), trine.ones((2, 4))]).shape
        (2, 7)
    """

    def __init__(self, axis: int = -1) -> None:
        """Keep the axis."""
        self.axis = axis

    def forward(self, inputs: Sequence[Tensor]) -> Tensor:
        """The inputs joined."""
        return concat(_several(self, inputs), axis=self.axis)


def _several(layer: Module, inputs: Any) -> Sequence[Tensor]:
    if not isinstance(inputs, list | tuple) or len(inputs) < 2:
        got = f"{len(inputs)} of them" if isinstance(inputs, list | tuple) else type(inputs).__name__
        raise argument_error(layer, "takes a list of at least two inputs", got=got,
                             fix=f"{type(layer).__name__}()([a, b])")  # fmt: skip
    return inputs
