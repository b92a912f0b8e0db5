"""Layer normalisation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from trine.functional.normalisation import layer_norm
from trine.nn.checks import floats, known, line, require_size, shape_error
from trine.nn.module import Module
from trine.nn.parameter import parameter
from trine.tensor.tensor import Tensor


class LayerNormalization(Module):
    """`(x - mean) / sqrt(variance + epsilon) * gamma + beta`, with mean and variance over `axis` of each example.

    Shapes: any, kept; `gamma` and `beta` have the sizes of the normalised axes.

    Args:
        axis: the normalised axis, or several.
        epsilon: added to the variance.
        center: whether there is a beta.
        scale: whether there is a gamma.
        beta_initializer: how beta starts.
        gamma_initializer: how gamma starts.

    Raises:
        ShapeError: other sizes than at the first call, or no such axis.

    Source: Ba, Kiros and Hinton, "Layer Normalization" (2016), arXiv:1607.06450.

    Example:
        >>> import trine
        >>> from trine import nn
        >>> y = nn.LayerNormalization()(trine.asarray([[0.0, 2.0], [10.0, 30.0]]))
        >>> [[round(v, 2) for v in row] for row in y.tolist()]
        [[-1.0, 1.0], [-1.0, 1.0]]
    """

    gamma: Tensor | None
    beta: Tensor | None

    def __init__(
        self,
        axis: int | Sequence[int] = -1,
        epsilon: float = 1e-3,
        center: bool = True,
        scale: bool = True,
        beta_initializer: Any = "zeros",
        gamma_initializer: Any = "ones",
    ) -> None:
        """Keep the arguments; the parameters appear at the first call."""
        self.axis = axis if isinstance(axis, int) else tuple(axis)
        self.epsilon = epsilon
        self.center = center
        self.scale = scale
        self.beta_initializer = beta_initializer
        self.gamma_initializer = gamma_initializer

    def build(self, x: Tensor) -> None:
        """Make gamma and beta for the sizes of `x`."""
        self.sizes = tuple(known(self, x, axis) for axis in self._axes(x))
        self.built_at = line()
        self.gamma = parameter(self.sizes, self.gamma_initializer) if self.scale else None
        self.beta = parameter(self.sizes, self.beta_initializer) if self.center else None

    def forward(self, x: Tensor) -> Tensor:
        """The layer's value, of the shape of `x`."""
        axes = self._axes(x)
        for axis, built in zip(axes, self.sizes, strict=True):
            require_size(self, x, axis, built)
        return layer_norm(floats(x), self.gamma, self.beta, epsilon=self.epsilon, axis=axes)

    def _axes(self, x: Tensor) -> tuple[int, ...]:
        wanted = (self.axis,) if isinstance(self.axis, int) else self.axis
        for axis in wanted:
            if not -x.ndim <= axis < x.ndim:
                raise shape_error(self, f"the normalised axis is {axis}, x has {x.ndim} axes", got=str(x.type))
        return tuple(sorted(axis % x.ndim for axis in wanted))
