"""Layers that move elements without changing them; the first axis, the batch, stays."""

from __future__ import annotations

from collections.abc import Sequence

from trine.nn.checks import argument_error, positive, require_tensor, shape_error
from trine.nn.module import Module
from trine.ops.movement import broadcast_to, expand_dims, permute_dims, reshape
from trine.shapes import size_of
from trine.tensor.tensor import Tensor


class Flatten(Module):
    """The elements of each example along one axis.

    Shapes: `[batch, ...] -> [batch, n]`; `[batch] -> [batch, 1]`.

    Raises:
        ShapeError: the input has no axis.

    Example:
        >>> import trine
        >>> from trine import nn
        >>> nn.Flatten()(trine.ones((2, 4, 4, 3))).shape
        (2, 48)
    """

    def forward(self, x: Tensor) -> Tensor:
        """The layer's value, `[batch, n]`."""
        _batched(self, x)
        return reshape(x, (x.shape[0], size_of(x.shape[1:])))


class Reshape(Module):
    """The elements of each example in row-major order under another shape.

    Shapes: `[batch, ...] -> [batch, *target_shape]`.

    Args:
        target_shape: without the batch; one size may be -1 and is then worked out.

    Raises:
        ShapeError: the number of elements differs, or the input has no axis.

    Example:
        >>> import trine
        >>> from trine import nn
        >>> nn.Reshape((4, -1))(trine.ones((2, 12))).shape
        (2, 4, 3)
    """

    def __init__(self, target_shape: Sequence[int]) -> None:
        """Keep the shape."""
        self.target_shape = tuple(target_shape)

    def forward(self, x: Tensor) -> Tensor:
        """The layer's value, `[batch, *target_shape]`."""
        _batched(self, x)
        return reshape(x, (x.shape[0], *self.target_shape))


class Permute(Module):
    """The axes of each example in another order.

    Shapes: `[batch, n1, n2, ...] -> [batch, n(dims[0]), n(dims[1]), ...]`.

    Args:
        dims: the axes in their new order, counted from 1: 0 is the batch.

    Raises:
        ArgumentError: the axes are not 1 to n, each once.
        ShapeError: the input has another number of axes.

    Example:
        >>> import trine
        >>> from trine import nn
        >>> nn.Permute((2, 1))(trine.ones((5, 10, 64))).shape
        (5, 64, 10)
    """

    def __init__(self, dims: Sequence[int]) -> None:
        """Keep the order."""
        self.dims = tuple(dims)
        if sorted(self.dims) != list(range(1, len(self.dims) + 1)):
            raise argument_error(self, f"dims are the axes 1 to {len(self.dims)}, each once", got=f"dims={self.dims}")

    def forward(self, x: Tensor) -> Tensor:
        """The layer's value."""
        if x.ndim != len(self.dims) + 1:
            raise shape_error(self, f"{len(self.dims)} axes are put in order, beside the batch; x has {x.ndim} axes",
                              got=str(x.type))  # fmt: skip
        return permute_dims(x, (0, *self.dims))


class RepeatVector(Module):
    """Each example `n` times.

    Shapes: `[batch, features] -> [batch, n, features]`.

    Args:
        n: how often.

    Raises:
        ShapeError: the input has not 2 axes.

    Example:
        >>> import trine
        >>> from trine import nn
        >>> nn.RepeatVector(3)(trine.ones((2, 32))).shape
        (2, 3, 32)
    """

    def __init__(self, n: int) -> None:
        """Keep the number."""
        self.n = positive(self, "n", n)

    def forward(self, x: Tensor) -> Tensor:
        """The layer's value, `[batch, n, features]`."""
        if x.ndim != 2:
            raise shape_error(self, f"takes [batch, features], 2 axes; got {x.ndim}", got=str(x.type))
        return broadcast_to(expand_dims(x, axis=1), (x.shape[0], self.n, x.shape[1]))


def _batched(layer: Module, x: Tensor) -> None:
    require_tensor(layer, x)
    if not x.ndim:
        raise shape_error(layer, "takes [batch, ...], at least 1 axis; got 0",
                          got=str(x.type), fix="x[None] adds an axis")  # fmt: skip
