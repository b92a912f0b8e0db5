"""Activations as layers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from trine.functional import activations
from trine.functional.attention import masked_scores
from trine.nn.checks import argument_error, floats, known, line, require_size, shape_error
from trine.nn.module import Module
from trine.nn.parameter import parameter
from trine.ops.elementwise import cast, less_equal, multiply, where
from trine.tensor.tensor import Tensor


class Activation(Module):
    """An activation, by its name or as a function.

    Shapes: any, kept.

    Args:
        activation: a name such as "relu", or a function of a tensor.

    Raises:
        NameLookupError: no activation has the name.

    Example:
        >>> import trine
        >>> from trine import nn
        >>> nn.Activation("relu")(trine.asarray([-1.0, 2.0])).tolist()
        [0.0, 2.0]
    """

    def __init__(self, activation: str | Callable[..., Any]) -> None:
        """Keep the function."""
        self.activation = activations.get(activation)

    def forward(self, x: Tensor) -> Tensor:
        """The activation of `x`."""
        out: Tensor = self.activation(x)
        return out


class ReLU(Module):
    """`x` where it is above `threshold`, `negative_slope * (x - threshold)` elsewhere, at most `max_value`.

    Shapes: any, kept.

    Args:
        max_value: the upper limit; None for none.
        negative_slope: the slope on the left, at least 0.
        threshold: where the left begins, at least 0.

    Raises:
        ArgumentError: a number below 0.

    Example:
        >>> import trine
        >>> from trine import nn
        >>> nn.ReLU(max_value=6)(trine.asarray([-1.0, 2.0, 7.0])).tolist()
        [0.0, 2.0, 6.0]
    """

    def __init__(self, max_value: float | None = None, negative_slope: float = 0.0, threshold: float = 0.0) -> None:
        """Keep the numbers."""
        if min(max_value or 0.0, negative_slope, threshold) < 0:
            raise argument_error(self, "max_value, negative_slope and threshold are at least 0",
                                 got=f"{max_value}, {negative_slope}, {threshold}")  # fmt: skip
        self.max_value = max_value
        self.negative_slope = negative_slope
        self.threshold = threshold

    def forward(self, x: Tensor) -> Tensor:
        """The layer's value."""
        return activations.relu(
            x, negative_slope=self.negative_slope, max_value=self.max_value, threshold=self.threshold
        )


class LeakyReLU(Module):
    """`x` where it is positive, `negative_slope * x` elsewhere.

    Shapes: any, kept.

    Args:
        negative_slope: the slope on the left, at least 0.

    Raises:
        ArgumentError: a slope below 0.

    Source: Maas, Hannun and Ng, "Rectifier Nonlinearities Improve Neural Network Acoustic Models" (2013).

    Example:
        >>> import trine
        >>> from trine import nn
        >>> nn.LeakyReLU(0.5)(trine.asarray([-1.0, 2.0])).tolist()
        [-0.5, 2.0]
    """

    def __init__(self, negative_slope: float = 0.3) -> None:
        """Keep the slope."""
        if negative_slope < 0:
            raise argument_error(self, "the slope is at least 0", got=f"negative_slope={negative_slope}")
        self.negative_slope = negative_slope

    def forward(self, x: Tensor) -> Tensor:
        """The layer's value."""
        return activations.leaky_relu(x, negative_slope=self.negative_slope)


class PReLU(Module):
    """`x` where it is positive, `alpha * x` elsewhere, with a learned `alpha`.

    Shapes: `[batch, ...]`, kept; `alpha` has the sizes of `...`, with 1 for shared axes.

    Args:
        alpha_initializer: how alpha starts.
        shared_axes: axes along which alpha is the same, for example `(1, 2)` for the places of an image.

    Raises:
        ShapeError: other sizes than at the first call.

    Source: He et al., "Delving Deep into Rectifiers" (2015), arXiv:1502.01852.

    Example:
        >>> import trine
        >>> from trine import nn
        >>> nn.PReLU("ones")(trine.asarray([[-1.0, 2.0]])).tolist()
        [[-1.0, 2.0]]
    """

    alpha: Tensor

    def __init__(self, alpha_initializer: Any = "zeros", shared_axes: Sequence[int] | int | None = None) -> None:
        """Keep the arguments; the parameter appears at the first call."""
        self.alpha_initializer = alpha_initializer
        self.shared_axes = (shared_axes,) if isinstance(shared_axes, int) else tuple(shared_axes or ())

    def build(self, x: Tensor) -> None:
        """Make alpha for the sizes of `x`."""
        if not x.ndim:
            raise shape_error(self, "takes [batch, ...], at least 1 axis; got 0", got=str(x.type))
        for axis in self.shared_axes:
            if not -x.ndim <= axis < x.ndim:
                raise shape_error(self, f"axis {axis} is shared, x has {x.ndim} axes", got=str(x.type))
        shared = {axis % x.ndim for axis in self.shared_axes}
        self.sizes = tuple(1 if i in shared else known(self, x, i) for i in range(1, x.ndim))
        self.built_at = line()
        self.alpha = parameter(self.sizes, self.alpha_initializer)

    def forward(self, x: Tensor) -> Tensor:
        """The layer's value."""
        if x.ndim != len(self.sizes) + 1:
            raise shape_error(self, f"x has {x.ndim} axes, the layer was built for {len(self.sizes) + 1}",
                              got=str(x.type))  # fmt: skip
        for axis, size in enumerate(self.sizes, 1):
            if size != 1:
                require_size(self, x, axis, size)
        x = floats(x)
        return where(less_equal(x, 0.0), multiply(x, cast(self.alpha, x.dtype)), x)


class ELU(Module):
    """`x` where it is positive, `alpha * (e ** x - 1)` elsewhere.

    Shapes: any, kept.

    Args:
        alpha: minus the limit on the left.

    Source: Clevert, Unterthiner and Hochreiter (2016), arXiv:1511.07289.

    Example:
        >>> import trine
        >>> from trine import nn
        >>> nn.ELU()(trine.asarray([-1e3, 2.0])).tolist()
        [-1.0, 2.0]
    """

    def __init__(self, alpha: float = 1.0) -> None:
        """Keep the number."""
        self.alpha = alpha

    def forward(self, x: Tensor) -> Tensor:
        """The layer's value."""
        return activations.elu(x, alpha=self.alpha)


class Softmax(Module):
    """`e ** x` divided by its sum over `axis`: positive numbers that sum to 1.

    Shapes: any, kept.

    Args:
        axis: over which the sum is taken, or several.

    Example:
        >>> import trine
        >>> from trine import nn
        >>> nn.Softmax()(trine.asarray([0.0, 0.0])).tolist()
        [0.5, 0.5]
    """

    def __init__(self, axis: int | Sequence[int] = -1) -> None:
        """Keep the axis."""
        self.axis = axis if isinstance(axis, int) else tuple(axis)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """The layer's value; elements where the bools of `mask` do not hold count as 0."""
        x = floats(x)
        return activations.softmax(x if mask is None else masked_scores(x, mask), axis=self.axis)
