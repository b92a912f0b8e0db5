"""The densely connected layer."""

from __future__ import annotations

from typing import Any

from trine.functional import activations
from trine.nn.checks import first_call, floats, known, line, positive, require_tensor, shape_error
from trine.nn.module import Module
from trine.nn.parameter import parameter
from trine.ops.elementwise import add, cast
from trine.ops.linalg import matmul
from trine.shapes import format_shape, size_of
from trine.tensor.tensor import Tensor


class Dense(Module):
    """`activation(x @ kernel + bias)`: every output is a weighted sum of all inputs.

    Shapes: `[..., features] -> [..., units]`, with `kernel` `[features, units]` and `bias` `[units]`, made at the first
    call.

    Args:
        units: the size of the last axis of the result.
        activation: a name, a function, or None for the sum itself.
        use_bias: whether there is a bias.
        kernel_initializer: how the kernel starts.
        bias_initializer: how the bias starts.

    Raises:
        ShapeError: the input has no axis, or another number of features than at the first call.

    Example:
        >>> import trine
        >>> from trine import nn
        >>> layer = nn.Dense(3, activation="relu")
        >>> layer(trine.ones((2, 5))).shape
        (2, 3)
        >>> layer.kernel.shape
        (5, 3)
    """

    kernel: Tensor
    bias: Tensor | None

    def __init__(
        self,
        units: int,
        activation: Any = None,
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
    ) -> None:
        """Keep the arguments; the parameters appear at the first call."""
        self.units = positive(self, "units", units)
        self.activation = activations.get(activation)
        self.use_bias = use_bias
        self.kernel_initializer = kernel_initializer
        self.bias_initializer = bias_initializer

    def build(self, x: Tensor) -> None:
        """Make kernel and bias for the features of `x`."""
        self._check(x)
        self.features = known(self, x, -1)
        self.built_at = line()
        self.kernel = parameter((self.features, self.units), self.kernel_initializer)
        self.bias = parameter((self.units,), self.bias_initializer) if self.use_bias else None

    def forward(self, x: Tensor) -> Tensor:
        """The layer's value, `[..., units]`."""
        self._check(x)
        if x.shape[-1] != self.features:
            raise shape_error(
                self,
                f"inner sizes differ: the last axis of x is {x.shape[-1]}, the layer was built for {self.features}",
                got=f"{x.type} @ {self.kernel.type}",
                fix=self._flattened(x) or first_call(self, self.features),
            )
        x = floats(x)
        out = matmul(x, cast(self.kernel, x.dtype))
        if self.bias is not None:
            out = add(out, cast(self.bias, x.dtype))
        value: Tensor = self.activation(out)
        return value

    def _flattened(self, x: Tensor) -> str:
        """What to try where the other axes hold the features that are missing."""
        inner = x.shape[1:]
        return f"nn.Flatten() before it makes {self.features} features of {format_shape(inner)}" if (
            len(inner) > 1 and size_of(inner) == self.features) else ""  # fmt: skip

    def _check(self, x: Tensor) -> None:
        require_tensor(self, x)
        if not x.ndim:
            raise shape_error(self, "takes [..., features], at least 1 axis; got 0", got=str(x.type),
                              fix="x[None] adds an axis")  # fmt: skip
