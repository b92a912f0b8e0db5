"""Pooling: the largest or the mean of windows, or of whole axes; channels last."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from trine.nn.checks import argument_error, each_axis, floats, require_axes, require_window
from trine.nn.module import Module
from trine.ops.window import average_pool, global_average_pool, global_max_pool, max_pool
from trine.tensor.tensor import Tensor

Sizes = int | Sequence[int]

_AXES = {1: "batch, steps, channels", 2: "batch, height, width, channels"}


class _Pool(Module):
    """What windowed pooling shares: size, strides and padding."""

    rank: ClassVar[int]

    def __init__(self, pool_size: Sizes = 2, strides: Sizes | None = None, padding: str = "valid") -> None:
        """Keep the arguments."""
        self.pool_size = each_axis(self, "pool_size", pool_size, self.rank)
        self.strides = self.pool_size if strides is None else each_axis(self, "strides", strides, self.rank)
        if padding not in ("valid", "same"):
            raise argument_error(self, "padding is 'valid' or 'same'", got=f"padding={padding!r}")
        self.padding = padding

    def _check(self, x: Tensor) -> None:
        require_axes(self, x, _AXES[self.rank])
        if self.padding == "valid":
            require_window(self, x, self.pool_size, "pool_size")


class _MaxPool(_Pool):
    def forward(self, x: Tensor) -> Tensor:
        """The largest element of each window."""
        self._check(x)
        return max_pool(x, self.pool_size, self.strides, self.padding)


class _AveragePool(_Pool):
    def forward(self, x: Tensor) -> Tensor:
        """The mean of each window; padding is not counted."""
        self._check(x)
        return average_pool(floats(x), self.pool_size, self.strides, self.padding)


class _GlobalPool(Module):
    """What pooling of whole axes shares."""

    rank: ClassVar[int]

    def __init__(self, keepdims: bool = False) -> None:
        """Keep the argument."""
        self.keepdims = keepdims


class _GlobalMaxPool(_GlobalPool):
    def forward(self, x: Tensor) -> Tensor:
        """The largest element of each channel."""
        require_axes(self, x, _AXES[self.rank])
        return global_max_pool(x, keepdims=self.keepdims)


class _GlobalAveragePool(_GlobalPool):
    def forward(self, x: Tensor) -> Tensor:
        """The mean of each channel."""
        require_axes(self, x, _AXES[self.rank])
        return global_average_pool(floats(x), keepdims=self.keepdims)


class MaxPool1D(_MaxPool):
    """The largest element of each window; NaN if there is one.

    Shapes: `[batch, steps, channels] -> [batch, places, channels]`.

    Args:
        pool_size: elements of a window.
        strides: the distance between windows; None: the size.
        padding: "valid" (none) or "same" (`ceil(steps / strides)` windows; padding never wins).

    Raises:
        ShapeError: the input has not 3 axes, or fewer steps than the window.

    Example:
        >>> import trine
        >>> from trine import nn
        >>> nn.MaxPool1D()(trine.asarray([[[1.0], [3.0], [2.0], [0.0]]])).flatten().tolist()
        [3.0, 2.0]
    """

    rank = 1


class MaxPool2D(_MaxPool):
    """The largest element of each window; NaN if there is one.

    Shapes: `[batch, height, width, channels] -> [batch, rows, columns, channels]`.

    Args:
        pool_size: the size of a window, for both axes or each.
        strides: the distance between windows, likewise; None: the size.
        padding: "valid" (none) or "same" (`ceil(size / stride)` windows; padding never wins).

    Raises:
        ShapeError: the input has not 4 axes, or is smaller than the window.

    Example:
        >>> import trine
        >>> from trine import nn
        >>> nn.MaxPool2D()(trine.ones((1, 28, 28, 8))).shape
        (1, 14, 14, 8)
    """

    rank = 2


class AveragePooling1D(_AveragePool):
    """The mean of each window; padding is not counted.

    Shapes: `[batch, steps, channels] -> [batch, places, channels]`.

    Args:
        pool_size: elements of a window.
        strides: the distance between windows; None: the size.
        padding: "valid" (none) or "same" (`ceil(steps / strides)` windows).

    Raises:
        ShapeError: the input has not 3 axes, or fewer steps than the window.

    Example:
        >>> import trine
        >>> from trine import nn
        >>> nn.AveragePooling1D()(trine.asarray([[[1.0], [3.0], [2.0], [0.0]]])).flatten().tolist()
        [2.0, 1.0]
    """

    rank = 1


class AveragePooling2D(_AveragePool):
    """The mean of each window; padding is not counted.

    Shapes: `[batch, height, width, channels] -> [batch, rows, columns, channels]`.

    Args:
        pool_size: the size of a window, for both axes or each.
        strides: the distance between windows, likewise; None: the size.
        padding: "valid" (none) or "same" (`ceil(size / stride)` windows).

    Raises:
        ShapeError: the input has not 4 axes, or is smaller than the window.

    Example:
        >>> import trine
        >>> from trine import nn
        >>> nn.AveragePooling2D((2, 1))(trine.ones((1, 28, 28, 8))).shape
        (1, 14, 28, 8)
    """

    rank = 2


class GlobalMaxPool1D(_GlobalMaxPool):
    """The largest element of each channel over all steps; NaN if there is one.

    Shapes: `[batch, steps, channels] -> [batch, channels]`, or `[batch, 1, channels]` with `keepdims`.

    Raises:
        ShapeError: the input has not 3 axes.

    Example:
        >>> import trine
        >>> from trine import nn
        >>> nn.GlobalMaxPool1D()(trine.ones((2, 7, 3))).shape
        (2, 3)
    """

    rank = 1


class GlobalMaxPool2D(_GlobalMaxPool):
    """The largest element of each channel over the whole image; NaN if there is one.

    Shapes: `[batch, height, width, channels] -> [batch, channels]`, or `[batch, 1, 1, channels]` with `keepdims`.

    Raises:
        ShapeError: the input has not 4 axes.

    Example:
        >>> import trine
        >>> from trine import nn
        >>> nn.GlobalMaxPool2D(keepdims=True)(trine.ones((2, 7, 7, 3))).shape
        (2, 1, 1, 3)
    """

    rank = 2


class GlobalAveragePooling1D(_GlobalAveragePool):
    """The mean of each channel over all steps.

    Shapes: `[batch, steps, channels] -> [batch, channels]`, or `[batch, 1, channels]` with `keepdims`.

    Raises:
        ShapeError: the input has not 3 axes.

    Example:
        >>> import trine
        >>> from trine import nn
        >>> nn.GlobalAveragePooling1D()(trine.asarray([[[1.0], [3.0]]])).tolist()
        [[2.0]]
    """

    rank = 1


class GlobalAveragePooling2D(_GlobalAveragePool):
    """The mean of each channel over the whole image.

    Shapes: `[batch, height, width, channels] -> [batch, channels]`, or `[batch, 1, 1, channels]` with `keepdims`.

    Raises:
        ShapeError: the input has not 4 axes.

    Example:
        >>> import trine
        >>> from trine import nn
        >>> nn.GlobalAveragePooling2D()(trine.ones((2, 7, 7, 3))).shape
        (2, 3)
    """

    rank = 2


MaxPooling1D = MaxPool1D
MaxPooling2D = MaxPool2D
GlobalMaxPooling1D = GlobalMaxPool1D
GlobalMaxPooling2D = GlobalMaxPool2D
